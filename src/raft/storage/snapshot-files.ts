import { join } from "node:path";
import { assert } from "../../base/errors.ts";
import type { SnapshotMeta } from "../core/types.ts";
import { crc32c } from "./crc32c.ts";
import type { Files, OpenFile } from "./files.ts";
import { damaged, type SnapshotWriter } from "./raft-storage.ts";
import { decodeMeta, encodeMeta } from "./record.ts";
import type { Sealer } from "./sealer.ts";

/*
 * A snapshot file: magic, u32 header length, header record (format and meta);
 * chunks: u32 sealed length, u32 running crc32c, sealed bytes;
 * footer: u32 zero, u32 running crc32c, u32 number of chunks.
 * The running checksum goes over all sealed bytes so far, starting from the header's.
 */
const MAGIC = Buffer.from("SWMSNAP1");
const FORMAT = 1;
const FRAME_BYTES = 8;
const FOOTER_BYTES = 12;
const MAX_HEADER_BYTES = 1 << 20;
/** Plain; a chunk from a state machine is 256 KiB at most. */
const MAX_CHUNK_BYTES = 1 << 20;
const MAX_SEALING_BYTES = 64;
const NAME_DIGITS = 16;
const FINAL_NAME = /^([0-9]{16})-([0-9]{16})\.snap$/;
const TEMPORARY_NAME = /\.tmp$/;

interface Header {
  readonly format: number;
  readonly meta: SnapshotMeta;
}

function fileName(meta: SnapshotMeta): string {
  const digits = (value: number): string => String(value).padStart(NAME_DIGITS, "0");
  return `${digits(meta.index)}-${digits(meta.term)}.snap`;
}

/** Which snapshot and which of its chunks: a chunk opens nowhere else. */
function placeOf(meta: SnapshotMeta, chunk: number): Uint8Array {
  return Buffer.from(`snapshot ${meta.index} ${meta.term} ${chunk}`);
}

/** The snapshot files of one member. */
export class SnapshotFiles {
  readonly #dir: string;
  readonly #sealer: Sealer;
  readonly #fs: Files;
  #temporaries = 0;

  constructor(
    options: { readonly dir: string },
    deps: { readonly sealer: Sealer; readonly files: Files },
  ) {
    this.#dir = options.dir;
    this.#sealer = deps.sealer;
    this.#fs = deps.files;
  }

  /** Creates the folder and removes what an earlier process left half written. */
  async prepare(): Promise<void> {
    await this.#fs.ensureDir(this.#dir);
    for (const name of await this.#fs.list(this.#dir)) {
      if (TEMPORARY_NAME.test(name)) await this.#fs.remove(join(this.#dir, name));
    }
  }

  async newWriter(meta: SnapshotMeta): Promise<SnapshotWriter> {
    this.#temporaries += 1;
    const finalPath = join(this.#dir, fileName(meta));
    const path = `${finalPath}.${process.pid}.${this.#temporaries}.tmp`;
    const handle = await this.#fs.open(path, "create");
    const writer = new FileSnapshotWriter(
      { dir: this.#dir, path, finalPath, meta },
      { handle, sealer: this.#sealer, files: this.#fs },
    );
    try {
      await writer.begin();
    } catch (error) {
      await writer.abort();
      throw error;
    }
    return writer;
  }

  async *read(meta: SnapshotMeta): AsyncGenerator<Uint8Array, void> {
    const path = join(this.#dir, fileName(meta));
    let handle: OpenFile;
    try {
      handle = await this.#fs.open(path, "read");
    } catch (error) {
      throw damaged(path, "the snapshot cannot be opened", error);
    }
    try {
      yield* new SnapshotReader(path, meta, handle, this.#sealer).chunks();
    } finally {
      await handle.close();
    }
  }

  /** Removes snapshots older than `current`, except the newest `keepOld` of them. */
  async removeOld(current: SnapshotMeta, keepOld: number): Promise<void> {
    const older = (await this.#finals()).filter(name => name < fileName(current));
    for (const name of older.slice(0, Math.max(0, older.length - keepOld))) {
      await this.#fs.remove(join(this.#dir, name));
    }
  }

  /** Removes snapshots newer than `current`: they were received but never became current. */
  async removeUnreferenced(current: SnapshotMeta | null): Promise<void> {
    const limit = current === null ? "" : fileName(current);
    for (const name of await this.#finals()) {
      if (name > limit) await this.#fs.remove(join(this.#dir, name));
    }
  }

  async #finals(): Promise<string[]> {
    return (await this.#fs.list(this.#dir)).filter(name => FINAL_NAME.test(name)).sort();
  }
}

interface WriterOptions {
  readonly dir: string;
  readonly path: string;
  readonly finalPath: string;
  readonly meta: SnapshotMeta;
}

class FileSnapshotWriter implements SnapshotWriter {
  readonly #options: WriterOptions;
  readonly #handle: OpenFile;
  readonly #sealer: Sealer;
  readonly #fs: Files;
  #crc = 0;
  #chunks = 0;
  #ended = false;

  constructor(
    options: WriterOptions,
    deps: { readonly handle: OpenFile; readonly sealer: Sealer; readonly files: Files },
  ) {
    this.#options = options;
    this.#handle = deps.handle;
    this.#sealer = deps.sealer;
    this.#fs = deps.files;
  }

  async begin(): Promise<void> {
    const header = encodeMeta({ format: FORMAT, meta: this.#options.meta } satisfies Header);
    const start = Buffer.allocUnsafe(MAGIC.length + 4);
    start.set(MAGIC);
    start.writeUInt32LE(header.length, MAGIC.length);
    this.#crc = crc32c(header);
    await writeAll(this.#handle, Buffer.concat([start, header]));
  }

  async write(chunk: Uint8Array): Promise<void> {
    assert(!this.#ended, "no chunk follows commit or abort");
    assert(chunk.length <= MAX_CHUNK_BYTES, "a snapshot chunk keeps to its limit");
    if (chunk.length === 0) return;
    const sealed = this.#sealer.seal(chunk, placeOf(this.#options.meta, this.#chunks));
    this.#crc = crc32c(sealed, this.#crc);
    this.#chunks += 1;
    const frame = Buffer.allocUnsafe(FRAME_BYTES);
    frame.writeUInt32LE(sealed.length, 0);
    frame.writeUInt32LE(this.#crc, 4);
    await writeAll(this.#handle, frame);
    await writeAll(this.#handle, sealed);
  }

  async commit(): Promise<void> {
    assert(!this.#ended, "a snapshot is committed once");
    const footer = Buffer.allocUnsafe(FOOTER_BYTES);
    footer.writeUInt32LE(0, 0);
    footer.writeUInt32LE(this.#crc, 4);
    footer.writeUInt32LE(this.#chunks, 8);
    await writeAll(this.#handle, footer);
    await this.#handle.sync();
    this.#ended = true;
    await this.#handle.close();
    await this.#fs.rename(this.#options.path, this.#options.finalPath);
    await this.#fs.syncDir(this.#options.dir);
  }

  async abort(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#handle.close();
    await this.#fs.remove(this.#options.path);
  }
}

/** A write may be short; all of `bytes` is written or it throws. */
async function writeAll(handle: OpenFile, bytes: Uint8Array): Promise<void> {
  let offset = 0;
  while (offset < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, offset, bytes.length - offset);
    offset += bytesWritten;
  }
}

class SnapshotReader {
  readonly #path: string;
  readonly #meta: SnapshotMeta;
  readonly #handle: OpenFile;
  readonly #sealer: Sealer;
  #offset = 0;
  #crc = 0;

  constructor(path: string, meta: SnapshotMeta, handle: OpenFile, sealer: Sealer) {
    this.#path = path;
    this.#meta = meta;
    this.#handle = handle;
    this.#sealer = sealer;
  }

  async *chunks(): AsyncGenerator<Uint8Array, void> {
    await this.#header();
    for (let chunk = 0; ; chunk += 1) {
      const frame = await this.#take(FRAME_BYTES);
      const length = frame.readUInt32LE(0);
      if (length === 0) {
        await this.#footer(frame.readUInt32LE(4), chunk);
        return;
      }
      if (length > MAX_CHUNK_BYTES + MAX_SEALING_BYTES) throw this.#damaged("a length is wrong");
      const sealed = await this.#take(length);
      this.#crc = crc32c(sealed, this.#crc);
      if (this.#crc !== frame.readUInt32LE(4)) {
        throw this.#damaged(`the checksum of chunk ${chunk} is wrong`);
      }
      yield this.#sealer.open(sealed, placeOf(this.#meta, chunk));
    }
  }

  async #header(): Promise<void> {
    const start = await this.#take(MAGIC.length + 4);
    if (!start.subarray(0, MAGIC.length).equals(MAGIC)) throw this.#damaged("it is no snapshot");
    const length = start.readUInt32LE(MAGIC.length);
    if (length > MAX_HEADER_BYTES) throw this.#damaged("the header's length is wrong");
    const bytes = await this.#take(length);
    const header = decodeMeta<Header>(bytes, this.#path);
    if (header.format !== FORMAT) {
      throw this.#damaged(`its format is ${header.format}, known is ${FORMAT}`);
    }
    if (header.meta.index !== this.#meta.index || header.meta.term !== this.#meta.term) {
      throw this.#damaged(`it covers index ${header.meta.index}, term ${header.meta.term}`);
    }
    this.#crc = crc32c(bytes);
  }

  async #footer(crc: number, chunks: number): Promise<void> {
    const count = (await this.#take(FOOTER_BYTES - FRAME_BYTES)).readUInt32LE(0);
    if (crc !== this.#crc || count !== chunks) throw this.#damaged("the footer is wrong");
    const { size } = await this.#handle.stat();
    if (size !== this.#offset) throw this.#damaged("there is data after the footer");
  }

  async #take(length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length);
    let filled = 0;
    while (filled < length) {
      const rest = length - filled;
      const { bytesRead } = await this.#handle.read(buffer, filled, rest, this.#offset);
      if (bytesRead === 0) throw this.#damaged("it is cut short");
      filled += bytesRead;
      this.#offset += bytesRead;
    }
    return buffer;
  }

  #damaged(why: string): Error {
    return damaged(this.#path, why);
  }
}
