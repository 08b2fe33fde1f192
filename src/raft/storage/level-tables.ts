import { join } from "node:path";
import { crc32c } from "./crc32c.ts";
import type { Files } from "./files.ts";
import { Cursor, liveTables } from "./level-manifest.ts";

/*
 * LevelDB reads its tables without looking at their checksums, and ends the process (an assertion)
 * when what it reads is nonsense. So each is checked before the database is opened.
 *
 * A table (LevelDB's doc/table_format.md): blocks, each followed by its type (u8) and masked crc32c
 * (u32); at the end a footer of two block handles (offset, size: varints), padded, and a magic.
 */
const TABLE_NAMES = [".ldb", ".sst"] as const;
const NUMBER_DIGITS = 6;
const FOOTER_BYTES = 48;
const MAGIC = Buffer.from("57fb808b247547db", "hex");
const TRAILER_BYTES = 5;
const CRC_MASK_DELTA = 0xa282ead8;

export interface TableDamage {
  readonly path: string;
  readonly why: string;
}

/**
 * The first damaged table of those the database in `dir` is made of. Only reads: another process
 * may have it open. Null when there is none, and when that cannot be told: LevelDB checks the file
 * that lists them itself, and says which are missing.
 */
export async function findDamagedTable(dir: string, files: Files): Promise<TableDamage | null> {
  const names = new Set(await files.list(dir));
  if (!names.has("CURRENT")) return null;
  const manifest = (await readAll(join(dir, "CURRENT"), files)).toString().trimEnd();
  if (!names.has(manifest)) return null;
  const live = liveTables(await readAll(join(dir, manifest), files)) ?? [];
  for (const number of live) {
    const stem = String(number).padStart(NUMBER_DIGITS, "0");
    for (const name of TABLE_NAMES.map(ending => stem + ending)) {
      if (!names.has(name)) continue;
      const why = tableDamage(await readAll(join(dir, name), files));
      if (why !== null) return { path: join(dir, name), why };
    }
  }
  return null;
}

/** Shorter than its size when the file is cut meanwhile. */
async function readAll(path: string, files: Files): Promise<Buffer> {
  const file = await files.open(path, "read");
  try {
    const { size } = await file.stat();
    const bytes = Buffer.alloc(size);
    let filled = 0;
    while (filled < size) {
      const { bytesRead } = await file.read(bytes, filled, size - filled, filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes.subarray(0, filled);
  } finally {
    await file.close();
  }
}

interface Handle {
  readonly offset: number;
  readonly size: number;
}

/** What is wrong with the bytes of a table; null when nothing is. */
export function tableDamage(table: Buffer): string | null {
  if (table.length < FOOTER_BYTES) return "it is cut short";
  const footer = new Cursor(table.subarray(table.length - FOOTER_BYTES));
  if (!table.subarray(table.length - MAGIC.length).equals(MAGIC)) return "its end is wrong";
  const metaindex = handleAt(footer);
  const index = handleAt(footer);
  if (metaindex === null || index === null) return "its footer is wrong";
  if (blockAt(table, metaindex) === null) return "the checksum of its meta index is wrong";
  const entries = blockAt(table, index);
  if (entries === null) return "the checksum of its index is wrong";
  const handles = dataHandles(entries);
  if (handles === null) return "its index is wrong";
  const broken = handles.find(handle => blockAt(table, handle) === null);
  return broken === undefined ? null : `the checksum of the block at ${broken.offset} is wrong`;
}

/** The contents of a block whose checksum is right. */
function blockAt(table: Buffer, { offset, size }: Handle): Buffer | null {
  const end = offset + size;
  if (end + TRAILER_BYTES > table.length - FOOTER_BYTES) return null;
  const crc = crc32c(table.subarray(offset, end + 1));
  const masked = (((crc >>> 15) | (crc << 17)) + CRC_MASK_DELTA) >>> 0;
  return masked === table.readUInt32LE(end + 1) ? table.subarray(offset, end) : null;
}

/** Of an index block: entries of shared, unshared and value length, key, value; then restarts. */
function dataHandles(block: Buffer): readonly Handle[] | null {
  if (block.length < 4) return null;
  const restarts = block.readUInt32LE(block.length - 4);
  const end = block.length - 4 * (restarts + 1);
  if (end < 0) return null;
  const cursor = new Cursor(block.subarray(0, end));
  const handles: Handle[] = [];
  while (!cursor.atEnd) {
    const [shared, unshared, length] = [cursor.varint(), cursor.varint(), cursor.varint()];
    if (shared === null || unshared === null || length === null) return null;
    cursor.skip(unshared);
    const handle = handleAt(cursor);
    if (handle === null) return null;
    handles.push(handle);
  }
  return handles;
}

function handleAt(cursor: Cursor): Handle | null {
  const offset = cursor.varint();
  const size = cursor.varint();
  return offset === null || size === null ? null : { offset, size };
}
