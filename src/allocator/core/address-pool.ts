import {
  familyOf,
  type IpFamily,
  type IpNetwork,
  ipText,
  masked,
  networkContains,
  parseCidr,
  parseIp,
  prefixBitsOf,
  sizeOf,
} from "../../model/ip.ts";
import type { Network } from "../../model/rows.ts";

/** Addresses of one subnet that may be given away, both ends included. */
interface Range {
  readonly first: bigint;
  readonly last: bigint;
  readonly prefix: number;
}

type Json = Readonly<Record<string, unknown>>;

/** Somebody asked for an address that cannot be theirs. */
export interface Refusal {
  /** Who has it; empty: it is none that this pool gives away. */
  readonly owner: string;
}

/**
 * The addresses of one family on one network. They are given in turn, so that one that was given
 * back is not somebody else's at once (libnetwork's serial allocation). First, last, gateway and
 * auxiliary addresses are never given.
 */
export class AddressPool {
  readonly #ranges: readonly Range[];
  /** Whole subnets: an address that is asked for need not be in the range of the others. */
  readonly #subnets: readonly Range[];
  readonly #reserved: ReadonlySet<bigint>;
  readonly #owners = new Map<bigint, string>();
  /** Addresses that are kept for a service, by its id, also while none of its tasks has them. */
  readonly #kept = new Map<bigint, string>();
  #last = 0n;

  constructor(network: Network, family: IpFamily) {
    this.#ranges = rangesOf(network, family);
    this.#subnets = subnetsOf(network, family).map(inner);
    this.#reserved = reservedIn(network);
  }

  /** How many have an owner. */
  get held(): number {
    return this.#owners.size;
  }

  /** A free address as CIDR; null when there is none. */
  take(owner: string): string | null {
    for (const range of this.#inTurn()) {
      const address = this.#freeIn(range);
      if (address === null) continue;
      this.#owners.set(address, owner);
      this.#last = address;
      return `${ipText(address)}/${range.prefix}`;
    }
    return null;
  }

  /** Who has that address and for whom it is kept; null when this pool does not give it away. */
  whose(text: string): { readonly owner: string; readonly keptFor: string } | null {
    const address = addressOf(text);
    if (address === null || this.#rangeOf(address) === undefined) return null;
    return { owner: this.#owners.get(address) ?? "", keptFor: this.#kept.get(address) ?? "" };
  }

  /** Just that address (CIDR or not), as CIDR, or why not. Later ones are not counted from it. */
  claim(text: string, owner: string, serviceId: string): string | Refusal {
    const address = addressOf(text);
    const range = address === null ? undefined : this.#rangeOf(address);
    if (address === null || range === undefined) return { owner: "" };
    const kept = this.#kept.get(address) ?? serviceId;
    const holder = this.#owners.get(address) ?? owner;
    if (holder !== owner) return { owner: holder };
    if (kept !== serviceId) return { owner: kept };
    this.#owners.set(address, owner);
    return `${ipText(address)}/${range.prefix}`;
  }

  /** Nobody else is given it from now on; who has it already keeps it until its end. */
  keep(text: string, serviceId: string): void {
    const address = addressOf(text);
    if (address !== null && !this.#kept.has(address)) this.#kept.set(address, serviceId);
  }

  /** Gives up what was kept for the service. */
  unkeep(serviceId: string): boolean {
    const own = [...this.#kept].filter(([, id]) => id === serviceId);
    for (const [address] of own) this.#kept.delete(address);
    return own.length > 0;
  }

  /** An address, CIDR or not, that somebody has. */
  hold(cidr: string, owner: string): void {
    const address = addressOf(cidr);
    if (address === null) return;
    this.#owners.set(address, owner);
    if (address > this.#last) this.#last = address;
  }

  /** Nothing happens when somebody else has it by now. */
  release(cidr: string, owner: string): void {
    const address = addressOf(cidr);
    if (address !== null && this.#owners.get(address) === owner) this.#owners.delete(address);
  }

  /** The subnet that it may be given out of. */
  #rangeOf(address: bigint): Range | undefined {
    if (this.#reserved.has(address)) return undefined;
    return this.#subnets.find(({ first, last }) => address >= first && address <= last);
  }

  #isTaken(address: bigint): boolean {
    return this.#owners.has(address) || this.#reserved.has(address) || this.#kept.has(address);
  }

  /** From the range of the last address on. */
  #inTurn(): readonly Range[] {
    const at = this.#ranges.findIndex(
      ({ first, last }) => this.#last >= first && this.#last < last,
    );
    return at <= 0 ? this.#ranges : [...this.#ranges.slice(at), ...this.#ranges.slice(0, at)];
  }

  /** The first free one after the last one given, going round once. */
  #freeIn({ first, last }: Range): bigint | null {
    const size = last - first + 1n;
    if (size <= 0n) return null;
    const start = this.#last >= first && this.#last < last ? this.#last + 1n : first;
    for (let i = 0n; i < size; i += 1n) {
      const address = first + ((start - first + i) % size);
      if (!this.#isTaken(address)) return address;
    }
    return null;
  }
}

function subnetsOf(network: Network, family: IpFamily): readonly IpNetwork[] {
  return network.subnets.flatMap(({ subnet }) =>
    familyOf(subnet) === family ? (parseCidr(subnet) ?? []) : [],
  );
}

/** All but the first and the last: network and broadcast of IPv4, the routers' of IPv6. */
function inner(network: IpNetwork): Range {
  const { first, last, prefix } = whole(network);
  return { first: first + 1n, last: last - 1n, prefix };
}

function whole(network: IpNetwork): Range {
  const { base } = masked(network);
  return { first: base, last: base + sizeOf(network) - 1n, prefix: prefixBitsOf(network) };
}

function rangesOf(network: Network, family: IpFamily): readonly Range[] {
  return subnetsOf(network, family).map(subnet => {
    const all = inner(subnet);
    const asked = ipamConfig(network).flatMap(config => rangeWithin(config, subnet))[0] ?? all;
    // Math.max takes no bigints.
    const [, first = all.first] = [all.first, asked.first].sort(byValue);
    const [last = all.last] = [all.last, asked.last].sort(byValue);
    return { first, last, prefix: all.prefix };
  });
}

function byValue(a: bigint, b: bigint): number {
  return a < b ? -1 : 1;
}

function ipamConfig(network: Network): readonly Json[] {
  const ipam = network.spec["IPAM"] as Json | undefined;
  const config = ipam?.["Config"];
  return Array.isArray(config) ? (config as readonly Json[]) : [];
}

/** The part of the subnet that its spec wants addresses from. */
function rangeWithin(config: Json, subnet: IpNetwork): readonly Range[] {
  const range = parseCidr(String(config["IPRange"] ?? ""));
  return range === null || !networkContains(subnet, range.base) ? [] : [whole(range)];
}

function reservedIn(network: Network): ReadonlySet<bigint> {
  const auxiliary = ipamConfig(network).flatMap(config =>
    Object.values((config["AuxiliaryAddresses"] as Json | undefined) ?? {}).map(String),
  );
  const gateways = network.subnets.map(({ gateway }) => gateway);
  return new Set([...gateways, ...auxiliary].flatMap(text => addressOf(text) ?? []));
}

function addressOf(cidr: string): bigint | null {
  return parseIp(cidr.split("/")[0] ?? "");
}
