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

  /** Puts `item` in place of the top, which leaves. */
  replaceTop(item: T): void {
    const [top] = this.#items;
    if (top !== undefined) top.at = -1;
    this.#place(item, 0);
    this.#siftDown(item);
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

/** The `limit` least of any number of items by `compare`. */
export class Least<T> {
  readonly #items: T[] = [];
  readonly #limit: number;
  readonly #compare: (a: T, b: T) => number;
  /** The greatest of those kept on top, once there are too many. */
  #kept: Heap<{ at: number; item: T }> | null = null;

  constructor(limit: number, compare: (a: T, b: T) => number) {
    this.#limit = limit;
    this.#compare = compare;
  }

  add(item: T): void {
    if (this.#kept === null && this.#items.length < this.#limit) {
      this.#items.push(item);
      return;
    }
    const kept = this.#kept ?? this.#heap();
    const greatest = kept.peek();
    if (greatest === undefined || this.#compare(item, greatest.item) >= 0) return;
    kept.replaceTop({ at: -1, item });
  }

  #heap(): Heap<{ at: number; item: T }> {
    this.#kept = new Heap((a, b) => this.#compare(b.item, a.item));
    for (const item of this.#items) this.#kept.push({ at: -1, item });
    return this.#kept;
  }

  /** In no order. */
  take(): T[] {
    return this.#kept?.items().map(({ item }) => item) ?? this.#items;
  }
}
