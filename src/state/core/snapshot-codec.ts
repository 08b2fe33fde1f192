import { SwarmError } from "../../base/errors.ts";
import { type RowMeta, TABLE_NAMES, type TableName } from "../../model/rows.ts";
import { deepFreeze } from "./freeze.ts";
import { sortInSlices } from "./sort-in-slices.ts";
import { StateTables, type StateTablesOptions } from "./tables.ts";

export const SNAPSHOT_FORMAT = 1;
/** Bytes of one chunk (the transport's and the storage's unit). */
export const MAX_SNAPSHOT_CHUNK_BYTES = 256 * 1024;
/** A row's line longer than this is damage, not data. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const NEWLINE = 0x0a;
const NO_BYTES = new Uint8Array();

const TABLES: ReadonlySet<unknown> = new Set(TABLE_NAMES);

/** The state at one moment: rows never change, so holding them is enough. */
export interface StateImage {
  readonly index: number;
  readonly nowMs: number;
  /** Rows in any order. */
  readonly tables: readonly (readonly [TableName, readonly RowMeta[]])[];
}

export function imageOf(state: StateTables): StateImage {
  const tables = TABLE_NAMES.map(name => [name, state.rows(name).unordered()] as const);
  return { index: state.index, nowMs: state.nowMs, tables };
}

/**
 * The image as lines of JSON: a header, `[table, row]` for each row, in order of id, and a trailer
 * with the number of rows, by which a truncated snapshot is told from a whole one. Null: nothing
 * yet, but a good moment to let others run.
 */
function* lines(image: StateImage): Generator<string | null> {
  let rows = 0;
  yield JSON.stringify({ v: SNAPSHOT_FORMAT, index: image.index, nowMs: image.nowMs });
  for (const [table, list] of image.tables) {
    for (const row of yield* sortInSlices(list)) {
      rows += 1;
      yield JSON.stringify([table, row]);
    }
  }
  yield JSON.stringify({ rows });
}

/**
 * The encoded image in chunks, made one at a time: stopping between two costs nothing. Some are
 * empty, after work that has no bytes to show.
 */
export function* encodeImage(image: StateImage): Generator<Uint8Array> {
  const encoder = new TextEncoder();
  let chunk = new Uint8Array(MAX_SNAPSHOT_CHUNK_BYTES);
  let used = 0;
  for (const line of lines(image)) {
    if (line === null) {
      yield NO_BYTES;
      continue;
    }
    let rest: Uint8Array = encoder.encode(`${line}\n`);
    while (rest.length > 0) {
      const part = rest.subarray(0, chunk.length - used);
      chunk.set(part, used);
      used += part.length;
      rest = rest.subarray(part.length);
      if (used === chunk.length) {
        yield chunk;
        chunk = new Uint8Array(MAX_SNAPSHOT_CHUNK_BYTES);
        used = 0;
      }
    }
  }
  if (used > 0) yield chunk.subarray(0, used);
}

function damaged(what: string): SwarmError {
  return new SwarmError("data_loss", `the state snapshot is damaged: ${what}`);
}

/** Builds a state from chunks cut anywhere. Throws SwarmError data_loss on damage. */
export class ImageDecoder {
  readonly #state: StateTables;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #partial: Uint8Array[] = [];
  #partialBytes = 0;
  #rows = 0;
  #phase: "header" | "rows" | "done" = "header";

  constructor(options: StateTablesOptions = {}) {
    this.#state = new StateTables(options);
  }

  push(chunk: Uint8Array): void {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end < 0) break;
      this.#keep(chunk.subarray(start, end));
      this.#takeLine();
      start = end + 1;
    }
    this.#keep(chunk.subarray(start));
  }

  /** The state; call it once, after the last chunk. */
  finish(): StateTables {
    if (this.#phase !== "done" || this.#partialBytes > 0) throw damaged("its end is missing");
    return this.#state;
  }

  #keep(part: Uint8Array): void {
    this.#partialBytes += part.length;
    if (this.#partialBytes > MAX_LINE_BYTES) throw damaged("a row is too long");
    if (part.length > 0) this.#partial.push(part.slice());
  }

  #takeLine(): void {
    const line = new Uint8Array(this.#partialBytes);
    let at = 0;
    for (const part of this.#partial) {
      line.set(part, at);
      at += part.length;
    }
    this.#partial = [];
    this.#partialBytes = 0;
    this.#take(this.#parse(line));
  }

  #parse(line: Uint8Array): unknown {
    try {
      return JSON.parse(this.#decoder.decode(line));
    } catch (error) {
      throw new SwarmError("data_loss", "the state snapshot is damaged: not JSON", {}, error);
    }
  }

  #take(value: unknown): void {
    if (this.#phase === "done") throw damaged("there is more after its end");
    if (this.#phase === "header") this.#takeHeader(value);
    else if (Array.isArray(value)) this.#takeRow(value[0], value[1]);
    else this.#takeTrailer(value);
  }

  #takeHeader(value: unknown): void {
    const { v, index, nowMs } = (value ?? {}) as Record<string, unknown>;
    if (v !== SNAPSHOT_FORMAT) {
      throw damaged(`its format is ${String(v)}, this swarmd reads ${SNAPSHOT_FORMAT}`);
    }
    if (typeof index !== "number" || typeof nowMs !== "number") throw damaged("bad header");
    this.#state.index = index;
    this.#state.nowMs = nowMs;
    this.#phase = "rows";
  }

  #takeRow(table: unknown, row: unknown): void {
    if (!TABLES.has(table) || typeof row !== "object" || row === null || !("id" in row)) {
      throw damaged("a row of no table");
    }
    const rows = this.#state.rows(table as TableName);
    const value = row as RowMeta;
    if (!rows.admits(value)) throw damaged(`a malformed row in ${String(table)}`);
    rows.put(value.id, this.#state.freezesRows ? deepFreeze(value) : value);
    this.#rows += 1;
  }

  #takeTrailer(value: unknown): void {
    const { rows } = (value ?? {}) as Record<string, unknown>;
    if (rows !== this.#rows) throw damaged(`${this.#rows} rows, ${String(rows)} expected`);
    this.#phase = "done";
  }
}
