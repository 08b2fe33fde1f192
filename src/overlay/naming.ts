import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";
import { namespaceOf } from "./core/names.ts";
import { NetworkNames, resolve } from "./core/names-index.ts";
import type { OverlayTable } from "./core/table.ts";
import { type Asker, DnsServer } from "./dns-server.ts";
import { openDnsSockets } from "./dns-sockets.ts";
import { HOST_SERVERS, Upstream } from "./dns-upstream.ts";
import type { LocalState } from "./local-state.ts";

export interface NamingDeps {
  readonly table: OverlayTable;
  readonly state: LocalState;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Who may know which names: a container those of all networks it is on. */
export class Naming {
  readonly #deps: NamingDeps;
  readonly #upstream: Upstream;
  /** Made when first asked for; void when the network's tables change. */
  readonly #names = new Map<string, NetworkNames>();

  constructor(deps: NamingDeps) {
    this.#deps = deps;
    this.#upstream = new Upstream({}, deps);
  }

  changed(networkIds: Iterable<string>): void {
    for (const id of networkIds) this.#names.delete(id);
  }

  /** The name server of a network, open in its namespace. */
  async open(networkId: string, gateway: string): Promise<DnsServer> {
    const sockets = await openDnsSockets(namespaceOf(networkId), gateway);
    const { clock, logger } = this.#deps;
    const askerOf = (addr: string): Asker => this.#askerOf(networkId, addr);
    return new DnsServer(sockets, { upstream: this.#upstream, clock, logger, askerOf });
  }

  /** Whichever network's server it asks, it is answered for all its networks. */
  #askerOf(networkId: string, addr: string): Asker {
    const { state, table } = this.#deps;
    const all = [...state.endpoints.values()];
    const own = all.find(one => one.networkId === networkId && one.addr === addr);
    const others =
      own === undefined || own.sandbox === ""
        ? []
        : all.filter(one => one.sandbox === own.sandbox && one.id !== own.id);
    const ids = [networkId, ...others.map(one => one.networkId)];
    const networks = ids.flatMap(id => this.#namesOf(id) ?? []);
    const outside = ids.some(id => table.network(id)?.network.internal === false);
    const servers = state.nameservers.get(placeKey(networkId, addr)) ?? [HOST_SERVERS];
    return { answer: query => resolve(networks, query), nameservers: outside ? servers : [] };
  }

  #namesOf(networkId: string): NetworkNames | null {
    const known = this.#names.get(networkId);
    if (known !== undefined) return known;
    const rows = this.#deps.table.network(networkId);
    // The ingress network has no names: it leads from outside to tasks, not from task to task.
    if (rows === undefined || rows.network.ingress) return null;
    const names = new NetworkNames(rows);
    this.#names.set(networkId, names);
    return names;
  }
}

/** A container's place: its network and its address there. */
export function placeKey(networkId: string, addr: string): string {
  return `${networkId}/${addr}`;
}
