import { dirname } from "node:path";
import type { Files, OpenFile } from "../../src/raft/storage/files.ts";
import type { Chance } from "./chance.ts";
import type { CrashKind, DiskContext } from "./disk.ts";

/** Part of a write is told apart from none and all of it above this size: a sector is atomic. */
const SECTOR_BYTES = 512;
/** Share of writes to a file that take the medium's time. */
const SLOW_WRITE_RATE = 0.2;
const WATERMARK = /watermark$/;
const FLIPPED_BIT = 0x10;

interface FileWrite {
  readonly position: number;
  readonly before: Uint8Array;
  readonly sizeBefore: number;
}

class Inode {
  bytes = Buffer.alloc(0);
  unsynced: FileWrite[] = [];

  write(position: number, bytes: Uint8Array): void {
    const sizeBefore = this.bytes.length;
    const end = position + bytes.length;
    const before = Buffer.from(this.bytes.subarray(position, Math.min(end, sizeBefore)));
    this.unsynced.push({ position, before, sizeBefore });
    if (end > sizeBefore) this.bytes = Buffer.concat([this.bytes, Buffer.alloc(end - sizeBefore)]);
    this.bytes.set(bytes, position);
  }

  takeBack({ position, before, sizeBefore }: FileWrite): void {
    this.bytes = Buffer.from(this.bytes.subarray(0, sizeBefore));
    this.bytes.set(before, position);
  }
}

interface NameChange {
  readonly dir: string;
  readonly undo: readonly (readonly [string, Inode | undefined])[];
}

/** The files of one disk, and how to take back what is not synced. */
export class SimFileState {
  readonly #chance: Chance;
  readonly names = new Map<string, Inode>();
  #changes: NameChange[] = [];

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  setNames(dir: string, next: readonly (readonly [string, Inode | undefined])[]): void {
    const undo = next.map(([path]) => [path, this.names.get(path)] as const);
    this.#changes.push({ dir, undo });
    for (const [path, inode] of next) this.#set(path, inode);
  }

  /** Starts to sync the names in `dir`; the result ends it. */
  startSync(dir: string): () => void {
    const covered = new Set(this.#changes.filter(change => change.dir === dir));
    return () => {
      this.#changes = this.#changes.filter(change => !covered.has(change));
    };
  }

  crash(kind: CrashKind): void {
    if (kind === "kill") return;
    const keep = this.#chance.int(0, this.#changes.length);
    for (const { undo } of this.#changes.slice(keep).reverse()) {
      for (const [path, inode] of undo) this.#set(path, inode);
    }
    this.#changes = [];
    for (const inode of new Set(this.names.values())) this.#lose(inode);
  }

  /** What the storage has noted as durable, as far as a crash would leave it. */
  get watermark(): number {
    const inode = [...this.names].find(([path]) => WATERMARK.test(path))?.[1];
    return inode === undefined || inode.bytes.length < 8
      ? 0
      : Number(inode.bytes.readBigUInt64LE(0));
  }

  /** A bit of a file flips. False when there is none. */
  flipBit(): boolean {
    const files = [...this.names].filter(
      ([path, { bytes }]) => bytes.length > 0 && !WATERMARK.test(path),
    );
    if (files.length === 0) return false;
    const [, inode] = this.#chance.pick(files);
    const at = this.#chance.int(0, inode.bytes.length - 1);
    inode.bytes[at] = (inode.bytes[at] ?? 0) ^ FLIPPED_BIT;
    return true;
  }

  #set(path: string, inode: Inode | undefined): void {
    if (inode === undefined) this.names.delete(path);
    else this.names.set(path, inode);
  }

  #lose(inode: Inode): void {
    const keep = this.#chance.int(0, inode.unsynced.length);
    const lost = inode.unsynced.slice(keep);
    const after = Buffer.from(inode.bytes);
    for (const write of [...lost].reverse()) inode.takeBack(write);
    inode.unsynced = [];
    const torn = lost[0];
    if (torn === undefined) return;
    const rest = Math.floor((after.length - torn.position) / SECTOR_BYTES);
    const sectors = rest > 0 ? this.#chance.int(0, rest) : 0;
    if (sectors === 0) return;
    inode.write(
      torn.position,
      after.subarray(torn.position, torn.position + sectors * SECTOR_BYTES),
    );
    inode.unsynced = [];
  }
}

function enoent(path: string): Error {
  return Object.assign(new Error(`ENOENT: no such file or directory, ${path}`), { code: "ENOENT" });
}

/** `Files` on a simulated disk, for one process. */
export class SimFiles implements Files {
  readonly #context: DiskContext;
  readonly #state: SimFileState;

  constructor(context: DiskContext) {
    this.#context = context;
    this.#state = context.disk.files;
  }

  /** Folders are taken to be there and durable. */
  ensureDir(): Promise<void> {
    return Promise.resolve();
  }

  async syncDir(dir: string): Promise<void> {
    const { disk, process } = this.#context;
    const synced = this.#state.startSync(dir);
    await disk.work(process, disk.syncMs(), null);
    synced();
  }

  open(path: string, how: "read" | "update" | "create"): Promise<OpenFile> {
    const known = this.#state.names.get(path);
    if (how !== "create") {
      return known === undefined
        ? Promise.reject(enoent(path))
        : Promise.resolve(this.#opened(known));
    }
    if (known !== undefined) return Promise.reject(new Error(`EEXIST: ${path}`));
    const inode = new Inode();
    this.#state.setNames(dirname(path), [[path, inode]]);
    return Promise.resolve(this.#opened(inode));
  }

  list(dir: string): Promise<readonly string[]> {
    const names = [...this.#state.names.keys()].filter(path => dirname(path) === dir).sort();
    return Promise.resolve(names.map(path => path.slice(dir.length + 1)));
  }

  rename(from: string, to: string): Promise<void> {
    const inode = this.#state.names.get(from);
    if (inode === undefined) return Promise.reject(enoent(from));
    this.#state.setNames(dirname(to), [
      [from, undefined],
      [to, inode],
    ]);
    return Promise.resolve();
  }

  remove(path: string): Promise<void> {
    if (this.#state.names.has(path)) this.#state.setNames(dirname(path), [[path, undefined]]);
    return Promise.resolve();
  }

  #opened(inode: Inode): OpenFile {
    const { disk, process } = this.#context;
    let end = 0;
    return {
      read: (buffer, offset, length, position) => {
        const part = inode.bytes.subarray(position, position + length);
        buffer.set(part, offset);
        return Promise.resolve({ bytesRead: part.length });
      },
      write: async (buffer, offset, length, position = end) => {
        const error = disk.writeError();
        if (disk.writesSlowly(SLOW_WRITE_RATE)) await disk.work(process, disk.syncMs(), null);
        if (error !== null) throw error;
        inode.write(position, buffer.subarray(offset, offset + length));
        end = position + length;
        return { bytesWritten: length };
      },
      sync: async () => {
        const covered = inode.unsynced.length;
        await disk.work(process, disk.syncMs(), null);
        inode.unsynced.splice(0, covered);
      },
      stat: () => Promise.resolve({ size: inode.bytes.length }),
      close: () => Promise.resolve(),
    };
  }
}
