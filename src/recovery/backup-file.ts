import { createHash, randomBytes, scrypt } from "node:crypto";
import { assert, isSwarmError, SwarmError } from "../base/errors.ts";
import { crc32c } from "../raft/storage/crc32c.ts";
import { AesGcmSealer, DEK_BYTES, plainSealer, type Sealer } from "../raft/storage/sealer.ts";

/*
 * A backup file, little endian:
 *   magic, u32 header length, u32 crc32c of the header, header (JSON)
 *   chunks: u32 length, u32 running crc32c, bytes (sealed when there is a passphrase)
 *   footer: u32 zero, u32 running crc32c, u32 number of chunks, end mark
 * The running checksum goes over the header and all chunk bytes so far. The chunks are those of a
 * state snapshot, which has a count of its rows of its own.
 */
const MAGIC = Buffer.from("SWMBKUP1");
const END_MARK = Buffer.from("SWMBKEND");
export const BACKUP_FORMAT = 1;
const PREFIX_BYTES = MAGIC.length + 8;
const FRAME_BYTES = 8;
const FOOTER_REST_BYTES = 4 + END_MARK.length;
const MAX_HEADER_BYTES = 64 << 10;
const MAX_CHUNK_BYTES = 1 << 20;

/** scrypt (RFC 7914): 32 MiB and about 0.1 s a guess. */
const SCRYPT = { N: 1 << 15, r: 8, p: 1 } as const;
const SALT_BYTES = 16;
/** What a file may ask this machine to spend. */
const MAX_SCRYPT_MEMORY_BYTES = 256 << 20;

export interface BackupHeader {
  readonly format: number;
  readonly clusterId: string;
  /** Index and term the state was taken at. */
  readonly index: number;
  readonly term: number;
  readonly takenAtMs: number;
  /** Of the manager that took it. */
  readonly nodeId: string;
  readonly productVersion: string;
  readonly encryption: Encryption | null;
}

interface Encryption {
  readonly kdf: "scrypt";
  readonly N: number;
  readonly r: number;
  readonly p: number;
  /** Base64. */
  readonly salt: string;
}

export type BackupFacts = Omit<BackupHeader, "format" | "encryption">;

/** The file's bytes. With a passphrase the chunks are AES-256-GCM under a key made from it. */
export async function* encodeBackup(
  facts: BackupFacts,
  chunks: AsyncIterable<Uint8Array>,
  passphrase: string,
): AsyncGenerator<Uint8Array, void> {
  const encryption = passphrase === "" ? null : newEncryption();
  const header = Buffer.from(JSON.stringify({ format: BACKUP_FORMAT, ...facts, encryption }));
  const sealer = encryption === null ? plainSealer : await sealerOf(encryption, passphrase);
  let crc = crc32c(header);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.set(MAGIC);
  prefix.writeUInt32LE(header.length, MAGIC.length);
  prefix.writeUInt32LE(crc, MAGIC.length + 4);
  yield Buffer.concat([prefix, header]);
  let count = 0;
  for await (const chunk of chunks) {
    const sealed = sealer.seal(chunk, placeOf(header, count));
    assert(sealed.length > 0 && sealed.length <= MAX_CHUNK_BYTES, "a chunk keeps to its limit");
    crc = crc32c(sealed, crc);
    count += 1;
    const frame = Buffer.alloc(FRAME_BYTES);
    frame.writeUInt32LE(sealed.length, 0);
    frame.writeUInt32LE(crc, 4);
    yield frame;
    yield sealed;
  }
  const footer = Buffer.alloc(FRAME_BYTES + FOOTER_REST_BYTES);
  footer.writeUInt32LE(crc, 4);
  footer.writeUInt32LE(count, FRAME_BYTES);
  footer.set(END_MARK, FRAME_BYTES + 4);
  yield footer;
}

export interface OpenedBackup {
  readonly header: BackupHeader;
  /** To be read once. Throws data_loss at the first damaged byte, naming where. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/**
 * Throws invalid_argument (no backup, of a later format, passphrase missing or wrong) or
 * data_loss.
 */
export async function openBackup(
  source: AsyncIterable<Uint8Array>,
  passphrase: string,
): Promise<OpenedBackup> {
  const reader = new ByteReader(source);
  const prefix = await reader.take(PREFIX_BYTES, "its beginning");
  if (!prefix.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new SwarmError("invalid_argument", "this is not a backup made by `swarmd backup`");
  }
  const length = prefix.readUInt32LE(MAGIC.length);
  const crc = prefix.readUInt32LE(MAGIC.length + 4);
  if (length > MAX_HEADER_BYTES) throw damaged(reader.offset, "the header's length is wrong");
  const bytes = await reader.take(length, "the header");
  if (crc32c(bytes) !== crc) throw damaged(PREFIX_BYTES, "the header's checksum is wrong");
  const header = parseHeader(bytes);
  const sealer = await openingSealer(header.encryption, passphrase);
  return { header, chunks: readChunks(reader, bytes, sealer) };
}

async function* readChunks(
  reader: ByteReader,
  header: Buffer,
  sealer: Sealer,
): AsyncGenerator<Uint8Array, void> {
  let crc = crc32c(header);
  for (let count = 0; ; count += 1) {
    const at = reader.offset;
    const frame = await reader.take(FRAME_BYTES, `chunk ${count}`);
    const length = frame.readUInt32LE(0);
    if (length === 0) {
      if (frame.readUInt32LE(4) !== crc) throw damaged(at, "the footer's checksum is wrong");
      await checkEnd(reader, count);
      return;
    }
    if (length > MAX_CHUNK_BYTES) throw damaged(at, `the length of chunk ${count} is wrong`);
    const sealed = await reader.take(length, `chunk ${count}`);
    crc = crc32c(sealed, crc);
    if (frame.readUInt32LE(4) !== crc) {
      throw damaged(at, `the checksum of chunk ${count} is wrong`);
    }
    yield openChunk(sealer, sealed, placeOf(header, count));
  }
}

async function checkEnd(reader: ByteReader, chunks: number): Promise<void> {
  const at = reader.offset;
  const rest = await reader.take(FOOTER_REST_BYTES, "the footer");
  const ends = rest.subarray(4).equals(END_MARK);
  if (!ends || rest.readUInt32LE(0) !== chunks) throw damaged(at, "the footer is wrong");
  if (!(await reader.atEnd())) throw damaged(reader.offset, "there is data after the end");
}

/** The checksum was right, so it is the key that is not. */
function openChunk(sealer: Sealer, sealed: Uint8Array, place: Uint8Array): Uint8Array {
  try {
    return sealer.open(sealed, place);
  } catch (error) {
    if (!isSwarmError(error, "data_loss")) throw error;
    throw new SwarmError("invalid_argument", "the backup's passphrase is another one", {}, error);
  }
}

/** The header is authenticated with every chunk. */
function placeOf(header: Uint8Array, chunk: number): Uint8Array {
  return createHash("sha256").update(header).update(`backup ${chunk}`).digest();
}

function parseHeader(bytes: Buffer): BackupHeader {
  const header = JSON.parse(bytes.toString("utf8")) as BackupHeader;
  if (header.format === BACKUP_FORMAT) return header;
  throw new SwarmError(
    "invalid_argument",
    `the backup has format ${header.format} and was made by swarmd ${header.productVersion}, ` +
      `this swarmd reads format ${BACKUP_FORMAT}: use that version`,
  );
}

function newEncryption(): Encryption {
  return { kdf: "scrypt", ...SCRYPT, salt: randomBytes(SALT_BYTES).toString("base64") };
}

async function openingSealer(encryption: Encryption | null, passphrase: string): Promise<Sealer> {
  if (encryption === null) return plainSealer;
  if (passphrase !== "") return sealerOf(encryption, passphrase);
  throw new SwarmError(
    "invalid_argument",
    "the backup is encrypted: give its passphrase with --passphrase-file",
  );
}

async function sealerOf(encryption: Encryption, passphrase: string): Promise<Sealer> {
  const { kdf, N, r, p, salt } = encryption;
  const memoryBytes = 128 * N * r * p;
  if (kdf !== "scrypt" || !(memoryBytes > 0 && memoryBytes <= MAX_SCRYPT_MEMORY_BYTES)) {
    throw new SwarmError("invalid_argument", "the backup's key derivation is not acceptable");
  }
  const options = { N, r, p, maxmem: 2 * MAX_SCRYPT_MEMORY_BYTES };
  const dek = await new Promise<Buffer>((resolve, reject) => {
    scrypt(passphrase, Buffer.from(salt, "base64"), DEK_BYTES, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
  return new AesGcmSealer({ dek });
}

function damaged(offset: number, why: string): SwarmError {
  const text = `the backup is damaged at byte ${offset}: ${why}. Use another backup`;
  return new SwarmError("data_loss", text, { offset, why });
}

/** Exact lengths out of pieces of any size. */
class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #buffer: Buffer = Buffer.alloc(0);
  offset = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async take(length: number, what: string): Promise<Buffer> {
    const parts: Buffer[] = [];
    let missing = length;
    while (missing > 0) {
      if (this.#buffer.length === 0 && !(await this.#more())) {
        throw damaged(this.offset + length - missing, `it is cut short in ${what}`);
      }
      const part = this.#buffer.subarray(0, missing);
      this.#buffer = this.#buffer.subarray(part.length);
      parts.push(part);
      missing -= part.length;
    }
    this.offset += length;
    return parts.length === 1 ? (parts[0] ?? Buffer.alloc(0)) : Buffer.concat(parts);
  }

  async atEnd(): Promise<boolean> {
    return this.#buffer.length === 0 && !(await this.#more());
  }

  /** False at the end of the source. */
  async #more(): Promise<boolean> {
    for (;;) {
      const { done, value } = await this.#source.next();
      if (done === true) return false;
      if (value.length === 0) continue;
      this.#buffer = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
      return true;
    }
  }
}
