import type { RowEvent } from "../../model/change.ts";
import { familyOf, type IpFamily, parseIp } from "../../model/ip.ts";
import type { Network, Service, Task } from "../../model/rows.ts";
import { isTerminal } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { AddressPool } from "./address-pool.ts";
import { type FixedAddress, fixedOf } from "./fixed-addresses.ts";
import { type Allocation, FAMILIES } from "./networks.ts";

/** An address that somebody has. */
interface Held {
  readonly networkId: string;
  /** CIDR. */
  readonly cidr: string;
}

/** What is wanted of a network. */
export interface Wish {
  readonly networkId: string;
  readonly family: IpFamily;
  /** Just this address; absent: any that is free. */
  readonly exactly?: string | undefined;
  /** For whom such an address may be kept; empty: a plain container. */
  readonly serviceId?: string;
}

type Pools = Readonly<Record<IpFamily, AddressPool>>;

/**
 * Who has which addresses of which network: services their virtual ones, tasks their own until they
 * have ended. An index over the state, fed by the changes as they are applied; what was given for a
 * plan is held until the owner's row goes, so asking again gives the same.
 */
export class AddressBook {
  readonly #pools = new Map<string, Pools>();
  readonly #owners = new Map<string, Held[]>();

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

  /** An address for the owner, CIDR; the one it has when that is as wished. */
  take(view: StateView, owner: string, wish: Wish): Allocation<string> {
    const { networkId, family, exactly } = wish;
    const network = view.table("networks").get(networkId);
    if (network === undefined) return { ok: false, message: `network ${networkId} not found` };
    const known = this.#known(owner, wish);
    if (known !== undefined) return { ok: true, value: known };
    const pool = this.#poolsOf(view, network)[family];
    const given =
      exactly === undefined ? pool.take(owner) : pool.claim(exactly, owner, wish.serviceId ?? "");
    if (given === null) return { ok: false, message: exhausted(network, family, pool.held) };
    if (typeof given !== "string") {
      return { ok: false, message: refusal(view, network, exactly ?? "", given.owner) };
    }
    this.#note(owner, { networkId, cidr: given });
    return { ok: true, value: given };
  }

  /** Why a service cannot have what its label asks for; empty: it can. */
  objection(view: StateView, serviceId: string, fixed: FixedAddress): string {
    const { networkId, family, address, isVip } = fixed;
    const network = view.table("networks").get(networkId);
    if (network === undefined) return `network ${networkId} not found`;
    const found = this.#poolsOf(view, network)[family].whose(address);
    if (found === null) return refusal(view, network, address, "");
    const { owner, keptFor } = found;
    const task = view.table("tasks").get(owner);
    const isOwn = isVip ? owner === serviceId : task?.serviceId === serviceId;
    if (owner !== "" && !isOwn) return refusal(view, network, address, owner);
    if (keptFor === "" || keptFor === serviceId) return "";
    return refusal(view, network, address, keptFor);
  }

  /** Takes an address from an owner that is gone without having said so. */
  takeFrom(owner: string, networkId: string, cidr: string): void {
    this.#keep(owner, held => held.networkId !== networkId || held.cidr !== cidr);
  }

  /** Gives back what the owner has on other networks. */
  keepNetworks(owner: string, networkIds: ReadonlySet<string>): boolean {
    return this.#keep(owner, ({ networkId }) => networkIds.has(networkId));
  }

  #keep(owner: string, isKept: (held: Held) => boolean): boolean {
    const all = this.#owners.get(owner) ?? [];
    const gone = all.filter(held => !isKept(held));
    for (const { networkId, cidr } of gone) {
      this.#pools.get(networkId)?.[familyOf(cidr)].release(cidr, owner);
    }
    if (gone.length > 0) this.#owners.set(owner, all.filter(isKept));
    return gone.length > 0;
  }

  #known(owner: string, { networkId, family, exactly }: Wish): string | undefined {
    const own = (this.#owners.get(owner) ?? []).filter(
      held => held.networkId === networkId && familyOf(held.cidr) === family,
    );
    const isIt = (held: Held): boolean => addressOf(held.cidr) === addressOf(exactly ?? "");
    return (exactly === undefined ? own[0] : own.find(isIt))?.cidr;
  }

  #observeService(before: Service | null, after: Service | null, view: StateView): boolean {
    const id = after?.id ?? before?.id ?? "";
    const freed = after?.spec === before?.spec ? false : this.#keepFixed(view, id, after);
    if (after === null) return this.#releaseAll(id) || freed;
    if (after.endpoint === before?.endpoint) return freed;
    this.#holdService(view, after);
    const kept = new Set(after.endpoint.virtualIps.map(vip => `${vip.networkId} ${vip.addr}`));
    const isKept = (held: Held): boolean => kept.has(`${held.networkId} ${held.cidr}`);
    return (after.allocated && this.#keep(id, isKept)) || freed;
  }

  /** Addresses named by labels are kept for their service from the first to the last moment. */
  #keepFixed(view: StateView, id: string, service: Service | null): boolean {
    let freed = false;
    for (const pools of this.#pools.values()) {
      for (const family of FAMILIES) freed = pools[family].unkeep(id) || freed;
    }
    for (const { networkId, family, address } of service === null
      ? []
      : fixedOf(view, service.spec)) {
      this.#pools.get(networkId)?.[family].keep(address, id);
    }
    return freed;
  }

  #observeTask(after: Task | null, id: string, view: StateView): boolean {
    if (after === null || isTerminal(after.status.state)) return this.#releaseAll(id);
    if (after.networks.length > 0) this.#holdTask(view, after);
    return false;
  }

  #holdService(view: StateView, service: Service): void {
    for (const { networkId, addr } of service.endpoint.virtualIps) {
      this.#hold(view, service.id, { networkId, cidr: addr });
    }
  }

  #holdTask(view: StateView, task: Task): void {
    if (isTerminal(task.status.state)) return;
    for (const { networkId, addresses } of task.networks) {
      for (const cidr of addresses) this.#hold(view, task.id, { networkId, cidr });
    }
  }

  #hold(view: StateView, owner: string, held: Held): void {
    const known = this.#owners.get(owner) ?? [];
    if (known.some(one => one.networkId === held.networkId && one.cidr === held.cidr)) return;
    const network = view.table("networks").get(held.networkId);
    if (network !== undefined) {
      this.#poolsOf(view, network)[familyOf(held.cidr)].hold(held.cidr, owner);
    }
    this.#note(owner, held);
  }

  #note(owner: string, held: Held): void {
    const known = this.#owners.get(owner);
    if (known === undefined) this.#owners.set(owner, [held]);
    else known.push(held);
  }

  #releaseAll(owner: string): boolean {
    const freed = this.#keep(owner, () => false);
    this.#owners.delete(owner);
    return freed;
  }

  #poolsOf(view: StateView, network: Network): Pools {
    const known = this.#pools.get(network.id);
    if (known !== undefined) return known;
    const pools = {
      ipv4: new AddressPool(network, "ipv4"),
      ipv6: new AddressPool(network, "ipv6"),
    };
    for (const [owner, all] of this.#owners) {
      for (const { networkId, cidr } of all) {
        if (networkId === network.id) pools[familyOf(cidr)].hold(cidr, owner);
      }
    }
    for (const service of view.table("services").all()) {
      for (const fixed of fixedOf(view, service.spec)) {
        if (fixed.networkId === network.id) pools[fixed.family].keep(fixed.address, service.id);
      }
    }
    this.#pools.set(network.id, pools);
    return pools;
  }
}

function addressOf(cidr: string): bigint | null {
  return parseIp(cidr.split("/")[0] ?? "");
}

const FAMILY_TEXT: Readonly<Record<IpFamily, string>> = { ipv4: "IPv4", ipv6: "IPv6" };

function exhausted({ spec }: Network, family: IpFamily, held: number): string {
  return `no free ${FAMILY_TEXT[family]} address on network ${spec.Name}: ${held} are in use`;
}

function refusal(view: StateView, { spec }: Network, address: string, owner: string): string {
  if (owner === "") {
    return (
      `address ${address} is not one that network ${spec.Name} gives to tasks: ` +
      "it is outside its subnets, or a gateway's, or reserved"
    );
  }
  return `address ${address} of network ${spec.Name} is in use by ${ownerText(view, owner)}`;
}

/** Whom an address belongs to, in words for the user. */
function ownerText(view: StateView, owner: string): string {
  const service = view.table("services").get(owner);
  if (service !== undefined) return `service '${service.spec.Name}'`;
  const task = view.table("tasks").get(owner);
  if (task === undefined) return owner;
  const node = view.table("nodes").get(task.nodeId)?.description?.hostname ?? task.nodeId;
  return task.serviceId === ""
    ? `a container on node ${node}`
    : `task ${task.id} of service '${task.serviceName}'`;
}
