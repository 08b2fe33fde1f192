import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { canonicalIp, familyOf } from "../model/ip.ts";
import { addressesOf, type OverlayEndpoint, withoutPrefix } from "../model/overlay.ts";
import type { AskedAddress } from "../model/rows.ts";
import type { OverlayTable } from "./core/table.ts";
import type { LocalState } from "./local-state.ts";
import { placeKey } from "./naming.ts";

/** An address that no container has taken for so long is given back. */
export const IDLE_LEASE_MS = 60_000;

export interface Lease {
  readonly taskId: string;
  /** CIDR. */
  readonly address: string;
}

/** The managers' side; both throw `unavailable` while none answers. */
export interface LeaseSource {
  lease(networkId: string, asked: AskedAddress): Promise<Lease>;
  release(taskId: string): Promise<void>;
}

/** A row that holds an address for a plain container of this node. */
export type LeaseRow = Pick<OverlayEndpoint, "taskId" | "networkId" | "addr" | "addr6">;

export interface LocalLeasesDeps {
  readonly state: LocalState;
  /** All such rows, as managers tell; null while they have not told yet. */
  readonly rows: () => readonly LeaseRow[] | null;
  /** Something of a network was not as it should be, and is now, or cannot be. */
  readonly onFound: (networkId: string, what: string) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Addresses of this node's plain containers, from the cluster's allocator. */
export class LocalLeases {
  readonly #deps: LocalLeasesDeps;
  /** Taken so that the network comes here; the next container gets it. By network. */
  readonly #spare = new Map<string, Lease[]>();
  /** Since when nobody has had it, by place. */
  readonly #idleSinceMs = new Map<string, number>();
  /** Since when a row is here for nobody, or a container without a row: by row. */
  readonly #oddSinceMs = new Map<string, number>();
  source: LeaseSource | null = null;

  constructor(deps: LocalLeasesDeps) {
    this.#deps = deps;
  }

  /** Makes the managers send the network's tables to this node. */
  async reserve(networkId: string): Promise<void> {
    if ((this.#spare.get(networkId) ?? []).length > 0) return;
    const lease = await this.#lease(networkId, { family: "ipv4" });
    this.#spare.set(networkId, [...(this.#spare.get(networkId) ?? []), lease]);
  }

  /** An address, CIDR, for a container that is about to join. */
  async take(networkId: string, asked: AskedAddress): Promise<string> {
    const spares = this.#spare.get(networkId) ?? [];
    const at = spares.findIndex(({ address }) => isAsFor(asked, address));
    const [spare] = at < 0 ? [] : spares.splice(at, 1);
    return (spare ?? (await this.#lease(networkId, asked))).address;
  }

  async #lease(networkId: string, asked: AskedAddress): Promise<Lease> {
    if (this.source === null) throw new SwarmError("unavailable", "no manager answers yet");
    const lease = await this.source.lease(networkId, asked);
    this.#deps.state.leases.set(placeKey(networkId, withoutPrefix(lease.address)), lease.taskId);
    await this.#deps.state.save();
    return lease;
  }

  /** The Engine needs it no more. Without a manager it is tried again by `audit`. */
  async release(networkId: string, addr: string): Promise<void> {
    const key = placeKey(networkId, addr);
    const taskId = this.#deps.state.leases.get(key);
    if (taskId === undefined) return;
    const spares = this.#spare.get(networkId) ?? [];
    this.#spare.set(
      networkId,
      spares.filter(lease => lease.taskId !== taskId),
    );
    try {
      await this.source?.release(taskId);
    } catch (error) {
      this.#deps.logger.info("cannot give an address back yet", { error: errorMessage(error) });
      return;
    }
    this.#deps.state.leases.delete(key);
    this.#idleSinceMs.delete(key);
    await this.#deps.state.save();
  }

  /** Makes rows and containers agree, once they have differed for a while. */
  async audit(): Promise<void> {
    const { state, clock } = this.#deps;
    const used = new Set(
      [...state.endpoints.values()].flatMap(endpoint =>
        addressesOf(endpoint).map(addr => placeKey(endpoint.networkId, addr)),
      ),
    );
    await this.#giveBackIdle(used, clock.monoMs());
    const rows = this.#deps.rows();
    if (rows === null || this.source === null) return;
    const known = new Set(state.leases.values());
    const strange = rows.filter(({ taskId }) => !known.has(taskId));
    const there = new Set(rows.map(({ taskId }) => taskId));
    const bare = [...state.leases].filter(([key, id]) => used.has(key) && !there.has(id));
    const odd = new Set([...strange.map(({ taskId }) => taskId), ...bare.map(([, id]) => id)]);
    const ripe = this.#ripe(odd, clock.monoMs());
    for (const row of strange) if (ripe.has(row.taskId)) await this.#giveBackStrange(row);
    for (const [key, taskId] of bare) if (ripe.has(taskId)) await this.#takeAgain(key);
  }

  /** No container has had them for a while: it failed to start, or ended unheard. */
  async #giveBackIdle(used: ReadonlySet<string>, nowMs: number): Promise<void> {
    for (const key of this.#deps.state.leases.keys()) {
      if (used.has(key)) {
        this.#idleSinceMs.delete(key);
        continue;
      }
      const sinceMs = this.#idleSinceMs.get(key) ?? nowMs;
      this.#idleSinceMs.set(key, sinceMs);
      if (nowMs - sinceMs < IDLE_LEASE_MS) continue;
      const [networkId = "", addr = ""] = key.split("/");
      await this.release(networkId, addr);
    }
  }

  /** Those of the rows that have been odd for long enough: others are under way. */
  #ripe(odd: ReadonlySet<string>, nowMs: number): ReadonlySet<string> {
    for (const id of this.#oddSinceMs.keys()) if (!odd.has(id)) this.#oddSinceMs.delete(id);
    for (const id of odd) {
      if (!this.#oddSinceMs.has(id)) this.#oddSinceMs.set(id, nowMs);
    }
    const isRipe = ([, sinceMs]: readonly [string, number]): boolean =>
      nowMs - sinceMs >= IDLE_LEASE_MS;
    return new Set([...this.#oddSinceMs].filter(isRipe).map(([id]) => id));
  }

  /** Its answer was never heard here: the call was given up, or this daemon was killed. */
  async #giveBackStrange({ taskId, networkId, addr, addr6 = "" }: LeaseRow): Promise<void> {
    const what = `${addr || addr6} was held for a container that is not here`;
    try {
      await this.source?.release(taskId);
      this.#deps.onFound(networkId, `${what}: it is given back`);
    } catch (error) {
      this.#deps.onFound(networkId, `${what}, and cannot be given back: ${errorMessage(error)}`);
    }
    this.#oddSinceMs.delete(taskId);
  }

  /** A container has an address that nobody keeps for it (any more): another could be given it. */
  async #takeAgain(key: string): Promise<void> {
    const [networkId = "", address = ""] = key.split("/");
    this.#oddSinceMs.delete(this.#deps.state.leases.get(key) ?? "");
    try {
      await this.#lease(networkId, { family: familyOf(address), address });
      this.#deps.onFound(networkId, `no row held ${address} for its container: one does now`);
    } catch (error) {
      const why = errorMessage(error);
      this.#deps.onFound(networkId, `no row holds ${address} for its container: ${why}`);
    }
  }
}

/** Those of a node, in the networks it has. */
export function leaseRowsOf(table: OverlayTable, nodeId: string): readonly LeaseRow[] {
  const networks = table.networkIds().flatMap(id => table.network(id) ?? []);
  const all = networks.flatMap(({ endpoints }) => [...endpoints.values()]);
  return all.filter(one => one.nodeId === nodeId && one.serviceId === "");
}

function isAsFor({ family, address }: AskedAddress, cidr: string): boolean {
  if (address !== undefined) return canonicalIp(address) === withoutPrefix(cidr);
  return familyOf(cidr) === family;
}
