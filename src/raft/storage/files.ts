import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** Owner only: log and snapshots hold secrets of the cluster. */
export const DIR_MODE = 0o700;
export const FILE_MODE = 0o600;

/** The part of an open file that is used here; Node's `FileHandle` has it. */
export interface OpenFile {
  /** May read less than asked for; 0 bytes at the end. */
  read(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>;
  /** At `position`, else at the end of what was written so; may write less than asked for. */
  write(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position?: number,
  ): Promise<{ readonly bytesWritten: number }>;
  sync(): Promise<void>;
  stat(): Promise<{ readonly size: number }>;
  close(): Promise<void>;
}

/** The file system as the storage uses it: real, or one that a simulation can crash. */
export interface Files {
  /** Creates `dir` and its parents; what was created survives a power loss. */
  ensureDir(dir: string): Promise<void>;
  /** Makes names in `dir` durable: a created, renamed or removed file is one after this. */
  syncDir(dir: string): Promise<void>;
  /** "create" fails when the file exists; "update" fails with ENOENT when it does not. */
  open(path: string, how: "read" | "update" | "create"): Promise<OpenFile>;
  list(dir: string): Promise<readonly string[]>;
  rename(from: string, to: string): Promise<void>;
  /** Of a file that is gone it succeeds. */
  remove(path: string): Promise<void>;
}

const FLAGS = { read: "r", update: "r+", create: "wx+" } as const;

export const nodeFiles: Files = {
  ensureDir,
  syncDir,
  open: (path, how) => open(path, FLAGS[how], FILE_MODE),
  list: dir => readdir(dir),
  rename,
  remove: path => rm(path, { force: true }),
};

async function syncDir(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function ensureDir(dir: string): Promise<void> {
  const firstCreated = await mkdir(dir, { recursive: true, mode: DIR_MODE });
  if (firstCreated === undefined) return;
  const top = dirname(firstCreated);
  for (let at = dirname(dir); ; at = dirname(at)) {
    await syncDir(at);
    if (at === top || at === dirname(at)) return;
  }
}
