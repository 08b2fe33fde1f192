import { assert } from "../../base/errors.ts";

/** Ids of one block; a full one is halved. */
const BLOCK_MAX = 256;

/**
 * A set of ids in order, cheap to change and to read from anywhere: no step costs more than the
 * search and one block, however many there are.
 */
export class SortedIds {
  /** In order, each with at least one id. */
  readonly #blocks: string[][] = [];
  #count = 0;
  #changes = 0;

  get count(): number {
    return this.#count;
  }

  /** `id` must not be in the set. */
  add(id: string): void {
    this.#count += 1;
    this.#changes += 1;
    const at = this.#blockOf(id);
    const block = this.#blocks[at];
    if (block === undefined) {
      this.#blocks.push([id]);
      return;
    }
    const place = lowerBound(block, id);
    // Ids that come in order (a snapshot's) fill block after block.
    if (block.length >= BLOCK_MAX && place === block.length) {
      this.#blocks.splice(at + 1, 0, [id]);
      return;
    }
    block.splice(place, 0, id);
    if (block.length > BLOCK_MAX) this.#blocks.splice(at + 1, 0, block.splice(BLOCK_MAX / 2));
  }

  /** `id` must be in the set. */
  remove(id: string): void {
    const at = this.#blockOf(id);
    const block = this.#blocks[at] ?? [];
    const place = lowerBound(block, id);
    assert(block[place] === id, `id ${id} is in the set`);
    this.#count -= 1;
    this.#changes += 1;
    block.splice(place, 1);
    const next = this.#blocks[at + 1] ?? [];
    if (block.length === 0) this.#blocks.splice(at, 1);
    else if (next.length > 0 && block.length + next.length <= BLOCK_MAX / 2) {
      block.push(...next);
      this.#blocks.splice(at + 1, 1);
    }
  }

  /** All ids in order; as `after`. */
  [Symbol.iterator](): Generator<string> {
    return this.after("");
  }

  /** The ids behind this one, in order. When the set changes meanwhile it goes on with what is. */
  *after(id: string): Generator<string> {
    let last = id;
    let changes = -1;
    let at = 0;
    let place = 0;
    for (;;) {
      if (changes !== this.#changes) {
        changes = this.#changes;
        at = this.#blockOf(last);
        place = lowerBound(this.#blocks[at] ?? [], last);
        if (this.#blocks[at]?.[place] === last) place += 1;
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
      last = next;
      yield next;
    }
  }

  /** The last block that begins with the id or before it; the first when none does. */
  #blockOf(id: string): number {
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#blocks[middle]?.[0] ?? "") <= id) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** The place of the first id that is not before this one. */
function lowerBound(ids: readonly string[], id: string): number {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ids[middle] ?? "") < id) low = middle + 1;
    else high = middle;
  }
  return low;
}
