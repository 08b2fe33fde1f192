import type { VirtualClock } from "./virtual-clock.ts";

/** Rounds of the event loop after which all work that waits for no timer is done. */
const SETTLE_ROUNDS = 8;
const DEFAULT_LIMIT_MS = 600_000;

/** Lets everything that waits for no timer go on. */
export async function settle(): Promise<void> {
  for (let i = 0; i < SETTLE_ROUNDS; i += 1) await new Promise(resolve => setImmediate(resolve));
}

/** Moves virtual time from timer to timer until `probe` holds. */
export async function advanceUntil(
  clock: VirtualClock,
  probe: () => boolean,
  what: string,
  limitMs = DEFAULT_LIMIT_MS,
): Promise<void> {
  const deadlineMs = clock.monoMs() + limitMs;
  for (;;) {
    await settle();
    if (probe()) return;
    const nextMs = clock.nextAtMs();
    if (nextMs === null || nextMs > deadlineMs) throw new Error(`does not come about: ${what}`);
    clock.advance(nextMs - clock.monoMs());
  }
}

/** Moves virtual time until the promise settles, and returns or throws what it does. */
export async function drive<T>(clock: VirtualClock, promise: Promise<T>): Promise<T> {
  let settled = false;
  const done = promise.finally(() => {
    settled = true;
  });
  done.catch(() => undefined);
  await advanceUntil(clock, () => settled, "the promise settles");
  return done;
}

/** Moves virtual time on by `ms`, letting work happen at each timer on the way. */
export async function elapse(clock: VirtualClock, ms: number): Promise<void> {
  const targetMs = clock.monoMs() + ms;
  for (;;) {
    await settle();
    const nextMs = clock.nextAtMs();
    if (nextMs === null || nextMs > targetMs) break;
    clock.advance(nextMs - clock.monoMs());
  }
  clock.advance(targetMs - clock.monoMs());
  await settle();
}
