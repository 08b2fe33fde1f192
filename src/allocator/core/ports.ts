import type { Service } from "../../model/rows.ts";
import type { EndpointSpec, PortConfig } from "../../model/service-spec.ts";
import type { StateView } from "../../model/view.ts";

/** Published ports that are chosen for the user (SwarmKit allocator/portallocator.go). */
export const DYNAMIC_PORT_MIN = 30_000;
export const DYNAMIC_PORT_MAX = 32_767;

function protocolOf(port: PortConfig): string {
  return port.Protocol ?? "tcp";
}

function isHost(port: PortConfig): boolean {
  return port.PublishMode === "host";
}

/** A service that holds a published port that another one asks for. */
export interface PortConflict {
  readonly port: number;
  readonly serviceId: string;
  readonly serviceName: string;
  /** How the holder publishes it. */
  readonly mode: "ingress" | "host";
}

/** Docker's words for it (SwarmKit controlapi/service.go checkPortConflicts). */
export function portConflictMessage(conflict: PortConflict): string {
  const { port, serviceName, serviceId, mode } = conflict;
  const how = mode === "host" ? "a host-published port" : "an ingress port";
  return `port '${port}' is already in use by service '${serviceName}' (${serviceId}) as ${how}`;
}

/**
 * The first published port of `endpoint` that another service holds. An ingress port conflicts with
 * any use of the same number; two host ports are the scheduler's business.
 */
export function findPortConflict(
  view: StateView,
  endpoint: EndpointSpec | undefined,
  exceptServiceId: string,
): PortConflict | null {
  const asked = (endpoint?.Ports ?? []).filter(port => (port.PublishedPort ?? 0) !== 0);
  if (asked.length === 0) return null;
  for (const service of view.table("services").all()) {
    if (service.id === exceptServiceId || service.pendingDelete) continue;
    for (const held of heldPorts(service)) {
      if (!asked.some(port => conflicts(port, held))) continue;
      return {
        port: held.PublishedPort ?? 0,
        serviceId: service.id,
        serviceName: service.spec.Name ?? "",
        mode: isHost(held) ? "host" : "ingress",
      };
    }
  }
  return null;
}

/** What it was given, and what its newer spec asks for. */
function heldPorts(service: Service): readonly PortConfig[] {
  const asked = service.spec.EndpointSpec?.Ports ?? [];
  return [...(service.allocated ? service.endpoint.ports : asked)].filter(
    port => (port.PublishedPort ?? 0) !== 0,
  );
}

function conflicts(a: PortConfig, b: PortConfig): boolean {
  if (a.PublishedPort !== b.PublishedPort || protocolOf(a) !== protocolOf(b)) return false;
  return !isHost(a) || !isHost(b);
}

export type PortAllocation =
  | { readonly ok: true; readonly ports: readonly PortConfig[] }
  | { readonly ok: false; readonly message: string };

/**
 * The ports of a service with the published ones filled in. What it had for the same target port
 * it keeps, so that an update does not move it.
 */
export function allocatePorts(view: StateView, service: Service): PortAllocation {
  const endpoint = service.spec.EndpointSpec;
  const conflict = findPortConflict(view, endpoint, service.id);
  if (conflict !== null) return { ok: false, message: portConflictMessage(conflict) };
  const asked = endpoint?.Ports ?? [];
  const used = usedPorts(view, service.id);
  for (const port of asked) if (port.PublishedPort) used.add(portKey(port, port.PublishedPort));
  const ports: PortConfig[] = [];
  for (const port of asked) {
    if (port.PublishedPort || isHost(port)) {
      ports.push(port);
      continue;
    }
    const number = keptPort(service, port, used) ?? freePort(port, used);
    if (number === null) {
      return {
        ok: false,
        message: `no free published port in ${DYNAMIC_PORT_MIN}-${DYNAMIC_PORT_MAX}`,
      };
    }
    used.add(portKey(port, number));
    ports.push({ ...port, PublishedPort: number });
  }
  return { ok: true, ports };
}

function portKey(port: PortConfig, number: number): string {
  return `${protocolOf(port)}/${number}`;
}

function usedPorts(view: StateView, exceptServiceId: string): Set<string> {
  const used = new Set<string>();
  for (const service of view.table("services").all()) {
    if (service.id === exceptServiceId || service.pendingDelete) continue;
    for (const port of heldPorts(service)) used.add(portKey(port, port.PublishedPort ?? 0));
  }
  return used;
}

function keptPort(service: Service, port: PortConfig, used: ReadonlySet<string>): number | null {
  const had = service.endpoint.ports.find(
    old =>
      !isHost(old) &&
      protocolOf(old) === protocolOf(port) &&
      old.TargetPort === port.TargetPort &&
      isDynamic(old.PublishedPort ?? 0) &&
      !used.has(portKey(old, old.PublishedPort ?? 0)),
  );
  return had?.PublishedPort ?? null;
}

function isDynamic(number: number): boolean {
  return number >= DYNAMIC_PORT_MIN && number <= DYNAMIC_PORT_MAX;
}

function freePort(port: PortConfig, used: ReadonlySet<string>): number | null {
  for (let number = DYNAMIC_PORT_MIN; number <= DYNAMIC_PORT_MAX; number++) {
    if (!used.has(portKey(port, number))) return number;
  }
  return null;
}
