import { assert, SwarmError } from "../../src/base/errors.ts";
import type { Entry, HardState, SnapshotMeta } from "../../src/raft/core/types.ts";
import {
  type AppendBatch,
  checkIdentity,
  damaged,
  type RaftStorage,
  type SnapshotWriter,
  type StorageIdentity,
  type StorageStats,
  type StoredState,
} from "../../src/raft/storage/raft-storage.ts";

/** What survives a crash; hand it to a new MemoryRaftStorage to restart a member. */
export class MemoryDisk {
  identity: StorageIdentity | null = null;
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  snapshot: SnapshotMeta | null = null;
  entries: Entry[] = [];
  readonly files = new Map<string, readonly Uint8Array[]>();
  locked = false;
}

function fileName(meta: SnapshotMeta): string {
  return `${meta.index}-${meta.term}`;
}

/** `RaftStorage` in memory. A test can hold writes back or make them fail. */
export class MemoryRaftStorage implements RaftStorage {
  readonly #disk: MemoryDisk;
  readonly #keepOld: number;
  #appends = 0;
  #appendedEntries = 0;
  #failure: SwarmError | null = null;
  #last: Promise<void> = Promise.resolve();
  /** Awaited before each write takes effect. */
  beforeWrite: () => Promise<void> = () => Promise.resolve();

  constructor(disk: MemoryDisk, options: { readonly keepOldSnapshots: number }) {
    this.#disk = disk;
    this.#keepOld = options.keepOldSnapshots;
  }

  /** Every write from now on fails. */
  fail(message: string): void {
    this.#failure = new SwarmError("unavailable", message);
  }

  open(expected: StorageIdentity): Promise<StoredState | null> {
    const disk = this.#disk;
    if (disk.locked) {
      return Promise.reject(
        new SwarmError("failed_precondition", "another swarmd uses this data directory"),
      );
    }
    if (disk.identity !== null) {
      try {
        checkIdentity(disk.identity, expected);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    disk.locked = true;
    if (disk.identity === null) return Promise.resolve(null);
    const { identity, snapshot } = disk;
    const after = snapshot?.index ?? 0;
    const commit = Math.max(disk.hardState.commit, after);
    const hardState = { ...disk.hardState, commit };
    const entries = disk.entries.filter(entry => entry.index > after);
    return Promise.resolve({ identity, hardState, snapshot, entries });
  }

  async create(identity: StorageIdentity, first: AppendBatch): Promise<void> {
    assert(this.#disk.identity === null, "only an empty storage is claimed");
    this.#disk.identity = identity;
    await this.append(first);
  }

  append(batch: AppendBatch): Promise<void> {
    return this.#serially(() => this.#apply(batch));
  }

  async compact(meta: SnapshotMeta, keepFrom: number): Promise<void> {
    await this.#serially(() => {
      const disk = this.#disk;
      if (disk.snapshot !== null && disk.snapshot.index >= meta.index) return;
      disk.snapshot = meta;
      disk.entries = disk.entries.filter(entry => entry.index >= keepFrom);
      this.#removeOld(meta);
    });
  }

  newSnapshot(meta: SnapshotMeta): Promise<SnapshotWriter> {
    const chunks: Uint8Array[] = [];
    return Promise.resolve({
      write: (chunk: Uint8Array) => {
        chunks.push(Uint8Array.from(chunk));
        return Promise.resolve();
      },
      commit: () => {
        this.#disk.files.set(fileName(meta), chunks);
        return Promise.resolve();
      },
      abort: () => Promise.resolve(),
    });
  }

  async *readSnapshot(meta: SnapshotMeta): AsyncGenerator<Uint8Array, void> {
    const chunks = this.#disk.files.get(fileName(meta));
    if (chunks === undefined) throw damaged(fileName(meta), "the snapshot cannot be opened");
    yield* chunks;
  }

  stats(): StorageStats {
    const firstIndex = (this.#disk.snapshot?.index ?? 0) + 1;
    return {
      firstIndex,
      lastIndex: this.#disk.entries.at(-1)?.index ?? firstIndex - 1,
      appends: this.#appends,
      appendedEntries: this.#appendedEntries,
      appendedBytes: 0,
      lastAppendMs: 0,
      maxAppendMs: 0,
    };
  }

  async close(): Promise<void> {
    await this.#last;
    this.#disk.locked = false;
  }

  #serially(write: () => void): Promise<void> {
    const run = this.#last.then(async () => {
      await this.beforeWrite();
      if (this.#failure !== null) throw this.#failure;
      write();
    });
    this.#last = run.catch(() => undefined);
    return run;
  }

  #apply(batch: AppendBatch): void {
    const disk = this.#disk;
    if (batch.snapshot !== null) {
      disk.entries = [];
      disk.snapshot = batch.snapshot;
      this.#removeOld(batch.snapshot);
    }
    const first = batch.entries[0];
    if (first !== undefined) {
      const last = disk.entries.at(-1)?.index ?? disk.snapshot?.index ?? 0;
      assert(first.index <= last + 1, "entries are contiguous");
      assert(first.index > (disk.snapshot?.index ?? 0), "a snapshot's entries are final");
      disk.entries = disk.entries.filter(entry => entry.index < first.index);
      disk.entries.push(...batch.entries);
    }
    disk.hardState = batch.hardState ?? disk.hardState;
    this.#appends += 1;
    this.#appendedEntries += batch.entries.length;
  }

  #removeOld(current: SnapshotMeta): void {
    const older = [...this.#disk.files.keys()]
      .filter(name => Number.parseInt(name, 10) < current.index)
      .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
    for (const name of older.slice(0, Math.max(0, older.length - this.#keepOld))) {
      this.#disk.files.delete(name);
    }
  }
}
