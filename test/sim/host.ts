import { errorMessage, isSwarmError } from "../../src/base/errors.ts";
import type { RowEvent } from "../../src/model/change.ts";
import type { StartMode } from "../../src/raft/driver/options.ts";
import type { PeerInfo } from "../../src/raft/ports.ts";
import type { Chance } from "./chance.ts";
import { type CrashKind, SimDisk } from "./disk.ts";
import { type ManagerDeps, type ManagerOptions, SimManager } from "./manager.ts";
import type { HostId } from "./network.ts";
import { sharedAddress } from "./owners.ts";
import type { Plan } from "./plan.ts";
import { SimProcess } from "./process.ts";
import type { Trace } from "./trace.ts";
import type { SimTransport } from "./transport.ts";
import type { Witness } from "./witness.ts";
import type { World } from "./world.ts";

/** systemd starts a daemon that ended by itself again after this. */
const RESTART_MS = 1_000;
/** A daemon that does not end when it is asked to is killed. */
const STOP_TIMEOUT_MS = 10_000;

/** Opening writes too, and may find no space. */
const DISK_REFUSES = /cannot open the data directory.*(EIO|ENOSPC)/;

export type HostState =
  /** No member of the cluster: nothing is stored. */
  | "empty"
  | "up"
  | "down"
  /** Its disk is damaged: it needs a new identity. */
  | "lost";

export interface HostDeps {
  readonly world: World;
  readonly trace: Trace;
  readonly witness: Witness;
  readonly chance: Chance;
  readonly plan: Plan;
  readonly clusterId: string;
  readonly newTransport: (host: ManagerHost, process: SimProcess) => SimTransport;
  readonly forward: (host: ManagerHost, process: SimProcess) => ManagerDeps["forward"];
  /** The process of the host ended, by itself or not. */
  readonly onEnd: (host: ManagerHost, transport: SimTransport, kind: CrashKind) => void;
}

/** A manager's machine: its disk, its clock, and the process that runs on it at the moment. */
export class ManagerHost {
  readonly id: HostId;
  readonly #deps: HostDeps;
  disk: SimDisk;
  state: HostState = "empty";
  /** Its disk was damaged on purpose: it may refuse to start. */
  damaged = false;
  /** It has been a voter: it starts as one that must have its log. */
  joined = false;
  raftId = 0;
  nodeId = "";
  manager: SimManager | null = null;
  process: SimProcess | null = null;
  transport: SimTransport | null = null;
  #skewMs: number;
  readonly #rate: number;
  #stop = new AbortController();
  #starts = 0;

  constructor(id: HostId, deps: HostDeps) {
    this.id = id;
    this.#deps = deps;
    const { chance, plan } = deps;
    this.#skewMs = chance.float(-plan.maxSkewMs, plan.maxSkewMs);
    this.#rate = 1 + chance.float(-plan.drift, plan.drift);
    this.disk = this.#newDisk();
  }

  get name(): string {
    return `m${this.id}`;
  }

  get addr(): string {
    return `10.0.0.${this.id}:2377`;
  }

  get peer(): PeerInfo {
    return { raftId: this.raftId, nodeId: this.nodeId, addr: this.addr };
  }

  /** Runs, and is not paused. */
  get running(): boolean {
    return this.manager !== null && this.process?.running === true;
  }

  /** A new identity on an empty disk. */
  provision(raftId: number): void {
    this.disk = this.#newDisk();
    this.raftId = raftId;
    this.nodeId = `manager-${raftId}`;
    this.state = "down";
    this.damaged = false;
    this.joined = false;
  }

  start(mode: StartMode = this.joined ? "restart" : "join"): void {
    if (this.state !== "down") return;
    const { world, trace, witness, clusterId, plan } = this.#deps;
    this.#starts += 1;
    const skewMs = this.#skewMs;
    const process = new SimProcess({ name: this.name, skewMs, rate: this.#rate }, world);
    const transport = this.#deps.newTransport(this, process);
    this.state = "up";
    this.process = process;
    this.transport = transport;
    this.#stop = new AbortController();
    trace.note(`${this.name} starts as member ${this.raftId} (${mode})`);
    const seed = this.raftId * 1_000 + this.#starts;
    const options: ManagerOptions = {
      self: this.peer,
      clusterId,
      start: mode,
      tuning: plan.tuning,
      seed,
    };
    void this.#run(options, {
      world,
      process,
      disk: this.disk,
      transport,
      forward: this.#deps.forward(this, process),
      witness,
      logger: trace.logger(this.name),
    });
  }

  async #run(options: ManagerOptions, deps: ManagerDeps): Promise<void> {
    let failure: unknown = null;
    try {
      const manager = await SimManager.open(options, deps);
      this.manager = manager;
      const { view } = manager.store;
      manager.store.onCommit(({ index, events }) => {
        if (events.some(concernsOwners)) deps.witness.owners(index, () => sharedAddress(view));
      });
      await manager.run(this.#stop.signal);
    } catch (error) {
      failure = error;
    }
    this.#ended(deps.process, failure);
  }

  /** The process has ended by itself. */
  #ended(process: SimProcess, failure: unknown): void {
    const { trace, world } = this.#deps;
    if (failure !== null) trace.note(`${this.name} ends: ${errorMessage(failure)}`);
    else trace.note(`${this.name} has stopped`);
    this.#judge(failure);
    this.#gone("kill");
    if (failure === null || this.state !== "down") return;
    world.after(RESTART_MS, () => {
      if (this.process === process || this.process === null) this.start();
    });
  }

  #judge(failure: unknown): void {
    if (failure === null) return;
    const { witness } = this.#deps;
    const text = `${this.name}: ${errorMessage(failure)}`;
    if (isSwarmError(failure, "data_loss")) {
      if (!this.damaged) witness.fail("good-disk-is-accepted", text);
      this.state = "lost";
      return;
    }
    const disk =
      isSwarmError(failure, "unavailable") ||
      isSwarmError(failure, "resource_exhausted") ||
      DISK_REFUSES.test(text);
    if (!disk) witness.fail("no-broken-invariant", text);
  }

  /** Ends the process at once. */
  crash(kind: CrashKind): void {
    if (this.state !== "up") return;
    this.#deps.trace.note(`${this.name} ${kind === "kill" ? "is killed" : "loses power"}`);
    this.#gone(kind);
  }

  #gone(kind: CrashKind): void {
    const { process, transport } = this;
    this.joined ||= this.#isVoter();
    this.#skewMs = process?.skewMs ?? this.#skewMs;
    if (this.state === "up") this.state = "down";
    this.process = null;
    this.manager = null;
    this.transport = null;
    process?.kill();
    this.disk.crash(kind);
    if (transport !== null) this.#deps.onEnd(this, transport, kind);
  }

  /** Asks the process to end, and kills it when it does not. */
  stopCleanly(): void {
    const { process } = this;
    if (this.state !== "up" || process === null) return;
    this.#deps.trace.note(`${this.name} is asked to stop`);
    process.deliver(() => this.#stop.abort());
    this.#deps.world.after(STOP_TIMEOUT_MS, () => {
      if (this.process === process) this.crash("kill");
    });
  }

  /** Nobody uses this machine as a manager any more. */
  retire(): void {
    this.crash("kill");
    this.state = "empty";
    this.joined = false;
  }

  #isVoter(): boolean {
    return this.manager?.raft.status().conf.voters.includes(this.raftId) ?? false;
  }

  #newDisk(): SimDisk {
    const { plan, chance } = this.#deps;
    return new SimDisk({ faults: plan.disk }, { chance });
  }
}

function concernsOwners({ table }: RowEvent): boolean {
  return table === "services" || table === "tasks";
}
