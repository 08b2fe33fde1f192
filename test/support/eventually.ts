import { performance } from "node:perf_hooks";

export interface EventuallyOptions {
  readonly timeoutMs?: number;
  readonly everyMs?: number;
  /** What is waited for, for the failure's message. */
  readonly what: string;
}

const DEFAULT_TIMEOUT_MS = 60_000;
const DEFAULT_EVERY_MS = 20;

/**
 * Waits until `probe` returns something truthy and returns it. A probe that throws counts as "not
 * yet"; its last error is the cause of the failure.
 */
export async function eventually<T>(
  probe: () => T | Promise<T>,
  options: EventuallyOptions,
): Promise<NonNullable<T>> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const deadlineMs = performance.now() + timeoutMs;
  let lastError: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value;
    } catch (error) {
      lastError = error;
    }
    if (performance.now() > deadlineMs) {
      throw new Error(`not within ${timeoutMs} ms: ${options.what}`, { cause: lastError });
    }
    await new Promise(resolve => setTimeout(resolve, options.everyMs ?? DEFAULT_EVERY_MS));
  }
}
