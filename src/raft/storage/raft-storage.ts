import { SwarmError } from "../../base/errors.ts";
import type { Entry, HardState, RaftId, SnapshotMeta } from "../core/types.ts";

/** Whose log this is. A directory never changes hands. */
export interface StorageIdentity {
  readonly raftId: RaftId;
  readonly clusterId: string;
}

/** What was durable when the storage was opened. */
export interface StoredState {
  readonly identity: StorageIdentity;
  readonly hardState: HardState;
  readonly snapshot: SnapshotMeta | null;
  /** After the snapshot, contiguous. */
  readonly entries: readonly Entry[];
}

/** One atomic write. `snapshot` replaces the whole log before it; its file is committed already. */
export interface AppendBatch {
  readonly snapshot: SnapshotMeta | null;
  readonly hardState: HardState | null;
  /** Contiguous; the first may overwrite a conflicting tail, which is dropped. */
  readonly entries: readonly Entry[];
}

/** A snapshot being written; invisible until `commit` has resolved. */
export interface SnapshotWriter {
  write(chunk: Uint8Array): Promise<void>;
  /** Durable under its name. */
  commit(): Promise<void>;
  /** Removes what was written. Idempotent; no effect after commit. */
  abort(): Promise<void>;
}

export interface StorageStats {
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly appends: number;
  readonly appendedEntries: number;
  readonly appendedBytes: number;
  readonly lastAppendMs: number;
  readonly maxAppendMs: number;
}

/**
 * The durable part of a Raft member. Every promise that resolves means: on disk, synced. Writes are
 * applied in the order of the calls. After a failed write every later one fails with the same
 * error: the state on disk is unknown and the process must end and read it again.
 */
export interface RaftStorage {
  /**
   * Null when nothing was ever stored. Throws SwarmError: data_loss (damage, naming file or
   * index), failed_precondition (in use by another process, or the directory of another member).
   */
  open(expected: StorageIdentity): Promise<StoredState | null>;
  /** Claims an empty storage, with its first entries when the member starts a cluster. */
  create(identity: StorageIdentity, first: AppendBatch): Promise<void>;
  append(batch: AppendBatch): Promise<void>;
  /** Makes a committed snapshot the current one and drops entries before `keepFrom`. */
  compact(meta: SnapshotMeta, keepFrom: number): Promise<void>;
  newSnapshot(meta: SnapshotMeta): Promise<SnapshotWriter>;
  /** Verified while it is read: throws data_loss at the first damaged chunk. */
  readSnapshot(meta: SnapshotMeta): AsyncIterable<Uint8Array>;
  stats(): StorageStats;
  close(): Promise<void>;
}

export const EMPTY_BATCH: AppendBatch = { snapshot: null, hardState: null, entries: [] };

const WAY_OUT =
  "The other managers still have the data: remove this node from the cluster and join it again " +
  "with an empty data directory (it gets a new id), or restore a backup.";

/** Damage of stored data, with what the operator can do. */
export function damaged(where: string, why: string, cause?: unknown): SwarmError {
  return new SwarmError(
    "data_loss",
    `the Raft log is damaged: ${where}: ${why}. ${WAY_OUT}`,
    { where, why },
    cause,
  );
}

/** Refuses the directory of another member or cluster. */
export function checkIdentity(stored: StorageIdentity, expected: StorageIdentity): void {
  if (stored.clusterId === expected.clusterId && stored.raftId === expected.raftId) return;
  throw new SwarmError(
    "failed_precondition",
    `the data directory belongs to member ${stored.raftId} of cluster ${stored.clusterId}, ` +
      `not to member ${expected.raftId} of cluster ${expected.clusterId}: use another data directory`,
    { storedClusterId: stored.clusterId, storedRaftId: stored.raftId },
  );
}
