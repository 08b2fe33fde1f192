import type { LogDb, LogIterator, LogOperation } from "../../src/raft/storage/level-load.ts";
import type { Chance } from "./chance.ts";
import type { CrashKind, DiskContext } from "./disk.ts";
import type { SimProcess } from "./process.ts";

interface Undo {
  readonly key: string;
  readonly before: Uint8Array | undefined;
}

interface Write {
  readonly undo: readonly Undo[];
  /** It has reached the kernel: only a power loss can undo it. */
  written: boolean;
}

const FLIPPED_BIT = 0x04;

function keyOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

function bytesOf(key: string): Uint8Array {
  return Buffer.from(key, "latin1");
}

/** The rows, and how to take back the writes that are not synced. Writes are atomic, as LevelDB's. */
export class SimDbState {
  readonly #chance: Chance;
  readonly rows = new Map<string, Uint8Array>();
  #unsynced: Write[] = [];
  /** The last synced write, for a LevelDB that drops it. */
  #lastSynced: Write | null = null;
  openedBy: SimProcess | null = null;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  apply(operations: readonly LogOperation[]): Write {
    const undo: Undo[] = [];
    for (const operation of operations) {
      const key = keyOf(operation.key);
      undo.push({ key, before: this.rows.get(key) });
      if (operation.type === "put") this.rows.set(key, Uint8Array.from(operation.value));
      else this.rows.delete(key);
    }
    const write = { undo, written: false };
    this.#unsynced.push(write);
    return write;
  }

  /** `write` and all before it are durable. */
  synced(write: Write): void {
    const at = this.#unsynced.indexOf(write);
    if (at < 0) return;
    this.#unsynced.splice(0, at + 1);
    this.#lastSynced = write;
  }

  get unsynced(): number {
    return this.#unsynced.length;
  }

  allSynced(): void {
    this.#unsynced = [];
  }

  crash(kind: CrashKind): void {
    this.openedBy = null;
    const at = this.#unsynced.findIndex(write => kind === "power" || !write.written);
    if (at >= 0) {
      // The log is written in order: what survives is a beginning of it.
      const keep = this.#chance.int(at, this.#unsynced.length);
      for (const write of this.#unsynced.slice(keep).reverse()) this.#takeBack(write);
      this.#unsynced.length = keep;
    }
    if (kind === "power") this.#unsynced = [];
    for (const write of this.#unsynced) write.written = true;
    if (at >= 0) this.#lastSynced = null;
  }

  /** A bit of a stored value flips. False when nothing is stored. */
  flipBit(): boolean {
    const keys = [...this.rows.keys()].sort();
    if (keys.length === 0) return false;
    const key = this.#chance.pick(keys);
    const value = Uint8Array.from(this.rows.get(key) ?? []);
    const at = this.#chance.int(0, Math.max(0, value.length - 1));
    value[at] = (value[at] ?? 0) ^ FLIPPED_BIT;
    this.rows.set(key, value);
    return true;
  }

  /** LevelDB skips a record whose checksum is wrong: a row in the middle is gone. */
  dropRow(): boolean {
    const keys = [...this.rows.keys()].sort();
    if (keys.length === 0) return false;
    this.rows.delete(this.#chance.pick(keys));
    return true;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.rows.get(keyOf(key));
  }

  /** LevelDB drops the last record of its log for a wrong checksum. False when there is none. */
  dropLastWrite(): boolean {
    if (this.#lastSynced === null || this.#unsynced.length > 0) return false;
    this.#takeBack(this.#lastSynced);
    this.#lastSynced = null;
    return true;
  }

  #takeBack(write: Write): void {
    for (const { key, before } of [...write.undo].reverse()) {
      if (before === undefined) this.rows.delete(key);
      else this.rows.set(key, before);
    }
  }
}

/** `LogDb` on a simulated disk, for one process. */
export class SimDb implements LogDb {
  readonly #context: DiskContext;
  readonly #state: SimDbState;

  constructor(context: DiskContext) {
    this.#context = context;
    this.#state = context.disk.db;
  }

  /** As LevelDB does, writes what it finds to a new table and syncs that. */
  async open(): Promise<void> {
    if (this.#state.openedBy?.alive === true) {
      throw Object.assign(new Error("locked"), { code: "LEVEL_LOCKED" });
    }
    const { disk, process } = this.#context;
    this.#state.openedBy = process;
    if (this.#state.unsynced === 0) return;
    const error = disk.writeError();
    await disk.work(process, disk.syncMs(), error);
    this.#state.allSynced();
  }

  close(): Promise<void> {
    this.#state.openedBy = null;
    return Promise.resolve();
  }

  get(key: Uint8Array): Promise<Uint8Array | undefined> {
    return Promise.resolve(this.#state.get(key));
  }

  async batch(operations: LogOperation[], { sync }: { sync: boolean }): Promise<void> {
    const { disk, process } = this.#context;
    const error = disk.writeError();
    const write = this.#state.apply(operations);
    await disk.work(process, disk.syncMs(), error);
    write.written = true;
    if (sync) this.#state.synced(write);
  }

  async clear(range: { gte: Uint8Array; lt: Uint8Array }): Promise<void> {
    const keys = this.#keys(range);
    const write = this.#state.apply(keys.map(key => ({ type: "del", key: bytesOf(key) })));
    write.written = true;
    return Promise.resolve();
  }

  keys(options: { limit: number }): { all(): Promise<Uint8Array[]> } {
    const keys = [...this.#state.rows.keys()].sort().slice(0, options.limit);
    return { all: () => Promise.resolve(keys.map(bytesOf)) };
  }

  iterator(range: { gte: Uint8Array; lt: Uint8Array }): LogIterator {
    const rows = this.#keys(range).map(key => {
      return [bytesOf(key), this.#state.rows.get(key) ?? new Uint8Array()] as [
        Uint8Array,
        Uint8Array,
      ];
    });
    return {
      nextv: count => Promise.resolve(rows.splice(0, count)),
      close: () => Promise.resolve(),
    };
  }

  #keys(range: { gte: Uint8Array; lt: Uint8Array }): string[] {
    const from = keyOf(range.gte);
    const to = keyOf(range.lt);
    return [...this.#state.rows.keys()].filter(key => key >= from && key < to).sort();
  }
}
