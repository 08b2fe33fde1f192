import type { Clock } from "../base/clock.ts";

/**
 * How long before it was missed the Engine may have begun to go down: a clean shutdown stops the
 * containers first and waits for them (dockerd's `shutdown-timeout`, 15 s by default).
 */
export const ENGINE_STOP_WINDOW_MS = 20_000;

/** Remembers when the Engine was away, to tell a container's own end from one it was given. */
export class EngineOutage {
  readonly #clock: Clock;
  readonly #bootedAtMs: number;
  #lostAtMs: number | null = null;
  #backAtMs: number | null = null;

  /** `bootedAtMs`: when this host started, epoch ms; 0 = unknown. */
  constructor(options: { readonly bootedAtMs: number }, deps: { readonly clock: Clock }) {
    this.#clock = deps.clock;
    this.#bootedAtMs = options.bootedAtMs;
  }

  /** Whether the Engine is away now. */
  get ongoing(): boolean {
    return this.#lostAtMs !== null && this.#backAtMs === null;
  }

  /** True when this is news. */
  lost(): boolean {
    if (this.ongoing) return false;
    this.#lostAtMs = this.#clock.nowMs();
    this.#backAtMs = null;
    return true;
  }

  back(): void {
    if (this.ongoing) this.#backAtMs = this.#clock.nowMs();
  }

  /** Whether a container that ended then fell with the Engine or the host. 0 = it has not. */
  covers(finishedAtMs: number): boolean {
    if (finishedAtMs === 0) return false;
    if (finishedAtMs < this.#bootedAtMs) return true;
    if (this.#lostAtMs === null) return false;
    const untilMs = this.#backAtMs ?? Number.POSITIVE_INFINITY;
    return finishedAtMs >= this.#lostAtMs - ENGINE_STOP_WINDOW_MS && finishedAtMs <= untilMs;
  }
}
