import { networkContains, parseCidr, parseIp } from "../../model/ip.ts";
import type { Network } from "../../model/rows.ts";

/** IPv4 is held in its IPv6-mapped form: the prefix of a /24 has 120 bits there. */
const V4_OFFSET_BITS = 96;
const V4_BITS = 32;
const V4_BASE = 0xffffn << 32n;

/** Addresses of one subnet that may be given away, as numbers, both ends included. */
interface Range {
  readonly first: number;
  readonly last: number;
  readonly prefix: number;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * The IPv4 addresses of one network. They are given in turn, so that one that was given back is
 * not somebody else's at once (libnetwork's serial allocation). Network, broadcast, gateway and
 * auxiliary addresses are never given.
 */
export class AddressPool {
  readonly #ranges: readonly Range[];
  readonly #reserved: ReadonlySet<number>;
  readonly #used = new Set<number>();
  #last = 0;

  constructor(network: Network) {
    this.#ranges = rangesOf(network);
    this.#reserved = reservedIn(network);
  }

  /** A free address as CIDR; null when there is none. */
  take(): string | null {
    for (const range of this.#inTurn()) {
      const address = this.#freeIn(range);
      if (address === null) continue;
      this.#used.add(address);
      this.#last = address;
      return `${addressText(address)}/${range.prefix}`;
    }
    return null;
  }

  /** An address, CIDR or not, that somebody has. */
  hold(cidr: string): void {
    const address = addressNumber(cidr);
    if (address === null) return;
    this.#used.add(address);
    this.#last = Math.max(this.#last, address);
  }

  release(cidr: string): void {
    const address = addressNumber(cidr);
    if (address !== null) this.#used.delete(address);
  }

  /** From the range of the last address on. */
  #inTurn(): readonly Range[] {
    const at = this.#ranges.findIndex(
      ({ first, last }) => this.#last >= first && this.#last < last,
    );
    return at <= 0 ? this.#ranges : [...this.#ranges.slice(at), ...this.#ranges.slice(0, at)];
  }

  /** The first free one after the last one given, going round once. */
  #freeIn({ first, last }: Range): number | null {
    const size = last - first + 1;
    if (size <= 0) return null;
    const start = this.#last >= first && this.#last < last ? this.#last + 1 : first;
    for (let i = 0; i < size; i += 1) {
      const address = first + ((start - first + i) % size);
      if (!this.#used.has(address) && !this.#reserved.has(address)) return address;
    }
    return null;
  }
}

function rangesOf(network: Network): readonly Range[] {
  return network.subnets.flatMap(({ subnet }) => {
    const whole = rangeOf(subnet);
    if (whole === null) return [];
    const within = ipamConfig(network).flatMap(config => rangeWithin(config, subnet));
    const asked = within[0] ?? whole;
    const first = Math.max(asked.first, whole.first + 1);
    const last = Math.min(asked.last, whole.last - 1);
    return [{ first, last, prefix: whole.prefix }];
  });
}

function ipamConfig(network: Network): readonly Json[] {
  const ipam = network.spec["IPAM"] as Json | undefined;
  const config = ipam?.["Config"];
  return Array.isArray(config) ? (config as readonly Json[]) : [];
}

/** The part of the subnet that its spec wants addresses from. */
function rangeWithin(config: Json, subnet: string): readonly Range[] {
  const outer = parseCidr(subnet);
  const inner = parseCidr(String(config["IPRange"] ?? ""));
  if (outer === null || inner === null || !networkContains(outer, inner.base)) return [];
  const range = rangeOf(String(config["IPRange"]));
  return range === null ? [] : [range];
}

/** Every address of an IPv4 network; null for another. */
function rangeOf(cidr: string): Range | null {
  const network = parseCidr(cidr);
  if (network === null || network.prefixBits < V4_OFFSET_BITS || cidr.includes(":")) return null;
  const prefix = network.prefixBits - V4_OFFSET_BITS;
  const size = 2 ** (V4_BITS - prefix);
  const first = Math.floor(Number(network.base - V4_BASE) / size) * size;
  return { first, last: first + size - 1, prefix };
}

function reservedIn(network: Network): ReadonlySet<number> {
  const auxiliary = ipamConfig(network).flatMap(config =>
    Object.values((config["AuxiliaryAddresses"] as Json | undefined) ?? {}).map(String),
  );
  const gateways = network.subnets.map(({ gateway }) => gateway);
  return new Set([...gateways, ...auxiliary].flatMap(text => addressNumber(text) ?? []));
}

function addressNumber(cidr: string): number | null {
  const text = cidr.split("/")[0] ?? "";
  const address = text.includes(":") ? null : parseIp(text);
  return address === null ? null : Number(address - V4_BASE);
}

function addressText(address: number): string {
  return [24, 16, 8, 0].map(shift => (address >>> shift) & 0xff).join(".");
}
