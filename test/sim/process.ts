import type { Clock, Timer } from "../../src/base/clock.ts";
import type { World } from "./world.ts";

/** Wall clock at the start of every simulation. */
const EPOCH_MS = 1_700_000_000_000;
/** As Node has it. */
const MIN_TIMER_MS = 1;
/** What a paused process finds in its sockets when it goes on; older messages are lost. */
const MAX_BACKLOG = 2000;

export interface ProcessOptions {
  readonly name: string;
  /** How far its machine's wall clock is off. */
  readonly skewMs: number;
  /** How fast its machine's clock runs; 1 = right. */
  readonly rate: number;
}

/**
 * A simulated process: nothing that it waits for reaches it once it is killed, and while it is
 * paused (SIGSTOP) everything waits.
 */
export class SimProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #world: World;
  readonly #onKill = new Set<() => void>();
  #backlog: (() => void)[] | null = null;
  #alive = true;
  skewMs: number;

  constructor(options: ProcessOptions, world: World) {
    const { rate } = options;
    this.name = options.name;
    this.skewMs = options.skewMs;
    this.#world = world;
    const bootMs = world.nowMs;
    this.clock = {
      nowMs: () => Math.floor(EPOCH_MS + world.nowMs + this.skewMs),
      monoMs: () => (world.nowMs - bootMs) * rate,
      setTimer: (_name, delayMs, fn) => this.#timer(Math.max(MIN_TIMER_MS, delayMs) / rate, fn),
    };
  }

  get alive(): boolean {
    return this.#alive;
  }

  get running(): boolean {
    return this.#alive && this.#backlog === null;
  }

  /** Runs `fn` in this process now, when it goes on, or never. */
  deliver(fn: () => void): void {
    if (!this.#alive) return;
    if (this.#backlog === null) fn();
    else if (this.#backlog.length < MAX_BACKLOG) this.#backlog.push(fn);
  }

  after(delayMs: number, fn: () => void): void {
    this.#world.after(delayMs, () => this.deliver(fn));
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise(resolve => this.after(delayMs, resolve));
  }

  pause(): void {
    this.#backlog ??= [];
  }

  resume(): void {
    const backlog = this.#backlog ?? [];
    this.#backlog = null;
    for (const fn of backlog) this.after(0, fn);
  }

  kill(): void {
    if (!this.#alive) return;
    this.#alive = false;
    this.#backlog = null;
    for (const fn of this.#onKill) fn();
    this.#onKill.clear();
  }

  /** Calls `fn` when this process is killed. Returns an undo. */
  onKill(fn: () => void): () => void {
    this.#onKill.add(fn);
    return () => void this.#onKill.delete(fn);
  }

  #timer(delayMs: number, fn: () => void): Timer {
    let canceled = false;
    const event = this.#world.after(delayMs, () =>
      this.deliver(() => {
        if (!canceled) fn();
      }),
    );
    return {
      cancel: () => {
        canceled = true;
        event.fn = null;
      },
    };
  }
}
