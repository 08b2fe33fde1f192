import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";

/** Owner only: log and snapshots hold secrets of the cluster. */
export const DIR_MODE = 0o700;
export const FILE_MODE = 0o600;

/** Makes names in `dir` durable: a created, renamed or removed file is one after this. */
export async function syncDir(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Creates `dir` and its parents; what was created survives a power loss. */
export async function ensureDir(dir: string): Promise<void> {
  const firstCreated = await mkdir(dir, { recursive: true, mode: DIR_MODE });
  if (firstCreated === undefined) return;
  const top = dirname(firstCreated);
  for (let at = dirname(dir); ; at = dirname(at)) {
    await syncDir(at);
    if (at === top || at === dirname(at)) return;
  }
}
