/** What a heap holds: it writes down where. */
export interface HeapItem {
  /** Its place in the heap; -1 = it is in none. */
  at: number;
}

/**
 * A binary heap whose top is the least by `compare`. Items know their places, so that one whose rank
 * changed, or that goes, is found at once. An item is in one heap at most.
 */
export class Heap<T extends HeapItem> {
  readonly #items: T[] = [];
  readonly #compare: (a: T, b: T) => number;

  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#items.length;
  }

  /** In no order. */
  items(): readonly T[] {
    return this.#items;
  }

  peek(): T | undefined {
    return this.#items[0];
  }

  /** The item must be in no heap. */
  push(item: T): void {
    item.at = this.#items.length;
    this.#items.push(item);
    this.#siftUp(item);
  }

  /** Restores the order after this item's own rank changed. */
  changed(item: T): void {
    this.#siftUp(item);
    this.#siftDown(item);
  }

  remove(item: T): void {
    const { at } = item;
    item.at = -1;
    const last = this.#items.pop();
    if (last === undefined || last === item) return;
    this.#place(last, at);
    this.changed(last);
  }

  #place(item: T, at: number): void {
    this.#items[at] = item;
    item.at = at;
  }

  #siftUp(item: T): void {
    let { at } = item;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = this.#items[above];
      if (parent === undefined || this.#compare(item, parent) >= 0) break;
      this.#place(parent, at);
      at = above;
    }
    this.#place(item, at);
  }

  #siftDown(item: T): void {
    const items = this.#items;
    let { at } = item;
    for (;;) {
      let below = 2 * at + 1;
      let least = items[below];
      if (least === undefined) break;
      const right = items[below + 1];
      if (right !== undefined && this.#compare(right, least) < 0) {
        least = right;
        below += 1;
      }
      if (this.#compare(least, item) >= 0) break;
      this.#place(least, at);
      at = below;
    }
    this.#place(item, at);
  }
}
