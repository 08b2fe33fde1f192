/**
 * Milliseconds since a row's stamp. A stamp ahead of the clock was written by a leader whose clock
 * is ahead of ours: what it counted from is taken to be long ago, so that nothing waits for it.
 */
export function elapsedMs(nowMs: number, stampMs: number): number {
  return nowMs < stampMs ? Number.POSITIVE_INFINITY : nowMs - stampMs;
}
