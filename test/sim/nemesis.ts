import type { ConfState } from "../../src/raft/core/types.ts";
import type { Chance } from "./chance.ts";
import type { Cluster } from "./cluster.ts";
import type { ManagerHost } from "./host.ts";
import type { HostId } from "./network.ts";
import type { Operator } from "./operator.ts";
import type { FaultKind } from "./plan.ts";

const MAX_DOWN_MS = 20_000;
const MAX_PAUSE_MS = 15_000;
const MAX_CUT_MS = 40_000;
const MAX_SLOW_MS = 3_000;
const MAX_FULL_MS = 15_000;
const MAX_ERROR_MS = 3_000;
const MAX_CLOCK_JUMP_MS = 3_600_000;
const MAX_LOST_MS = 10_000;
/** A fault lasts at most so many times the mean between two of its kind: most of the time none does. */
const MAX_OVERLAP = 1.5;
const MIN_VOTERS_TO_LOSE_ONE = 3;

/** Makes things go wrong at random times, each kind as often as the plan says. */
export class Nemesis {
  readonly #cluster: Cluster;
  readonly #operator: Operator;
  readonly #chance: Chance;
  readonly #actions: Readonly<Record<FaultKind, () => void>>;
  #stopped = false;
  /** Between two faults of the kind that is at work. */
  #meanMs = 0;
  readonly counts = new Map<FaultKind, number>();

  constructor(cluster: Cluster, operator: Operator) {
    this.#cluster = cluster;
    this.#operator = operator;
    this.#chance = cluster.chance("nemesis");
    this.#actions = this.#table();
  }

  start(): void {
    for (const [kind, meanMs] of this.#cluster.plan.faults) this.#schedule(kind, meanMs);
  }

  /** What is broken stays broken; nothing more breaks. */
  stop(): void {
    this.#stopped = true;
  }

  #schedule(kind: FaultKind, meanMs: number): void {
    this.#cluster.weather.after(this.#chance.exponential(meanMs), () => {
      if (this.#stopped) return;
      this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
      this.#meanMs = meanMs;
      this.#actions[kind]();
      this.#schedule(kind, meanMs);
    });
  }

  /** Undoes a fault later, unless the nemesis has stopped by then. */
  #later(maxMs: number, undo: () => void): void {
    const longestMs = Math.min(maxMs, this.#meanMs * MAX_OVERLAP);
    this.#cluster.world.after(this.#chance.logUniform(longestMs / 50, longestMs), () => {
      if (!this.#stopped) undo();
    });
  }

  #table(): Readonly<Record<FaultKind, () => void>> {
    return {
      kill: () => this.#crash("kill"),
      "power-loss": () => this.#crash("power"),
      restart: () => this.#onHost(host => this.#restart(host)),
      pause: () => this.#onHost(host => this.#pause(host)),
      isolate: () => this.#isolate(),
      split: () => this.#split(),
      "one-way": () => this.#oneWay(),
      partial: () => this.#partial(),
      "slow-link": () => this.#slowLink(),
      "stream-loss": () => this.#streamLoss(),
      transfer: () => this.#transfer(),
      "add-manager": () => this.#addManager(),
      "remove-manager": () => this.#removeManager(),
      "disk-full": () => this.#onHost(host => this.#fill(host)),
      "disk-error": () => this.#onHost(host => this.#failDisk(host)),
      "disk-damage": () => this.#damage(),
      "clock-jump": () => this.#onHost(host => this.#jump(host)),
      "worker-kill": () => this.#killWorker(),
      "worker-cut": () => this.#cutWorker(),
      "engine-crash": () => this.#crashEngine(),
      "task-exit": () => this.#exitTask(),
    };
  }

  get #running(): ManagerHost[] {
    return this.#cluster.managers.filter(host => host.running);
  }

  /** The leader more often than the others. */
  #onHost(act: (host: ManagerHost) => void): void {
    const { leader } = this.#cluster;
    const host = leader !== null && this.#chance.is(0.3) ? leader : this.#oneOf(this.#running);
    if (host !== null) act(host);
  }

  #oneOf<T>(items: readonly T[]): T | null {
    return items.length === 0 ? null : this.#chance.pick(items);
  }

  #crash(kind: "kill" | "power"): void {
    if (this.#chance.is(0.1)) {
      for (const host of this.#running) this.#crashOne(host, kind);
    } else this.#onHost(host => this.#crashOne(host, kind));
  }

  #crashOne(host: ManagerHost, kind: "kill" | "power"): void {
    host.crash(kind);
    this.#later(MAX_DOWN_MS, () => host.start());
  }

  #restart(host: ManagerHost): void {
    const { process } = host;
    host.stopCleanly();
    process?.onKill(() => this.#later(MAX_DOWN_MS / 10, () => host.start()));
  }

  #pause(host: ManagerHost): void {
    const { process } = host;
    if (process === null) return;
    this.#note(`${host.name} is paused`);
    process.pause();
    this.#later(MAX_PAUSE_MS, () => {
      if (process.alive) this.#note(`${host.name} goes on`);
      process.resume();
    });
  }

  #hosts(): HostId[] {
    return this.#cluster.managers.filter(host => host.state !== "empty").map(host => host.id);
  }

  #cut(pairs: readonly (readonly [HostId, HostId])[], what: string): void {
    this.#note(`cut: ${what}`);
    const undo = pairs.map(([from, to]) => this.#cluster.network.cut(from, to));
    this.#later(MAX_CUT_MS, () => {
      this.#note(`healed: ${what}`);
      for (const heal of undo) heal();
    });
  }

  #isolate(): void {
    this.#onHost(host => {
      const others = this.#hosts().filter(id => id !== host.id);
      const pairs = others.flatMap(id => [[id, host.id] as const, [host.id, id] as const]);
      this.#cut(pairs, `${host.name} from all`);
    });
  }

  #split(): void {
    const hosts = this.#hosts();
    const side = this.#chance.some(hosts, 0.5);
    const rest = hosts.filter(id => !side.includes(id));
    const oneWay = this.#chance.is(0.25);
    const pairs = side.flatMap(a =>
      rest.flatMap(b => (oneWay ? [[a, b] as const] : [[a, b] as const, [b, a] as const])),
    );
    this.#cut(pairs, `${side.join(" ")} ${oneWay ? "to" : "and"} ${rest.join(" ")}`);
  }

  #oneWay(): void {
    this.#onHost(host => {
      const others = this.#hosts().filter(id => id !== host.id);
      const outward = this.#chance.is(0.5);
      const pairs = others.map(id =>
        outward ? ([host.id, id] as const) : ([id, host.id] as const),
      );
      this.#cut(pairs, outward ? `${host.name} to all` : `all to ${host.name}`);
    });
  }

  /** Some pairs cannot talk though both reach others (omnipaxos' chained scenarios). */
  #partial(): void {
    const hosts = this.#hosts();
    const all = hosts.flatMap((a, i) => hosts.slice(i + 1).map(b => [a, b] as const));
    const pairs = this.#chance.some(all, 0.4);
    const both = pairs.flatMap(([a, b]) => [[a, b] as const, [b, a] as const]);
    this.#cut(both, pairs.map(([a, b]) => `${a}-${b}`).join(" "));
  }

  #slowLink(): void {
    const hosts = this.#hosts();
    const from = this.#oneOf(hosts);
    const to = this.#oneOf(hosts);
    if (from === null || to === null || from === to) return;
    const delayMs = this.#chance.logUniform(20, MAX_SLOW_MS);
    this.#note(`link ${from} to ${to} takes ${Math.round(delayMs)} ms longer`);
    const undo = this.#cluster.network.slow(from, to, delayMs);
    this.#later(MAX_CUT_MS, undo);
  }

  #streamLoss(): void {
    const a = this.#oneOf(this.#running);
    const b = this.#oneOf(this.#running);
    if (a === null || b === null || a === b) return;
    this.#note(`the stream from ${a.name} to ${b.name} breaks`);
    b.transport?.peerLost(a.raftId);
  }

  #transfer(): void {
    const { leader } = this.#cluster;
    const to = this.#oneOf(this.#running);
    if (leader === null || to === null) return;
    const { signal } = new AbortController();
    this.#note(`${leader.name} is to hand over to ${to.name}`);
    this.#cluster
      .ask(leader, manager => manager.raft.transferLeadership(signal, to.raftId))
      .catch(() => undefined);
  }

  #addManager(): void {
    const spare = this.#oneOf(this.#cluster.managers.filter(host => host.state === "empty"));
    if (spare === null || this.#operator.busy) return;
    void this.#operator.join(spare);
  }

  #removeManager(): void {
    if (!this.#operator.maySpare) return;
    const host = this.#oneOf(this.#cluster.managers.filter(one => one.state === "up"));
    if (host !== null) void this.#operator.remove(host);
  }

  #fill(host: ManagerHost): void {
    const { disk } = host;
    this.#note(`the disk of ${host.name} is full`);
    disk.full = true;
    this.#later(MAX_FULL_MS, () => {
      this.#note(`the disk of ${host.name} has space again`);
      disk.full = false;
    });
  }

  #failDisk(host: ManagerHost): void {
    const { disk } = host;
    this.#note(`the disk of ${host.name} fails`);
    disk.failing = true;
    this.#later(MAX_ERROR_MS, () => {
      disk.failing = false;
    });
  }

  /**
   * Takes a manager's data, in part or all. Only when the others hold everything: what Raft cannot
   * survive is not asked of it.
   */
  #damage(): void {
    const host = this.#oneOf(this.#running);
    if (host === null || !this.#canLose(host)) return;
    host.crash("kill");
    if (!this.#spoil(host)) {
      host.start();
      return;
    }
    host.damaged = true;
    host.start();
    this.#cluster.world.after(this.#chance.float(0, MAX_LOST_MS), () => this.#replaceLost(host));
  }

  #spoil(host: ManagerHost): boolean {
    const { db, files } = host.disk;
    const ways = {
      "flips a bit": () => db.flipBit(),
      "loses a row": () => db.dropRow(),
      "loses its last write": () => host.disk.dropLastWrite(),
      "flips a bit of a file": () => files.flipBit(),
      "is wiped": () => {
        db.rows.clear();
        files.names.clear();
        return true;
      },
    } as const;
    const [what, spoil] = this.#chance.pick(Object.entries(ways));
    if (!spoil()) return false;
    this.#note(`the disk of ${host.name} ${what}`);
    return true;
  }

  #canLose(host: ManagerHost): boolean {
    const { managers, witness } = this.#cluster;
    if (this.#operator.busy || host.disk.busy > 0) return false;
    const members = managers.filter(one => one.state !== "empty");
    const confs = members.map(one => one.manager?.raft.status().conf);
    const [first] = confs;
    if (first === undefined || !confs.every(conf => conf !== undefined && sameConf(conf, first))) {
      return false;
    }
    const { voters, votersOutgoing, learners } = first;
    if (votersOutgoing.length + learners.length > 0) return false;
    if (voters.length < MIN_VOTERS_TO_LOSE_ONE || !voters.includes(host.raftId)) return false;
    return members.every(
      one => one === host || (!one.damaged && one.running && witness.holdsAll(one.raftId)),
    );
  }

  #replaceLost(host: ManagerHost): void {
    if (this.#stopped) return;
    if (host.state === "lost" && !this.#operator.busy) void this.#operator.replace(host);
    else if (host.state === "lost") {
      this.#cluster.world.after(MAX_LOST_MS, () => this.#replaceLost(host));
    }
  }

  #jump(host: ManagerHost): void {
    if (host.process === null) return;
    const jumpMs = this.#chance.float(-MAX_CLOCK_JUMP_MS, MAX_CLOCK_JUMP_MS);
    this.#note(`the clock of ${host.name} jumps by ${Math.round(jumpMs / 1000)} s`);
    host.process.skewMs += jumpMs;
  }

  #killWorker(): void {
    const worker = this.#oneOf(this.#cluster.workers.filter(one => one.up));
    if (worker === null) return;
    this.#note(`the agent of ${worker.nodeId} is killed`);
    worker.kill();
    this.#later(MAX_DOWN_MS, () => worker.start());
  }

  #cutWorker(): void {
    const worker = this.#oneOf(this.#cluster.workers);
    if (worker === null) return;
    const pairs = this.#hosts().flatMap(id => [[id, worker.id] as const, [worker.id, id] as const]);
    this.#cut(pairs, `${worker.nodeId} from all`);
  }

  #crashEngine(): void {
    const worker = this.#oneOf(this.#cluster.workers);
    if (worker === null) return;
    this.#note(`the Engine of ${worker.nodeId} crashes`);
    worker.executor.crash();
    this.#later(MAX_DOWN_MS, () => worker.executor.setReachable(true));
  }

  #exitTask(): void {
    const worker = this.#oneOf(this.#cluster.workers);
    const task = worker === null ? null : this.#oneOf(worker.executor.runningTasks());
    if (worker === null || task === null) return;
    worker.executor.exitTask(task, 1);
  }

  #note(text: string): void {
    this.#cluster.trace.note(text);
  }
}

function sameConf(a: ConfState, b: ConfState): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
