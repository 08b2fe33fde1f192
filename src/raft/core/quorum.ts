import type { RaftId } from "./types.ts";

export type VoteResult = "won" | "lost" | "pending";

/** What a voter has acknowledged; undefined when it has not answered. */
export type AckedIndex = (id: RaftId) => number | undefined;
/** A voter's vote; undefined when it has not answered. */
export type VoteOf = (id: RaftId) => boolean | undefined;

/** The smallest number of members that is more than half of `size`. */
export function majoritySize(size: number): number {
  return Math.floor(size / 2) + 1;
}

/**
 * The highest index that a majority has acknowledged. Infinity without voters, so that an empty
 * half of a joint quorum decides nothing.
 */
export function majorityCommitted(voters: ReadonlySet<RaftId>, acked: AckedIndex): number {
  if (voters.size === 0) return Number.POSITIVE_INFINITY;
  const indexes: number[] = [];
  for (const id of voters) indexes.push(acked(id) ?? 0);
  indexes.sort((a, b) => b - a);
  return indexes[majoritySize(voters.size) - 1] ?? 0;
}

/** Won without voters, for the same reason. */
export function majorityVote(voters: ReadonlySet<RaftId>, voteOf: VoteOf): VoteResult {
  if (voters.size === 0) return "won";
  let granted = 0;
  let missing = 0;
  for (const id of voters) {
    const vote = voteOf(id);
    if (vote === undefined) missing += 1;
    else if (vote) granted += 1;
  }
  const needed = majoritySize(voters.size);
  if (granted >= needed) return "won";
  return granted + missing >= needed ? "pending" : "lost";
}

/** Joint consensus: both majorities must agree (Raft dissertation 4.3). */
export interface JointVoters {
  readonly incoming: ReadonlySet<RaftId>;
  /** Empty unless the configuration is joint. */
  readonly outgoing: ReadonlySet<RaftId>;
}

export function jointCommitted(voters: JointVoters, acked: AckedIndex): number {
  return Math.min(
    majorityCommitted(voters.incoming, acked),
    majorityCommitted(voters.outgoing, acked),
  );
}

export function jointVote(voters: JointVoters, voteOf: VoteOf): VoteResult {
  const incoming = majorityVote(voters.incoming, voteOf);
  const outgoing = majorityVote(voters.outgoing, voteOf);
  if (incoming === outgoing) return incoming;
  return incoming === "lost" || outgoing === "lost" ? "lost" : "pending";
}

/** The voters of both halves, in ascending order. */
export function jointIds(voters: JointVoters): readonly RaftId[] {
  return [...new Set([...voters.incoming, ...voters.outgoing])].sort((a, b) => a - b);
}
