import type { RowEvent } from "../../model/change.ts";
import type { Service, Task } from "../../model/rows.ts";
import { isTerminal } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { AddressPool } from "./address-pool.ts";

/**
 * Who has which address of which network: services their virtual ones, tasks their own until they
 * have ended. An index over the state, fed by the changes as they are applied; what was given for a
 * plan is held until the owner's row goes, so asking again gives the same.
 */
export class AddressBook {
  readonly #pools = new Map<string, AddressPool>();
  /** CIDR by network, by owner. */
  readonly #owners = new Map<string, Map<string, string>>();

  /** Reads everything anew. */
  reset(view: StateView): void {
    this.#pools.clear();
    this.#owners.clear();
    for (const service of view.table("services").all()) this.#holdService(view, service);
    for (const task of view.table("tasks").all()) this.#holdTask(view, task);
  }

  /** Takes in one change; true when addresses came free. */
  observe(event: RowEvent, view: StateView): boolean {
    if (event.table === "services") return this.#observeService(event.before, event.after, view);
    if (event.table === "tasks") return this.#observeTask(event.after, event.id, view);
    // A network that came may be the one that somebody waits for.
    if (event.table === "networks") this.#pools.delete(event.id);
    return event.table === "networks";
  }

  /** The owner's address on the network, CIDR; null when there is no such network or none free. */
  take(view: StateView, networkId: string, owner: string): string | null {
    const known = this.#owners.get(owner)?.get(networkId);
    if (known !== undefined) return known;
    const address = this.#pool(view, networkId)?.take() ?? null;
    if (address !== null) this.#note(owner, networkId, address);
    return address;
  }

  /** Gives back what the owner has on other networks. */
  keepOnly(owner: string, networkIds: ReadonlySet<string>): boolean {
    let freed = false;
    for (const [networkId, address] of this.#owners.get(owner) ?? []) {
      if (networkIds.has(networkId)) continue;
      this.#pools.get(networkId)?.release(address);
      this.#owners.get(owner)?.delete(networkId);
      freed = true;
    }
    return freed;
  }

  #observeService(before: Service | null, after: Service | null, view: StateView): boolean {
    const id = after?.id ?? before?.id ?? "";
    if (after === null) return this.#releaseAll(id);
    if (after.endpoint === before?.endpoint) return false;
    this.#holdService(view, after);
    const kept = new Set(after.endpoint.virtualIps.map(vip => vip.networkId));
    return after.allocated && this.keepOnly(id, kept);
  }

  #observeTask(after: Task | null, id: string, view: StateView): boolean {
    if (after === null || isTerminal(after.status.state)) return this.#releaseAll(id);
    if (after.networks.length > 0) this.#holdTask(view, after);
    return false;
  }

  #holdService(view: StateView, service: Service): void {
    for (const { networkId, addr } of service.endpoint.virtualIps) {
      this.#hold(view, service.id, networkId, addr);
    }
  }

  #holdTask(view: StateView, task: Task): void {
    if (isTerminal(task.status.state)) return;
    for (const { networkId, addresses } of task.networks) {
      for (const address of addresses) this.#hold(view, task.id, networkId, address);
    }
  }

  #hold(view: StateView, owner: string, networkId: string, address: string): void {
    if (this.#owners.get(owner)?.get(networkId) === address) return;
    this.#pool(view, networkId)?.hold(address);
    this.#note(owner, networkId, address);
  }

  #note(owner: string, networkId: string, address: string): void {
    let held = this.#owners.get(owner);
    if (held === undefined) {
      held = new Map();
      this.#owners.set(owner, held);
    }
    held.set(networkId, address);
  }

  #releaseAll(owner: string): boolean {
    const freed = this.keepOnly(owner, new Set());
    this.#owners.delete(owner);
    return freed;
  }

  #pool(view: StateView, networkId: string): AddressPool | undefined {
    const known = this.#pools.get(networkId);
    if (known !== undefined) return known;
    const network = view.table("networks").get(networkId);
    if (network === undefined) return undefined;
    const pool = new AddressPool(network);
    for (const held of this.#owners.values()) {
      const address = held.get(networkId);
      if (address !== undefined) pool.hold(address);
    }
    this.#pools.set(networkId, pool);
    return pool;
  }
}
