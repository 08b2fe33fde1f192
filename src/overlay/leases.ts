import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { canonicalIp, familyOf } from "../model/ip.ts";
import { addressesOf, withoutPrefix } from "../model/overlay.ts";
import type { AskedAddress } from "../model/rows.ts";
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

export interface LocalLeasesDeps {
  readonly state: LocalState;
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

  /** Gives back what no container has had for a while: it failed to start, or ended unheard. */
  async audit(): Promise<void> {
    const { state, clock } = this.#deps;
    const nowMs = clock.monoMs();
    const used = new Set(
      [...state.endpoints.values()].flatMap(endpoint =>
        addressesOf(endpoint).map(addr => placeKey(endpoint.networkId, addr)),
      ),
    );
    for (const key of state.leases.keys()) {
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
}

function isAsFor({ family, address }: AskedAddress, cidr: string): boolean {
  if (address !== undefined) return canonicalIp(address) === withoutPrefix(cidr);
  return familyOf(cidr) === family;
}
