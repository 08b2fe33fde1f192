/** How promptly this process' event loop runs, in milliseconds of delay of a timer. */
export interface LoopHealth {
  /** Over the last whole minute and what has passed of this one. */
  readonly meanMs: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Delays above the warning threshold since the start, and the longest of them. */
  readonly stalls: number;
  readonly longestStallMs: number;
}
