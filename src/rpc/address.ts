import { isIPv6 } from "node:net";
import { SwarmError } from "../base/errors.ts";
import { DEFAULT_CLUSTER_PORT } from "../model/defaults.ts";

export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

const MAX_PORT = 65_535;
const BRACKETED = /^\[([0-9a-fA-F:.]+(?:%\w+)?)\](?::(\d{1,5}))?$/;
const PLAIN = /^([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(?::(\d{1,5}))?$/;

/** Reads `host`, `host:port`, `[v6]` or `[v6]:port`. Throws invalid_argument quoting the text. */
export function parseHostPort(text: string, defaultPort = DEFAULT_CLUSTER_PORT): HostPort {
  if (isIPv6(text)) return { host: text, port: defaultPort };
  const match = BRACKETED.exec(text) ?? PLAIN.exec(text);
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (match?.[1] === undefined || port < 1 || port > MAX_PORT) {
    throw new SwarmError("invalid_argument", `"${text}" is no address of the form host:port`);
  }
  return { host: match[1], port };
}

export function formatHostPort(addr: HostPort): string {
  return isIPv6(addr.host) ? `[${addr.host}]:${addr.port}` : `${addr.host}:${addr.port}`;
}

/** One spelling an address: IPv4 in IPv6 clothes becomes IPv4. */
export function plainIp(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}
