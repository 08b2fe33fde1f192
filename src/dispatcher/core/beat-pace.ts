import { assert } from "../../base/errors.ts";
import { NS_PER_MS } from "../../model/defaults.ts";
import type { StateView } from "../../model/view.ts";

/** Periods outside of these are taken as the nearest one: a timer holds no more than 24.8 days. */
const MIN_PERIOD_MS = 1_000;
const MAX_PERIOD_MS = 24 * 3_600_000;

/** The cluster's heartbeat period (Docker's SwarmSpec.Dispatcher.HeartbeatPeriod) in ms. */
export function heartbeatPeriodMs(view: StateView): number {
  const [cluster] = view.table("cluster").all();
  assert(cluster !== undefined, "a leader has a cluster row");
  const askedMs = cluster.spec.Dispatcher.HeartbeatPeriod / NS_PER_MS;
  return Math.min(MAX_PERIOD_MS, Math.max(MIN_PERIOD_MS, askedMs));
}

/** A node beats this many times a period, so one lost beat means nothing. */
const BEATS_PER_PERIOD = 5;
/** And at least so many times, however many nodes there are: silence counts from two periods on. */
const FEWEST_BEATS_PER_PERIOD = 1.25;

/** From so many nodes on beats are so many times rarer; with fewer than `below` no longer. */
interface Step {
  readonly above: number;
  readonly below: number;
  readonly stretch: number;
  /** About 3 ms for each node: a handshake costs a manager as much. */
  readonly spreadMs: number;
}

const STEPS: readonly Step[] = [
  { above: 0, below: 0, stretch: 1, spreadMs: 0 },
  { above: 200, below: 150, stretch: 2, spreadMs: 1_000 },
  { above: 400, below: 300, stretch: 2.5, spreadMs: 2_000 },
  { above: 800, below: 600, stretch: 4, spreadMs: 4_000 },
];

/**
 * How often nodes beat. Every beat costs the leader a message in and one out, and a node that is
 * gone mostly shows by its connection: with many nodes each beats less often, within the period.
 */
export class BeatPace {
  #step = 0;

  /** True when the number of sessions makes it another pace. */
  changedBy(sessions: number): boolean {
    const before = this.#step;
    while (sessions > (STEPS[this.#step + 1]?.above ?? Number.POSITIVE_INFINITY)) this.#step += 1;
    while (sessions < (STEPS[this.#step]?.below ?? 0)) this.#step -= 1;
    return this.#step !== before;
  }

  /** Between two beats, for this heartbeat period of the cluster. */
  beatMs(periodMs: number): number {
    const stretch = STEPS[this.#step]?.stretch ?? 1;
    const wantedMs = (periodMs / BEATS_PER_PERIOD) * stretch;
    return Math.floor(Math.min(wantedMs, periodMs / FEWEST_BEATS_PER_PERIOD));
  }

  /** What all nodes would do at once they are to do within this time. */
  get spreadMs(): number {
    return STEPS[this.#step]?.spreadMs ?? 0;
  }
}
