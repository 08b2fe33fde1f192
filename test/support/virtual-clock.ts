import type { Clock, Timer } from "../../src/base/clock.ts";

interface Pending {
  readonly atMs: number;
  readonly seq: number;
  readonly fn: () => void;
}

/** Time that moves only when a test says so. Timers fire in order of due time, then of creation. */
export class VirtualClock implements Clock {
  #elapsedMs = 0;
  #seq = 0;
  readonly #epochMs: number;
  readonly #timers = new Set<Pending>();

  constructor(epochMs = 1_700_000_000_000) {
    this.#epochMs = epochMs;
  }

  nowMs(): number {
    return this.#epochMs + this.#elapsedMs;
  }

  monoMs(): number {
    return this.#elapsedMs;
  }

  get pending(): number {
    return this.#timers.size;
  }

  /** Due time of the next timer, or null. */
  nextAtMs(): number | null {
    return this.#next()?.atMs ?? null;
  }

  setTimer(_name: string, delayMs: number, fn: () => void): Timer {
    const timer = { atMs: this.#elapsedMs + Math.max(0, delayMs), seq: this.#seq++, fn };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** Moves time on by `ms`, firing what falls due on the way. */
  advance(ms: number): void {
    const targetMs = this.#elapsedMs + ms;
    for (;;) {
      const next = this.#next();
      if (next === null || next.atMs > targetMs) break;
      this.#timers.delete(next);
      this.#elapsedMs = next.atMs;
      next.fn();
    }
    this.#elapsedMs = targetMs;
  }

  #next(): Pending | null {
    let best: Pending | null = null;
    for (const timer of this.#timers) {
      if (
        best === null ||
        timer.atMs < best.atMs ||
        (timer.atMs === best.atMs && timer.seq < best.seq)
      ) {
        best = timer;
      }
    }
    return best;
  }
}
