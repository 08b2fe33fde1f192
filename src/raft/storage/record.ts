import { assert } from "../../base/errors.ts";
import type { Entry, EntryKind } from "../core/types.ts";
import { crc32c } from "./crc32c.ts";
import { damaged } from "./raft-storage.ts";
import type { Sealer } from "./sealer.ts";

/*
 * LevelDB skips records that fail its own checksum, so every record carries one of ours, and each
 * entry also carries the checksum of the entry before it: a lost, swapped or left-over entry breaks
 * the chain.
 *
 * Entry record, little endian:
 *   0 u8  format   1 u8 kind   2 u16 zero   4 u32 crc32c of all the rest
 *   8 u32 crc of the entry before   12 u32 payload length   16 u64 index   24 u64 term   32 payload
 */
const ENTRY_FORMAT = 1;
const HEADER_BYTES = 32;
const CRC_AT = 4;
const KIND_NUMBERS: Readonly<Record<EntryKind, number>> = { normal: 0, "conf-change": 1 };
const KINDS: readonly EntryKind[] = ["normal", "conf-change"];

export interface EncodedEntry {
  readonly bytes: Uint8Array;
  /** What the next entry chains to. */
  readonly chain: number;
}

export interface DecodedEntry {
  readonly entry: Entry;
  readonly previousChain: number;
  readonly chain: number;
}

/** Sixteen bytes that say which entry a sealed payload belongs to. */
function placeOf(index: number, term: number): Uint8Array {
  const place = Buffer.allocUnsafe(16);
  place.writeBigUInt64LE(BigInt(index), 0);
  place.writeBigUInt64LE(BigInt(term), 8);
  return place;
}

/** The checksum of everything but the checksum. */
function recordCrc(record: Uint8Array): number {
  return crc32c(record.subarray(CRC_AT + 4), crc32c(record.subarray(0, CRC_AT)));
}

export function encodeEntry(entry: Entry, previousChain: number, sealer: Sealer): EncodedEntry {
  const payload = sealer.seal(entry.data, placeOf(entry.index, entry.term));
  const record = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  record.writeUInt8(ENTRY_FORMAT, 0);
  record.writeUInt8(KIND_NUMBERS[entry.kind], 1);
  record.writeUInt16LE(0, 2);
  record.writeUInt32LE(previousChain, 8);
  record.writeUInt32LE(payload.length, 12);
  record.writeBigUInt64LE(BigInt(entry.index), 16);
  record.writeBigUInt64LE(BigInt(entry.term), 24);
  record.set(payload, HEADER_BYTES);
  const chain = recordCrc(record);
  record.writeUInt32LE(chain, CRC_AT);
  return { bytes: record, chain };
}

/** Throws data_loss when the record is not, bit for bit, one that was written for `index`. */
export function decodeEntry(bytes: Uint8Array, index: number, sealer: Sealer): DecodedEntry {
  const where = `entry ${index}`;
  if (bytes.length < HEADER_BYTES) throw damaged(where, "its record is cut short");
  const record = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chain = record.readUInt32LE(CRC_AT);
  if (chain !== recordCrc(record)) throw damaged(where, "its checksum is wrong");
  if (record.readUInt8(0) !== ENTRY_FORMAT) {
    throw damaged(where, `its format is ${record.readUInt8(0)}, known is ${ENTRY_FORMAT}`);
  }
  const kind = KINDS[record.readUInt8(1)];
  assert(kind !== undefined, "a checked record has a known kind");
  const stored = Number(record.readBigUInt64LE(16));
  if (stored !== index) throw damaged(where, `it holds entry ${stored}`);
  const payload = record.subarray(HEADER_BYTES);
  if (payload.length !== record.readUInt32LE(12)) throw damaged(where, "its length is wrong");
  const term = Number(record.readBigUInt64LE(24));
  const data = sealer.open(payload, placeOf(index, term));
  return {
    entry: { index, term, kind, data },
    previousChain: record.readUInt32LE(8),
    chain,
  };
}

/** A small JSON value behind its checksum. */
export function encodeMeta(value: unknown): Uint8Array {
  const text = Buffer.from(JSON.stringify(value));
  const record = Buffer.allocUnsafe(4 + text.length);
  record.writeUInt32LE(crc32c(text), 0);
  record.set(text, 4);
  return record;
}

/** The value that `encodeMeta` was given; its shape is the writer's, guarded by the checksum. */
export function decodeMeta<T>(bytes: Uint8Array, where: string): T {
  if (bytes.length < 4) throw damaged(where, "it is cut short");
  const record = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = record.subarray(4);
  if (record.readUInt32LE(0) !== crc32c(text)) throw damaged(where, "its checksum is wrong");
  const value: T = JSON.parse(text.toString("utf8"));
  return value;
}
