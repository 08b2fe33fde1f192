import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";

/** A signal that also aborts after a time. `done` must be called when the work has ended. */
export interface Deadline {
  readonly signal: AbortSignal;
  readonly expired: boolean;
  done(): void;
}

export function startDeadline(
  clock: Clock,
  name: string,
  timeoutMs: number,
  parent: AbortSignal,
): Deadline {
  const controller = new AbortController();
  let expired = false;
  const onAbort = (): void => controller.abort(parent.reason);
  if (parent.aborted) onAbort();
  else parent.addEventListener("abort", onAbort, { once: true });
  const timer = clock.setTimer(name, timeoutMs, () => {
    expired = true;
    controller.abort(new SwarmError("deadline_exceeded", "context deadline exceeded"));
  });
  return {
    signal: controller.signal,
    get expired() {
      return expired;
    },
    done: () => {
      timer.cancel();
      parent.removeEventListener("abort", onAbort);
    },
  };
}
