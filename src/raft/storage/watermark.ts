import { errnoOf } from "../../base/errors.ts";
import { crc32c } from "./crc32c.ts";
import type { Files, OpenFile } from "./files.ts";

const RECORD_BYTES = 16;

/**
 * The number of the last batch known to be synced, in a file of its own that is not synced itself.
 * It may lag behind the log, never run ahead: when the log holds less than it says, LevelDB has
 * dropped synced records (it skips records with a wrong checksum in silence).
 */
export class Watermark {
  readonly #handle: OpenFile;
  #wanted = 0;
  #written = 0;
  #writing: Promise<void> | null = null;
  #error: unknown = null;

  private constructor(handle: OpenFile) {
    this.#handle = handle;
  }

  /** The file's watermark and the stored number: 0 when absent or unreadable. */
  static async open(
    path: string,
    files: Files,
  ): Promise<{ watermark: Watermark; sequence: number }> {
    const handle = await openOrCreate(path, files);
    const buffer = Buffer.alloc(RECORD_BYTES);
    const { bytesRead } = await handle.read(buffer, 0, RECORD_BYTES, 0);
    const intact =
      bytesRead === RECORD_BYTES && buffer.readUInt32LE(8) === crc32c(buffer.subarray(0, 8));
    const sequence = intact ? Number(buffer.readBigUInt64LE(0)) : 0;
    return { watermark: new Watermark(handle), sequence };
  }

  /** Notes that batch `sequence` is synced. Writes in the background, the latest number wins. */
  advance(sequence: number): void {
    this.#wanted = sequence;
    this.#writing ??= this.#write();
  }

  async close(): Promise<void> {
    while (this.#writing !== null) await this.#writing;
    await this.#handle.close();
  }

  /** The first write error: a watermark that stays behind only guards less. */
  get error(): unknown {
    return this.#error;
  }

  async #write(): Promise<void> {
    try {
      while (this.#written < this.#wanted) {
        const sequence = this.#wanted;
        const record = Buffer.alloc(RECORD_BYTES);
        record.writeBigUInt64LE(BigInt(sequence), 0);
        record.writeUInt32LE(crc32c(record.subarray(0, 8)), 8);
        await this.#handle.write(record, 0, RECORD_BYTES, 0);
        this.#written = sequence;
      }
    } catch (error) {
      this.#error ??= error;
    } finally {
      this.#writing = null;
    }
  }
}

async function openOrCreate(path: string, files: Files): Promise<OpenFile> {
  try {
    return await files.open(path, "update");
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    return files.open(path, "create");
  }
}
