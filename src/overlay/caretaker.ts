import { stat } from "node:fs/promises";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { familyOf } from "../model/ip.ts";
import { NAMESPACE_PREFIX, namespaceOf } from "./core/names.ts";
import type { NetworkPlan } from "./core/plan.ts";
import type { OverlayTable } from "./core/table.ts";
import type { EngineSide } from "./engine-side.ts";
import type { HostProgram } from "./host-rules.ts";
import type { LocalLeases } from "./leases.ts";
import type { LocalEndpoint, LocalState } from "./local-state.ts";
import type { MeshKeeper } from "./mesh-keeper.ts";
import type { Namespaces } from "./namespaces.ts";
import type { NetworkPrograms } from "./network-programs.ts";
import { listNamespaces } from "./probe.ts";
import type { Sandboxes } from "./sandboxes.ts";

/** How often what is there is compared with what should be. */
export const AUDIT_INTERVAL_MS = 3_000;
const AUDITS_AT_ONCE = 4;

export interface CaretakerDeps {
  readonly table: OverlayTable;
  readonly state: LocalState;
  readonly namespaces: Namespaces;
  readonly sandboxes: Sandboxes;
  readonly programs: NetworkPrograms;
  readonly host: HostProgram;
  readonly meshKeeper: MeshKeeper;
  readonly leases: LocalLeases;
  readonly engine: EngineSide;
  /** Managers have said what is this node's: what else is here is left over. */
  readonly confirmed: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Finds what other hands have changed, what was lost and what is left over, and mends it. */
export class Caretaker {
  readonly #deps: CaretakerDeps;

  constructor(deps: CaretakerDeps) {
    this.#deps = deps;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#deps.clock, AUDIT_INTERVAL_MS, signal);
      try {
        await this.#audit(signal);
      } catch (error) {
        signal.throwIfAborted();
        this.#deps.logger.info("cannot check the data path", { error: errorMessage(error) });
      }
    }
  }

  async #audit(signal: AbortSignal): Promise<void> {
    await this.forgetDeadEndpoints();
    await this.#deps.leases.audit();
    await this.#deps.host.audit();
    await this.#deps.meshKeeper.audit();
    const ids = this.#deps.programs.ids();
    const next = async (): Promise<void> => {
      for (let id = ids.shift(); id !== undefined; id = ids.shift()) {
        signal.throwIfAborted();
        await this.#deps.programs.audit(id);
      }
    };
    await Promise.all(Array.from({ length: AUDITS_AT_ONCE }, next));
    if (this.#deps.confirmed()) await this.#removeLeftovers(signal);
  }

  /** No Leave is heard for a container that ended while this daemon was away. */
  async forgetDeadEndpoints(): Promise<void> {
    const joined = [...this.#deps.state.endpoints.values()].filter(({ sandbox }) => sandbox !== "");
    const dead: LocalEndpoint[] = [];
    for (const networkId of new Set(joined.map(endpoint => endpoint.networkId))) {
      const devices = await this.#deps.namespaces.devices(networkId).catch(() => null);
      // Without its namespace the network is for the audit to mend.
      if (devices === null) continue;
      dead.push(...joined.filter(one => one.networkId === networkId && !devices.has(one.device)));
    }
    // Only what has not changed while the devices were being listed.
    const known = dead.filter(endpoint => this.#deps.state.endpoints.get(endpoint.id) === endpoint);
    const there = await Promise.all(known.map(({ sandbox }) => isThere(sandbox)));
    const gone = known.filter((_, i) => there[i] === false);
    for (const { id, networkId } of gone) {
      this.#deps.state.endpoints.delete(id);
      void this.#deps.programs.sync(networkId);
    }
    if (gone.length > 0) await this.#deps.state.save();
  }

  /** The Engine's networks, and namespaces, of networks that are not this node's any more. */
  async #removeLeftovers(signal: AbortSignal): Promise<void> {
    for (const { id, networkId } of [...this.#deps.state.networks.values()]) {
      if (this.#deps.table.network(networkId) !== undefined) continue;
      if (!this.#deps.state.usesNetwork(networkId)) await this.#deps.engine.remove(id, signal);
    }
    const known = new Set([
      ...this.#deps.table.networkIds().map(namespaceOf),
      ...[...this.#deps.state.endpoints.values()].map(({ networkId }) => namespaceOf(networkId)),
    ]);
    for (const name of await listNamespaces()) {
      if (!name.startsWith(NAMESPACE_PREFIX) || known.has(name)) continue;
      await this.#deps.namespaces.remove(name.slice(NAMESPACE_PREFIX.length));
    }
  }

  /** After a namespace was lost the ends of the containers that still run are made anew. */
  async plugAgain(plan: NetworkPlan): Promise<void> {
    const { networkId } = plan;
    const all = [...this.#deps.state.endpoints.values()].filter(one => one.networkId === networkId);
    const joined = all.filter(({ sandbox }) => sandbox !== "");
    if (joined.length === 0) return;
    const devices = await this.#deps.namespaces.devices(networkId);
    const subnets = this.#deps.table.network(networkId)?.network.subnets ?? [];
    const subnet = subnets.find(one => familyOf(one.subnet) === "ipv4");
    const prefixBits = Number(subnet?.subnet.split("/")[1] ?? 0);
    const gateway = plan.ingress ? (subnet?.gateway ?? "") : "";
    const subnet6 = subnets.find(one => familyOf(one.subnet) === "ipv6");
    const has6 = subnet6 !== undefined && plan.families.includes("ipv6");
    const way6 = has6 ? { ...subnet6, isDefault: plan.ingress } : null;
    for (const endpoint of joined) {
      const { device, sandbox, addr } = endpoint;
      if (devices.has(device) || !(await isThere(sandbox))) continue;
      this.#deps.logger.warn("a container had lost its network", { network: networkId, addr });
      await this.#deps.sandboxes.plugInto(plan, endpoint, { sandbox, prefixBits, gateway, way6 });
    }
  }
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
