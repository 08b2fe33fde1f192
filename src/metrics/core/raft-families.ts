import type { RaftStatus } from "../../raft/core/types.ts";
import { counter, type Family, family, gauge } from "./exposition.ts";

/** Counts of the driver since its start, and a few present sizes. */
export interface RaftCounts {
  readonly proposed: number;
  readonly proposalsRefused: number;
  readonly proposalsWaiting: number;
  readonly entriesPending: number;
  readonly readTimeouts: number;
  readonly snapshotsTaken: number;
  readonly snapshotsSent: number;
  readonly snapshotsReceived: number;
  readonly snapshotFailures: number;
  readonly pauses: number;
}

export interface RaftFacts {
  readonly status: RaftStatus;
  readonly counts: RaftCounts;
  readonly leaderChanges: number;
  /** Node ids by Raft id. */
  readonly names: ReadonlyMap<number, string>;
  readonly reachable: (raftId: number) => boolean;
}

function peerFamilies({ status, names, reachable }: RaftFacts): Family[] {
  const peers = [...status.conf.voters, ...status.conf.learners].filter(id => id !== status.id);
  const labels = (id: number): { peer: string } => ({ peer: names.get(id) ?? String(id) });
  return [
    family(
      "gauge",
      "swarmd_raft_peer_reachable",
      "Whether the manager answered lately.",
      peers.map(id => ({ labels: labels(id), value: reachable(id) ? 1 : 0 })),
    ),
    family(
      "gauge",
      "swarmd_raft_peer_lag_entries",
      "Entries of the leader's log that the manager has not confirmed; on the leader only.",
      status.progress
        .filter(({ id }) => id !== status.id)
        .map(({ id, match }) => ({
          labels: labels(id),
          value: Math.max(0, status.lastIndex - match),
        })),
    ),
  ];
}

export function raftFamilies(facts: RaftFacts): Family[] {
  const { status, counts } = facts;
  const { voters, learners } = status.conf;
  return [
    gauge(
      "swarm_manager_leader",
      "Indicates if this manager node is a leader.",
      status.role === "leader" ? 1 : 0,
    ),
    gauge("swarmd_raft_has_leader", "Whether a leader is known.", status.leaderId === 0 ? 0 : 1),
    gauge("swarmd_raft_term", "The present term.", status.term),
    gauge("swarmd_raft_commit_index", "The last entry known to be committed.", status.commit),
    gauge("swarmd_raft_applied_index", "The last entry applied to the state.", status.applied),
    gauge("swarmd_raft_last_index", "The last entry of the log.", status.lastIndex),
    gauge("swarmd_raft_voters", "Managers that vote.", voters.length),
    gauge("swarmd_raft_learners", "Managers that are catching up.", learners.length),
    ...peerFamilies(facts),
    counter(
      "swarmd_raft_leader_changes_total",
      "Leaders seen, beyond the first.",
      facts.leaderChanges,
    ),
    gauge(
      "swarmd_raft_proposals_waiting",
      "Writes that wait for the log.",
      counts.proposalsWaiting,
    ),
    gauge(
      "swarmd_raft_entries_pending",
      "Writes in the log, not yet applied.",
      counts.entriesPending,
    ),
    counter("swarmd_raft_proposals_total", "Writes handed to the log.", counts.proposed),
    counter(
      "swarmd_raft_proposals_refused_total",
      "Writes refused because too many waited.",
      counts.proposalsRefused,
    ),
    counter(
      "swarmd_raft_read_timeouts_total",
      "Reads that no quorum confirmed in time.",
      counts.readTimeouts,
    ),
    counter("swarmd_raft_snapshots_taken_total", "Snapshots of the state.", counts.snapshotsTaken),
    counter("swarmd_raft_snapshots_sent_total", "Snapshots sent.", counts.snapshotsSent),
    counter(
      "swarmd_raft_snapshots_received_total",
      "Snapshots received.",
      counts.snapshotsReceived,
    ),
    counter(
      "swarmd_raft_snapshot_failures_total",
      "Snapshots that failed.",
      counts.snapshotFailures,
    ),
    counter("swarmd_raft_pauses_total", "Times that this process stood still.", counts.pauses),
  ];
}
