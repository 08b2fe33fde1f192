import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";

/** Aborts after `ms`. */
export function timeoutSignal(clock: Clock, ms: number): AbortSignal {
  const controller = new AbortController();
  clock.setTimer("timeout", ms, () =>
    controller.abort(new SwarmError("deadline_exceeded", `not within ${ms / 1_000} s`)),
  );
  return controller.signal;
}
