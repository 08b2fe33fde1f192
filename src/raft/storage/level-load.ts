import type { Entry, HardState, SnapshotMeta } from "../core/types.ts";
import { BlockLog } from "./block-log.ts";
import {
  AFTER_ENTRIES_KEY,
  entryKey,
  IDENTITY_KEY,
  indexOfKey,
  SNAPSHOT_KEY,
  TAIL_KEY,
  VERSION_KEY,
} from "./level-keys.ts";
import { damaged, type StorageIdentity } from "./raft-storage.ts";
import { decodeBlock, decodeMeta } from "./record.ts";
import type { Sealer } from "./sealer.ts";

export type LogOperation =
  | { readonly type: "put"; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: Uint8Array };

/** The part of LevelDB that the log uses; classic-level has it. */
export interface LogDb {
  open(): Promise<void>;
  close(): Promise<void>;
  get(key: Uint8Array): Promise<Uint8Array | undefined>;
  /** All or nothing; durable when it resolves. */
  batch(operations: LogOperation[], options: { sync: true }): Promise<void>;
  /** Not synced. */
  clear(range: { gte: Uint8Array; lt: Uint8Array }): Promise<void>;
  keys(options: { limit: number }): { all(): Promise<Uint8Array[]> };
  /** In order of the keys. */
  iterator(range: { gte: Uint8Array; lt: Uint8Array }): LogIterator;
}

export interface LogIterator {
  /** At most `count` rows; none at the end. */
  nextv(count: number): Promise<[Uint8Array, Uint8Array][]>;
  close(): Promise<void>;
}

/**
 * Format of the database; a newer one is refused. Version 1 had a record for each entry: such a log
 * is read, and is of version 2 from its first write on.
 */
export const STORAGE_VERSION = 2;
const FIRST_VERSION = 1;
const READ_BLOCKS = 64;

/** Written with every batch, so that what the log must end with is known. */
export interface TailRecord {
  /** Number of this batch, from 1. */
  readonly sequence: number;
  readonly hardState: HardState;
  readonly lastIndex: number;
  /** Chain value of the record that ends with `lastIndex`. */
  readonly chain: number;
}

export interface SnapshotRecord {
  readonly meta: SnapshotMeta;
  /**
   * Where the log begins: the block with the entry after the snapshot, which may begin with earlier
   * ones. Absent in version 1: just after the snapshot.
   */
  readonly from?: number;
  /** Chain value that this block chains to. */
  readonly chain: number;
}

export interface LoadedLog {
  readonly identity: StorageIdentity;
  readonly tail: TailRecord;
  readonly snapshot: SnapshotRecord | null;
  readonly entries: readonly Entry[];
  readonly blocks: BlockLog;
  /** Of the format; lower than STORAGE_VERSION when the next write is to raise it. */
  readonly version: number;
}

async function readMeta<T>(db: LogDb, key: Uint8Array, where: string): Promise<T | null> {
  const bytes = await db.get(key);
  return bytes === undefined ? null : decodeMeta<T>(bytes, where);
}

async function requireMeta<T>(db: LogDb, key: Uint8Array, where: string): Promise<T> {
  const value = await readMeta<T>(db, key, where);
  if (value === null) throw damaged(where, "it is missing");
  return value;
}

/** Null for a database without any key. */
export async function loadLog(db: LogDb, sealer: Sealer): Promise<LoadedLog | null> {
  const version = await readMeta<number>(db, VERSION_KEY, "storage version");
  if (version === null) {
    const keys = await db.keys({ limit: 1 }).all();
    if (keys.length === 0) return null;
    throw damaged("storage version", "it is missing");
  }
  if (!(version >= FIRST_VERSION && version <= STORAGE_VERSION)) {
    const why = `it is ${version}, this swarmd reads up to ${STORAGE_VERSION}`;
    throw damaged("storage version", why);
  }
  const identity = await requireMeta<StorageIdentity>(db, IDENTITY_KEY, "identity");
  const tail = await requireMeta<TailRecord>(db, TAIL_KEY, "tail record");
  const snapshot = await readMeta<SnapshotRecord>(db, SNAPSHOT_KEY, "snapshot record");
  const blocks = new BlockLog();
  const after = snapshot?.meta.index ?? 0;
  blocks.reset((snapshot?.from ?? after + 1) - 1, snapshot?.chain ?? 0);
  const all = await loadEntries(db, sealer, blocks);
  checkStart(snapshot, all, blocks);
  const entries = all.filter(entry => entry.index > after);
  checkTail(tail, snapshot, entries, blocks);
  return { identity, tail, snapshot, entries, blocks, version };
}

async function loadEntries(db: LogDb, sealer: Sealer, blocks: BlockLog): Promise<Entry[]> {
  const entries: Entry[] = [];
  const range = { gte: entryKey(blocks.lastIndex + 1), lt: AFTER_ENTRIES_KEY };
  const iterator = db.iterator(range);
  try {
    for (;;) {
      const rows = await iterator.nextv(READ_BLOCKS);
      if (rows.length === 0) return entries;
      for (const [key, value] of rows)
        loadBlock(indexOfKey(key), value, { sealer, blocks, entries });
    }
  } finally {
    await iterator.close();
  }
}

function loadBlock(
  first: number,
  value: Uint8Array,
  into: { readonly sealer: Sealer; readonly blocks: BlockLog; readonly entries: Entry[] },
): void {
  const { sealer, blocks, entries } = into;
  if (first !== blocks.lastIndex + 1) {
    throw damaged(`entry ${blocks.lastIndex + 1}`, `it is missing before entry ${first}`);
  }
  const block = decodeBlock(value, first, sealer);
  if (block.previousChain !== blocks.lastChain) {
    throw damaged(`entry ${first}`, "it does not follow from the entry before it");
  }
  for (const entry of block.entries) {
    const term = entries.at(-1)?.term ?? 0;
    if (entry.term < term) throw damaged(`entry ${entry.index}`, "its term goes back");
    entries.push(entry);
  }
  blocks.append({ first, last: first + block.entries.length - 1, chain: block.chain });
}

/** The log reaches the snapshot and agrees with it. */
function checkStart(
  snapshot: SnapshotRecord | null,
  entries: readonly Entry[],
  blocks: BlockLog,
): void {
  if (snapshot === null) return;
  const { index, term } = snapshot.meta;
  if (blocks.lastIndex < index) {
    throw damaged(`entry ${index}`, `the log ends with entry ${blocks.lastIndex} before it`);
  }
  const last = entries.findLast(entry => entry.index <= index);
  const next = entries.find(entry => entry.index > index);
  if ((last !== undefined && last.term !== term) || (next !== undefined && next.term < term)) {
    throw damaged(`entry ${index}`, "its term is not that of the snapshot that ends with it");
  }
}

function checkTail(
  tail: TailRecord,
  snapshot: SnapshotRecord | null,
  entries: readonly Entry[],
  blocks: BlockLog,
): void {
  if (tail.lastIndex !== blocks.lastIndex || tail.chain !== blocks.lastChain) {
    throw damaged(
      `entry ${tail.lastIndex}`,
      `the log must end there but ends with entry ${blocks.lastIndex}`,
    );
  }
  const { hardState } = tail;
  if (hardState.commit > tail.lastIndex) {
    throw damaged("hard state", `commit ${hardState.commit} is beyond entry ${tail.lastIndex}`);
  }
  const lastTerm = entries.at(-1)?.term ?? snapshot?.meta.term ?? 0;
  if (hardState.term < lastTerm) {
    throw damaged("hard state", `term ${hardState.term} is below the last entry's ${lastTerm}`);
  }
}
