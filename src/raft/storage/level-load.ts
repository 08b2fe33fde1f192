import type { Entry, HardState, SnapshotMeta } from "../core/types.ts";
import { ChainLog } from "./chain-log.ts";
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
import { decodeEntry, decodeMeta } from "./record.ts";
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

/** Format of the database; a newer one is refused. */
export const STORAGE_VERSION = 1;
const READ_ENTRIES = 512;

/** Written with every batch, so that what the log must end with is known. */
export interface TailRecord {
  /** Number of this batch, from 1. */
  readonly sequence: number;
  readonly hardState: HardState;
  readonly lastIndex: number;
  /** Chain value of the entry at `lastIndex`. */
  readonly chain: number;
}

export interface SnapshotRecord {
  readonly meta: SnapshotMeta;
  /** Chain value of the entry the snapshot ends with. */
  readonly chain: number;
}

export interface LoadedLog {
  readonly identity: StorageIdentity;
  readonly tail: TailRecord;
  readonly snapshot: SnapshotRecord | null;
  readonly entries: readonly Entry[];
  readonly chains: ChainLog;
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
  if (version !== STORAGE_VERSION) {
    throw damaged("storage version", `it is ${version}, this swarmd reads ${STORAGE_VERSION}`);
  }
  const identity = await requireMeta<StorageIdentity>(db, IDENTITY_KEY, "identity");
  const tail = await requireMeta<TailRecord>(db, TAIL_KEY, "tail record");
  const snapshot = await readMeta<SnapshotRecord>(db, SNAPSHOT_KEY, "snapshot record");
  const chains = new ChainLog();
  chains.reset(snapshot?.meta.index ?? 0, snapshot?.chain ?? 0);
  const entries = await loadEntries(db, sealer, chains, snapshot?.meta.term ?? 0);
  checkTail(tail, snapshot, entries, chains);
  return { identity, tail, snapshot, entries, chains };
}

async function loadEntries(
  db: LogDb,
  sealer: Sealer,
  chains: ChainLog,
  snapshotTerm: number,
): Promise<Entry[]> {
  const entries: Entry[] = [];
  let term = snapshotTerm;
  const range = { gte: entryKey(chains.lastIndex + 1), lt: AFTER_ENTRIES_KEY };
  const iterator = db.iterator(range);
  try {
    for (;;) {
      const rows = await iterator.nextv(READ_ENTRIES);
      if (rows.length === 0) return entries;
      for (const [key, value] of rows) {
        const index = indexOfKey(key);
        if (index !== chains.lastIndex + 1) {
          throw damaged(`entry ${chains.lastIndex + 1}`, `it is missing before entry ${index}`);
        }
        const decoded = decodeEntry(value, index, sealer);
        if (decoded.previousChain !== chains.lastChain) {
          throw damaged(`entry ${index}`, "it does not follow from the entry before it");
        }
        if (decoded.entry.term < term) throw damaged(`entry ${index}`, "its term goes back");
        term = decoded.entry.term;
        chains.set(index, decoded.chain);
        entries.push(decoded.entry);
      }
    }
  } finally {
    await iterator.close();
  }
}

function checkTail(
  tail: TailRecord,
  snapshot: SnapshotRecord | null,
  entries: readonly Entry[],
  chains: ChainLog,
): void {
  if (tail.lastIndex !== chains.lastIndex || tail.chain !== chains.lastChain) {
    throw damaged(
      `entry ${tail.lastIndex}`,
      `the log must end there but ends with entry ${chains.lastIndex}`,
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
