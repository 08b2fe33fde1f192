import type { ConfState, RaftId, RaftRole, RaftStatus } from "./core/types.ts";

/** A member as the transport must know it. */
export interface PeerInfo {
  readonly raftId: RaftId;
  readonly nodeId: string;
  /** host:port of its cluster port. */
  readonly addr: string;
}

/** What the log replicates into. Every method is deterministic; `apply` is total. */
export interface StateMachine {
  /** One committed entry. What it returns resolves the proposer's promise on the proposing node. */
  apply(entry: { readonly index: number; readonly data: Uint8Array }): unknown;
  /** A committed membership change: keeps the member's node id and address, or drops the member. */
  applyMember(
    index: number,
    change: { readonly op: "put" | "remove"; readonly peer: PeerInfo },
  ): void;
  /** The members the state knows, for the transport. */
  members(): readonly PeerInfo[];
  /**
   * A consistent image of the state as of this call, as chunks of at most 256 KiB. Taking it must
   * not hold the event loop; applying may go on while it is read.
   */
  snapshot(): AsyncIterable<Uint8Array>;
  /** Replaces the whole state. */
  restore(chunks: AsyncIterable<Uint8Array>, index: number): Promise<void>;
}

export interface LeadershipEvent {
  readonly role: RaftRole;
  readonly term: number;
  readonly leaderId: RaftId;
}

/** The replicated log as the rest of the daemon sees it (implemented by `driver.ts`). */
export interface RaftNode {
  readonly raftId: RaftId;
  /**
   * Replicates `data`; resolves with what `StateMachine.apply` returned once it is committed and
   * applied here. Rejects with SwarmError: not_leader (nothing was written), resource_exhausted
   * (nothing was written), unknown_outcome (leadership lost or shutdown in flight).
   */
  propose(data: Uint8Array, signal: AbortSignal): Promise<unknown>;
  /** Resolves when a read of the local state is linearizable. Rejects with unavailable. */
  readBarrier(signal: AbortSignal): Promise<void>;
  /** Adds a learner that is promoted to voter by the leader when it has caught up. */
  addMember(peer: PeerInfo, signal: AbortSignal): Promise<void>;
  /** Refused (failed_precondition) when the healthy rest would have no quorum. */
  removeMember(raftId: RaftId, signal: AbortSignal): Promise<void>;
  /** Hands leadership to the most up-to-date voter, or to `to`. */
  transferLeadership(signal: AbortSignal, to?: RaftId): Promise<void>;
  status(): RaftStatus & { readonly conf: ConfState };
  /** Peers that answered lately, by raft id; includes itself. */
  reachable(raftId: RaftId): boolean;
  /** Called at once with the present state, then at each change. Returns an unsubscribe. */
  onLeadership(listener: (event: LeadershipEvent) => void): () => void;
  /** Runs until the signal aborts; rejects when storage fails (the process must end). */
  run(signal: AbortSignal): Promise<void>;
}
