import type { OverlayHost } from "../../model/overlay.ts";
import { MESH_PORT, meshAddr } from "./names.ts";

/** Outer IP, UDP and WireGuard headers with its tag. */
const OVERHEAD_V4 = 60;
const OVERHEAD_V6 = 80;

/**
 * Seconds. Keeps a session between each pair of hosts, made by one of them: the first packet does
 * not wait for it, and no two hosts ask each other at once, which costs WireGuard 5 s.
 */
const KEEPALIVE_S = 20;

/** What fits through the mesh between hosts of these addresses. */
export function meshMtu(underlayMtu: number, addrs: readonly string[]): number {
  return underlayMtu - (addrs.some(addr => addr.includes(":")) ? OVERHEAD_V6 : OVERHEAD_V4);
}

/**
 * The whole configuration of this host's end, for `wg syncconf`: peers that stay keep their
 * sessions. Each host may send from its own inner address only.
 */
export function meshConfig(
  privateKey: string,
  selfId: string,
  hosts: ReadonlyMap<string, OverlayHost>,
): string {
  const own = hosts.get(selfId)?.index ?? 0;
  const peers = [...hosts.values()]
    .filter(host => host.id !== selfId && host.publicKey !== "")
    .sort((a, b) => a.index - b.index)
    .map(({ publicKey, addr, index }) => {
      const endpoint = addr.includes(":") ? `[${addr}]` : addr;
      return [
        "[Peer]",
        `PublicKey = ${publicKey}`,
        `Endpoint = ${endpoint}:${MESH_PORT}`,
        `AllowedIPs = ${meshAddr(index)}/32`,
        ...(own < index ? [`PersistentKeepalive = ${KEEPALIVE_S}`] : []),
      ].join("\n");
    });
  const head = ["[Interface]", `PrivateKey = ${privateKey}`, `ListenPort = ${MESH_PORT}`];
  return `${[head.join("\n"), ...peers].join("\n\n")}\n`;
}
