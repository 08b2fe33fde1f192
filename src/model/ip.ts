/**
 * IP addresses as numbers, in the textual forms that Go's net.ParseIP and net.ParseCIDR accept
 * (RFC 4291 section 2.2 for IPv6). IPv4 is held in its IPv6-mapped form, so that 10.0.0.1 equals
 * ::ffff:10.0.0.1.
 */
export interface IpNetwork {
  readonly base: bigint;
  /** Bits of the prefix in the 128-bit form. */
  readonly prefixBits: number;
}

const V4_PREFIX = 0xffffn << 32n;
const V4_OFFSET_BITS = 96;
const ADDRESS_BITS = 128;
const V6_GROUPS = 8;

function parseV4(text: string): bigint | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let value = 0n;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return null;
    value = (value << 8n) | BigInt(part);
  }
  return value;
}

/** The 16-bit groups of one side of "::"; a trailing dotted quad counts as two. */
function parseGroups(text: string): readonly bigint[] | null {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: bigint[] = [];
  for (const [i, part] of parts.entries()) {
    if (part.includes(".") && i === parts.length - 1) {
      const v4 = parseV4(part);
      if (v4 === null) return null;
      groups.push(v4 >> 16n, v4 & 0xffffn);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(BigInt(`0x${part}`));
    } else {
      return null;
    }
  }
  return groups;
}

function parseV6(text: string): bigint | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const head = parseGroups(halves[0] ?? "");
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "") : [];
  if (head === null || tail === null) return null;
  const missing = V6_GROUPS - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const zeros = new Array<bigint>(missing).fill(0n);
  return [...head, ...zeros, ...tail].reduce((value, group) => (value << 16n) | group, 0n);
}

/** The address in its 128-bit form, or null when `text` is not one. */
export function parseIp(text: string): bigint | null {
  if (text.includes(":")) return parseV6(text);
  const v4 = parseV4(text);
  return v4 === null ? null : V4_PREFIX | v4;
}

/** The network of a CIDR, or null when `text` is not one. */
export function parseCidr(text: string): IpNetwork | null {
  const match = /^([^/]+)\/([0-9]{1,3})$/.exec(text);
  if (match === null) return null;
  const [, address = "", bits = ""] = match;
  const base = parseIp(address);
  if (base === null) return null;
  const prefixBits = Number(bits) + (address.includes(":") ? 0 : V4_OFFSET_BITS);
  return prefixBits > ADDRESS_BITS ? null : { base, prefixBits };
}

export function networkContains(network: IpNetwork, address: bigint): boolean {
  const hostBits = BigInt(ADDRESS_BITS - network.prefixBits);
  return network.base >> hostBits === address >> hostBits;
}

/** The address of "host", "host:port" or "[host]:port", or null. */
export function parseHostIp(text: string): bigint | null {
  const direct = parseIp(text);
  if (direct !== null) return direct;
  const match = /^\[?([^\]]*)\]?:[0-9]+$/.exec(text);
  return match?.[1] === undefined ? null : parseIp(match[1]);
}

/** Addresses of one kind: what a container has one of on each network. */
export type IpFamily = "ipv4" | "ipv6";

const V4_MASK = 0xffff_ffffn;
const GROUP_MASK = 0xffffn;
/** A shorter run of zero groups is written out (RFC 5952 section 4.2.2). */
const SHORTENED_GROUPS_MIN = 2;

/** The family of an address, or CIDR, in its textual form. */
export function familyOf(text: string): IpFamily {
  return text.includes(":") ? "ipv6" : "ipv4";
}

function isV4(address: bigint): boolean {
  return address >> 32n === 0xffffn;
}

/** The address as the kernel writes it (RFC 5952 for IPv6). */
export function ipText(address: bigint): string {
  if (isV4(address)) {
    const bits = address & V4_MASK;
    return [24n, 16n, 8n, 0n].map(shift => String((bits >> shift) & 0xffn)).join(".");
  }
  const groups = Array.from({ length: V6_GROUPS }, (_, i) =>
    ((address >> BigInt(16 * (V6_GROUPS - 1 - i))) & GROUP_MASK).toString(16),
  );
  const { at, length } = longestZeros(groups);
  if (length < SHORTENED_GROUPS_MIN) return groups.join(":");
  return `${groups.slice(0, at).join(":")}::${groups.slice(at + length).join(":")}`;
}

/** The first of the longest runs of zero groups. */
function longestZeros(groups: readonly string[]): { readonly at: number; readonly length: number } {
  let best = { at: 0, length: 0 };
  let length = 0;
  for (const [i, group] of groups.entries()) {
    length = group === "0" ? length + 1 : 0;
    if (length > best.length) best = { at: i - length + 1, length };
  }
  return best;
}

/** Bits of the prefix as a CIDR of its family says them. */
export function prefixBitsOf(network: IpNetwork): number {
  return isV4(network.base) ? network.prefixBits - V4_OFFSET_BITS : network.prefixBits;
}

export function cidrText(network: IpNetwork): string {
  return `${ipText(network.base)}/${prefixBitsOf(network)}`;
}

/** How many addresses a network has. */
export function sizeOf(network: IpNetwork): bigint {
  return 1n << BigInt(ADDRESS_BITS - network.prefixBits);
}

/** The network with the bits behind its prefix cleared. */
export function masked(network: IpNetwork): IpNetwork {
  const size = sizeOf(network);
  return { ...network, base: (network.base / size) * size };
}

export function networksOverlap(a: IpNetwork, b: IpNetwork): boolean {
  return networkContains(a, b.base) || networkContains(b, a.base);
}

/** The address in the form that all parts of swarmd compare; null when it is none. */
export function canonicalIp(text: string): string | null {
  const address = parseIp(text);
  return address === null ? null : ipText(address);
}
