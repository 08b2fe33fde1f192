import type { OverlayHost } from "../../model/overlay.ts";
import { meshAddr, meshDevice, meshPort } from "./names.ts";

/** Outer IP, UDP and WireGuard headers with its tag. */
const OVERHEAD_V4 = 60;
const OVERHEAD_V6 = 80;
/**
 * Seconds. Keeps a session between each pair of hosts, made by one of them: the first packet does
 * not wait for it, and no two hosts ask each other at once, which costs WireGuard 5 s.
 */
const KEEPALIVE_S = 20;
/** A session older than this is over (WireGuard, section 6.1: Reject-After-Time). */
export const SESSION_MS = 180_000;

/** What fits through the mesh between hosts of these addresses. */
export function meshMtu(underlayMtu: number, addrs: readonly string[]): number {
  return underlayMtu - (addrs.some(addr => addr.includes(":")) ? OVERHEAD_V6 : OVERHEAD_V4);
}

/** This host's end of one generation of the mesh. */
export interface MeshEnd {
  readonly generation: number;
  readonly privateKey: string;
  /** Base64; empty: none. */
  readonly psk: string;
}

/** Hosts of a version without generations tell one key; it is of the first. */
function keyOf(host: OverlayHost, generation: number): string {
  if (host.meshKeys === undefined) return generation === 1 ? host.publicKey : "";
  return host.meshKeys.find(key => key.generation === generation)?.publicKey ?? "";
}

/**
 * The whole configuration of this host's end, for `wg syncconf`: peers that stay keep their
 * sessions. Each host may send from its own inner address only.
 */
export function meshConfig(
  { generation, privateKey, psk }: MeshEnd,
  selfId: string,
  hosts: ReadonlyMap<string, OverlayHost>,
): string {
  const port = meshPort(generation);
  const own = hosts.get(selfId)?.index ?? 0;
  const peers = [...hosts.values()]
    .filter(host => host.id !== selfId && keyOf(host, generation) !== "")
    .sort((a, b) => a.index - b.index)
    .map(host => {
      const endpoint = host.addr.includes(":") ? `[${host.addr}]` : host.addr;
      return [
        "[Peer]",
        `PublicKey = ${keyOf(host, generation)}`,
        ...(psk === "" ? [] : [`PresharedKey = ${psk}`]),
        `Endpoint = ${endpoint}:${port}`,
        `AllowedIPs = ${meshAddr(host.index)}/32`,
        ...(own < host.index ? [`PersistentKeepalive = ${KEEPALIVE_S}`] : []),
      ].join("\n");
    });
  const head = ["[Interface]", `PrivateKey = ${privateKey}`, `ListenPort = ${port}`];
  return `${[head.join("\n"), ...peers].join("\n\n")}\n`;
}

/** Generation by which packets go to each host, by the host's index. */
export type MeshWays = ReadonlyMap<number, number>;

/**
 * The newest generation in which this host has met the other; until it has met it in any, the way
 * it has, or the newest that both have an end of.
 */
export function chooseWays(
  now: MeshWays,
  generations: readonly number[],
  selfId: string,
  hosts: ReadonlyMap<string, OverlayHost>,
  hasMet: (generation: number, publicKey: string) => boolean,
): MeshWays {
  const newestFirst = [...generations].sort((a, b) => b - a);
  const ways = new Map<number, number>();
  for (const host of hosts.values()) {
    if (host.id === selfId) continue;
    const common = newestFirst.filter(generation => keyOf(host, generation) !== "");
    const met = common.find(generation => hasMet(generation, keyOf(host, generation)));
    const present = common.find(generation => generation === now.get(host.index));
    const way = met ?? present ?? common[0];
    if (way !== undefined) ways.set(host.index, way);
  }
  return ways;
}

/** Ids of hosts with an end of the mesh that are not reached by this generation. */
export function laggingHosts(
  ways: MeshWays,
  generation: number,
  selfId: string,
  hosts: ReadonlyMap<string, OverlayHost>,
): readonly string[] {
  return [...hosts.values()]
    .filter(({ id, meshKeys = [] }) => id !== selfId && meshKeys.length > 0)
    .filter(({ index }) => ways.get(index) !== generation)
    .map(({ id }) => id);
}

/** `ip -batch` lines from one set of ways to another; `own` is this host's address in the mesh. */
export function wayLines(before: MeshWays, after: MeshWays, own: string): readonly string[] {
  return [...after]
    .filter(([index, generation]) => before.get(index) !== generation)
    .map(
      ([index, generation]) =>
        `route replace ${meshAddr(index)}/32 dev ${meshDevice(generation)} src ${own}`,
    );
}

/** `wg show DEVICE latest-handshakes`: epoch seconds by public key; 0 = never. */
export function parseHandshakes(text: string): ReadonlyMap<string, number> {
  const rows = text.split("\n").filter(line => line !== "");
  return new Map(
    rows.map(line => {
      const [publicKey = "", atS = "0"] = line.split("\t");
      return [publicKey, Number(atS)];
    }),
  );
}
