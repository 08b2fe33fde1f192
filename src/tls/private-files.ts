import { constants } from "node:fs";
import { lstat, mkdir, open, rename, rm } from "node:fs/promises";
import { errnoOf, errorMessage, SwarmError } from "../base/errors.ts";

/** Files of credentials: owner only, no symbolic link followed, replaced whole and durably. */

const DIR_MODE = 0o700;
const FILE_MODE = 0o600;
const OTHERS = 0o077;
const MODE_BITS = 0o777;

/**
 * Makes the directory with mode 0700, or checks one that exists. Throws failed_precondition with
 * the path when it is not a directory, not ours or open to others: credentials that others could
 * read or replace are not used.
 */
export async function ensurePrivateDir(path: string): Promise<void> {
  await attempt(path, () => mkdir(path, { recursive: true, mode: DIR_MODE }));
  await checkPrivateDir(path);
}

/** The check of `ensurePrivateDir` alone. False when nothing is there. */
export async function checkPrivateDir(path: string): Promise<boolean> {
  const stat = await attempt(path, () => lstat(path), "ENOENT");
  if (stat === null) return false;
  if (!stat.isDirectory()) throw refused(path, "it is not a directory");
  checkOwner(path, stat.uid);
  checkMode(path, stat.mode, DIR_MODE);
  return true;
}

/** Reads a file of at most `maxBytes`, its mode and owner checked on the open file itself. */
export async function readPrivateFile(path: string, maxBytes: number): Promise<string> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW;
  const file = await attempt(path, () => open(path, flags));
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw refused(path, "it is not a regular file");
    checkOwner(path, stat.uid);
    checkMode(path, stat.mode, FILE_MODE);
    if (stat.size > maxBytes) throw refused(path, `it is larger than ${maxBytes} bytes`);
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

/** Creates a file, mode 0600, and puts it on disk. The name must be free. */
export async function writeNewPrivateFile(path: string, text: string): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await attempt(path, () => open(path, flags, FILE_MODE));
  try {
    await attempt(path, () => file.writeFile(text));
    await attempt(path, () => file.sync());
  } finally {
    await file.close();
  }
}

/** Renames; on disk only after `syncDir` of the directory. */
export async function renamePrivate(from: string, to: string): Promise<void> {
  await attempt(to, () => rename(from, to));
}

export async function syncDir(path: string): Promise<void> {
  const dir = await attempt(path, () => open(path, constants.O_RDONLY | constants.O_DIRECTORY));
  try {
    await attempt(path, () => dir.sync());
  } finally {
    await dir.close();
  }
}

export async function removeTree(path: string): Promise<void> {
  await attempt(path, () => rm(path, { recursive: true, force: true }));
}

function checkOwner(path: string, uid: number): void {
  const self = process.geteuid?.() ?? uid;
  if (uid !== self) throw refused(path, `it belongs to user ${uid}, swarmd runs as ${self}`);
}

function checkMode(path: string, mode: number, wanted: number): void {
  if ((mode & OTHERS) === 0) return;
  const octal = (bits: number): string => bits.toString(8).padStart(4, "0");
  throw refused(
    path,
    `others have access to it (mode ${octal(mode & MODE_BITS)}): set it to ${octal(wanted)}`,
  );
}

function refused(path: string, why: string): SwarmError {
  return new SwarmError("failed_precondition", `${path} cannot be trusted: ${why}`, { path });
}

/** Runs a file operation; its failure names the path. Null for the errno the caller expects. */
async function attempt<T>(path: string, run: () => Promise<T>): Promise<T>;
async function attempt<T>(path: string, run: () => Promise<T>, missing: string): Promise<T | null>;
async function attempt<T>(
  path: string,
  run: () => Promise<T>,
  missing?: string,
): Promise<T | null> {
  try {
    return await run();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== "" && errno === missing) return null;
    throw new SwarmError(
      errno === "ENOENT" ? "not_found" : "failed_precondition",
      `${path}: ${errorMessage(error)}`,
      { path, errno },
      error,
    );
  }
}
