import { closeSync, openSync, readSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { type Deferred, newDeferred } from "../../../src/base/async.ts";
import { RngIdSource } from "../../../src/base/ids.ts";
import { silentLogger } from "../../../src/base/logger.ts";
import { SeededRng } from "../../../src/base/rng.ts";
import type { Change } from "../../../src/model/change.ts";
import { PlannerLoop } from "../../../src/orchestrator/loop.ts";
import { SCHEDULER_KEY, Scheduler } from "../../../src/scheduler/core/scheduler.ts";
import {
  encodeTransaction,
  MAX_CHANGES_PER_TRANSACTION,
} from "../../../src/state/core/transaction-codec.ts";
import { ReplicatedStore } from "../../../src/state/store.ts";
import { realClock } from "../../../src/system/real.ts";
import { rowsOf, type Shape } from "./shapes.ts";

const US_PER_MS = 1_000;
const NS_PER_MS = 1e6;
/** As Raft's applier has it: longer than this it does not hold the loop. */
const APPLY_SLICE_MS = 10;

interface Waiting {
  readonly data: Uint8Array;
  readonly applied: Deferred<unknown>;
}

/** A daemon's store; instead of Raft a log that is committed in the next turn. */
class Bed {
  readonly ids = new RngIdSource(new SeededRng(1));
  readonly store = new ReplicatedStore(
    { freezesRows: false },
    { clock: realClock, logger: silentLogger },
  );
  readonly #queue: Waiting[] = [];
  #draining = false;
  #index = 0;
  /** The longest that applying one entry took. */
  longestEntryMs = 0;

  constructor(shape: Shape) {
    this.store.attach({ propose: data => this.#propose(data) });
    let batch: Change[] = [];
    for (const change of rowsOf(shape, this.ids)) {
      batch.push(change);
      if (batch.length < MAX_CHANGES_PER_TRANSACTION) continue;
      this.put(batch);
      batch = [];
    }
    if (batch.length > 0) this.put(batch);
    this.longestEntryMs = 0;
  }

  /** In one turn. */
  put(changes: readonly Change[]): void {
    for (let at = 0; at < changes.length; at += MAX_CHANGES_PER_TRANSACTION) {
      const part = changes.slice(at, at + MAX_CHANGES_PER_TRANSACTION);
      this.#apply(encodeTransaction({ nowMs: realClock.nowMs(), changes: part }));
    }
  }

  #apply(data: Uint8Array): unknown {
    const start = performance.now();
    this.#index += 1;
    const result = this.store.apply({ index: this.#index, data });
    this.longestEntryMs = Math.max(this.longestEntryMs, performance.now() - start);
    if (!result.ok) throw new Error(result.message);
    return result;
  }

  #propose(data: Uint8Array): Promise<unknown> {
    const applied = newDeferred<unknown>();
    this.#queue.push({ data, applied });
    if (!this.#draining) void this.#drain();
    return applied.promise;
  }

  async #drain(): Promise<void> {
    this.#draining = true;
    while (this.#queue.length > 0) {
      await nextTurn();
      const start = performance.now();
      while (performance.now() - start < APPLY_SLICE_MS) {
        const next = this.#queue.shift();
        if (next === undefined) break;
        next.applied.resolve(this.#apply(next.data));
      }
    }
    this.#draining = false;
  }
}

export interface Run {
  readonly placed: number;
  readonly plans: number;
  readonly planningMs: number;
  readonly longestPlanMs: number;
  readonly longestEntryMs: number;
  readonly totalMs: number;
  readonly processorMs: number;
}

/** Plans, and what they say applied, in turn until there is nothing left to do. */
export function runBare(shape: Shape): Run {
  const bed = new Bed(shape);
  const { view } = bed.store;
  const scheduler = new Scheduler();
  bed.store.onCommit(({ events }) => {
    for (const event of events) scheduler.keysOf(event, view);
  });
  const ctx = { nowMs: 1, ids: bed.ids };
  let [planningMs, longestPlanMs, plans, placed] = [0, 0, 0, 0];
  const start = performance.now();
  const startCpu = process.cpuUsage();
  for (;;) {
    const before = performance.now();
    const { changes, wakeAtMs } = scheduler.plan(view, SCHEDULER_KEY, ctx);
    const tookMs = performance.now() - before;
    planningMs += tookMs;
    longestPlanMs = Math.max(longestPlanMs, tookMs);
    plans += 1;
    placed += changes.length;
    bed.put(changes);
    if (changes.length === 0 && wakeAtMs === null) break;
  }
  const totalMs = performance.now() - start;
  const { user, system } = process.cpuUsage(startCpu);
  const processorMs = (user + system) / US_PER_MS;
  const { longestEntryMs } = bed;
  return { placed, plans, planningMs, longestPlanMs, longestEntryMs, totalMs, processorMs };
}

/** Measures every turn of the event loop, by being in each of them. */
class TurnMeter {
  /** The longest turn, and the most processor time that one took of the thread. */
  longestMs = 0;
  longestThreadMs = 0;
  readonly #file = openSync("/proc/thread-self/schedstat", "r");
  readonly #buffer = Buffer.alloc(64);
  #stopped = false;

  async run(): Promise<void> {
    let [wallMs, threadMs] = [performance.now(), this.#threadMs()];
    while (!this.#stopped) {
      await nextTurn();
      const [nowMs, nowThreadMs] = [performance.now(), this.#threadMs()];
      this.longestMs = Math.max(this.longestMs, nowMs - wallMs);
      this.longestThreadMs = Math.max(this.longestThreadMs, nowThreadMs - threadMs);
      [wallMs, threadMs] = [nowMs, nowThreadMs];
    }
    closeSync(this.#file);
  }

  stop(): void {
    this.#stopped = true;
  }

  /** To the kernel's tick: a few milliseconds. */
  #threadMs(): number {
    const bytes = readSync(this.#file, this.#buffer, 0, this.#buffer.length, 0);
    return Number(this.#buffer.toString("latin1", 0, bytes).split(" ")[0]) / NS_PER_MS;
  }
}

export interface LoopRun {
  readonly totalMs: number;
  /** The longest that the event loop was held. */
  readonly heldMs: number;
  /** The same in processor time of the thread. */
  readonly heldThreadMs: number;
}

/** A term of leadership: the planner loop with the scheduler, until every task has a node. */
export async function runInLoop(shape: Shape): Promise<LoopRun> {
  const { store, ids } = new Bed(shape);
  const loop = new PlannerLoop(
    {},
    { store, clock: realClock, ids, logger: silentLogger, planners: [new Scheduler()] },
  );
  const done = newDeferred<void>();
  let left = shape.tasks;
  store.onCommit(({ events }) => {
    left -= events.length;
    if (left <= 0) done.resolve();
  });
  const stop = new AbortController();
  await nextTurn();
  const meter = new TurnMeter();
  const metering = meter.run();
  const start = performance.now();
  const running = loop.run(stop.signal);
  await done.promise;
  const totalMs = performance.now() - start;
  stop.abort();
  await running;
  meter.stop();
  await metering;
  return { totalMs, heldMs: meter.longestMs, heldThreadMs: meter.longestThreadMs };
}
