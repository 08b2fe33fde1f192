import type { IpFamily } from "../../model/ip.ts";
import { hostGateway, hostOfGateway, indexOfMac, TUNNEL_DEVICE } from "./names.ts";
import type { TunnelConfig } from "./plan.ts";

/**
 * What `ip -j` and `bridge -j` say of a namespace, in the terms of a plan. Listings of other things
 * may follow the one that is meant: each is known by its fields.
 */

type Row = Readonly<Record<string, unknown>>;

/** Of one listing, or of several one after the other: `ip -batch` begins each on a new line. */
function rowsOf(json: string): readonly Row[] {
  if (json.trim() === "") return [];
  return json.split(/\n(?=\[)/).flatMap(listing => {
    const parsed: unknown = JSON.parse(listing);
    return Array.isArray(parsed) ? (parsed as Row[]) : [];
  });
}

function objectAt(row: Row, key: string): Row {
  const value = row[key];
  return typeof value === "object" && value !== null ? (value as Row) : {};
}

/** `ip -j -d link show vx0`; null when there is no such device. */
export function parseLink(json: string): TunnelConfig | null {
  const row = rowsOf(json).find(one => objectAt(one, "linkinfo")["info_kind"] === "vxlan");
  if (row === undefined) return null;
  const data = objectAt(objectAt(row, "linkinfo"), "info_data");
  return {
    vni: Number(data["id"] ?? 0),
    index: indexOfMac(String(row["address"] ?? "")) ?? 0,
    localAddr: String(data["local"] ?? data["local6"] ?? ""),
    port: Number(data["port"] ?? 0),
    mtu: Number(row["mtu"] ?? 0),
  };
}

/** `ip -j -d link show type vxlan`: the device of that number; empty when there is none. */
export function vxlanOf(json: string, vni: number): string {
  const found = rowsOf(json).find(
    row => objectAt(objectAt(row, "linkinfo"), "info_data")["id"] === vni,
  );
  return String(found?.["ifname"] ?? "");
}

/** `ip -j route show`, `ip -j -6 route show`: addresses that other hosts have, by the host's index. */
export function parseRoutes(json: string): ReadonlyMap<string, number> {
  const routes = new Map<string, number>();
  for (const { dst, gateway, dev } of rowsOf(json)) {
    const index = typeof gateway === "string" ? hostOfGateway(gateway) : null;
    if (typeof dst === "string" && dst !== "default" && dev === TUNNEL_DEVICE && index !== null) {
      routes.set(dst, index);
    }
  }
  return routes;
}

/** `ip -j neigh show dev vx0`: hosts whose gateways have the MAC address they should. */
export function parseNeighbours(json: string, families: readonly IpFamily[]): ReadonlySet<number> {
  const known = new Set<string>();
  const indexes = new Set<number>();
  for (const { dst, lladdr } of rowsOf(json)) {
    const index = indexOfMac(String(lladdr ?? ""));
    if (index === null) continue;
    known.add(`${index} ${dst}`);
    indexes.add(index);
  }
  const isWhole = (index: number): boolean =>
    families.every(family => known.has(`${index} ${hostGateway(index, family)}`));
  return new Set([...indexes].filter(isWhole));
}

/** `bridge -j fdb show dev vx0`: tunnel ends by host, of hosts with a neighbour entry too. */
export function parseFdb(json: string, known: ReadonlySet<number>): ReadonlyMap<number, string> {
  const peers = new Map<number, string>();
  for (const { mac, dst } of rowsOf(json)) {
    const index = indexOfMac(String(mac ?? ""));
    if (index !== null && typeof dst === "string" && known.has(index)) peers.set(index, dst);
  }
  return peers;
}

/** `ip -j addr show dev lo`: addresses but for loopback's own. */
export function parseVips(json: string): ReadonlySet<string> {
  const infos = rowsOf(json).find(row => "addr_info" in row)?.["addr_info"];
  const addrs = Array.isArray(infos) ? (infos as Row[]).map(info => String(info["local"])) : [];
  return new Set(addrs.filter(addr => addr !== "127.0.0.1" && addr !== "::1"));
}

/** States of /proc/net/tcp (Linux include/net/tcp_states.h). */
const ESTABLISHED = "01";
const SYN_RECV = "03";
const LISTEN = "0A";
/** 127.0.0.0/8 and ::1 as /proc writes them: words of the machine's own order. */
const LOOPBACK = /7F$|^0{24}01000000$/;

/**
 * `/proc/net/tcp` and `tcp6`: connections from elsewhere to what listens there, which have neither
 * ended nor begun to.
 */
export function countServed(text: string): number {
  const rows = text.split("\n").flatMap(line => {
    const [, local = "", , state = ""] = line.trim().split(/\s+/);
    const [addr = "", port = ""] = local.split(":");
    return port === "" ? [] : [{ addr, port, state }];
  });
  const served = new Set(rows.filter(({ state }) => state === LISTEN).map(({ port }) => port));
  const isOpen = ({ state }: { readonly state: string }): boolean =>
    state === ESTABLISHED || state === SYN_RECV;
  return rows.filter(row => isOpen(row) && served.has(row.port) && !LOOPBACK.test(row.addr)).length;
}

/** `conntrack -L`: "destination backend", the first as it was asked for, the second who answers. */
export function parseFlows(text: string): ReadonlySet<string> {
  const flows = new Set<string>();
  for (const line of text.split("\n")) {
    const [, destination, backend] = / dst=(\S+) .*? src=(\S+) /.exec(line) ?? [];
    if (destination !== undefined) flows.add(`${destination} ${backend}`);
  }
  return flows;
}
