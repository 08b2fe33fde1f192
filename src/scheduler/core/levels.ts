const BITS = 32;

interface Level {
  readonly bits: Uint32Array;
  count: number;
}

/**
 * Nodes, by place in the order of ids, sorted by how many tasks they have. A node moves to another
 * level at once, and the next node in order of level and place is found without looking at others.
 */
export class NodeLevels {
  readonly #words: number;
  readonly #levelOf: Int32Array;
  readonly #levels = new Map<number, Level>();
  #highest = -1;
  /** The level that was moved to last: mostly the next one is the same. */
  #last: { readonly level: number; readonly at: Level } | null = null;

  constructor(nodes: number) {
    this.#words = Math.ceil(nodes / BITS);
    this.#levelOf = new Int32Array(nodes).fill(-1);
  }

  move(place: number, level: number): void {
    const before = this.#levelOf[place] ?? -1;
    if (before === level) return;
    this.#take(place, before);
    this.#levelOf[place] = level;
    const to = this.#level(level);
    const word = place >>> 5;
    to.bits[word] = (to.bits[word] ?? 0) | (1 << (place & 31));
    to.count += 1;
    this.#highest = Math.max(this.#highest, level);
  }

  /** The first node at or behind `place` on `level`, else on a higher level; null = none is left. */
  next(level: number, place: number): { readonly level: number; readonly place: number } | null {
    let from = place;
    for (let at = Math.max(0, level); at <= this.#highest; at++, from = 0) {
      const bits = this.#levels.get(at)?.bits;
      const found = bits === undefined ? -1 : firstBit(bits, from);
      if (found >= 0) return { level: at, place: found };
    }
    return null;
  }

  #take(place: number, level: number): void {
    if (level < 0) return;
    const from = this.#levels.get(level);
    if (from === undefined) return;
    const word = place >>> 5;
    from.bits[word] = (from.bits[word] ?? 0) & ~(1 << (place & 31));
    from.count -= 1;
    if (from.count > 0) return;
    this.#levels.delete(level);
    this.#last = null;
    if (level === this.#highest) this.#highest = Math.max(-1, ...this.#levels.keys());
  }

  #level(level: number): Level {
    if (this.#last?.level === level) return this.#last.at;
    const at = this.#levels.get(level) ?? { bits: new Uint32Array(this.#words), count: 0 };
    this.#levels.set(level, at);
    this.#last = { level, at };
    return at;
  }
}

/** The place of the first bit that is set, from `place` on; -1 = none. */
function firstBit(bits: Uint32Array, place: number): number {
  let word = place >>> 5;
  let value = (bits[word] ?? 0) & (-1 << (place & 31));
  while (value === 0) {
    word += 1;
    if (word >= bits.length) return -1;
    value = bits[word] ?? 0;
  }
  return word * BITS + (31 - Math.clz32(value & -value));
}
