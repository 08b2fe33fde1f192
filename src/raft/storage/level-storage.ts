import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import type { Clock } from "../../base/clock.ts";
import { assert, errnoOf, errorMessage, isSwarmError, SwarmError } from "../../base/errors.ts";
import type { Entry, HardState, SnapshotMeta } from "../core/types.ts";
import { BlockLog } from "./block-log.ts";
import { type Files, nodeFiles } from "./files.ts";
import {
  entryKey,
  FIRST_ENTRY_KEY,
  IDENTITY_KEY,
  SNAPSHOT_KEY,
  TAIL_KEY,
  VERSION_KEY,
} from "./level-keys.ts";
import {
  type LogDb,
  type LogOperation,
  loadLog,
  type SnapshotRecord,
  STORAGE_VERSION,
  type TailRecord,
} from "./level-load.ts";
import { findDamagedTable } from "./level-tables.ts";
import {
  type AppendBatch,
  checkIdentity,
  damaged,
  type RaftStorage,
  type SnapshotWriter,
  type StorageIdentity,
  type StorageStats,
  type StoredState,
} from "./raft-storage.ts";
import { decodeBlock, encodeBlocks, encodeMeta } from "./record.ts";
import type { Sealer } from "./sealer.ts";
import { SnapshotFiles } from "./snapshot-files.ts";
import { Watermark } from "./watermark.ts";

/** The log is read once, at the start: a cache would only hold memory. */
const CACHE_BYTES = 1 << 20;
const NO_HARD_STATE: HardState = { term: 0, vote: 0, commit: 0 };

export interface LevelStorageOptions {
  /** Holds `log/`, `snap/` and `watermark`; created when absent. */
  readonly dir: string;
  /** Snapshots kept besides the current one. */
  readonly keepOldSnapshots: number;
}

export interface LevelStorageDeps {
  readonly sealer: Sealer;
  readonly clock: Clock;
  /** Makes the database of a folder; LevelDB unless a simulation brings its own. */
  readonly newDb?: (dir: string) => LogDb;
  /** The file system; the real one unless a simulation brings its own. */
  readonly files?: Files;
}

function newLevelDb(dir: string): LogDb {
  return new ClassicLevel<Uint8Array, Uint8Array>(dir, {
    keyEncoding: "view",
    valueEncoding: "view",
    compression: false,
    cacheSize: CACHE_BYTES,
  });
}

/** `RaftStorage` on LevelDB for the log and plain files for snapshots. */
export class LevelRaftStorage implements RaftStorage {
  readonly #options: LevelStorageOptions;
  readonly #sealer: Sealer;
  readonly #clock: Clock;
  readonly #newDb: () => LogDb;
  #opened: LogDb | null = null;
  readonly #fs: Files;
  readonly #files: SnapshotFiles;
  #watermark: Watermark | null = null;
  #blocks = new BlockLog();
  /** Of what is on disk; the first write raises it. */
  #version = STORAGE_VERSION;
  #snapshot: SnapshotRecord | null = null;
  #hardState: HardState = NO_HARD_STATE;
  #sequence = 0;
  #failure: SwarmError | null = null;
  /** The last write: each waits for the one before. */
  #last: Promise<void> = Promise.resolve();
  #appends = 0;
  #appendedEntries = 0;
  #appendedBytes = 0;
  #lastAppendMs = 0;
  #maxAppendMs = 0;

  constructor(options: LevelStorageOptions, deps: LevelStorageDeps) {
    this.#options = options;
    const { sealer, clock, newDb = newLevelDb, files = nodeFiles } = deps;
    this.#sealer = sealer;
    this.#clock = clock;
    this.#newDb = () => newDb(this.#logDir);
    this.#fs = files;
    this.#files = new SnapshotFiles({ dir: join(options.dir, "snap") }, { sealer, files });
  }

  get #db(): LogDb {
    assert(this.#opened !== null, "the storage is open");
    return this.#opened;
  }

  get #logDir(): string {
    return join(this.#options.dir, "log");
  }

  async open(expected: StorageIdentity): Promise<StoredState | null> {
    await this.#openDatabase();
    try {
      return await this.#load(expected);
    } catch (error) {
      await this.close();
      throw isSwarmError(error) ? error : openError(this.#logDir, error);
    }
  }

  async #openDatabase(): Promise<void> {
    try {
      await this.#fs.ensureDir(this.#logDir);
      const damage = await findDamagedTable(this.#logDir, this.#fs);
      if (damage !== null) throw damaged(damage.path, damage.why);
      // Not before: LevelDB begins to open a database when the object is made.
      this.#opened = this.#newDb();
      await this.#opened.open();
      await this.#fs.syncDir(this.#options.dir);
    } catch (error) {
      throw isSwarmError(error) ? error : openError(this.#logDir, error);
    }
  }

  async #load(expected: StorageIdentity): Promise<StoredState | null> {
    await this.#files.prepare();
    const path = join(this.#options.dir, "watermark");
    const { watermark, sequence } = await Watermark.open(path, this.#fs);
    this.#watermark = watermark;
    const log = await loadLog(this.#db, this.#sealer);
    const found = log?.tail.sequence ?? 0;
    if (found < sequence) {
      throw damaged(this.#logDir, `it ends with write ${found}, write ${sequence} was durable`);
    }
    if (log === null) return null;
    checkIdentity(log.identity, expected);
    this.#blocks = log.blocks;
    this.#version = log.version;
    this.#snapshot = log.snapshot;
    this.#hardState = withCommitOf(log.snapshot?.meta ?? null, log.tail.hardState);
    this.#sequence = log.tail.sequence;
    const meta = log.snapshot?.meta ?? null;
    await this.#files.removeUnreferenced(meta);
    const { identity, entries } = log;
    return { identity, hardState: this.#hardState, snapshot: meta, entries };
  }

  async create(identity: StorageIdentity, first: AppendBatch): Promise<void> {
    assert(this.#sequence === 0, "only an empty storage is claimed");
    this.#blocks.reset(0, 0);
    await this.#serially(() =>
      this.#write(first, [
        { type: "put", key: VERSION_KEY, value: encodeMeta(STORAGE_VERSION) },
        { type: "put", key: IDENTITY_KEY, value: encodeMeta(identity) },
      ]),
    );
    await this.#fs.syncDir(this.#logDir);
  }

  append(batch: AppendBatch): Promise<void> {
    return this.#serially(() => this.#write(batch, []));
  }

  async compact(meta: SnapshotMeta, keepFrom: number): Promise<void> {
    await this.#serially(() => this.#adopt(meta));
    const current = this.#snapshot?.meta ?? meta;
    // A block stays while one of its entries does.
    this.#blocks.dropBefore(Math.min(keepFrom, current.index + 1));
    await this.#db.clear({ gte: FIRST_ENTRY_KEY, lt: entryKey(this.#blocks.firstIndex) });
    await this.#files.removeOld(current, this.#options.keepOldSnapshots);
  }

  newSnapshot(meta: SnapshotMeta): Promise<SnapshotWriter> {
    return this.#files.newWriter(meta);
  }

  readSnapshot(meta: SnapshotMeta): AsyncIterable<Uint8Array> {
    return this.#files.read(meta);
  }

  stats(): StorageStats {
    return {
      firstIndex: (this.#snapshot?.meta.index ?? 0) + 1,
      lastIndex: this.#blocks.lastIndex,
      appends: this.#appends,
      appendedEntries: this.#appendedEntries,
      appendedBytes: this.#appendedBytes,
      lastAppendMs: this.#lastAppendMs,
      maxAppendMs: this.#maxAppendMs,
    };
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#watermark?.close();
    this.#watermark = null;
    await this.#opened?.close();
  }

  /** Runs after the writes before it; the first failure fails all that follow. */
  #serially(write: () => Promise<void>): Promise<void> {
    const run = this.#last.then(async () => {
      if (this.#failure !== null) throw this.#failure;
      try {
        await write();
      } catch (error) {
        this.#failure = writeError(this.#options.dir, error);
        throw this.#failure;
      }
    });
    this.#last = run.catch(() => undefined);
    return run;
  }

  /** A snapshot taken here: the entries it covers stay until they are cleared. */
  async #adopt(meta: SnapshotMeta): Promise<void> {
    if (this.#snapshot !== null && this.#snapshot.meta.index >= meta.index) return;
    const next = this.#blocks.find(meta.index + 1);
    const record: SnapshotRecord = {
      meta,
      from: next?.first ?? meta.index + 1,
      chain: next?.previousChain ?? this.#blocks.lastChain,
    };
    await this.#commit([{ type: "put", key: SNAPSHOT_KEY, value: encodeMeta(record) }]);
    this.#snapshot = record;
  }

  async #write(batch: AppendBatch, more: readonly LogOperation[]): Promise<void> {
    const startMs = this.#clock.monoMs();
    const operations: LogOperation[] = [...more];
    if (batch.snapshot !== null) this.#replaceLog(batch.snapshot, operations);
    const bytes = await this.#putEntries(batch, operations);
    this.#hardState = withCommitOf(batch.snapshot, batch.hardState ?? this.#hardState);
    await this.#commit(operations);
    if (batch.snapshot !== null) {
      await this.#files.removeOld(batch.snapshot, this.#options.keepOldSnapshots);
    }
    this.#appends += 1;
    this.#appendedEntries += batch.entries.length;
    this.#appendedBytes += bytes;
    this.#lastAppendMs = this.#clock.monoMs() - startMs;
    this.#maxAppendMs = Math.max(this.#maxAppendMs, this.#lastAppendMs);
  }

  /** A snapshot from the leader: nothing of the log before or after it is kept. */
  #replaceLog(meta: SnapshotMeta, operations: LogOperation[]): void {
    for (const { first } of this.#blocks.blocks) {
      operations.push({ type: "del", key: entryKey(first) });
    }
    this.#blocks.reset(meta.index, 0);
    this.#snapshot = { meta, from: meta.index + 1, chain: 0 };
    operations.push({ type: "put", key: SNAPSHOT_KEY, value: encodeMeta(this.#snapshot) });
  }

  async #putEntries(batch: AppendBatch, operations: LogOperation[]): Promise<number> {
    const first = batch.entries[0];
    if (first === undefined) return 0;
    assert(first.index > (this.#snapshot?.meta.index ?? 0), "a snapshot's entries are final");
    const kept = await this.#cut(first.index, operations);
    const entries = kept.length === 0 ? batch.entries : [...kept, ...batch.entries];
    let bytes = 0;
    for (const block of encodeBlocks(entries, this.#blocks.lastChain, this.#sealer)) {
      this.#blocks.append(block);
      operations.push({ type: "put", key: entryKey(block.first), value: block.bytes });
      bytes += block.bytes.length;
    }
    return bytes;
  }

  /**
   * Takes away what is stored from `index` on. Entries before it that share its block are returned,
   * to be written again.
   */
  async #cut(index: number, operations: LogOperation[]): Promise<readonly Entry[]> {
    const holder = this.#blocks.find(index);
    if (holder === undefined) return [];
    const { first } = holder;
    let kept: readonly Entry[] = [];
    if (first < index) {
      const record = await this.#db.get(entryKey(first));
      if (record === undefined) throw damaged(`entry ${first}`, "it is missing");
      kept = decodeBlock(record, first, this.#sealer).entries.filter(entry => entry.index < index);
    }
    for (const block of this.#blocks.cut(first)) {
      operations.push({ type: "del", key: entryKey(block.first) });
    }
    return kept;
  }

  /** One synced write that also says where the log ends. */
  async #commit(operations: LogOperation[]): Promise<void> {
    const sequence = this.#sequence + 1;
    const tail: TailRecord = {
      sequence,
      hardState: this.#hardState,
      lastIndex: this.#blocks.lastIndex,
      chain: this.#blocks.lastChain,
    };
    operations.push({ type: "put", key: TAIL_KEY, value: encodeMeta(tail) });
    if (this.#version !== STORAGE_VERSION) {
      operations.push({ type: "put", key: VERSION_KEY, value: encodeMeta(STORAGE_VERSION) });
      this.#version = STORAGE_VERSION;
    }
    await this.#db.batch(operations, { sync: true });
    this.#sequence = sequence;
    this.#watermark?.advance(sequence);
  }
}

/** What a snapshot covers is committed. */
function withCommitOf(snapshot: SnapshotMeta | null, hardState: HardState): HardState {
  if (snapshot === null || snapshot.index <= hardState.commit) return hardState;
  return { ...hardState, commit: snapshot.index };
}

function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? error.cause : error;
}

function openError(dir: string, error: unknown): SwarmError {
  const cause = causeOf(error);
  const code = errnoOf(cause);
  if (code === "LEVEL_LOCKED") {
    return new SwarmError(
      "failed_precondition",
      `another swarmd uses this data directory (${dir} is locked): stop it, or use another one`,
      { dir },
      error,
    );
  }
  const why = errorMessage(cause);
  if (code === "LEVEL_CORRUPTION" || /corruption/i.test(why)) return damaged(dir, why, error);
  return new SwarmError(
    "failed_precondition",
    `cannot open the data directory ${dir}: ${why}`,
    { dir },
    error,
  );
}

function writeError(dir: string, error: unknown): SwarmError {
  const why = errorMessage(causeOf(error));
  const full = /ENOSPC|no space left/i.test(why);
  return new SwarmError(
    full ? "resource_exhausted" : "unavailable",
    `cannot write the Raft log in ${dir}: ${why}. ` +
      (full ? "Free space and start swarmd again" : "Check the disk and start swarmd again"),
    { dir },
    error,
  );
}
