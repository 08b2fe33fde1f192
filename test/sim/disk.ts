import type { Files } from "../../src/raft/storage/files.ts";
import { TAIL_KEY } from "../../src/raft/storage/level-keys.ts";
import type { LogDb, TailRecord } from "../../src/raft/storage/level-load.ts";
import { decodeMeta } from "../../src/raft/storage/record.ts";
import type { Chance } from "./chance.ts";
import { SimDb, SimDbState } from "./disk-db.ts";
import { SimFileState, SimFiles } from "./disk-files.ts";
import type { SimProcess } from "./process.ts";

export interface DiskFaults {
  /** What a synced write takes. */
  readonly syncMs: number;
  readonly stallRate: number;
  readonly stallMs: number;
  /** Share of writes that fail. */
  readonly errorRate: number;
}

/** How a process ended: its machine goes on, and with it what was written; or everything stops. */
export type CrashKind = "kill" | "power";

/** What the database and the files of one disk share. */
export interface DiskContext {
  readonly process: SimProcess;
  readonly disk: SimDisk;
}

/**
 * One machine's disk: a database that stands for LevelDB and files, in memory. What was not synced
 * is lost in part when the power goes; writes can fail, hang, find no space; bits can flip.
 */
export class SimDisk {
  readonly #chance: Chance;
  faults: DiskFaults;
  full = false;
  /** No write fails by chance while set. */
  spared = false;
  /** Every write fails while set. */
  failing = false;
  readonly db: SimDbState;
  readonly files: SimFileState;
  /** Writes under way: a crash may or may not see them on disk. */
  busy = 0;

  constructor(options: { readonly faults: DiskFaults }, deps: { readonly chance: Chance }) {
    this.faults = options.faults;
    this.#chance = deps.chance;
    this.db = new SimDbState(deps.chance);
    this.files = new SimFileState(deps.chance);
  }

  /** The disk as one process sees it. */
  mount(process: SimProcess): { newDb: () => LogDb; files: Files } {
    const context = { process, disk: this };
    return { newDb: () => new SimDb(context), files: new SimFiles(context) };
  }

  /** The process that used it is gone. */
  crash(kind: CrashKind): void {
    this.busy = 0;
    this.db.crash(kind);
    this.files.crash(kind);
  }

  /**
   * LevelDB drops the last record of its log for a wrong checksum: a write that the watermark knows
   * of. One that it does not know of yet nobody can miss; the storage promises no more.
   */
  dropLastWrite(): boolean {
    const tail = this.db.get(TAIL_KEY);
    if (tail === undefined) return false;
    const { sequence } = decodeMeta<TailRecord>(tail, "tail");
    return this.files.watermark >= sequence && this.db.dropLastWrite();
  }

  /** Null, or why this write fails. */
  writeError(): Error | null {
    if (this.full) return new Error("ENOSPC: no space left on device, write");
    const unlucky = this.#chance.is(this.faults.errorRate) && !this.spared;
    if (this.failing || unlucky) {
      return new Error("EIO: i/o error, write");
    }
    return null;
  }

  syncMs(): number {
    const { syncMs, stallRate, stallMs } = this.faults;
    const stall = this.#chance.is(stallRate) ? this.#chance.float(0, stallMs) : 0;
    return syncMs * this.#chance.float(0.5, 2) + stall;
  }

  writesSlowly(share: number): boolean {
    return this.#chance.is(share);
  }

  /**
   * Waits `delayMs` for the medium; never returns to a process that has died. Fails as `error`.
   */
  async work(process: SimProcess, delayMs: number, error: Error | null): Promise<void> {
    this.busy += 1;
    await process.sleep(delayMs);
    this.busy -= 1;
    if (error !== null) throw error;
  }
}
