import type { Clock } from "../../src/base/clock.ts";
import { SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import type { LogLimits } from "../../src/raft/driver/options.ts";
import { nextTurn } from "../../src/raft/driver/turns.ts";
import { DRIVER_DEFAULTS, type DriverOptions, RaftDriver } from "../../src/raft/driver.ts";
import type { PeerInfo } from "../../src/raft/ports.ts";
import type { HeldClock } from "./held-clock.ts";
import { ListMachine } from "./list-machine.ts";
import { MemoryDisk, MemoryRaftStorage } from "./memory-raft-storage.ts";
import { MemoryNetwork, MemoryRaftTransport } from "./memory-raft-transport.ts";
import { VirtualClock } from "./virtual-clock.ts";

const STEP_MS = 10;
/** Turns of the event loop that a step of virtual time gets. */
const TURNS_PER_STEP = 3;
const CLUSTER_ID = "test-cluster";

export interface GroupMember {
  readonly driver: RaftDriver;
  readonly machine: ListMachine;
  readonly storage: MemoryRaftStorage;
  readonly transport: MemoryRaftTransport;
  readonly stop: AbortController;
  /** Null when `run` ended well, else its error. */
  readonly ended: Promise<unknown>;
}

/** What a member has in place of the usual. */
export interface MemberParts {
  readonly clock?: Clock;
  readonly machine?: ListMachine;
  readonly nextTurn?: () => Promise<void>;
}

export function peerOf(raftId: number): PeerInfo {
  return { raftId, nodeId: `node-${raftId}`, addr: `10.0.0.${raftId}:2377` };
}

/** Drivers over a network and disks in memory, on virtual time. */
export class RaftGroup {
  readonly clock = new VirtualClock();
  /** Members whose event loop can be held. */
  readonly held = new Map<number, HeldClock>();
  readonly parts = new Map<number, MemberParts>();
  readonly network = new MemoryNetwork();
  readonly members = new Map<number, GroupMember>();
  /** What the cluster's spec would say. */
  logLimits: LogLimits | null = null;
  readonly never = new AbortController().signal;
  readonly #options: Partial<DriverOptions>;
  readonly #disks = new Map<number, MemoryDisk>();
  readonly #seed: number;
  #starts = 0;

  constructor(options: Partial<DriverOptions> = {}, seed = 1) {
    this.#options = options;
    this.#seed = seed;
  }

  async start(raftId: number, start: DriverOptions["start"]): Promise<GroupMember> {
    this.#starts += 1;
    const disk = this.#disks.get(raftId) ?? new MemoryDisk();
    this.#disks.set(raftId, disk);
    const self = peerOf(raftId);
    const parts = this.parts.get(raftId) ?? {};
    const machine = parts.machine ?? new ListMachine();
    const storage = new MemoryRaftStorage(disk, { keepOldSnapshots: 1 });
    const transport = new MemoryRaftTransport({ self, clusterId: CLUSTER_ID }, this.network);
    const options = { ...DRIVER_DEFAULTS, ...this.#options, clusterId: CLUSTER_ID, self, start };
    const driver = await RaftDriver.open(options, {
      storage,
      transport,
      stateMachine: machine,
      clock: parts.clock ?? this.held.get(raftId) ?? this.clock,
      rng: new SeededRng(this.#seed * 1000 + this.#starts),
      log: silentLogger,
      createCore: (config, deps) => new RaftCore(config, deps),
      nextTurn: parts.nextTurn ?? nextTurn,
      logLimits: () => this.logLimits,
    });
    const stop = new AbortController();
    const ended = driver.run(stop.signal).then(
      () => null,
      (error: unknown) => error,
    );
    const member = { driver, machine, storage, transport, stop, ended };
    this.members.set(raftId, member);
    return member;
  }

  /** Voters 1..n, the first of them the leader. */
  async startVoters(count: number): Promise<void> {
    const first = await this.start(1, "bootstrap");
    await this.until(() => this.leader === 1, "the first member leads");
    for (let raftId = 2; raftId <= count; raftId += 1) {
      await this.start(raftId, "join");
      await this.settle(first.driver.addMember(peerOf(raftId), this.never));
    }
    await this.until(
      () => [...this.members.values()].every(m => m.driver.status().conf.voters.length === count),
      `${count} voters`,
    );
  }

  /** A clean shutdown. */
  async stop(raftId: number): Promise<unknown> {
    const member = this.member(raftId);
    member.stop.abort();
    const error = await this.settle(member.ended);
    this.members.delete(raftId);
    return error;
  }

  /** The process dies: its connections close, nothing it does reaches disk or network. */
  kill(raftId: number): void {
    const member = this.member(raftId);
    member.storage.fail("killed");
    this.network.detach(member.transport);
    member.transport.handler = null;
    member.stop.abort();
    this.members.delete(raftId);
    const disk = this.#disks.get(raftId);
    const copy = new MemoryDisk();
    Object.assign(copy, disk, { locked: false, entries: [...(disk?.entries ?? [])] });
    this.#disks.set(raftId, copy);
  }

  member(raftId: number): GroupMember {
    const member = this.members.get(raftId);
    if (member === undefined) throw new Error(`member ${raftId} does not run`);
    return member;
  }

  /** The leader of the highest term, or 0. */
  get leader(): number {
    const leaders = [...this.members.values()]
      .map(member => member.driver.status())
      .filter(status => status.role === "leader")
      .sort((a, b) => b.term - a.term);
    return leaders[0]?.id ?? 0;
  }

  async propose(text: string): Promise<unknown> {
    const { driver } = this.member(this.leader);
    return this.settle(driver.propose(Buffer.from(text), this.never));
  }

  /** Moves time on until `probe` holds. Returns the virtual milliseconds it took. */
  async until(probe: () => boolean, what: string, limitMs = 20_000): Promise<number> {
    const startMs = this.clock.monoMs();
    while (!probe()) {
      if (this.clock.monoMs() - startMs > limitMs) {
        throw new Error(`not within ${limitMs} virtual ms: ${what}`);
      }
      await this.step();
    }
    return this.clock.monoMs() - startMs;
  }

  /** Moves time on until the promise settles. */
  async settle<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const note = (): void => {
      settled = true;
    };
    promise.then(note, note);
    await this.until(() => settled, "a promise settles");
    return promise;
  }

  async pass(ms: number): Promise<void> {
    const untilMs = this.clock.monoMs() + ms;
    await this.until(() => this.clock.monoMs() >= untilMs, "time passes", ms * 2);
  }

  async step(): Promise<void> {
    for (let turn = 0; turn < TURNS_PER_STEP; turn += 1) await nextTurn();
    this.clock.advance(STEP_MS);
    for (let turn = 0; turn < TURNS_PER_STEP; turn += 1) await nextTurn();
  }

  /** Every running member has applied the same. */
  get agreed(): boolean {
    const all = [...this.members.values()].map(({ machine }) =>
      JSON.stringify([machine.indexes, machine.texts]),
    );
    return new Set(all).size === 1;
  }

  async stopAll(): Promise<void> {
    for (const { stop } of this.members.values()) stop.abort();
    for (const { ended } of this.members.values()) await this.settle(ended);
    this.members.clear();
  }
}

/** The code a promise rejects with, or "ok". */
export async function outcomeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "ok";
  } catch (error) {
    return error instanceof SwarmError ? error.code : `not a SwarmError: ${String(error)}`;
  }
}
