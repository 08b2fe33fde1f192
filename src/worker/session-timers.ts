import type { Clock, Timer } from "../base/clock.ts";

/** The timers of one session: none of them fires after its end. */
export class SessionTimers {
  readonly #clock: Clock;
  readonly #timers = new Set<Timer>();
  #closed = false;

  constructor(deps: { readonly clock: Clock }) {
    this.#clock = deps.clock;
  }

  /** Calls `fn` once after `delayMs`. */
  after(name: string, delayMs: number, fn: () => void): Timer {
    const inner = this.#clock.setTimer(name, delayMs, () => {
      this.#timers.delete(timer);
      fn();
    });
    const timer: Timer = {
      cancel: () => {
        inner.cancel();
        this.#timers.delete(timer);
      },
    };
    if (this.#closed) inner.cancel();
    else this.#timers.add(timer);
    return timer;
  }

  /** Calls `fn` every `periodMs`, the first time after one, until it is cancelled. */
  every(name: string, periodMs: number, fn: () => void): Timer {
    const again = (): Timer =>
      this.after(name, periodMs, () => {
        timer = again();
        fn();
      });
    let timer = again();
    return { cancel: () => timer.cancel() };
  }

  /** Idempotent. */
  close(): void {
    this.#closed = true;
    for (const timer of [...this.#timers]) timer.cancel();
  }
}
