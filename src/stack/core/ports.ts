import { byText } from "./dict.ts";
import { composeError } from "./errors.ts";

/** Short forms of published ports: [ADDRESS:][PUBLIC:]PORT[/PROTOCOL], with ranges. */
export interface PortMapping {
  /** "80/tcp" */
  readonly port: string;
  readonly target: number;
  readonly protocol: string;
  readonly address: string;
  /** "", "8080" or a range to choose from, "8080-8090". */
  readonly hostPort: string;
}

export interface ServicePort {
  readonly mode?: string;
  readonly target?: number;
  readonly published?: number;
  readonly protocol?: string;
}

const PORT_MAX = 65_535;
const PROTOCOLS: ReadonlySet<string> = new Set(["tcp", "udp", "sctp"]);
const IPV4 = /^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$/;
const IPV6 = /^[0-9a-fA-F:]*:[0-9a-fA-F:]*(\d+\.\d+\.\d+\.\d+)?$/;

type Range = readonly [number, number];

function portOf(text: string): number | null {
  const port = /^\d+$/.test(text) ? Number(text) : PORT_MAX + 1;
  return port <= PORT_MAX ? port : null;
}

function rangeOf(text: string): Range | null {
  const [first = "", second] = text.split("-");
  const start = portOf(first);
  const end = second === undefined ? start : portOf(second);
  return start === null || end === null || end < start ? null : [start, end];
}

function splitProtocol(text: string): readonly [string, string] {
  const [port = "", protocol = ""] = text.split("/");
  if (port === "") return ["", ""];
  return [port, protocol === "" ? "tcp" : protocol];
}

function addressOf(text: string): string {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  if (bare !== "" && !IPV4.test(bare) && !IPV6.test(bare)) {
    throw composeError(`invalid IP address: ${bare}`);
  }
  return bare;
}

/** Reads one short form. Throws in docker's words (nat.ParsePortSpec). */
export function parsePortMappings(spec: string): PortMapping[] {
  const parts = spec.split(":");
  const [containerPort, protocol] = splitProtocol(parts.at(-1) ?? "");
  const hostPort = parts.at(-2) ?? "";
  const address = addressOf(parts.slice(0, -2).join(":"));
  if (containerPort === "") throw composeError(`no port specified: ${spec}<empty>`);
  const inside = rangeOf(containerPort);
  if (inside === null) throw composeError(`invalid containerPort: ${containerPort}`);
  const outside = hostPort === "" ? null : rangeOf(hostPort);
  if (hostPort !== "" && outside === null) throw composeError(`invalid hostPort: ${hostPort}`);
  const [start, end] = inside;
  if (outside !== null && end !== start && end - start !== outside[1] - outside[0]) {
    throw composeError(
      `invalid ranges specified for container and host Ports: ${containerPort} and ${hostPort}`,
    );
  }
  const lower = protocol.toLowerCase();
  if (!PROTOCOLS.has(lower)) throw composeError(`invalid proto: ${protocol}`);
  return Array.from({ length: end - start + 1 }, (_, i) => ({
    port: `${start + i}/${lower}`,
    target: start + i,
    protocol: lower,
    address,
    hostPort: hostPortOf(outside, start === end, i),
  }));
}

function hostPortOf(outside: Range | null, single: boolean, i: number): string {
  if (outside === null) return "";
  const [first, last] = outside;
  return single && first !== last ? `${first}-${last}` : String(first + i);
}

function publishedOf(hostPort: string): number[] {
  const [start, end] = rangeOf(hostPort) ?? [0, 0];
  return Array.from({ length: end - start + 1 }, (_, i) => start + i);
}

/** The long forms of a short one, by container port as text. */
export function expandPorts(spec: string, warn: (line: string) => void): ServicePort[] {
  const mappings = parsePortMappings(spec).sort((a, b) => byText(a.port, b.port));
  const ports: ServicePort[] = [];
  for (const { port, target, protocol, address, hostPort } of mappings) {
    if (address !== "" && !/^[0.:]+$/.test(address)) {
      const shown = address.includes(":") ? `[${address}]` : address;
      warn(`ignoring IP-address (${shown}:${hostPort}:${port}) service will listen on '0.0.0.0'`);
    }
    for (const published of publishedOf(hostPort)) {
      ports.push({
        mode: "ingress",
        target,
        ...(published === 0 ? {} : { published }),
        protocol,
      });
    }
  }
  return ports;
}
