/*
 * LevelDB's MANIFEST: which tables a database is made of, as a log of changes (doc/log_format.md,
 * doc/impl.md). Records are cut into pieces that stay within blocks of 32 KiB; a piece has a crc
 * (u32), a length (u16), a type (u8) and its bytes. A record is a list of tagged fields.
 */
const BLOCK_BYTES = 32 << 10;
const PIECE_HEAD_BYTES = 7;
const LENGTH_AT = 4;
const TYPE_AT = 6;
const FULL = 1;
const LAST = 4;
const MAX_VARINT_BYTES = 8;

export class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  skip(count: number): void {
    this.#at += count;
  }

  /** Null when it has no end. */
  varint(): number | null {
    let value = 0;
    for (let i = 0; i < MAX_VARINT_BYTES; i += 1) {
      const byte = this.#bytes[this.#at];
      if (byte === undefined) return null;
      this.#at += 1;
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    return null;
  }

  /** Skips a length and so many bytes. False when there is no length. */
  skipBytes(): boolean {
    const length = this.varint();
    this.skip(length ?? 0);
    return length !== null;
  }
}

type ReadField = (cursor: Cursor, live: Set<number>) => boolean;

const number: ReadField = cursor => cursor.varint() !== null;

/** By tag; each reads its field and says whether it could. */
const FIELDS: ReadonlyMap<number, ReadField> = new Map<number, ReadField>([
  [1, cursor => cursor.skipBytes()],
  [2, number],
  [3, number],
  [4, number],
  [5, cursor => cursor.varint() !== null && cursor.skipBytes()],
  [6, tableDeleted],
  [7, tableAdded],
  [9, number],
]);

function tableDeleted(cursor: Cursor, live: Set<number>): boolean {
  const [level, table] = [cursor.varint(), cursor.varint()];
  if (level === null || table === null) return false;
  live.delete(table);
  return true;
}

function tableAdded(cursor: Cursor, live: Set<number>): boolean {
  const [level, table, size] = [cursor.varint(), cursor.varint(), cursor.varint()];
  if (level === null || table === null || size === null) return false;
  live.add(table);
  return cursor.skipBytes() && cursor.skipBytes();
}

/** Numbers of the tables in use. Null when the manifest makes no sense here. */
export function liveTables(manifest: Buffer): readonly number[] | null {
  const live = new Set<number>();
  for (const record of recordsOf(manifest)) {
    const cursor = new Cursor(record);
    while (!cursor.atEnd) {
      const tag = cursor.varint();
      const read = tag === null ? undefined : FIELDS.get(tag);
      if (read?.(cursor, live) !== true) return null;
    }
  }
  return [...live];
}

function* recordsOf(log: Buffer): Generator<Buffer> {
  let pieces: Buffer[] = [];
  for (let at = 0; at + PIECE_HEAD_BYTES <= log.length; ) {
    const left = BLOCK_BYTES - (at % BLOCK_BYTES);
    if (left < PIECE_HEAD_BYTES) {
      at += left;
      continue;
    }
    const length = log.readUInt16LE(at + LENGTH_AT);
    const type = log.readUInt8(at + TYPE_AT);
    const end = at + PIECE_HEAD_BYTES + length;
    // Torn by a crash, or being written.
    if (type === 0 || end > log.length) return;
    pieces.push(log.subarray(at + PIECE_HEAD_BYTES, end));
    if (type === FULL || type === LAST) {
      yield Buffer.concat(pieces);
      pieces = [];
    }
    at = end;
  }
}
