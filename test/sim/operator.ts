import { errorMessage, isSwarmError } from "../../src/base/errors.ts";
import { createIngress } from "../../src/control/core/network-plan.ts";
import type { Change } from "../../src/model/change.ts";
import { aCluster, aNode } from "../support/rows.ts";
import type { Chance } from "./chance.ts";
import type { Cluster } from "./cluster.ts";
import type { ManagerHost } from "./host.ts";
import type { SimManager } from "./manager.ts";

const RETRY_MS = 400;
const CALL_TIMEOUT_MS = 4_000;
/** A manager that was taken out runs on for a while: it must do no harm. */
const ZOMBIE_MS = 20_000;
const ZOMBIE_SHARE = 0.5;
const MIN_VOTERS = 3;
/** A small network: addresses are soon used again. */
const ADDRESSES = { defaultAddrPool: ["10.255.0.0/16"], subnetSize: 27 };

/** Whoever runs the cluster: founds it, adds, removes and replaces managers, one at a time. */
export class Operator {
  readonly #cluster: Cluster;
  readonly #chance: Chance;
  /** A change of the managers is under way. */
  busy = false;
  /** Members on their way in and out. */
  readonly joining = new Set<number>();
  readonly removing = new Set<number>();
  #stopped = false;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#chance = cluster.chance("operator");
  }

  /** What is under way stays undone. */
  stop(): void {
    this.#stopped = true;
  }

  /** A cluster of the planned size, before anything goes wrong. */
  async found(): Promise<void> {
    const { managers, plan, workers } = this.#cluster;
    const [first, ...others] = managers.slice(0, plan.managers);
    if (first === undefined) throw new Error("a plan has managers");
    first.provision(this.#cluster.newRaftId());
    // A failure of it here undoes the founding: there would be no cluster to look at.
    first.disk.spared = true;
    first.start("bootstrap");
    await this.submit([{ op: "create", table: "cluster", row: aCluster() }]);
    await this.submit([nodeOf(first)]);
    const { manager } = first;
    if (manager === null) throw new Error("the first manager runs");
    const { view } = manager.store;
    await this.submit([createIngress(view, { ...ADDRESSES, id: "cluster" }, "ingress")]);
    for (const host of others) await this.join(host);
    for (const worker of workers) {
      await this.submit([{ op: "create", table: "nodes", row: aNode({ id: worker.nodeId }) }]);
      worker.start();
    }
    first.disk.spared = false;
  }

  /** Makes an empty host a manager. Returns when it votes. */
  async join(host: ManagerHost): Promise<void> {
    if (host.state !== "empty") return;
    this.busy = true;
    host.provision(this.#cluster.newRaftId());
    const { peer } = host;
    this.joining.add(peer.raftId);
    await this.submit([nodeOf(host)]);
    host.start("join");
    await this.#untilDone(`${host.name} joins`, manager => {
      return manager.raft.addMember(peer, timeout(manager));
    });
    await this.#until(
      () => this.#voters().includes(peer.raftId) || host.peer.raftId !== peer.raftId,
    );
    this.joining.delete(peer.raftId);
    this.busy = false;
  }

  /** Demotes a manager, as the API does: the leader then takes it out of the group. */
  async remove(host: ManagerHost): Promise<void> {
    this.busy = true;
    const { nodeId, raftId } = host.peer;
    this.removing.add(raftId);
    this.#cluster.trace.note(`${host.name} is to be no manager any more`);
    const spec = { Role: "worker", Availability: "drain" } as const;
    await this.submit([{ op: "patch", table: "nodes", id: nodeId, fields: { spec } }]);
    await this.#until(() => this.#isOut(raftId));
    this.removing.delete(raftId);
    this.#cluster.trace.note(`${host.name} is out`);
    if (host.state !== "lost" && this.#chance.is(ZOMBIE_SHARE)) {
      await this.#cluster.world.sleep(this.#chance.float(0, ZOMBIE_MS));
    }
    await this.#goOn();
    host.retire();
    this.busy = false;
  }

  /** A manager without its disk is removed; its machine comes back under a new id. */
  async replace(host: ManagerHost): Promise<void> {
    await this.remove(host);
    await this.join(host);
  }

  /** Whether the group can do without one of its voters. */
  get maySpare(): boolean {
    return !this.busy && this.#voters().length > MIN_VOTERS;
  }

  /** Writes through whoever leads, until it is written. */
  async submit(changes: readonly Change[]): Promise<void> {
    await this.#untilDone("a change", async manager => {
      try {
        await manager.store.submit(changes, timeout(manager));
      } catch (error) {
        if (!isSwarmError(error, "already_exists")) throw error;
      }
    });
  }

  async #untilDone(what: string, work: (manager: SimManager) => Promise<unknown>): Promise<void> {
    const { world, trace } = this.#cluster;
    for (;;) {
      const { leader } = this.#cluster;
      await this.#goOn();
      if (leader !== null) {
        try {
          await this.#cluster.ask(leader, work);
          return;
        } catch (error) {
          trace.detail(() => `operator: ${what}: ${errorMessage(error)}`);
        }
      }
      await world.sleep(RETRY_MS);
    }
  }

  /** Never returns once the operator has stopped. */
  async #goOn(): Promise<void> {
    if (this.#stopped) await new Promise<void>(() => undefined);
  }

  async #until(done: () => boolean): Promise<void> {
    while (this.#stopped || !done()) await this.#cluster.world.sleep(RETRY_MS);
  }

  #voters(): readonly number[] {
    return this.#cluster.leader?.manager?.raft.status().conf.voters ?? [];
  }

  #isOut(raftId: number): boolean {
    const manager = this.#cluster.leader?.manager;
    if (manager === undefined || manager === null) return false;
    const { conf } = manager.raft.status();
    return ![...conf.voters, ...conf.learners, ...conf.votersOutgoing].includes(raftId);
  }
}

/** A signal of the manager's own clock. */
function timeout(manager: SimManager): AbortSignal {
  const controller = new AbortController();
  manager.process.clock.setTimer("operator", CALL_TIMEOUT_MS, () => controller.abort());
  return controller.signal;
}

function nodeOf(host: ManagerHost): Change {
  const spec = { Role: "manager", Availability: "drain" } as const;
  return {
    op: "create",
    table: "nodes",
    row: aNode({ id: host.nodeId, spec, certRole: "manager" }),
  };
}
