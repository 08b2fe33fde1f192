import type { Clock, Timer } from "../../base/clock.ts";

export interface TickerOptions {
  readonly tickMs: number;
  /** A tick later than this means that the process was paused. */
  readonly pausedAfterMs: number;
}

/**
 * Regular ticks on the monotonic clock. Late ones are not made up for: a burst would expire every
 * timeout before the messages that arrived meanwhile are read. After a pause (SIGSTOP, a frozen
 * virtual machine) the first tick is left out for the same reason.
 */
export class Ticker {
  readonly #options: TickerOptions;
  readonly #clock: Clock;
  readonly #onTick: () => void;
  readonly #onPause: (pausedMs: number) => void;
  #timer: Timer | null = null;
  ticks = 0;
  lateTicks = 0;
  pauses = 0;
  maxLateMs = 0;

  constructor(
    options: TickerOptions,
    deps: {
      readonly clock: Clock;
      readonly onTick: () => void;
      /** In place of the tick after a pause. */
      readonly onPause: (pausedMs: number) => void;
    },
  ) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#onTick = deps.onTick;
    this.#onPause = deps.onPause;
  }

  start(): void {
    this.#arm(this.#clock.monoMs() + this.#options.tickMs);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #arm(dueMs: number): void {
    const delayMs = Math.max(0, dueMs - this.#clock.monoMs());
    this.#timer = this.#clock.setTimer("raft tick", delayMs, () => {
      const nowMs = this.#clock.monoMs();
      const { tickMs } = this.#options;
      const nextMs = dueMs + tickMs;
      this.#arm(nextMs > nowMs ? nextMs : nowMs + tickMs);
      this.#fire(nowMs - dueMs);
    });
  }

  #fire(lateMs: number): void {
    this.ticks += 1;
    this.maxLateMs = Math.max(this.maxLateMs, lateMs);
    if (lateMs > this.#options.tickMs) this.lateTicks += 1;
    if (lateMs <= this.#options.pausedAfterMs) {
      this.#onTick();
      return;
    }
    this.pauses += 1;
    this.#onPause(lateMs);
  }
}
