import { type Deferred, newDeferred } from "../../base/async.ts";
import { SwarmError } from "../../base/errors.ts";
import type { ReadState } from "../core/types.ts";
import { AbortWatch } from "./abort-watch.ts";
import type { DriverContext } from "./options.ts";

/** A read that no quorum has confirmed by then fails. */
export const READ_TIMEOUT_MS = 3000;
/** Asked again after this time: the leader may have changed, or a message was lost. */
const READ_RETRY_MS = 500;
const MAX_WAITING = 8192;

interface Waiter {
  readonly deferred: Deferred<void>;
  readonly deadlineMs: number;
}

interface Asked {
  readonly waiters: readonly Waiter[];
  readonly atMs: number;
}

interface Confirmed {
  readonly index: number;
  readonly waiters: readonly Waiter[];
}

/** Linearizable reads without log writes (ReadIndex, Raft dissertation 6.4). */
export class Reads {
  readonly #context: DriverContext;
  readonly #appliedIndex: () => number;
  /** Distinguishes this run's requests from those of an earlier run of the same member. */
  readonly #run: string;
  readonly #aborts = new AbortWatch();
  #sequence = 0;
  #waiting: Waiter[] = [];
  readonly #asked = new Map<string, Asked>();
  #confirmed: Confirmed[] = [];
  #count = 0;
  served = 0;
  timeouts = 0;

  constructor(context: DriverContext, deps: { readonly appliedIndex: () => number }) {
    this.#context = context;
    this.#appliedIndex = deps.appliedIndex;
    this.#run = `${context.core.id}.${context.rng.uint32()}`;
  }

  barrier(signal: AbortSignal): Promise<void> {
    if (this.#count >= MAX_WAITING) {
      return Promise.reject(
        new SwarmError("resource_exhausted", "too many reads wait for a quorum; try again later"),
      );
    }
    const deferred = newDeferred<void>();
    const deadlineMs = this.#context.clock.monoMs() + READ_TIMEOUT_MS;
    this.#waiting.push({ deferred, deadlineMs });
    this.#count += 1;
    const settled = (): void => {
      this.#count -= 1;
    };
    deferred.promise.then(settled, settled);
    this.#context.wake();
    return this.#aborts.guard(deferred.promise, signal);
  }

  /** All reads that came since the last call share one request. */
  flush(): void {
    if (this.#waiting.length === 0) return;
    this.#sequence += 1;
    const request = `${this.#run}.${this.#sequence}`;
    this.#asked.set(request, { waiters: this.#waiting, atMs: this.#context.clock.monoMs() });
    this.#waiting = [];
    this.#context.core.readIndex(request);
  }

  confirmed(states: readonly ReadState[]): void {
    for (const { index, context } of states) {
      const asked = this.#asked.get(context);
      if (asked === undefined) continue;
      this.#asked.delete(context);
      this.#confirmed.push({ index, waiters: asked.waiters });
    }
    if (states.length > 0) this.applied();
  }

  /** The state machine has moved on. */
  applied(): void {
    if (this.#confirmed.length === 0) return;
    const index = this.#appliedIndex();
    const ripe = this.#confirmed.filter(read => read.index <= index);
    if (ripe.length === 0) return;
    this.#confirmed = this.#confirmed.filter(read => read.index > index);
    for (const { waiters } of ripe) {
      this.served += waiters.length;
      for (const { deferred } of waiters) deferred.resolve();
    }
  }

  leaderChanged(): void {
    this.#askAgain(Number.POSITIVE_INFINITY);
  }

  tick(): void {
    const nowMs = this.#context.clock.monoMs();
    this.#askAgain(nowMs - READ_RETRY_MS);
    const late = (waiter: Waiter): boolean => waiter.deadlineMs <= nowMs;
    this.#expire(this.#waiting.filter(late));
    this.#waiting = this.#waiting.filter(waiter => !late(waiter));
    for (const { waiters } of this.#confirmed) this.#expire(waiters.filter(late));
    this.#confirmed = this.#confirmed
      .map(({ index, waiters }) => ({ index, waiters: waiters.filter(waiter => !late(waiter)) }))
      .filter(({ waiters }) => waiters.length > 0);
  }

  rejectAll(error: SwarmError): void {
    const waiters = [
      ...this.#waiting,
      ...[...this.#asked.values()].flatMap(asked => asked.waiters),
      ...this.#confirmed.flatMap(read => read.waiters),
    ];
    this.#waiting = [];
    this.#asked.clear();
    this.#confirmed = [];
    for (const { deferred } of waiters) deferred.reject(error);
  }

  /** Puts requests made at or before `atMs` back in the queue. */
  #askAgain(atMs: number): void {
    for (const [request, asked] of this.#asked) {
      if (asked.atMs > atMs) continue;
      this.#asked.delete(request);
      this.#waiting.push(...asked.waiters);
    }
  }

  #expire(waiters: readonly Waiter[]): void {
    if (waiters.length === 0) return;
    this.timeouts += waiters.length;
    const error = new SwarmError(
      "unavailable",
      `no quorum of managers confirmed within ${READ_TIMEOUT_MS} ms that this state is current: ` +
        "more than half of the managers must be reachable",
    );
    for (const { deferred } of waiters) deferred.reject(error);
  }
}
