import { assert } from "../../base/errors.ts";
import { packEntries, packedBytes, unpackEntries } from "../core/pack.ts";
import type { Entry, EntryKind } from "../core/types.ts";
import { crc32c } from "./crc32c.ts";
import { damaged } from "./raft-storage.ts";
import type { Sealer } from "./sealer.ts";

/*
 * LevelDB skips records that fail its own checksum, so every record carries one of ours, and each
 * also carries the checksum of the record before it: a lost, swapped or left-over one breaks the
 * chain. A record holds a block: the consecutive entries of one write, up to a size.
 *
 * Record, little endian:
 *   0 u8  format   1 u8 kind   2 u16 zero   4 u32 crc32c of all the rest
 *   8 u32 crc of the record before   12 u32 payload length   16 u64 first index
 *   format 1: 24 u64 term, 32 the sealed data of one entry (written by version 1 of the storage)
 *   format 2: kind zero, 24 u64 number of entries, 32 sealed: packed entries
 */
const ENTRY_FORMAT = 1;
const BLOCK_FORMAT = 2;
const HEADER_BYTES = 32;
const CRC_AT = 4;
const KINDS: readonly EntryKind[] = ["normal", "conf-change"];
/** Plain; an entry larger than this has a block to itself. */
const MAX_BLOCK_BYTES = 256 << 10;

export interface EncodedBlock {
  readonly first: number;
  readonly last: number;
  readonly bytes: Uint8Array;
  /** What the next record chains to. */
  readonly chain: number;
}

export interface DecodedBlock {
  readonly entries: readonly Entry[];
  readonly previousChain: number;
  readonly chain: number;
}

/** Sixteen bytes that say which entry a sealed payload of format 1 belongs to. */
function entryPlace(index: number, term: number): Uint8Array {
  const place = Buffer.allocUnsafe(16);
  place.writeBigUInt64LE(BigInt(index), 0);
  place.writeBigUInt64LE(BigInt(term), 8);
  return place;
}

/** The same of a block; of another length, so that no block is taken for an entry. */
function blockPlace(first: number, count: number): Uint8Array {
  return Buffer.from(`block ${first} ${count}`);
}

/** The checksum of everything but the checksum. */
function recordCrc(record: Uint8Array): number {
  return crc32c(record.subarray(CRC_AT + 4), crc32c(record.subarray(0, CRC_AT)));
}

/** Contiguous entries as blocks, the first of which follows a record with `previousChain`. */
export function encodeBlocks(
  entries: readonly Entry[],
  previousChain: number,
  sealer: Sealer,
): readonly EncodedBlock[] {
  const blocks: EncodedBlock[] = [];
  let chain = previousChain;
  for (let at = 0; at < entries.length; ) {
    let bytes = 0;
    let end = at;
    for (let entry = entries[at]; entry !== undefined; end += 1, entry = entries[end]) {
      bytes += packedBytes(entry);
      if (end > at && bytes > MAX_BLOCK_BYTES) break;
    }
    const block = encodeBlock(entries.slice(at, end), chain, sealer);
    blocks.push(block);
    chain = block.chain;
    at = end;
  }
  return blocks;
}

function encodeBlock(entries: readonly Entry[], chain: number, sealer: Sealer): EncodedBlock {
  const first = entries[0]?.index ?? 0;
  const payload = sealer.seal(packEntries(entries), blockPlace(first, entries.length));
  const record = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  record.writeUInt32LE(BLOCK_FORMAT, 0);
  record.writeUInt32LE(chain, 8);
  record.writeUInt32LE(payload.length, 12);
  record.writeBigUInt64LE(BigInt(first), 16);
  record.writeBigUInt64LE(BigInt(entries.length), 24);
  record.set(payload, HEADER_BYTES);
  const own = recordCrc(record);
  record.writeUInt32LE(own, CRC_AT);
  return { first, last: first + entries.length - 1, bytes: record, chain: own };
}

/** Throws data_loss when the record is not, bit for bit, one that was written for `index`. */
export function decodeBlock(bytes: Uint8Array, index: number, sealer: Sealer): DecodedBlock {
  const where = `entry ${index}`;
  if (bytes.length < HEADER_BYTES) throw damaged(where, "its record is cut short");
  const record = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const chain = record.readUInt32LE(CRC_AT);
  if (chain !== recordCrc(record)) throw damaged(where, "its checksum is wrong");
  const format = record.readUInt8(0);
  if (format !== ENTRY_FORMAT && format !== BLOCK_FORMAT) {
    throw damaged(where, `its format is ${format}, known is up to ${BLOCK_FORMAT}`);
  }
  const stored = Number(record.readBigUInt64LE(16));
  if (stored !== index) throw damaged(where, `it holds entry ${stored}`);
  const payload = record.subarray(HEADER_BYTES);
  if (payload.length !== record.readUInt32LE(12)) throw damaged(where, "its length is wrong");
  const entries =
    format === ENTRY_FORMAT ? [openEntry(record, index, sealer)] : openBlock(record, index, sealer);
  return { entries, previousChain: record.readUInt32LE(8), chain };
}

function openEntry(record: Buffer, index: number, sealer: Sealer): Entry {
  const term = Number(record.readBigUInt64LE(24));
  const kind = KINDS[record.readUInt8(1)];
  assert(kind !== undefined, "a checked record has a known kind");
  const data = sealer.open(record.subarray(HEADER_BYTES), entryPlace(index, term));
  return { index, term, kind, data };
}

function openBlock(record: Buffer, first: number, sealer: Sealer): readonly Entry[] {
  const count = Number(record.readBigUInt64LE(24));
  const plain = sealer.open(record.subarray(HEADER_BYTES), blockPlace(first, count));
  const entries = unpackEntries(plain, first);
  assert(entries?.length === count, "a checked block holds its entries and nothing else");
  return entries;
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
