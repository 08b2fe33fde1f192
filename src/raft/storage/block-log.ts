import { assert } from "../../base/errors.ts";

/** A stored run of entries: one record under the index of its first. */
export interface Block {
  readonly first: number;
  /** What the record chains to, and its own chain value (both checksums). */
  readonly previousChain: number;
  readonly chain: number;
}

/** Which blocks the stored log is made of; contiguous. */
export class BlockLog {
  #blocks: Block[] = [];
  #lastIndex = 0;
  /** Chain value before the first block. */
  #startChain = 0;

  /** Of the first block, or where it would begin. */
  get firstIndex(): number {
    return this.#blocks[0]?.first ?? this.#lastIndex + 1;
  }

  get lastIndex(): number {
    return this.#lastIndex;
  }

  get lastChain(): number {
    return this.#blocks.at(-1)?.chain ?? this.#startChain;
  }

  get blocks(): readonly Block[] {
    return this.#blocks;
  }

  /** Empty, to go on after `index`; `chain` is what the next block chains to. */
  reset(index: number, chain: number): void {
    this.#blocks = [];
    this.#lastIndex = index;
    this.#startChain = chain;
  }

  /** The block that holds `index`; undefined when none does. */
  find(index: number): Block | undefined {
    if (index > this.#lastIndex) return undefined;
    let low = 0;
    let high = this.#blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#blocks[middle]?.first ?? 0) <= index) low = middle + 1;
      else high = middle;
    }
    return this.#blocks[low - 1];
  }

  /** Takes away the blocks from `first` on, which is the first index of one of them, or beyond. */
  cut(first: number): readonly Block[] {
    const at = this.#blocks.findIndex(block => block.first >= first);
    if (at < 0) return [];
    const cut = this.#blocks.splice(at);
    assert(cut[0]?.first === first, `a block begins at ${first}`);
    this.#startChain = at === 0 ? cut[0].previousChain : this.#startChain;
    this.#lastIndex = first - 1;
    return cut;
  }

  append(block: { readonly first: number; readonly last: number; readonly chain: number }): void {
    assert(
      block.first === this.#lastIndex + 1,
      `block ${block.first} follows entry ${this.#lastIndex}`,
    );
    const { first, chain } = block;
    this.#blocks.push({ first, chain, previousChain: this.lastChain });
    this.#lastIndex = block.last;
  }

  /** Forgets the blocks that end before `index`. */
  dropBefore(index: number): void {
    const holder = this.find(Math.min(index, this.#lastIndex));
    const at = holder === undefined ? -1 : this.#blocks.indexOf(holder);
    if (at > 0) this.#blocks = this.#blocks.slice(at);
  }
}
