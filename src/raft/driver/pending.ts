import { type Deferred, newDeferred } from "../../base/async.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import { SwarmError } from "../../base/errors.ts";
import { unknownOutcome } from "./errors.ts";

/** After a loss of leadership the new leader often commits what is in flight within this time. */
const GRACE_MS = 500;

/** Told once. */
export interface EntryWaiter {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

interface Pending {
  readonly term: number;
  readonly waiter: EntryWaiter;
}

/**
 * Callers that wait for an entry of theirs. An entry is known by index and term (Raft paper 5.3,
 * Log Matching): applied with the same term, it is theirs; with another, theirs is gone for good.
 */
export class PendingEntries {
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  #grace: Timer | null = null;
  #drained: Deferred<void> | null = null;

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** The caller's result once the entry is applied here. */
  wait(index: number, term: number): Promise<unknown> {
    const deferred = newDeferred<unknown>();
    // The caller may have given up already.
    deferred.promise.catch(() => undefined);
    this.track(index, term, deferred);
    return deferred.promise;
  }

  /** The same for a caller that is told, not waited for. */
  track(index: number, term: number, waiter: EntryWaiter): void {
    this.#pending.get(index)?.waiter.reject(unknownOutcome("leadership changed"));
    this.#pending.set(index, { term, waiter });
  }

  applied(index: number, term: number, result: unknown): void {
    const pending = this.#pending.get(index);
    if (pending === undefined) return;
    this.#pending.delete(index);
    if (pending.term === term) pending.waiter.resolve(result);
    else pending.waiter.reject(notWritten());
    this.#removed();
  }

  /** A snapshot covers these entries: whether they were the callers' cannot be seen any more. */
  coveredBySnapshot(index: number): void {
    for (const [at, { waiter }] of this.#pending) {
      if (at > index) continue;
      this.#pending.delete(at);
      waiter.reject(unknownOutcome("the managers went on without this one"));
    }
    this.#removed();
  }

  /** Leadership of `term` ended: its entries get a little time to be applied all the same. */
  leadershipLost(term: number): void {
    if (this.#pending.size === 0) return;
    this.#grace?.cancel();
    this.#grace = this.#clock.setTimer("raft pending", GRACE_MS, () => {
      this.#grace = null;
      this.#rejectUpTo(term);
    });
  }

  /** Resolves when nobody waits any more. */
  drained(): Promise<void> {
    if (this.#pending.size === 0) return Promise.resolve();
    this.#drained ??= newDeferred();
    return this.#drained.promise;
  }

  rejectAll(error: SwarmError): void {
    this.#grace?.cancel();
    this.#grace = null;
    const all = [...this.#pending.values()];
    this.#pending.clear();
    for (const { waiter } of all) waiter.reject(error);
    this.#removed();
  }

  #rejectUpTo(term: number): void {
    for (const [index, pending] of this.#pending) {
      if (pending.term > term) continue;
      this.#pending.delete(index);
      pending.waiter.reject(unknownOutcome("leadership was lost before a quorum confirmed it"));
    }
    this.#removed();
  }

  #removed(): void {
    if (this.#pending.size > 0) return;
    this.#drained?.resolve();
    this.#drained = null;
  }
}

function notWritten(): SwarmError {
  return new SwarmError(
    "not_leader",
    "leadership changed and the change was not made; repeat it at the new leader",
    { leader: null },
  );
}
