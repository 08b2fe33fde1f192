/**
 * The vocabulary of the Raft core, after the Raft paper and etcd/raft. Everything is plain data;
 * indexes and terms are integers below 2^53; ids are non-zero integers, 0 means "none".
 */
export type RaftId = number;
export const NO_ID: RaftId = 0;

export type EntryKind = "normal" | "conf-change";

export interface Entry {
  readonly index: number;
  readonly term: number;
  readonly kind: EntryKind;
  /** Opaque to the core; empty for a leader's no-op. */
  readonly data: Uint8Array;
}

/** What must be on disk before anything that depends on it is sent (Raft paper, Figure 2). */
export interface HardState {
  readonly term: number;
  readonly vote: RaftId;
  readonly commit: number;
}

/** Membership, as stored with a snapshot (joint consensus: Raft dissertation 4.3). */
export interface ConfState {
  readonly voters: readonly RaftId[];
  readonly learners: readonly RaftId[];
  readonly votersOutgoing: readonly RaftId[];
  readonly learnersNext: readonly RaftId[];
  readonly autoLeave: boolean;
}

export const EMPTY_CONF_STATE: ConfState = {
  voters: [],
  learners: [],
  votersOutgoing: [],
  learnersNext: [],
  autoLeave: false,
};

export type ConfChangeOp = "add-voter" | "add-learner" | "remove" | "update";

export interface ConfChangeSingle {
  readonly op: ConfChangeOp;
  readonly id: RaftId;
}

/** A membership change. `changes` empty means: leave the joint configuration. */
export interface ConfChange {
  readonly transition: "auto" | "joint-implicit" | "joint-explicit";
  readonly changes: readonly ConfChangeSingle[];
  /** Opaque to the core: the driver keeps the new member's node id and address here. */
  readonly context: Uint8Array;
}

/** A snapshot by what it covers; the bytes are a file the storage layer owns. */
export interface SnapshotMeta {
  readonly index: number;
  readonly term: number;
  readonly conf: ConfState;
}

export const MESSAGE_KINDS = [
  "hup",
  "beat",
  "prop",
  "app",
  "app-resp",
  "vote",
  "vote-resp",
  "pre-vote",
  "pre-vote-resp",
  "snap",
  "heartbeat",
  "heartbeat-resp",
  "read-index",
  "read-index-resp",
  "transfer-leader",
  "timeout-now",
  "forget-leader",
  "unreachable",
  "snap-status",
  "check-quorum",
] as const;

export type MessageKind = (typeof MESSAGE_KINDS)[number];

/** One message shape for all kinds, as etcd/raft's; fields a kind does not use are 0, false, []. */
export interface Message {
  readonly kind: MessageKind;
  readonly from: RaftId;
  readonly to: RaftId;
  readonly term: number;
  /** app: term of the entry before `entries`; vote: term of the candidate's last entry; app-resp: hint. */
  readonly logTerm: number;
  /**
   * app: index of the entry before `entries`; vote: candidate's last index; app-resp: matched or
   * rejected index; read-index-resp: the read index; transfer-leader: id of the new leader.
   */
  readonly index: number;
  readonly entries: readonly Entry[];
  readonly commit: number;
  readonly reject: boolean;
  readonly rejectHint: number;
  /** snap only. */
  readonly snapshot: SnapshotMeta | null;
  /**
   * read-index, read-index-resp: the request's context; vote: "transfer" when forced by a
   * transfer; heartbeat, heartbeat-resp: which reads it confirms.
   */
  readonly context: string;
}

export type RaftRole = "follower" | "pre-candidate" | "candidate" | "leader";

export interface SoftState {
  readonly leaderId: RaftId;
  readonly role: RaftRole;
}

/** A read index that a quorum has confirmed: once applied >= index, the read is linearizable. */
export interface ReadState {
  readonly index: number;
  readonly context: string;
}

/**
 * Everything the core wants done, in an order that the types carry. The driver, in turn:
 * 1. sends `sendNow` (safe before the disk);
 * 2. makes `snapshot`, then `hardState` and `entries` durable, in one atomic write and fsync;
 * 3. sends `sendAfterPersist` (votes and acknowledgements: they promise what 2 has written);
 * 4. applies `committed` in order, then answers `readStates` whose index is applied;
 * 5. calls `advance(ready)` after 2, and `applied(index)` after 4.
 * A new Ready may be taken after `advance`.
 */
export interface Ready {
  readonly softState: SoftState | null;
  readonly hardState: HardState | null;
  readonly entries: readonly Entry[];
  readonly snapshot: SnapshotMeta | null;
  readonly sendNow: readonly Message[];
  readonly sendAfterPersist: readonly Message[];
  readonly committed: readonly Entry[];
  readonly readStates: readonly ReadState[];
}

/** `index` is that of the first entry proposed; the others follow it without a gap. */
export type ProposeResult =
  | { readonly ok: true; readonly index: number; readonly term: number }
  | {
      readonly ok: false;
      readonly reason:
        | "not-leader"
        | "transferring"
        | "too-much-uncommitted"
        | "too-large"
        | "removed"
        | "conf-change-pending"
        /** It cannot be applied to the present membership (no voter would be left, not joint, ...). */
        | "conf-change-invalid";
    };

export interface ProgressStatus {
  readonly id: RaftId;
  readonly match: number;
  readonly next: number;
  readonly state: "probe" | "replicate" | "snapshot";
  readonly learner: boolean;
  readonly recentlyActive: boolean;
  /** No more entries are sent until the peer answers. */
  readonly paused: boolean;
  /** App messages sent and not acknowledged. */
  readonly inflightMessages: number;
  readonly inflightFull: boolean;
  /** Index of the snapshot under way to the peer; 0 when none. */
  readonly pendingSnapshot: number;
}

export interface RaftStatus {
  readonly id: RaftId;
  readonly term: number;
  readonly vote: RaftId;
  readonly commit: number;
  readonly applied: number;
  readonly lastIndex: number;
  readonly role: RaftRole;
  readonly leaderId: RaftId;
  readonly transferTarget: RaftId;
  readonly conf: ConfState;
  /** On the leader only. */
  readonly progress: readonly ProgressStatus[];
}

/** What the core starts from, read from storage by the driver. */
export interface RaftInitialState {
  readonly hardState: HardState;
  /** Membership as of `applied`: the snapshot's, or later if the driver stored it. */
  readonly conf: ConfState;
  /** Snapshot that precedes the log; null when the log starts at index 1. */
  readonly snapshot: SnapshotMeta | null;
  /** The durable log after the snapshot, contiguous. */
  readonly entries: readonly Entry[];
  /** Highest index already applied to the state machine (>= snapshot index). */
  readonly applied: number;
}

export type TransitionEvent =
  | "follower"
  | "pre-candidate"
  | "candidate"
  | "leader"
  | "vote granted"
  | "no quorum heard"
  | "transfer begun"
  | "membership applied"
  | "snapshot taken over";

/** One transition of a node, for its trace; the state is as of just after it. */
export interface Transition {
  readonly event: TransitionEvent;
  readonly role: RaftRole;
  readonly term: number;
  readonly vote: RaftId;
  readonly leaderId: RaftId;
  readonly lastIndex: number;
  readonly commit: number;
  /** Whom it concerns: the candidate voted for, the transfer's target; else 0. */
  readonly peer: RaftId;
}

export interface RaftConfig {
  readonly id: RaftId;
  /** Ticks without a leader's message before an election; drawn from [n, 2n) each time. */
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  /** Bytes of entries in one app message. */
  readonly maxMessageBytes: number;
  /** Unacknowledged app messages to one follower. */
  readonly maxInflightMessages: number;
  readonly maxInflightBytes: number;
  /** Proposals are refused while more than this is uncommitted. */
  readonly maxUncommittedBytes: number;
  /** Bytes of committed entries handed out in one Ready. */
  readonly maxCommittedBytes: number;
  /** A single proposal above this is refused. */
  readonly maxEntryBytes: number;
  /** Whether a leader that applies its own removal or demotion steps down. Default true. */
  readonly stepDownOnRemoval?: boolean;
  /**
   * Whether a conf change is checked against the present membership before it enters the log.
   * Default true; false only for a caller that does this check itself (etcd/raft's
   * DisableConfChangeValidation).
   */
  readonly validateConfChanges?: boolean;
}

/** The surface of the core (`raft-core.ts`); synchronous, no I/O, no clock. */
export interface RaftCoreApi {
  readonly id: RaftId;
  /** One tick of logical time. */
  tick(): void;
  /** A message from a peer, or a local report. Stale and foreign ones are ignored. */
  step(message: Message): void;
  propose(data: readonly Uint8Array[]): ProposeResult;
  proposeConfChange(change: ConfChange): ProposeResult;
  /** Decodes and applies a committed conf-change entry; the driver calls it while applying. */
  applyConfChange(change: ConfChange): ConfState;
  /** Starts a linearizable read; the answer comes in `readStates` or never (leader lost). */
  readIndex(context: string): void;
  transferLeadership(to: RaftId): void;
  /** Starts a (pre-)election now, e.g. because the leader's stream closed. */
  campaign(): void;
  /** The peer's connection broke: go back to probing. */
  reportUnreachable(id: RaftId): void;
  /** Owed for every `snap` message: until then, or its app-resp, the peer is sent nothing. */
  reportSnapshot(id: RaftId, ok: boolean): void;
  /** Null when there is nothing to do. */
  ready(): Ready | null;
  /**
   * What `ready` asked to persist is durable. A snapshot in it counts as applied: the state
   * machine must be restored from it before later entries are applied.
   */
  advance(ready: Ready): void;
  /** The state machine has applied up to `index`. */
  applied(index: number): void;
  /** A snapshot up to `meta.index` is durable and the log before `keepFrom` may be dropped from memory. */
  compact(meta: SnapshotMeta, keepFrom: number): void;
  status(): RaftStatus;
}
