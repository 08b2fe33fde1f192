/** Time as a dependency. Only `system/` (real) and tests (virtual) implement it. */
export interface Timer {
  /** Idempotent; after it the callback does not run. */
  cancel(): void;
}

export interface Clock {
  /** Wall clock, milliseconds since 1970. For stamps and certificates only. */
  nowMs(): number;
  /** Monotonic milliseconds from an arbitrary origin. For timeouts and intervals. */
  monoMs(): number;
  /** Calls `fn` once after `delayMs` (>= 0). `name` shows in diagnostics. */
  setTimer(name: string, delayMs: number, fn: () => void): Timer;
}

/** Resolves after `delayMs`, or rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      timer.cancel();
      reject(signal?.reason);
    };
    const timer = clock.setTimer("sleep", delayMs, () => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    });
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
