import { assert } from "./errors.ts";

/** Items of one block; a full one is halved. */
const BLOCK_MAX = 256;

/**
 * A set in order, cheap to change and to read from anywhere: no step costs more than the search and
 * one block, however many items there are. Two items of which neither is before the other are one.
 */
export class SortedSet<T> {
  readonly #isBefore: (a: T, b: T) => boolean;
  /** In order, each with at least one item. */
  readonly #blocks: T[][] = [];
  #size = 0;
  #changes = 0;

  constructor(isBefore: (a: T, b: T) => boolean) {
    this.#isBefore = isBefore;
  }

  get size(): number {
    return this.#size;
  }

  /** It must not be in the set. */
  add(item: T): void {
    this.#size += 1;
    this.#changes += 1;
    const at = this.#blockOf(item);
    const block = this.#blocks[at];
    if (block === undefined) {
      this.#blocks.push([item]);
      return;
    }
    const place = this.#placeIn(block, item);
    // Items that come in order (a snapshot's) fill block after block.
    if (block.length >= BLOCK_MAX && place === block.length) {
      this.#blocks.splice(at + 1, 0, [item]);
      return;
    }
    block.splice(place, 0, item);
    if (block.length > BLOCK_MAX) this.#blocks.splice(at + 1, 0, block.splice(BLOCK_MAX / 2));
  }

  /** It, or one equal to it, must be in the set. */
  remove(item: T): void {
    const at = this.#blockOf(item);
    const block = this.#blocks[at] ?? [];
    const place = this.#placeIn(block, item);
    assert(this.#isAt(block, place, item), "what is removed from a sorted set is in it");
    this.#size -= 1;
    this.#changes += 1;
    block.splice(place, 1);
    const next = this.#blocks[at + 1] ?? [];
    if (block.length === 0) this.#blocks.splice(at, 1);
    else if (next.length > 0 && block.length + next.length <= BLOCK_MAX / 2) {
      block.push(...next);
      this.#blocks.splice(at + 1, 1);
    }
  }

  /** The first item; undefined when there is none. */
  first(): T | undefined {
    return this.#blocks[0]?.[0];
  }

  /** All items in order; as `after`. */
  [Symbol.iterator](): Generator<T> {
    return this.#from(null);
  }

  /** The items behind this one, in order. When the set changes meanwhile it goes on with what is. */
  after(item: T): Generator<T> {
    return this.#from({ item });
  }

  *#from(start: { readonly item: T } | null): Generator<T> {
    let last = start;
    let changes = this.#changes - 1;
    let at = 0;
    let place = 0;
    for (;;) {
      if (changes !== this.#changes) {
        changes = this.#changes;
        at = last === null ? 0 : this.#blockOf(last.item);
        place = last === null ? 0 : this.#placeBehind(this.#blocks[at] ?? [], last.item);
      }
      const block = this.#blocks[at];
      if (block === undefined) return;
      const next = block[place];
      if (next === undefined) {
        at += 1;
        place = 0;
        continue;
      }
      place += 1;
      yield next;
      if (changes !== this.#changes) last = { item: next };
    }
  }

  /** The last block that begins with the item or before it; the first when none does. */
  #blockOf(item: T): number {
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const first = this.#blocks[middle]?.[0];
      if (first !== undefined && !this.#isBefore(item, first)) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The place of the first item of the block that is not before this one. */
  #placeIn(block: readonly T[], item: T): number {
    let low = 0;
    let high = block.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = block[middle];
      if (other !== undefined && this.#isBefore(other, item)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #placeBehind(block: readonly T[], item: T): number {
    const place = this.#placeIn(block, item);
    return this.#isAt(block, place, item) ? place + 1 : place;
  }

  #isAt(block: readonly T[], place: number, item: T): boolean {
    const other = block[place];
    return other !== undefined && !this.#isBefore(item, other) && !this.#isBefore(other, item);
  }
}

/** A set of texts in the order of their code units. */
export function newSortedTexts(): SortedSet<string> {
  return new SortedSet<string>((a, b) => a < b);
}
