/** CRC32C (Castagnoli, RFC 3720 B.4), reflected polynomial. */
const POLYNOMIAL = 0x82f63b78;
const SLICES = 8;

function buildTables(): Uint32Array {
  const tables = new Uint32Array(SLICES * 256);
  for (let n = 0; n < 256; n += 1) {
    let crc = n;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[n] = crc >>> 0;
  }
  for (let slice = 1; slice < SLICES; slice += 1) {
    for (let n = 0; n < 256; n += 1) {
      const previous = tables[(slice - 1) * 256 + n] ?? 0;
      tables[slice * 256 + n] = (previous >>> 8) ^ (tables[previous & 0xff] ?? 0);
    }
  }
  return tables;
}

const TABLES = buildTables();

function at(slice: number, byte: number): number {
  return TABLES[slice * 256 + (byte & 0xff)] ?? 0;
}

/**
 * The checksum of `bytes`, continuing from `seed` (the checksum of what came before; 0 at the
 * start). Eight bytes a step ("slicing-by-8").
 */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  let offset = 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const lastWhole = bytes.length - SLICES;
  while (offset <= lastWhole) {
    const low = crc ^ view.getUint32(offset, true);
    const high = view.getUint32(offset + 4, true);
    crc =
      at(7, low) ^
      at(6, low >>> 8) ^
      at(5, low >>> 16) ^
      at(4, low >>> 24) ^
      at(3, high) ^
      at(2, high >>> 8) ^
      at(1, high >>> 16) ^
      at(0, high >>> 24);
    offset += SLICES;
  }
  for (; offset < bytes.length; offset += 1) {
    crc = (crc >>> 8) ^ at(0, crc ^ (bytes[offset] ?? 0));
  }
  return ~crc >>> 0;
}
