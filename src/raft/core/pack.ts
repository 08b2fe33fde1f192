import type { Entry, EntryKind } from "./types.ts";

/*
 * Consecutive entries as bytes, on the wire and, sealed, on disk. Of each, little endian:
 *   0 u64 term   8 u8 kind   9 u32 length of the data   13 data
 */
const ITEM_BYTES = 13;
const KIND_AT = 8;
const LENGTH_AT = 9;
const HIGH_WORD = 2 ** 32;
const KIND_NUMBERS: Readonly<Record<EntryKind, number>> = { normal: 0, "conf-change": 1 };
const KINDS: readonly EntryKind[] = ["normal", "conf-change"];

/** What an entry takes when packed. */
export function packedBytes(entry: Entry): number {
  return ITEM_BYTES + entry.data.length;
}

/** Their indexes are not written: they follow one another. */
export function packEntries(entries: readonly Entry[]): Uint8Array {
  let size = 0;
  for (const entry of entries) size += packedBytes(entry);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { term, kind, data } of entries) {
    view.setUint32(at, term % HIGH_WORD, true);
    view.setUint32(at + 4, Math.floor(term / HIGH_WORD), true);
    bytes[at + KIND_AT] = KIND_NUMBERS[kind];
    view.setUint32(at + LENGTH_AT, data.length, true);
    bytes.set(data, at + ITEM_BYTES);
    at += ITEM_BYTES + data.length;
  }
  return bytes;
}

/** Null when `bytes` are not what `packEntries` makes. The data shares their memory. */
export function unpackEntries(bytes: Uint8Array, firstIndex: number): readonly Entry[] | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: Entry[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + ITEM_BYTES > bytes.length) return null;
    const term = view.getUint32(at, true) + view.getUint32(at + 4, true) * HIGH_WORD;
    const kind = KINDS[view.getUint8(at + KIND_AT)];
    const end = at + ITEM_BYTES + view.getUint32(at + LENGTH_AT, true);
    if (kind === undefined || end > bytes.length || !Number.isSafeInteger(term)) return null;
    entries.push({
      index: firstIndex + entries.length,
      term,
      kind,
      data: bytes.subarray(at + ITEM_BYTES, end),
    });
    at = end;
  }
  return entries;
}
