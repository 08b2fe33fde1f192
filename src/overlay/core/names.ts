import { cidrText, familyOf, type IpFamily, parseCidr, sizeOf } from "../../model/ip.ts";
import type { OverlayNetwork } from "../../model/overlay.ts";

/** Names, numbers and addresses that the data paths of all hosts agree on. */

const BYTE = 256;
/** 169.254.64.0 to 169.254.127.255: what a host's tunnel end is called inside the namespaces. */
const HOST_NET = "169.254";
const HOST_NET_OFFSET = 64;
/** The same for IPv6: the link-local address that belongs to the host's MAC (RFC 4291 app. A). */
const HOST_LINK_LOCAL = "fe80::53:ff:fe00:";
/** 169.254.192.0 to 169.254.250.255: what a host is called inside the encrypted mesh. */
const MESH_NET_OFFSET = 192;
/** Above the numbers of slots, which are marks too. */
const HOST_MARK_BASE = 0x10000;
/** Routing tables and preferences of rules, one for each entry host. */
const HOST_TABLE_BASE = 10_000;

/** Ends of the link between a host and its ingress namespace. */
export const UPLINK = {
  hostDevice: "swin0",
  innerDevice: "up0",
  hostAddr: "169.254.254.1",
  innerAddr: "169.254.254.2",
  net: "169.254.254.0/30",
  prefixBits: 30,
  /** Unique local addresses whose site is "Swarm" in ASCII; they leave no host (RFC 4193). */
  hostAddr6: "fd53:7761:726d::1",
  innerAddr6: "fd53:7761:726d::2",
  net6: "fd53:7761:726d::/126",
  prefixBits6: 126,
} as const;

export const TUNNEL_DEVICE = "vx0";
/** Encrypted networks have a port of their own, so that no plain frame can reach them. */
export const ENCRYPTED_PORT = 4790;
const ID_CHARS = 12;
export const NAMESPACE_PREFIX = "swarmd-";

/** Network namespace of a network; the name says whose it is. */
export function namespaceOf(networkId: string): string {
  return `${NAMESPACE_PREFIX}${networkId.slice(0, ID_CHARS)}`;
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, "0");
}

/** MAC address of a host's tunnel end, the same in all networks. */
export function hostMac(index: number): string {
  return `02:53:00:00:${hexByte(Math.floor(index / BYTE))}:${hexByte(index % BYTE)}`;
}

/** The host of a tunnel end's MAC address; null when it is none. */
export function indexOfMac(mac: string): number | null {
  const match = /^02:53:00:00:([0-9a-f]{2}):([0-9a-f]{2})$/i.exec(mac);
  if (match === null) return null;
  return Number.parseInt(`${match[1]}${match[2]}`, 16) || null;
}

/** What routes inside a namespace go through to reach a host. */
export function hostGateway(index: number, family: IpFamily = "ipv4"): string {
  if (family === "ipv6") return `${HOST_LINK_LOCAL}${index.toString(16)}`;
  return `${HOST_NET}.${HOST_NET_OFFSET + Math.floor(index / BYTE)}.${index % BYTE}`;
}

/** Inner address of a host in the encrypted mesh. */
export function meshAddr(index: number): string {
  return `${HOST_NET}.${MESH_NET_OFFSET + Math.floor(index / BYTE)}.${index % BYTE}`;
}

/** What covers all of them. */
export const MESH_PREFIX_BITS = 18;
export const MESH_PREFIX = "swg";
const MESH_PORT = 51_820;

/** Two generations of the mesh's keys can be up at once: they take turns. */
export function meshSlot(generation: number): 0 | 1 {
  return generation % 2 === 1 ? 0 : 1;
}

export function meshDevice(generation: number): string {
  return `${MESH_PREFIX}${meshSlot(generation)}`;
}

/** UDP port of a generation's end. */
export function meshPort(generation: number): number {
  return MESH_PORT + meshSlot(generation);
}

/** The host of a gateway; null when it is none. */
export function hostOfGateway(gateway: string): number | null {
  if (gateway.startsWith(HOST_LINK_LOCAL)) {
    return Number.parseInt(gateway.slice(HOST_LINK_LOCAL.length), 16) || null;
  }
  const [a, b, high, low] = gateway.split(".").map(Number);
  if (`${a}.${b}` !== HOST_NET || high === undefined || low === undefined) return null;
  const index = (high - HOST_NET_OFFSET) * BYTE + low;
  return index > 0 && high >= HOST_NET_OFFSET && high < HOST_NET_OFFSET * 2 ? index : null;
}

/** Mark of connections that came in by a host. */
export function hostMark(index: number): number {
  return HOST_MARK_BASE + index;
}

/** Routing table and rule preference of an entry host. */
export function hostTable(index: number): number {
  return HOST_TABLE_BASE + index;
}

export function indexOfTable(table: number): number | null {
  return table > HOST_TABLE_BASE && table < HOST_TABLE_BASE * 3 ? table - HOST_TABLE_BASE : null;
}

/** MAC address of a container's end, made from its IPv4 address as the Engine's bridge does. */
export function containerMac(addr: string): string {
  return `02:42:${addr.split(".").map(Number).map(hexByte).join(":")}`;
}

/** Device of an endpoint in its network's namespace; the container's end has a "c" after it. */
export function endpointDevice(endpointId: string): string {
  return `v${endpointId.slice(0, 10)}`;
}

export function tunnelPort(network: Pick<OverlayNetwork, "encrypted" | "dataPathPort">): number {
  return network.encrypted ? ENCRYPTED_PORT : network.dataPathPort;
}

/** Bits of a prefix that is one address. */
export function hostPrefix(addr: string): string {
  return `${addr}/${familyOf(addr) === "ipv6" ? 128 : 32}`;
}

/**
 * Both halves of an IPv6 subnet. Routes to them win over the one that comes with a container's
 * address, so that all goes by the gateway and nobody is looked for on the container's own link.
 */
export function halvesOf(subnet: string): readonly string[] {
  const network = parseCidr(subnet);
  if (network === null) return [];
  const lower = { base: network.base, prefixBits: network.prefixBits + 1 };
  return [cidrText(lower), cidrText({ ...lower, base: lower.base + sizeOf(lower) })];
}
