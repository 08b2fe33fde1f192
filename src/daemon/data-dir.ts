import { constants } from "node:fs";
import { access, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ClassicLevel } from "classic-level";
import { errorMessage, SwarmError } from "../base/errors.ts";

/** Bits of a mode that let others in. */
const OTHERS = 0o077;

/** The data directory, held by this process until `release`. */
export interface DataDirLock {
  release(): Promise<void>;
}

/**
 * Makes the directory, 0700, and takes it. The lock is LevelDB's (a kernel lock on a file): it goes
 * with the process, whatever kills it. Throws failed_precondition naming the process that has it.
 */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  try {
    await makeDirs(dataDir);
    const { mode } = await stat(dataDir);
    if ((mode & OTHERS) !== 0) {
      throw new Error("it is open to other users: `chmod 700` it");
    }
    // LevelDB's own error would not say that the file system is read-only.
    await access(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new SwarmError(
      "failed_precondition",
      `cannot use the data directory ${dataDir}: ${errorMessage(error)}`,
    );
  }
  const pidFile = join(dataDir, "daemon.pid");
  const lock = new ClassicLevel(join(dataDir, "lock"));
  try {
    await lock.open();
  } catch (error) {
    throw await lockError(dataDir, pidFile, error);
  }
  await writeFile(pidFile, `${process.pid}\n`, { mode: 0o600 });
  return { release: () => lock.close() };
}

/** Node's own recursive mkdir never ends where the kernel refuses new names (below /proc). */
async function makeDirs(path: string): Promise<void> {
  const make = (): Promise<void> => mkdir(path, { mode: 0o700 });
  await make()
    .catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT" || dirname(path) === path) throw error;
      await makeDirs(dirname(path));
      await make();
    })
    .catch(async (error: NodeJS.ErrnoException) => {
      const isThere = error.code === "EEXIST" && (await stat(path)).isDirectory();
      if (!isThere) throw error;
    });
}

async function lockError(dataDir: string, pidFile: string, error: unknown): Promise<SwarmError> {
  const cause = error instanceof Error ? error.cause : undefined;
  const locked = cause instanceof Error && "code" in cause && cause.code === "LEVEL_LOCKED";
  if (!locked) {
    const why = cause instanceof Error ? cause.message : errorMessage(error);
    return new SwarmError(
      "failed_precondition",
      `cannot use the data directory ${dataDir}: ${why}`,
      {},
      error,
    );
  }
  const pid = await readFile(pidFile, "utf8").then(
    text => ` (pid ${text.trim()})`,
    () => "",
  );
  return new SwarmError(
    "failed_precondition",
    `another swarmd${pid} uses the data directory ${dataDir}: stop it, or give this one another ` +
      "--data-dir",
  );
}
