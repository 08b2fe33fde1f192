import { SwarmError } from "../base/errors.ts";

/** Writes that wait or run at once; more are told to come back. */
const MAX_WRITES = 1_000;

/**
 * Lets writes that touch the same names run one after the other, from their checks to their commit:
 * what was checked is still so when it is written. Writes that touch different names do not wait.
 */
export class KeyedLocks {
  readonly #tails = new Map<string, Promise<void>>();
  #held = 0;

  get size(): number {
    return this.#held;
  }

  /** Runs `work` when every earlier holder of one of `keys` is done. */
  async run<T>(keys: readonly string[], work: () => Promise<T>): Promise<T> {
    if (this.#held >= MAX_WRITES) {
      throw new SwarmError("resource_exhausted", "too many changes at once; try again later");
    }
    this.#held += 1;
    // All keys are queued for in one go, so two writes wait for each other in one order only.
    const before = keys.flatMap(key => this.#tails.get(key) ?? []);
    let release = (): void => undefined;
    const tail = new Promise<void>(resolve => {
      release = resolve;
    });
    for (const key of keys) this.#tails.set(key, tail);
    try {
      await Promise.all(before);
      return await work();
    } finally {
      release();
      this.#held -= 1;
      for (const key of keys) if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }
}
