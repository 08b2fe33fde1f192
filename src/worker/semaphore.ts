import { assert, SwarmError } from "../base/errors.ts";

/** More waiting than this is a leak, not load. */
const WAITERS_LIMIT = 100_000;

interface Waiter {
  readonly grant: () => void;
}

/** Lets `slots` callers in at a time; the others wait in order of arrival. */
export class Semaphore {
  #free: number;
  readonly #waiters = new Set<Waiter>();

  constructor(options: { readonly slots: number }) {
    assert(options.slots > 0, "a semaphore needs a slot");
    this.#free = options.slots;
  }

  /** Runs `fn` when there is room; rejects with the signal's reason when it aborts before. */
  async use<T>(signal: AbortSignal, fn: () => Promise<T>): Promise<T> {
    await this.#acquire(signal);
    try {
      return await fn();
    } finally {
      this.#release();
    }
  }

  #acquire(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason);
    if (this.#free > 0) {
      this.#free -= 1;
      return Promise.resolve();
    }
    if (this.#waiters.size >= WAITERS_LIMIT) {
      return Promise.reject(new SwarmError("resource_exhausted", "too many steps are waiting"));
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters.delete(waiter);
        reject(signal.reason);
      };
      const waiter: Waiter = {
        grant: () => {
          signal.removeEventListener("abort", onAbort);
          resolve();
        },
      };
      this.#waiters.add(waiter);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** Hands the slot to the longest waiter, if there is one. */
  #release(): void {
    const [next] = this.#waiters;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiters.delete(next);
    next.grant();
  }
}
