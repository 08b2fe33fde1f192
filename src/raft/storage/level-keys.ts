/** Keys of the log database: one byte of space, then a name or a big-endian index. */
const META_SPACE = 0;
const ENTRY_SPACE = 1;

function metaKey(name: string): Uint8Array {
  return Buffer.concat([Buffer.from([META_SPACE]), Buffer.from(name)]);
}

export const VERSION_KEY = metaKey("version");
export const IDENTITY_KEY = metaKey("identity");
export const SNAPSHOT_KEY = metaKey("snapshot");
export const TAIL_KEY = metaKey("tail");

export const FIRST_ENTRY_KEY = entryKey(0);
export const AFTER_ENTRIES_KEY = new Uint8Array([ENTRY_SPACE + 1]);

export function entryKey(index: number): Uint8Array {
  const key = Buffer.allocUnsafe(9);
  key.writeUInt8(ENTRY_SPACE, 0);
  key.writeBigUInt64BE(BigInt(index), 1);
  return key;
}

export function indexOfKey(key: Uint8Array): number {
  return Number(new DataView(key.buffer, key.byteOffset, key.byteLength).getBigUint64(1));
}
