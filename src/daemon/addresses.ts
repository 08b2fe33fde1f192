import { isIP, isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import { SwarmError } from "../base/errors.ts";
import { DEFAULT_CLUSTER_PORT } from "../model/defaults.ts";
import { oddlyInternal } from "../model/validate-errors.ts";
import type { DaemonConfig } from "./config.ts";
import type { NodeState } from "./node-state.ts";

/** Resolution of what users write for addresses (moby daemon/cluster/listen_addr.go). */
export interface Interfaces {
  /** Addresses by interface name, loopback included. */
  readonly [name: string]: readonly { readonly address: string; readonly internal: boolean }[];
}

export function localInterfaces(): Interfaces {
  return Object.fromEntries(
    Object.entries(networkInterfaces()).map(([name, addresses]) => [
      name,
      (addresses ?? []).map(({ address, internal }) => ({ address, internal })),
    ]),
  );
}

const BAD_LISTEN =
  "listen address must be an IP address or network interface (with optional port number)";
const BAD_ADVERTISE =
  "advertise address must be a non-zero IP address or network interface (with optional port number)";
const BAD_DATA_PATH =
  "data path address must be a non-zero IP address or network interface (without a port number)";
const LINK_LOCAL = /^(169\.254\.|fe80:)/i;

interface HostPort {
  readonly host: string;
  readonly port: number;
}

function split(text: string, problem: string): HostPort {
  if (isIP(text) !== 0) return { host: text, port: DEFAULT_CLUSTER_PORT };
  const match = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? DEFAULT_CLUSTER_PORT);
  if (host === undefined || port < 1 || port > 65_535) {
    if (problem === BAD_LISTEN) throw oddlyInternal(`could not parse listen address ${text}`);
    throw new SwarmError("invalid_argument", problem);
  }
  return { host, port };
}

function join({ host, port }: HostPort): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The first IPv4 address of an interface, or else its first IPv6 one. */
function addressOfInterface(name: string, interfaces: Interfaces): string | null {
  const addresses = (interfaces[name] ?? []).map(({ address }) => address);
  return addresses.find(isIPv4) ?? addresses.find(address => !LINK_LOCAL.test(address)) ?? null;
}

/** host:port to listen on. Throws invalid_argument in Docker's words. */
export function resolveListenAddr(text: string, interfaces: Interfaces): string {
  const { host, port } = split(text === "" ? "0.0.0.0" : text, BAD_LISTEN);
  if (host === "" || isIP(host) !== 0) return join({ host: host === "" ? "0.0.0.0" : host, port });
  const address = addressOfInterface(host, interfaces);
  if (address === null) throw new SwarmError("invalid_argument", BAD_LISTEN);
  return join({ host: address, port });
}

/** host:port under which others reach this node. Throws invalid_argument in Docker's words. */
export function resolveAdvertiseAddr(
  text: string,
  listenAddr: string,
  interfaces: Interfaces,
): string {
  const listen = split(listenAddr, BAD_LISTEN);
  if (text !== "") {
    const asked = split(text, BAD_ADVERTISE);
    const port = /:\d+$/.test(text) && isIP(text) === 0 ? asked.port : listen.port;
    const host = isIP(asked.host) !== 0 ? asked.host : addressOfInterface(asked.host, interfaces);
    if (host === null || host === "0.0.0.0" || host === "::") {
      throw new SwarmError("invalid_argument", BAD_ADVERTISE);
    }
    return join({ host, port });
  }
  if (!["0.0.0.0", "::"].includes(listen.host)) return join(listen);
  return join({ host: soleAddress(interfaces), port: listen.port });
}

/** The IP on which containers' traffic arrives; empty = the advertised one. */
export function resolveDataPathAddr(text: string, interfaces: Interfaces): string {
  if (text === "") return "";
  const host = isIP(text) !== 0 ? text : addressOfInterface(text, interfaces);
  if (host === null || host === "0.0.0.0" || host === "::") {
    throw new SwarmError("invalid_argument", BAD_DATA_PATH);
  }
  return host;
}

/** The one address of this host that is plainly meant, or an error that lists the choices. */
function soleAddress(interfaces: Interfaces): string {
  const candidates: { readonly name: string; readonly address: string }[] = [];
  for (const [name, addresses] of Object.entries(interfaces)) {
    if (/^(docker|br-|veth|virbr)/.test(name)) continue;
    const usable = addresses.filter(
      ({ internal, address }) => !internal && !LINK_LOCAL.test(address),
    );
    const v4 = usable.filter(({ address }) => isIPv4(address));
    for (const { address } of v4.length > 0 ? v4 : usable) candidates.push({ name, address });
  }
  const [only, second] = candidates;
  if (only === undefined) {
    throw new SwarmError(
      "invalid_argument",
      "could not find the system's IP address - specify one with --advertise-addr",
    );
  }
  if (second === undefined) return only.address;
  const where =
    only.name === second.name
      ? `multiple addresses on interface ${only.name}`
      : "multiple addresses on different interfaces";
  throw new SwarmError(
    "invalid_argument",
    `could not choose an IP address to advertise since this system has ${where} ` +
      `(${candidates.map(({ name, address }) => `${address} on ${name}`).join(" and ")}) - ` +
      "specify one with --advertise-addr",
  );
}

/** The host part of host:port. */
export function hostOf(addr: string): string {
  return split(addr, `'${addr}' is not an address`).host;
}

/** IP address of this host's data path: the one asked for, else the advertised one. */
export function dataPathAddrOf(
  state: { readonly dataPathAddr: string; readonly advertiseAddr: string },
  interfaces: Interfaces,
): string {
  const asked = state.dataPathAddr;
  if (asked === "") return split(state.advertiseAddr, BAD_ADVERTISE).host;
  return isIP(asked) !== 0 ? asked : (addressOfInterface(asked, interfaces) ?? "");
}

export type NodeAddresses = Pick<
  NodeState,
  "listenAddr" | "advertiseAddr" | "dataPathAddr" | "advertised"
>;

/** What a request may say of them; empty: not said. */
export interface AskedAddresses {
  readonly listenAddr: string;
  readonly advertiseAddr: string;
  readonly dataPathAddr: string;
}

/** By the request, else by the daemon's settings, else by this host's interfaces. */
export function resolveAddresses(
  request: AskedAddresses,
  config: Pick<DaemonConfig, "listenAddr" | "advertiseAddr">,
): NodeAddresses {
  const interfaces = localInterfaces();
  const listenAddr = resolveListenAddr(request.listenAddr || config.listenAddr, interfaces);
  const wanted = request.advertiseAddr || config.advertiseAddr;
  const advertiseAddr = resolveAdvertiseAddr(wanted, listenAddr, interfaces);
  const asked = request.advertiseAddr !== "";
  const advertised = { setting: config.advertiseAddr, asked };
  const dataPathAddr = resolveDataPathAddr(request.dataPathAddr, interfaces);
  return { listenAddr, advertiseAddr, dataPathAddr, advertised };
}
