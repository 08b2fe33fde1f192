import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage, InvariantError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";

/** Between the end of work that failed and its next start, when nobody has taken over. */
export const WORK_RETRY_MS = 1_000;

export interface TermDeps {
  /** The leader's work: until the signal aborts. Rejects when it cannot go on. */
  readonly work: (signal: AbortSignal) => Promise<void>;
  /** Gives the leadership to another manager. Rejects when none takes it. */
  readonly handOver: (signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Leads until the signal aborts, which is when the term ends. Work that fails is handed over; a
 * leader that nobody follows up starts it again, since otherwise the term would go on without
 * anybody who assigns tasks and takes sessions. Rejects on a broken invariant only.
 */
export async function leadTerm(signal: AbortSignal, deps: TermDeps): Promise<void> {
  const { clock, logger } = deps;
  while (!signal.aborted) {
    try {
      return await deps.work(signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof InvariantError) throw error;
      logger.error("the leader's work failed: handing over", { error: errorMessage(error) });
      await deps.handOver(signal).catch((refusal: unknown) => {
        if (signal.aborted) return;
        const why = errorMessage(refusal);
        logger.warn("no other manager takes over: the leader's work starts again", { error: why });
      });
      await sleep(clock, WORK_RETRY_MS, signal).catch(() => undefined);
    }
  }
}
