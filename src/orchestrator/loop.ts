import { type Deferred, newDeferred, withSignal } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage, isSwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Change, Commit } from "../model/change.ts";
import type { Plan, PlanNote, Planner } from "../model/planner.ts";
import type { StateStore } from "../state/ports.ts";
import { Agenda } from "./agenda.ts";
import { checkPlan } from "./core/plan-check.ts";

export interface PlannerLoopOptions {
  /** Wait after something became dirty, so that commits close together are planned at once. */
  readonly debounceMs?: number;
}

export interface PlannerLoopDeps {
  readonly store: StateStore;
  readonly clock: Clock;
  readonly ids: IdSource;
  readonly logger: Logger;
  /** In the order of a task's life: what one plans is the next one's work. */
  readonly planners: readonly Planner[];
  readonly onNotes?: (planner: string, notes: readonly PlanNote[]) => void;
}

const DEFAULT_DEBOUNCE_MS = 2;
/** Changes and (roughly) bytes of one transaction; below the limits of the state. */
const MAX_BATCH_CHANGES = 200;
const MAX_BATCH_BYTES = 1024 * 1024;
/** Parts of one plan submitted side by side. */
const MAX_BATCHES_IN_FLIGHT = 8;
/** A round that took long is not followed by the next one at once: more commits share that. */
const MAX_PAUSE_MS = 100;
/** Planning gives the event loop a turn after this long. */
const MAX_SLICE_MS = 20;
/** Wall clocks jump: due times are looked at this often at least. */
const MAX_TIMER_MS = 10_000;
/** A clock that lost more than this since the last look was set back. */
const MAX_SLEW_MS = 500;
const RETRY_BASE_MS = 20;
const RETRY_MAX_MS = 10_000;
/** Faults told of one bad plan. */
const MAX_FAULTS_LOGGED = 5;

/** Changes on their way into one transaction, and whose plans they are. */
class Batch {
  readonly changes: Change[] = [];
  readonly keys = new Set<string>();
  #bytes = 0;

  /** False, and nothing added, when it is full. */
  add(key: string, change: Change): boolean {
    const bytes = JSON.stringify(change).length;
    const full = this.changes.length >= MAX_BATCH_CHANGES || this.#bytes + bytes > MAX_BATCH_BYTES;
    if (full && this.changes.length > 0) return false;
    this.changes.push(change);
    this.keys.add(key);
    this.#bytes += bytes;
    return true;
  }
}

/**
 * The leader's loop: commits make keys dirty, dirty keys are planned, plans are checked and
 * submitted in bounded batches, refused ones are planned anew. One round at a time; what is wanted
 * later comes back by wake-ups. It keeps no knowledge of the cluster between rounds.
 */
export class PlannerLoop {
  readonly #debounceMs: number;
  readonly #deps: PlannerLoopDeps;
  #agenda: Agenda;
  #poke: Deferred<void> | null = null;
  #sliceStartMs = 0;
  /** What the plans of the last round took. */
  #planningMs = 0;
  /** How far the wall clock is ahead of the monotonic one, at the last look. */
  #aheadMs = Number.NEGATIVE_INFINITY;

  constructor(options: PlannerLoopOptions, deps: PlannerLoopDeps) {
    this.#debounceMs = options.debounceMs ?? DEFAULT_DEBOUNCE_MS;
    this.#deps = deps;
    this.#agenda = new Agenda(deps.planners.length);
  }

  /**
   * From leadership (after a read barrier) to its loss, when the signal aborts. Everything is
   * planned once at the start.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#deps;
    this.#agenda = new Agenda(this.#deps.planners.length);
    const unsubscribe = [
      store.onCommit(commit => this.#onCommit(commit)),
      store.onRestore(() => this.#markAll()),
    ];
    try {
      this.#markAll();
      while (!signal.aborted) {
        await this.#work(signal);
        await sleep(clock, this.#pauseMs(), signal);
        await this.#round(signal);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      for (const stop of unsubscribe) stop();
    }
  }

  #pauseMs(): number {
    return Math.max(this.#debounceMs, Math.min(MAX_PAUSE_MS, this.#planningMs));
  }

  #onCommit(commit: Commit): void {
    const { planners, store } = this.#deps;
    planners.forEach((planner, i) => {
      try {
        for (const event of commit.events) this.#agenda.mark(i, planner.keysOf(event, store.view));
      } catch (error) {
        this.#report(planner, "*", "cannot tell what a commit concerns", errorMessage(error));
        this.#agenda.mark(i, planner.allKeys(store.view));
      }
    });
    if (this.#agenda.hasDirty) this.#wakeUp();
  }

  #markAll(): void {
    const { planners, store } = this.#deps;
    planners.forEach((planner, i) => {
      this.#agenda.mark(i, planner.allKeys(store.view));
    });
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#poke?.resolve();
    this.#poke = null;
  }

  /** Resolves when something is dirty or due. */
  async #work(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    for (;;) {
      this.#agenda.wake(this.#wasSetBack() ? Number.POSITIVE_INFINITY : clock.nowMs());
      if (this.#agenda.hasDirty) return;
      this.#poke = newDeferred();
      const untilMs = Math.max(0, this.#agenda.nextWakeMs - clock.nowMs());
      const timer = clock.setTimer("planner wake-up", Math.min(untilMs, MAX_TIMER_MS), () =>
        this.#wakeUp(),
      );
      try {
        await withSignal(this.#poke.promise, signal);
      } finally {
        timer.cancel();
      }
    }
  }

  /** The times that plans wait for are then far away: all is planned anew. */
  #wasSetBack(): boolean {
    const { clock } = this.#deps;
    const beforeMs = this.#aheadMs;
    this.#aheadMs = clock.nowMs() - clock.monoMs();
    return this.#aheadMs < beforeMs - MAX_SLEW_MS;
  }

  async #round(signal: AbortSignal): Promise<void> {
    this.#sliceStartMs = this.#deps.clock.monoMs();
    this.#planningMs = 0;
    for (const [i, planner] of this.#deps.planners.entries()) {
      let batch = new Batch();
      for (const key of this.#agenda.take(i)) {
        const alone = planner.keysAreIndependent !== true || this.#agenda.hasFailed(i, key);
        if (alone) batch = await this.#flush(i, batch, signal);
        batch = await this.#planKey(i, key, batch, signal);
        if (alone) batch = await this.#flush(i, batch, signal);
        await this.#yield(signal);
      }
      await this.#flush(i, batch, signal);
    }
  }

  /** Plans one key into the batch, submitting as it fills. Returns the batch to go on with. */
  async #planKey(i: number, key: string, batch: Batch, signal: AbortSignal): Promise<Batch> {
    const plan = this.#plan(i, key);
    if (plan === null) return batch;
    this.#agenda.setWake(i, key, plan.wakeAtMs);
    if (plan.changes.length === 0) this.#agenda.succeed(i, key);
    const independent = this.#deps.planners[i]?.changesAreIndependent === true;
    const inFlight: Promise<Batch>[] = [];
    let current = batch;
    for (const change of plan.changes) {
      if (current.add(key, change)) continue;
      if (independent) {
        inFlight.push(this.#flush(i, current, signal));
        if (inFlight.length >= MAX_BATCHES_IN_FLIGHT) await allOf(inFlight.splice(0));
        current = new Batch();
        current.add(key, change);
        continue;
      }
      current = await this.#flush(i, current, signal);
      // What is left of a plan whose beginning was refused is void: the key is planned anew.
      if (this.#agenda.hasFailed(i, key)) return current;
      current.add(key, change);
    }
    if (inFlight.length === 0) return current;
    await allOf([...inFlight, this.#flush(i, current, signal)]);
    return new Batch();
  }

  /** Null when the planner failed or made a plan that must not be submitted. */
  #plan(i: number, key: string): Plan | null {
    const planner = this.#deps.planners[i];
    if (planner === undefined) return null;
    const { store, clock, ids } = this.#deps;
    const startMs = clock.monoMs();
    try {
      const plan = planner.plan(store.view, key, { nowMs: clock.nowMs(), ids });
      const faults = checkPlan(store.view, plan.changes);
      if (faults.length > 0) {
        this.#report(planner, key, "a plan breaks the rules and is dropped", faults);
        this.#retryLater(i, key);
        return null;
      }
      if (plan.notes.length > 0) this.#deps.onNotes?.(planner.name, plan.notes);
      return plan;
    } catch (error) {
      this.#report(planner, key, "a planner failed", errorMessage(error));
      this.#retryLater(i, key);
      return null;
    } finally {
      this.#planningMs += clock.monoMs() - startMs;
    }
  }

  /** Submits the batch and returns an empty one. A failure makes its keys dirty again, later. */
  async #flush(i: number, batch: Batch, signal: AbortSignal): Promise<Batch> {
    if (batch.changes.length === 0) return batch;
    try {
      await this.#deps.store.submit(batch.changes, signal);
      for (const key of batch.keys) this.#agenda.succeed(i, key);
    } catch (error) {
      if (signal.aborted) throw error;
      this.#onRefused(i, batch, error);
    }
    this.#sliceStartMs = this.#deps.clock.monoMs();
    return new Batch();
  }

  #onRefused(i: number, batch: Batch, error: unknown): void {
    const stale = isSwarmError(error, "out_of_sequence") || isSwarmError(error, "not_found");
    const fields = { planner: this.#deps.planners[i]?.name, error: errorMessage(error) };
    if (stale) this.#deps.logger.debug("a plan is stale and made anew", fields);
    else this.#deps.logger.warn("a plan was not committed", fields);
    for (const key of batch.keys) this.#retryLater(i, key);
  }

  #retryLater(i: number, key: string): void {
    const failures = this.#agenda.fail(i, key);
    const delayMs = Math.min(RETRY_MAX_MS, RETRY_BASE_MS * 2 ** (failures - 1));
    this.#agenda.setWake(i, key, this.#deps.clock.nowMs() + delayMs);
  }

  #report(planner: Planner, key: string, message: string, detail: string | string[]): void {
    const shown = Array.isArray(detail) ? detail.slice(0, MAX_FAULTS_LOGGED) : detail;
    this.#deps.logger.error(message, { planner: planner.name, key, detail: shown });
  }

  async #yield(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    if (clock.monoMs() - this.#sliceStartMs < MAX_SLICE_MS) return;
    await sleep(clock, 0, signal);
    this.#sliceStartMs = clock.monoMs();
  }
}

/** Waits for all of them, whatever happens, and then rejects as the first that did. */
async function allOf(work: readonly Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) {
    if (result.status === "rejected") throw result.reason;
  }
}
