import type { Service } from "../../model/rows.ts";
import type { PortConfig, ServiceSpec } from "../../model/service-spec.ts";
import { rpcError } from "./errors.ts";

/** Published port and protocol; 0 = chosen later, conflicts with nothing. */
function keyOf(port: PortConfig): string | null {
  const published = port.PublishedPort ?? 0;
  return published === 0 ? null : `${published}/${port.Protocol ?? "tcp"}`;
}

const isHost = (port: PortConfig): boolean => port.PublishMode === "host";

/**
 * Refuses ports that clash with another service's: an ingress port clashes with any port of the
 * same number and protocol; host-mode ports of different services are left to the scheduler
 * (SwarmKit controlapi checkPortConflicts).
 */
export function checkPortConflicts(
  spec: ServiceSpec,
  others: Iterable<Service>,
  selfId: string,
): void {
  const ports = spec.EndpointSpec?.Ports ?? [];
  const keysOf = (host: boolean): Set<string> =>
    new Set(ports.filter(port => isHost(port) === host).flatMap(port => keyOf(port) ?? []));
  const ingress = keysOf(false);
  const host = keysOf(true);
  if (ingress.size + host.size === 0) return;
  for (const other of others) {
    if (other.id === selfId) continue;
    for (const port of [...(other.spec.EndpointSpec?.Ports ?? []), ...other.endpoint.ports]) {
      const key = keyOf(port);
      if (key === null) continue;
      if (isHost(port) ? ingress.has(key) : ingress.has(key) || host.has(key)) {
        throw conflict(port, other);
      }
    }
  }
}

function conflict(port: PortConfig, owner: Service): Error {
  const as = isHost(port) ? "a host-published port" : "an ingress port";
  return rpcError(
    "invalid_argument",
    `port '${port.PublishedPort}' is already in use by service '${owner.spec.Name}' ` +
      `(${owner.id}) as ${as}`,
  );
}
