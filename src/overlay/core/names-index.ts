import { addressesOf, type OverlayEndpoint, type OverlayService } from "../../model/overlay.ts";
import { type Answer, type AnswerRecord, RCODE, reverseAddress, TYPE } from "./dns-message.ts";
import type { NetworkTable } from "./table.ts";

/** Answers change with the tables, so they are good for no longer than this. */
export const TTL_S = 1;
const TASKS_PREFIX = "tasks.";

/**
 * The names of one network: services and their aliases (the virtual address, or the tasks that
 * serve when there is none), `tasks.<service>`, and containers; each also with the network's name
 * after it.
 */
export class NetworkNames {
  readonly #suffix: string;
  readonly #addrs = new Map<string, readonly string[]>();
  readonly #names = new Map<string, string>();

  constructor({ network, services, endpoints }: NetworkTable) {
    this.#suffix = `.${network.name.toLowerCase()}`;
    const serving = groupByService(endpoints.values());
    for (const endpoint of endpoints.values()) {
      // A plain container's name is its own Engine's to answer.
      if (endpoint.name === "") continue;
      const addrs = addressesOf(endpoint);
      this.#put(endpoint.name, addrs);
      for (const addr of addrs) this.#names.set(addr, `${endpoint.name}.${network.name}`);
    }
    for (const service of services.values()) this.#putService(service, serving);
  }

  /** Undefined: no such name. Empty: the name is known and has no address just now. */
  addressesOf(name: string): readonly string[] | undefined {
    const plain = name.endsWith(this.#suffix) ? name.slice(0, -this.#suffix.length) : null;
    return this.#addrs.get(name) ?? (plain === null ? undefined : this.#addrs.get(plain));
  }

  nameOf(addr: string): string | undefined {
    return this.#names.get(addr);
  }

  #putService(service: OverlayService, serving: ReadonlyMap<string, readonly string[]>): void {
    const { name, aliases, vip, vip6 = "", serviceId } = service;
    const vips = addressesOf({ addr: vip, addr6: vip6 });
    const tasks = serving.get(serviceId) ?? [];
    for (const known of [name, ...aliases]) {
      this.#put(known, vips.length === 0 ? tasks : vips);
      this.#put(`${TASKS_PREFIX}${known}`, tasks);
    }
    for (const addr of vips) this.#names.set(addr, `${name}${this.#suffix}`);
  }

  /** Services that share an alias share its answers. */
  #put(name: string, addrs: readonly string[]): void {
    const key = name.toLowerCase();
    const known = this.#addrs.get(key) ?? [];
    this.#addrs.set(key, [...new Set([...known, ...addrs])]);
  }
}

function groupByService(
  endpoints: Iterable<OverlayEndpoint>,
): ReadonlyMap<string, readonly string[]> {
  const groups = new Map<string, string[]>();
  for (const endpoint of endpoints) {
    const { serving, serviceId } = endpoint;
    if (!serving || serviceId === "") continue;
    groups.set(serviceId, [...(groups.get(serviceId) ?? []), ...addressesOf(endpoint)]);
  }
  return groups;
}

/**
 * The answer out of the networks that the asking container is on, in their order: the first one
 * that knows the name. Null: none does, and somebody else is to be asked.
 */
export function resolve(
  networks: readonly NetworkNames[],
  query: { readonly name: string; readonly type: number },
): Answer | null {
  if (query.type === TYPE.ptr) return resolveReverse(networks, query.name);
  for (const names of networks) {
    const addrs = names.addressesOf(query.name);
    if (addrs === undefined) continue;
    return { rcode: RCODE.ok, ttlS: TTL_S, records: addressRecords(addrs, query.type) };
  }
  return null;
}

function addressRecords(addrs: readonly string[], type: number): AnswerRecord[] {
  const records: AnswerRecord[] = [];
  for (const addr of addrs) {
    const own = addr.includes(":") ? TYPE.aaaa : TYPE.a;
    if (type === own || type === TYPE.any) records.push({ type: own, addr });
  }
  return records;
}

function resolveReverse(networks: readonly NetworkNames[], name: string): Answer | null {
  const addr = reverseAddress(name);
  if (addr === null) return null;
  for (const names of networks) {
    const found = names.nameOf(addr);
    if (found === undefined) continue;
    return { rcode: RCODE.ok, ttlS: TTL_S, records: [{ type: TYPE.ptr, name: found }] };
  }
  return null;
}
