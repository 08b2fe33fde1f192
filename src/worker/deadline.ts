import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";

/**
 * Runs `fn` with a signal that also aborts after `limitMs`; then rejects with deadline_exceeded
 * naming `what`. `extend` (given to `fn`) starts the time anew: for work that shows progress.
 */
export async function withDeadline<T>(
  clock: Clock,
  what: string,
  limitMs: number,
  signal: AbortSignal,
  fn: (signal: AbortSignal, extend: () => void) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  const expire = (): void => {
    const text = `${what} was not done within ${limitMs} ms`;
    controller.abort(new SwarmError("deadline_exceeded", text));
  };
  let timer = clock.setTimer(what, limitMs, expire);
  const extend = (): void => {
    timer.cancel();
    timer = clock.setTimer(what, limitMs, expire);
  };
  try {
    return await fn(controller.signal, extend);
  } catch (error) {
    if (controller.signal.aborted) throw controller.signal.reason;
    throw error;
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", onAbort);
  }
}
