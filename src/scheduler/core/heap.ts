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
