import type { RaftStorage, StorageStats } from "../storage/raft-storage.ts";
import type { RaftTransport, TransportStats } from "../transport/raft-transport.ts";
import type { Failover } from "./failover.ts";
import type { Membership } from "./membership.ts";
import type { PendingEntries } from "./pending.ts";
import type { Proposals } from "./proposals.ts";
import type { Reads } from "./reads.ts";
import type { Snapshots } from "./snapshots.ts";
import type { Ticker } from "./ticker.ts";

/** Counts since the start, and a few present sizes. */
export interface DriverStats {
  readonly readies: number;
  readonly appliedIndex: number;
  readonly proposed: number;
  readonly proposalsRefused: number;
  readonly proposalsWaiting: number;
  readonly entriesPending: number;
  readonly readsServed: number;
  readonly readTimeouts: number;
  readonly snapshotsTaken: number;
  readonly snapshotsSent: number;
  readonly snapshotsReceived: number;
  readonly snapshotFailures: number;
  readonly membersPromoted: number;
  readonly quickElections: number;
  readonly ticks: number;
  readonly lateTicks: number;
  readonly pauses: number;
  readonly maxTickLateMs: number;
  readonly storage: StorageStats;
  readonly transport: TransportStats;
}

export interface StatsSources {
  readonly readies: number;
  readonly appliedIndex: number;
  readonly pending: PendingEntries;
  readonly proposals: Proposals;
  readonly reads: Reads;
  readonly snapshots: Snapshots;
  readonly membership: Membership;
  readonly failover: Failover;
  readonly ticker: Ticker;
  readonly storage: RaftStorage;
  readonly transport: RaftTransport;
}

export function driverStats(sources: StatsSources): DriverStats {
  const { proposals, reads, snapshots, ticker } = sources;
  return {
    readies: sources.readies,
    appliedIndex: sources.appliedIndex,
    proposed: proposals.proposed,
    proposalsRefused: proposals.refusals,
    proposalsWaiting: proposals.waiting,
    entriesPending: sources.pending.size,
    readsServed: reads.served,
    readTimeouts: reads.timeouts,
    snapshotsTaken: snapshots.taken,
    snapshotsSent: snapshots.sent,
    snapshotsReceived: snapshots.received,
    snapshotFailures: snapshots.failures,
    membersPromoted: sources.membership.promoted,
    quickElections: sources.failover.started,
    ticks: ticker.ticks,
    lateTicks: ticker.lateTicks,
    pauses: ticker.pauses,
    maxTickLateMs: ticker.maxLateMs,
    storage: sources.storage.stats(),
    transport: sources.transport.stats(),
  };
}
