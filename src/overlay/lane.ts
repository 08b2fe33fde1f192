import { withSignal } from "../base/async.ts";
import { Backoff, type BackoffOptions } from "../base/backoff.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";

const RETRY: BackoffOptions = { baseMs: 100, maxMs: 5_000 };

export interface LaneDeps {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  /** Ends the retries. */
  readonly signal: AbortSignal;
}

/**
 * One kind of work on one thing, never twice at once. Requests that come while it runs share the
 * next run; a run that fails is tried again, with growing pauses, until it succeeds.
 */
export class Lane {
  readonly #name: string;
  readonly #work: () => Promise<void>;
  readonly #deps: LaneDeps;
  #running: Promise<void> = Promise.resolve();
  #waiting: Promise<void> | null = null;
  /** Of the last run that failed; empty when it succeeded since. */
  problem = "";

  constructor(name: string, work: () => Promise<void>, deps: LaneDeps) {
    this.#name = name;
    this.#work = work;
    this.#deps = deps;
  }

  /** Resolves when a run that began after this call has succeeded; rejects when all ends. */
  request(): Promise<void> {
    this.#waiting ??= this.#running.then(
      () => this.#start(),
      () => this.#start(),
    );
    // Nobody need wait for it.
    this.#waiting.catch(() => undefined);
    return this.#waiting;
  }

  /** Resolves when everything requested so far is done. */
  settled(): Promise<void> {
    return this.#waiting ?? this.#running;
  }

  #start(): Promise<void> {
    this.#waiting = null;
    this.#running = this.#untilDone();
    return this.#running;
  }

  async #untilDone(): Promise<void> {
    const { clock, rng, logger, signal } = this.#deps;
    const backoff = new Backoff(RETRY, rng);
    for (;;) {
      signal.throwIfAborted();
      try {
        await withSignal(this.#work(), signal);
        this.problem = "";
        return;
      } catch (error) {
        signal.throwIfAborted();
        this.problem = errorMessage(error);
        logger.warn("cannot program the data path", { what: this.#name, error: this.problem });
      }
      await sleep(clock, backoff.nextMs(), signal);
    }
  }
}
