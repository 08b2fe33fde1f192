/**
 * What the loop has to plan: keys that are dirty now, and keys to look at again at a time. Keys of
 * different planners do not mix; a key is in either list at most once.
 */
export class Agenda {
  readonly #dirty: Set<string>[];
  readonly #wakes: Map<string, number>[];
  readonly #failures: Map<string, number>[];
  #nextWakeMs = Number.POSITIVE_INFINITY;

  constructor(planners: number) {
    const each = Array.from({ length: planners });
    this.#dirty = each.map(() => new Set<string>());
    this.#wakes = each.map(() => new Map<string, number>());
    this.#failures = each.map(() => new Map<string, number>());
  }

  get hasDirty(): boolean {
    return this.#dirty.some(keys => keys.size > 0);
  }

  /** A lower bound of the next wake-up; Infinity = none. */
  get nextWakeMs(): number {
    return this.#nextWakeMs;
  }

  mark(planner: number, keys: Iterable<string>): void {
    const dirty = this.#dirty[planner];
    for (const key of keys) dirty?.add(key);
  }

  /** Takes the dirty keys of a planner away, in order of becoming dirty. */
  take(planner: number): string[] {
    const dirty = this.#dirty[planner];
    const keys = [...(dirty ?? [])];
    dirty?.clear();
    return keys;
  }

  /** Null forgets the key's wake-up. */
  setWake(planner: number, key: string, atMs: number | null): void {
    if (atMs === null) this.#wakes[planner]?.delete(key);
    else {
      this.#wakes[planner]?.set(key, atMs);
      this.#nextWakeMs = Math.min(this.#nextWakeMs, atMs);
    }
  }

  /** Makes dirty what is due. */
  wake(nowMs: number): void {
    if (nowMs < this.#nextWakeMs) return;
    let next = Number.POSITIVE_INFINITY;
    this.#wakes.forEach((wakes, planner) => {
      for (const [key, atMs] of wakes) {
        if (atMs > nowMs) next = Math.min(next, atMs);
        else {
          wakes.delete(key);
          this.#dirty[planner]?.add(key);
        }
      }
    });
    this.#nextWakeMs = next;
  }

  /** Counts a failure of the key; returns how many it has had in a row. */
  fail(planner: number, key: string): number {
    const failures = this.#failures[planner];
    const count = (failures?.get(key) ?? 0) + 1;
    failures?.set(key, count);
    return count;
  }

  succeed(planner: number, key: string): void {
    this.#failures[planner]?.delete(key);
  }

  hasFailed(planner: number, key: string): boolean {
    return this.#failures[planner]?.has(key) ?? false;
  }
}
