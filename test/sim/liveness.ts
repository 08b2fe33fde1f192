import type { Task } from "../../src/model/rows.ts";
import { isWanted } from "../../src/model/task-state.ts";
import type { Chance } from "./chance.ts";
import type { Clients } from "./clients.ts";
import type { Cluster } from "./cluster.ts";
import type { ManagerHost } from "./host.ts";
import type { SimManager } from "./manager.ts";
import type { Operator } from "./operator.ts";

/** A healed quorum must be in order within this. */
export const CONVERGE_MS = 120_000;
/** And then stay so: no elections, no changes of the plan. */
const STABLE_MS = 5_000;
export const CHECK_EVERY_MS = 250;

/**
 * Heals a quorum of the managers and leaves the rest broken: down, paused, cut off or half cut off.
 * The quorum must elect a leader, catch up, serve, and bring the services about.
 */
export class Liveness {
  readonly #cluster: Cluster;
  readonly #clients: Clients;
  readonly #operator: Operator;
  readonly #chance: Chance;
  #core: readonly ManagerHost[] = [];
  #stableSinceMs = 0;
  #stableTerm = 0;
  #readsDone = false;
  #reading = false;
  #why = "";

  constructor(cluster: Cluster, deps: { readonly clients: Clients; readonly operator: Operator }) {
    this.#cluster = cluster;
    this.#clients = deps.clients;
    this.#operator = deps.operator;
    this.#chance = cluster.chance("nemesis");
  }

  /** What is still missing. */
  get why(): string {
    return this.#why;
  }

  /** False when no quorum has its disks: nothing can be asked of the cluster then. */
  heal(): boolean {
    const { trace, network, world, workers, managers } = this.#cluster;
    const core = this.#drawCore();
    if (core === null) return false;
    this.#core = core;
    trace.note(`healing ${core.map(host => host.name).join(" ")}`);
    network.heal(new Set([0, ...core.map(({ id }) => id), ...workers.map(({ id }) => id)]));
    for (const host of core) {
      host.disk.full = false;
      host.disk.failing = false;
      host.disk.faults = { syncMs: 1, stallRate: 0, stallMs: 0, errorRate: 0 };
      host.process?.resume();
      host.start();
    }
    for (const worker of workers) {
      worker.executor.setReachable(true);
      worker.start();
    }
    for (const host of managers) if (!core.includes(host)) this.#keepBroken(host);
    this.#stableSinceMs = world.nowMs;
    return true;
  }

  /** None of the rest can serve the quorum; some still disturb it. */
  #keepBroken(host: ManagerHost): void {
    const { network, trace, workers } = this.#cluster;
    const how = this.#chance.pick(["silent", "deaf", "mute"] as const);
    if (host.state === "up") trace.note(`${host.name} is ${how} to them`);
    for (const { id } of [...this.#core, ...workers]) {
      if (how !== "deaf") network.cut(host.id, id);
      if (how !== "mute") network.cut(id, host.id);
    }
  }

  /** A random set of hosts that holds majorities of every membership that anybody may act on. */
  #drawCore(): readonly ManagerHost[] | null {
    const fit = this.#cluster.managers.filter(({ state }) => state === "up" || state === "down");
    const sets = this.#voterSets();
    const core: ManagerHost[] = [];
    for (const host of this.#chance.shuffle(fit)) {
      if (isQuorum(core, sets)) break;
      if (sets.some(set => set.includes(host.raftId))) core.push(host);
    }
    return isQuorum(core, sets) ? core.sort((a, b) => a.id - b.id) : null;
  }

  /** The voters as they are, were before the last change, and may be after what is under way. */
  #voterSets(): readonly (readonly number[])[] {
    const { joining, removing } = this.#operator;
    return this.#cluster.witness.groups.flatMap(({ voters, learners }) => {
      let sets: readonly (readonly number[])[] = [[...voters]];
      for (const id of new Set([...learners, ...joining])) {
        sets = sets.flatMap(set => (set.includes(id) ? [set] : [set, [...set, id]]));
      }
      for (const id of removing) {
        sets = sets.flatMap(set => [set, set.filter(one => one !== id)]);
      }
      return sets;
    });
  }

  /** True when all is in order and has been for a while. */
  check(): boolean {
    this.#why = this.#missing();
    const { nowMs } = this.#cluster.world;
    const term = this.#cluster.leader?.manager?.raft.status().term ?? 0;
    if (this.#why !== "" || term !== this.#stableTerm) {
      this.#stableSinceMs = nowMs;
      this.#stableTerm = term;
      return false;
    }
    if (nowMs - this.#stableSinceMs < STABLE_MS) {
      this.#why = "a while without change";
      return false;
    }
    this.#read();
    if (!this.#readsDone) this.#why = "reads at every manager";
    return this.#readsDone;
  }

  /** Every register in use, at every manager of the quorum. */
  #read(): void {
    if (this.#reading) return;
    this.#reading = true;
    void this.#clients.readAll(this.#core).then(() => {
      this.#readsDone = true;
    });
  }

  #missing(): string {
    // One may have been about to stop.
    for (const host of this.#core) host.start();
    const down = this.#core.filter(({ manager }) => manager === null);
    if (down.length > 0) return `${down.map(({ name }) => name).join(" ")} must run`;
    const managers = this.#core.flatMap(({ manager }) => (manager === null ? [] : [manager]));
    const leader = managers.find(({ raft }) => raft.status().role === "leader");
    if (leader === undefined) return "a leader";
    return (
      missingInGroup(managers, leader) ||
      this.#missingInServices(leader) ||
      (leader.dispatcher === null ? "the leader's duties" : "")
    );
  }

  #missingInServices(leader: SimManager): string {
    const { view } = leader.store;
    const running = new Map(
      this.#cluster.workers.map(({ nodeId, executor }) => [nodeId, executor.runningTasks()]),
    );
    for (const service of view.table("services").all()) {
      const wanted = service.pendingDelete ? 0 : (service.spec.Mode?.Replicated?.Replicas ?? 1);
      const live = view
        .tasksOfService(service.id)
        .filter(task => isWanted(task.desiredState) && task.status.state === "running");
      const there = live.filter(task => running.get(task.nodeId)?.includes(task.id)).length;
      if (service.pendingDelete) return `${service.spec.Name} must go`;
      if (service.allocated && (live.length !== wanted || there !== wanted)) {
        const tasks = view.tasksOfService(service.id).map(describeTask).join("; ");
        return (
          `${service.spec.Name} has ${live.length} tasks, ${there} containers, of ${wanted}: ` +
          (tasks || JSON.stringify(service))
        );
      }
    }
    const owned = new Set([...view.table("tasks").all()].map(task => task.id));
    for (const [nodeId, tasks] of running) {
      const orphan = tasks.find(task => !owned.has(task));
      if (orphan !== undefined) return `${nodeId} runs ${orphan}, which nobody wants`;
    }
    return "";
  }
}

function describeTask({ id, slot, nodeId, desiredState, status }: Task): string {
  const { state, err } = status;
  return `${id.slice(0, 6)} ${slot} ${nodeId} ${desiredState} ${state} ${err}`.trimEnd();
}

function missingInGroup(managers: readonly SimManager[], leading: SimManager): string {
  const leader = leading.raft.status();
  const { conf, commit, lastIndex, term } = leader;
  if (conf.votersOutgoing.length > 0) return "the end of a joint membership";
  if (commit !== lastIndex) return `commit ${commit} of ${lastIndex}`;
  for (const manager of managers) {
    const { raft, raftId, store } = manager;
    const status = raft.status();
    const member = conf.voters.includes(raftId) || conf.learners.includes(raftId);
    if (!member) continue;
    if (status.term !== term) return `member ${raftId} is in term ${status.term} of ${term}`;
    if (status.applied !== leader.applied || status.applied !== commit) {
      return `member ${raftId} has applied ${status.applied} of ${commit}`;
    }
    if (store.digest() !== leading.store.digest()) return "equal states";
  }
  return "";
}

function isQuorum(hosts: readonly ManagerHost[], sets: readonly (readonly number[])[]): boolean {
  return sets.every(set => {
    const there = hosts.filter(host => set.includes(host.raftId)).length;
    return set.length === 0 || there * 2 > set.length;
  });
}
