import { open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf, errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { syncDir } from "../tls/private-files.ts";

/** Of the data directory as a whole: which files there are and what they mean. */
export const DATA_FORMAT = 1;

/**
 * Brings a data directory from one format to the next. It may be cut short and run again, and it
 * runs before anything else has opened the directory.
 */
export interface Migration {
  readonly from: number;
  /** For the log: what it does. */
  readonly what: string;
  run(dataDir: string): Promise<void>;
}

/** One for every format there ever was but the present one, in order. */
export const MIGRATIONS: readonly Migration[] = [];

export interface DataFormatOptions {
  readonly dataDir: string;
  readonly productVersion: string;
  /** The format to end with. */
  readonly format?: number;
  readonly migrations?: readonly Migration[];
}

interface FormatRecord {
  readonly format: number;
  /** The swarmd that wrote it. */
  readonly by: string;
}

/**
 * Makes sure that this swarmd understands the directory, migrating an older one. Throws
 * failed_precondition for a directory of a newer swarmd, data_loss when it cannot be told.
 */
export async function ensureDataFormat(
  options: DataFormatOptions,
  deps: { readonly logger: Logger },
): Promise<void> {
  const { dataDir, productVersion, format = DATA_FORMAT, migrations = MIGRATIONS } = options;
  const path = join(dataDir, "format.json");
  const found = await readRecord(path);
  if (found !== null && found.format > format) {
    throw new SwarmError(
      "failed_precondition",
      `the data directory ${dataDir} was written by swarmd ${found.by} in format ${found.format}; ` +
        `this is swarmd ${productVersion}, which knows formats up to ${format}. Start that version ` +
        "again, or start this one on an empty directory and join it or restore a backup",
    );
  }
  // The first format had no record in its beginnings.
  let at = found?.format ?? (migrations.length === 0 ? format : 1);
  while (at < format) {
    const migration = migrations.find(({ from }) => from === at);
    if (migration === undefined) {
      throw new SwarmError(
        "failed_precondition",
        `this swarmd cannot bring the data directory ${dataDir} on from format ${at}: start a ` +
          "version in between first",
      );
    }
    deps.logger.info("migrating the data directory", { from: at, what: migration.what });
    await migration.run(dataDir);
    at += 1;
    await writeRecord(path, { format: at, by: productVersion });
  }
  if (found === null) await writeRecord(path, { format: at, by: productVersion });
}

async function readRecord(path: string): Promise<FormatRecord | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw new SwarmError("failed_precondition", `${path}: ${errorMessage(error)}`);
  }
  const record = parseRecord(text);
  if (record !== null) return record;
  throw new SwarmError(
    "data_loss",
    `${path} is damaged: put {"format": ${DATA_FORMAT}, "by": "…"} there if this directory is of ` +
      "this version, else remove the directory and join the cluster again",
  );
}

function parseRecord(text: string): FormatRecord | null {
  try {
    const { format, by } = JSON.parse(text) as Partial<FormatRecord>;
    if (!Number.isSafeInteger(format) || Number(format) < 1) return null;
    return { format: Number(format), by: String(by) };
  } catch {
    return null;
  }
}

async function writeRecord(path: string, record: FormatRecord): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    const file = await open(temporary, "w", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(record)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDir(join(path, ".."));
  } catch (error) {
    await rm(temporary, { force: true });
    throw new SwarmError("failed_precondition", `${path}: ${errorMessage(error)}`, {}, error);
  }
}
