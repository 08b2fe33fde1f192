import type { Clock, Timer } from "../../src/base/clock.ts";

/** A process whose event loop can stand still: time goes on, and its timers fire late. */
export class HeldClock implements Clock {
  readonly #clock: Clock;
  readonly #late: (() => void)[] = [];
  #holding = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  monoMs(): number {
    return this.#clock.monoMs();
  }

  setTimer(name: string, delayMs: number, fn: () => void): Timer {
    let canceled = false;
    const run = (): void => {
      if (canceled) return;
      if (this.#holding) this.#late.push(run);
      else fn();
    };
    const timer = this.#clock.setTimer(name, delayMs, run);
    return {
      cancel: () => {
        canceled = true;
        timer.cancel();
      },
    };
  }

  hold(): void {
    this.#holding = true;
  }

  release(): void {
    this.#holding = false;
    for (const fn of this.#late.splice(0)) fn();
  }
}
