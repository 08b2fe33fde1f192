import type { Entry } from "../../src/raft/core/types.ts";

const FNV_PRIME = 0x01000193;
const FNV_OFFSET = 0x811c9dc5;

interface Hashed {
  readonly kind: Entry["kind"];
  readonly data: Uint8Array;
  readonly hash: number;
}

/** Hashes of entries by kind and content. Each entry is seen many times and hashed once. */
export class EntryHashes {
  readonly #known = new Map<number, Hashed>();

  of({ index, kind, data }: Pick<Entry, "index" | "kind" | "data">): number {
    const known = this.#known.get(index);
    if (known !== undefined && known.kind === kind && Buffer.compare(known.data, data) === 0) {
      return known.hash;
    }
    let hash = kind === "normal" ? FNV_OFFSET : FNV_PRIME;
    for (const byte of data) hash = Math.imul(hash ^ byte, FNV_PRIME);
    hash >>>= 0;
    this.#known.set(index, { kind, data, hash });
    return hash;
  }
}

/** What one log holds, as terms and hashes by index: the checkers' copy. */
export class LogShadow {
  readonly #of: EntryHashes;
  #base = 0;
  #baseTerm = 0;
  #terms: number[] = [];
  #hashes: number[] = [];

  constructor(hashes: EntryHashes) {
    this.#of = hashes;
  }

  /** The last index that a snapshot covers. */
  get base(): number {
    return this.#base;
  }

  get last(): number {
    return this.#base + this.#terms.length;
  }

  get lastTerm(): number {
    return this.#terms.at(-1) ?? this.#baseTerm;
  }

  /** Undefined beyond the end and before the snapshot's end. */
  term(index: number): number | undefined {
    if (index === this.#base) return this.#baseTerm;
    return this.#terms[index - this.#base - 1];
  }

  hash(index: number): number | undefined {
    return this.#hashes[index - this.#base - 1];
  }

  /** Whether it has the entry, itself or in a snapshot. */
  has(index: number, term: number): boolean {
    return index < this.#base || this.term(index) === term;
  }

  reset(index: number, term: number): void {
    this.#base = index;
    this.#baseTerm = term;
    this.#terms = [];
    this.#hashes = [];
  }

  put(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    const keep = Math.max(0, first.index - this.#base - 1);
    this.#terms.length = Math.min(this.#terms.length, keep);
    this.#hashes.length = this.#terms.length;
    for (const entry of entries) {
      if (entry.index <= this.#base) continue;
      this.#terms.push(entry.term);
      this.#hashes.push(this.#of.of(entry));
    }
  }

  copy(): LogShadow {
    const copy = new LogShadow(this.#of);
    copy.#base = this.#base;
    copy.#baseTerm = this.#baseTerm;
    copy.#terms = [...this.#terms];
    copy.#hashes = [...this.#hashes];
    return copy;
  }

  /** Whether both hold the same where neither is covered by a snapshot, to the same end. */
  agrees(other: LogShadow): boolean {
    if (this.last !== other.last) return false;
    for (let at = Math.max(this.base, other.base) + 1; at <= this.last; at += 1) {
      if (this.term(at) !== other.term(at) || this.hash(at) !== other.hash(at)) return false;
    }
    return true;
  }
}
