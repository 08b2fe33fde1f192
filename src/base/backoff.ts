import { type Rng, randomFloat } from "./rng.ts";

export interface BackoffOptions {
  readonly baseMs: number;
  readonly maxMs: number;
}

/** Exponential backoff with full jitter on its upper half: delay in [d/2, d), d = base * 2^n. */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #rng: Rng;
  #attempt = 0;

  constructor(options: BackoffOptions, rng: Rng) {
    this.#options = options;
    this.#rng = rng;
  }

  /** The delay before the next try. */
  nextMs(): number {
    const ceilingMs = Math.min(this.#options.maxMs, this.#options.baseMs * 2 ** this.#attempt);
    if (ceilingMs < this.#options.maxMs) this.#attempt += 1;
    return Math.floor(ceilingMs / 2 + (randomFloat(this.#rng) * ceilingMs) / 2);
  }

  /** After a success. */
  reset(): void {
    this.#attempt = 0;
  }
}
