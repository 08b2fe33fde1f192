import { Histogram } from "../metrics/core/histogram.ts";
import type { Commit } from "../model/change.ts";
import type { LeadershipEvent } from "../raft/ports.ts";

const MS_PER_SECOND = 1_000;
/** Seconds; a write is a disk and a round trip, a task may have to pull its image. */
const LATENCY_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const DELAY_BOUNDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** What of a manager's life can only be counted as it happens. */
export class ManagerRecord {
  readonly transactions = new Histogram(LATENCY_BOUNDS);
  readonly snapshots = new Histogram(LATENCY_BOUNDS);
  readonly schedulingDelays = new Histogram(DELAY_BOUNDS);
  #leaderChanges = 0;
  #lastLeader = 0;

  /** Leaders seen after the first one. */
  get leaderChanges(): number {
    return this.#leaderChanges;
  }

  submitted(tookMs: number): void {
    this.transactions.observe(tookMs / MS_PER_SECOND);
  }

  tookSnapshot(tookMs: number): void {
    this.snapshots.observe(tookMs / MS_PER_SECOND);
  }

  sawLeader({ leaderId }: LeadershipEvent): void {
    if (leaderId === 0 || leaderId === this.#lastLeader) return;
    if (this.#lastLeader !== 0) this.#leaderChanges += 1;
    this.#lastLeader = leaderId;
  }

  /** On the leader: how long tasks that run now took from their creation. */
  committed({ events }: Commit): void {
    for (const { table, before, after } of events) {
      if (table !== "tasks" || before === null || after === null) continue;
      if (before.runningSinceMs !== 0 || after.runningSinceMs === 0) continue;
      this.schedulingDelays.observe((after.runningSinceMs - after.createdAtMs) / MS_PER_SECOND);
    }
  }
}
