import { type RowMeta, TABLE_NAMES, type TableName } from "../../model/rows.ts";
import { canonicalJson } from "./canonical.ts";
import type { StateTables } from "./tables.ts";

const FNV_PRIME = 0x01000193;
const FNV_OFFSET = 0x811c9dc5;
const MIX = 0x85ebca6b;

/** Two 32-bit lanes over text: FNV-1a, and a multiply-rotate with another constant. */
class Hash64 {
  #a = FNV_OFFSET;
  #b = MIX;

  add(text: string): void {
    let a = this.#a;
    let b = this.#b;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      a = Math.imul(a ^ code, FNV_PRIME);
      b = Math.imul((b << 5) ^ (b >>> 27) ^ code, MIX);
    }
    this.#a = a;
    this.#b = b;
  }

  hex(): string {
    const lane = (value: number): string => (value >>> 0).toString(16).padStart(8, "0");
    return lane(this.#a) + lane(this.#b);
  }
}

/**
 * A fingerprint of the whole state: equal on managers that have applied the same log, before and
 * after a snapshot. It finds divergence; it does not withstand an adversary. Hashes of rows are
 * remembered by row, so a second digest costs only what changed.
 */
export class Digester {
  readonly #rowHashes = new WeakMap<RowMeta, string>();

  digest(state: StateTables): string {
    const whole = new Hash64();
    for (const table of TABLE_NAMES) {
      whole.add(`${table}:${state.table(table).size};`);
      for (const row of state.rows(table).all()) whole.add(this.#rowHash(table, row));
    }
    return whole.hex();
  }

  #rowHash(table: TableName, row: RowMeta): string {
    const known = this.#rowHashes.get(row);
    if (known !== undefined) return known;
    const hash = new Hash64();
    hash.add(table);
    hash.add(canonicalJson(row));
    const hex = hash.hex();
    this.#rowHashes.set(row, hex);
    return hex;
  }
}
