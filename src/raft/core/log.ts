import { assert, SwarmError } from "../../base/errors.ts";
import type { Entry, SnapshotMeta } from "./types.ts";

/** Bytes an entry takes in a message besides its data: index, term, kind, framing. */
export const ENTRY_OVERHEAD_BYTES = 16;

export function entryBytes(entry: Entry): number {
  return ENTRY_OVERHEAD_BYTES + entry.data.length;
}

/** Bytes of proposals only: a no-op counts nothing. */
export function payloadBytes(entries: readonly Entry[]): number {
  return entries.reduce((sum, entry) => sum + entry.data.length, 0);
}

export interface LogPosition {
  readonly term: number;
  readonly index: number;
}

export interface RaftLogOptions {
  /** Precedes the first entry; null for a log that starts at index 1. */
  readonly snapshot: SnapshotMeta | null;
  readonly entries: readonly Entry[];
  /** As stored; what is applied was committed, so it may lag behind `applied`. */
  readonly committed: number;
  readonly applied: number;
  readonly maxCommittedBytes: number;
}

/**
 * The log since the last compaction, all in memory, and how far it is handed out for writing,
 * committed, handed out for applying and applied:
 *
 *   anchor < applied <= applying <= committed <= lastIndex
 */
export class RaftLog {
  readonly #maxCommittedBytes: number;
  /** Position just before the first entry in memory. */
  #anchor: LogPosition;
  #entries: Entry[];
  #committed: number;
  #applying: number;
  #applied: number;
  #applyingBytes = 0;
  /** The first index that no Ready has handed out for writing. */
  #persistFrom: number;
  /** Latest durable snapshot, the one a follower that needs one is sent. */
  #snapshot: SnapshotMeta | null;
  /** Received and not yet durable. */
  #pendingSnapshot: SnapshotMeta | null = null;
  #pendingHandedOut = false;

  constructor(options: RaftLogOptions) {
    checkContinuity(options);
    const { snapshot } = options;
    this.#maxCommittedBytes = options.maxCommittedBytes;
    this.#anchor = { term: snapshot?.term ?? 0, index: snapshot?.index ?? 0 };
    this.#entries = [...options.entries];
    this.#committed = Math.max(options.committed, options.applied);
    this.#applying = options.applied;
    this.#applied = options.applied;
    this.#snapshot = snapshot;
    this.#persistFrom = this.lastIndex + 1;
  }

  get committed(): number {
    return this.#committed;
  }

  get applied(): number {
    return this.#applied;
  }

  get firstIndex(): number {
    return this.#anchor.index + 1;
  }

  get lastIndex(): number {
    return this.#anchor.index + this.#entries.length;
  }

  get last(): LogPosition {
    const entry = this.#entries.at(-1);
    return entry === undefined ? this.#anchor : { term: entry.term, index: entry.index };
  }

  get snapshot(): SnapshotMeta | null {
    return this.#snapshot;
  }

  /** A received snapshot is not yet durable: nothing may be applied, nobody may campaign. */
  get restoring(): boolean {
    return this.#pendingSnapshot !== null;
  }

  /** Undefined when `index` is compacted away or beyond the end. */
  term(index: number): number | undefined {
    if (index === this.#anchor.index) return this.#anchor.term;
    return this.#entries[index - this.firstIndex]?.term;
  }

  matches(position: LogPosition): boolean {
    return this.term(position.index) === position.term;
  }

  /** Whether a candidate whose log ends at `theirs` may have our vote (Raft paper 5.4.1). */
  isUpToDate(theirs: LogPosition): boolean {
    const ours = this.last;
    return theirs.term > ours.term || (theirs.term === ours.term && theirs.index >= ours.index);
  }

  /** Entries from `from` through `to`, as many as fit `maxBytes` and at least one. */
  slice(from: number, to: number, maxBytes: number): readonly Entry[] {
    assert(
      from >= this.firstIndex && to <= this.lastIndex,
      `log slice ${from}..${to} out of range`,
    );
    const start = from - this.firstIndex;
    const stop = to - this.firstIndex + 1;
    let bytes = 0;
    let end = start;
    for (; end < stop; end += 1) {
      const entry = this.#entries[end];
      assert(entry !== undefined, "the log is contiguous");
      bytes += entryBytes(entry);
      if (bytes > maxBytes && end > start) break;
    }
    return this.#entries.slice(start, end);
  }

  /** Appends a leader's own entries. */
  append(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    assert(first.index > this.#committed, `entry ${first.index} would replace a committed one`);
    assert(first.index <= this.lastIndex + 1, `entry ${first.index} leaves a gap`);
    this.#entries.length = first.index - this.firstIndex;
    for (const entry of entries) this.#entries.push(entry);
    this.#persistFrom = Math.min(this.#persistFrom, first.index);
  }

  /**
   * A follower's append (Raft paper 5.3): false when the log has no entry like `previous`.
   * Entries that are there already are kept; from the first that conflicts, the rest is replaced.
   */
  maybeAppend(previous: LogPosition, entries: readonly Entry[], commit: number): boolean {
    if (!this.matches(previous)) return false;
    const fresh = entries.findIndex(entry => !this.matches(entry));
    if (fresh >= 0) this.append(entries.slice(fresh));
    this.commitTo(Math.min(commit, previous.index + entries.length));
    return true;
  }

  /**
   * The highest position at or below `index` whose term is at most `term`, for skipping a whole
   * conflicting term at a time. Term 0 when it is compacted away.
   */
  findConflictByTerm(index: number, term: number): LogPosition {
    for (let at = index; at > 0; at -= 1) {
      const ours = this.term(at);
      if (ours === undefined) return { index: at, term: 0 };
      if (ours <= term) return { index: at, term: ours };
    }
    return { index: 0, term: 0 };
  }

  /** Throws data_loss when the cluster has committed more than this log has. */
  commitTo(index: number): void {
    if (index <= this.#committed) return;
    if (index > this.lastIndex) {
      throw new SwarmError(
        "data_loss",
        `the cluster has committed entry ${index} but the log here ends at ${this.lastIndex}: ` +
          "acknowledged entries were lost; remove this member and join it again as a new one",
        { commit: index, lastIndex: this.lastIndex },
      );
    }
    this.#committed = index;
  }

  /** Replaces the whole log by a snapshot that a leader sent. */
  restore(snapshot: SnapshotMeta): void {
    this.#anchor = { term: snapshot.term, index: snapshot.index };
    this.#entries = [];
    this.#committed = snapshot.index;
    this.#persistFrom = snapshot.index + 1;
    this.#pendingSnapshot = snapshot;
    this.#pendingHandedOut = false;
  }

  get hasUnpersisted(): boolean {
    return this.#persistFrom <= this.lastIndex;
  }

  /** The entries to write; they are not handed out again. */
  takeUnpersisted(): readonly Entry[] {
    const entries = this.#entries.slice(this.#persistFrom - this.firstIndex);
    this.#persistFrom = this.lastIndex + 1;
    return entries;
  }

  get hasUnpersistedSnapshot(): boolean {
    return this.#pendingSnapshot !== null && !this.#pendingHandedOut;
  }

  takeUnpersistedSnapshot(): SnapshotMeta | null {
    if (!this.hasUnpersistedSnapshot) return null;
    this.#pendingHandedOut = true;
    return this.#pendingSnapshot;
  }

  /** A received snapshot is durable; a newer one may have been received meanwhile. */
  snapshotPersisted(snapshot: SnapshotMeta): void {
    if (this.#pendingSnapshot === snapshot) this.#pendingSnapshot = null;
    if (snapshot.index > (this.#snapshot?.index ?? 0)) this.#snapshot = snapshot;
    this.#applying = Math.max(this.#applying, snapshot.index);
    this.#applied = Math.max(this.#applied, snapshot.index);
    this.#applyingBytes = 0;
  }

  get hasCommitted(): boolean {
    return (
      !this.restoring &&
      this.#applying < this.#committed &&
      this.#applyingBytes < this.#maxCommittedBytes
    );
  }

  /** Committed entries to apply, bounded by the bytes being applied; each is handed out once. */
  takeCommitted(): readonly Entry[] {
    if (!this.hasCommitted) return [];
    const room = this.#maxCommittedBytes - this.#applyingBytes;
    const entries = this.slice(this.#applying + 1, this.#committed, room);
    this.#applying += entries.length;
    this.#applyingBytes += entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
    return entries;
  }

  appliedTo(index: number): void {
    if (index <= this.#applied) return;
    assert(index <= this.#applying, `entry ${index} was applied before it was handed out`);
    for (let at = Math.max(this.#applied + 1, this.firstIndex); at <= index; at += 1) {
      const entry = this.#entries[at - this.firstIndex];
      if (entry !== undefined) this.#applyingBytes -= entryBytes(entry);
    }
    this.#applied = index;
    if (index === this.#applying) this.#applyingBytes = 0;
  }

  hasUnappliedConfChange(): boolean {
    for (let at = Math.max(this.#applied + 1, this.firstIndex); at <= this.#committed; at += 1) {
      if (this.#entries[at - this.firstIndex]?.kind === "conf-change") return true;
    }
    return false;
  }

  /** A snapshot of applied state is durable; entries before `keepFrom` are forgotten. */
  compact(meta: SnapshotMeta, keepFrom: number): void {
    assert(meta.index <= this.#applying, `snapshot ${meta.index} is ahead of what is applied`);
    assert(keepFrom <= meta.index + 1, `entries up to ${keepFrom - 1} are not in the snapshot`);
    if (meta.index >= (this.#snapshot?.index ?? 0)) this.#snapshot = meta;
    const drop = keepFrom - this.firstIndex;
    if (drop <= 0) return;
    const anchorTerm = this.term(keepFrom - 1);
    assert(anchorTerm !== undefined, "the log is contiguous");
    this.#anchor = { term: anchorTerm, index: keepFrom - 1 };
    this.#entries = this.#entries.slice(drop);
    this.#persistFrom = Math.max(this.#persistFrom, keepFrom);
  }
}

function checkContinuity(options: RaftLogOptions): void {
  const { snapshot, entries, committed, applied } = options;
  const start = snapshot?.index ?? 0;
  let previous: LogPosition = { term: snapshot?.term ?? 0, index: start };
  for (const entry of entries) {
    if (entry.index !== previous.index + 1 || entry.term < previous.term) {
      damaged(`entry ${entry.index} (term ${entry.term}) cannot follow ${previous.index}`);
    }
    previous = entry;
  }
  if (committed > previous.index) {
    damaged(`entry ${committed} was committed but the log ends at ${previous.index}`);
  }
  if (applied < start || applied > previous.index) {
    damaged(`entry ${applied} was applied but the log covers ${start}..${previous.index}`);
  }
}

function damaged(what: string): never {
  throw new SwarmError(
    "data_loss",
    `the stored Raft log is damaged: ${what}; remove this member and join it again as a new one`,
  );
}
