import { type Rng, randomFloat, randomInt } from "../../src/base/rng.ts";

/** Draws from a seeded source. */
export class Chance {
  readonly rng: Rng;

  constructor(rng: Rng) {
    this.rng = rng;
  }

  /** True with probability `p`. */
  is(p: number): boolean {
    return p > 0 && randomFloat(this.rng) < p;
  }

  int(from: number, to: number): number {
    return from + randomInt(this.rng, to - from + 1);
  }

  float(from: number, to: number): number {
    return from + randomFloat(this.rng) * (to - from);
  }

  /** Evenly over orders of magnitude. */
  logUniform(from: number, to: number): number {
    return from * (to / from) ** randomFloat(this.rng);
  }

  /** Waiting time of a Poisson process, at most ten times the mean. */
  exponential(mean: number): number {
    return Math.min(10, -Math.log(1 - randomFloat(this.rng))) * mean;
  }

  pick<T>(items: readonly T[]): T {
    const item = items[randomInt(this.rng, Math.max(1, items.length))];
    if (item === undefined) throw new Error("there is nothing to pick from");
    return item;
  }

  /** Each item with probability `p`. */
  some<T>(items: readonly T[], p: number): T[] {
    return items.filter(() => this.is(p));
  }

  shuffle<T>(items: readonly T[]): T[] {
    const left = [...items];
    const out: T[] = [];
    while (left.length > 0) {
      const at = randomInt(this.rng, left.length);
      out.push(...left.splice(at, 1));
    }
    return out;
  }
}
