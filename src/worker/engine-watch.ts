import { Backoff, type BackoffOptions } from "../base/backoff.ts";
import { type Clock, sleep, type Timer } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import { EngineOutage } from "./engine-outage.ts";
import type { Executor, ExecutorEvent } from "./executor.ts";

/** An outage shorter than this is not worth a word in every task's status. */
export const ENGINE_LOST_REPORT_MS = 10_000;
const RECONNECT: BackoffOptions = { baseMs: 100, maxMs: 2_000 };

export interface EngineWatchDeps {
  readonly executor: Pick<Executor, "watch">;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  /** The Engine answers, for the first time or again: what is known of it is old. */
  readonly onConnected: (signal: AbortSignal) => Promise<void>;
  /** A task's container changed. */
  readonly onChanged: (taskId: string) => void;
  /** The first try to reach the Engine is over, well or not. */
  readonly onLooked: () => void;
  /** The outage is long enough to be mentioned (true), or the Engine is back (false). */
  readonly onLost: (lost: boolean) => void;
}

/** Follows the Engine's events for ever; an Engine that goes away is waited for. */
export class EngineWatch {
  readonly #deps: EngineWatchDeps;
  readonly #outage: EngineOutage;
  #lostTimer: Timer | null = null;

  /** `bootedAtMs`: when this host started, epoch ms; 0 = unknown. */
  constructor(options: { readonly bootedAtMs: number }, deps: EngineWatchDeps) {
    this.#deps = deps;
    this.#outage = new EngineOutage(options, deps);
  }

  /** Whether a container that ended then fell with the Engine or the host. */
  covers(finishedAtMs: number): boolean {
    return this.#outage.covers(finishedAtMs);
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { executor, clock, rng, onLooked } = this.#deps;
    const backoff = new Backoff(RECONNECT, rng);
    try {
      while (!signal.aborted) {
        try {
          for await (const event of executor.watch(signal)) {
            await this.#onEvent(event, signal);
            backoff.reset();
          }
        } catch (error) {
          if (signal.aborted) return;
          this.#onLost(error);
        }
        onLooked();
        await sleep(clock, backoff.nextMs(), signal);
      }
    } finally {
      this.#lostTimer?.cancel();
    }
  }

  async #onEvent(event: ExecutorEvent, signal: AbortSignal): Promise<void> {
    if (event.kind === "changed") {
      this.#deps.onChanged(event.taskId);
      return;
    }
    await this.#deps.onConnected(signal);
    this.#onBack();
    this.#deps.onLooked();
  }

  #onLost(error: unknown): void {
    const { clock, logger, onLost } = this.#deps;
    if (!this.#outage.lost()) return;
    logger.warn("the Docker Engine does not answer", { error: errorMessage(error) });
    this.#lostTimer = clock.setTimer("engine lost", ENGINE_LOST_REPORT_MS, () => onLost(true));
  }

  #onBack(): void {
    this.#lostTimer?.cancel();
    if (this.#outage.ongoing) this.#deps.logger.info("the Docker Engine answers again");
    this.#outage.back();
    this.#deps.onLost(false);
  }
}
