/** A binary heap whose top is the least by `compare`. */
export class Heap<T> {
  readonly #items: T[];
  readonly #compare: (a: T, b: T) => number;

  /** Takes over `items`. */
  constructor(items: T[], compare: (a: T, b: T) => number) {
    this.#items = items;
    this.#compare = compare;
    for (let i = (items.length >> 1) - 1; i >= 0; i--) this.#siftDown(i);
  }

  get size(): number {
    return this.#items.length;
  }

  peek(): T | undefined {
    return this.#items[0];
  }

  replaceTop(item: T): void {
    this.#items[0] = item;
    this.#siftDown(0);
  }

  /** Restores the order after the top's own rank changed. */
  topChanged(): void {
    this.#siftDown(0);
  }

  removeTop(): void {
    const last = this.#items.pop();
    if (last === undefined || this.#items.length === 0) return;
    this.#items[0] = last;
    this.#siftDown(0);
  }

  #siftDown(start: number): void {
    const items = this.#items;
    let at = start;
    for (;;) {
      const least = this.#least(at, 2 * at + 1, 2 * at + 2);
      if (least === at) return;
      const [a, b] = [items[at], items[least]];
      if (a === undefined || b === undefined) return;
      items[at] = b;
      items[least] = a;
      at = least;
    }
  }

  /** The index of the least item among those that exist. */
  #least(...indexes: readonly number[]): number {
    let best = indexes[0] ?? 0;
    for (const index of indexes) {
      const [item, least] = [this.#items[index], this.#items[best]];
      if (item === undefined || least === undefined) continue;
      if (this.#compare(item, least) < 0) best = index;
    }
    return best;
  }
}

/** The `limit` least of any number of items by `compare`. */
export class Least<T> {
  readonly #items: T[] = [];
  readonly #limit: number;
  readonly #compare: (a: T, b: T) => number;
  /** The greatest of those kept on top, once there are too many. */
  #kept: Heap<T> | null = null;

  constructor(limit: number, compare: (a: T, b: T) => number) {
    this.#limit = limit;
    this.#compare = compare;
  }

  add(item: T): void {
    if (this.#items.length < this.#limit) {
      this.#items.push(item);
      return;
    }
    this.#kept ??= new Heap(this.#items, (a, b) => this.#compare(b, a));
    const greatest = this.#kept.peek();
    if (greatest !== undefined && this.#compare(item, greatest) < 0) this.#kept.replaceTop(item);
  }

  /** In no order. */
  take(): T[] {
    return this.#items;
  }
}
