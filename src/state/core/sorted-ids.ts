/** Added ids that may pile up unread before they are merged, beyond a share of the whole. */
const MIN_SLACK = 64;

/**
 * A set of ids that is cheap to change and is put in order when it is read. Ids that left stay as
 * leftovers until the next read; whoever reads passes the test that tells them apart.
 */
export class SortedIds {
  #sorted: string[] = [];
  #added: string[] = [];
  #stale = false;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** `id` must not be in the set. */
  add(id: string): void {
    this.#added.push(id);
    this.#count += 1;
  }

  /** `id` must be in the set. */
  remove(): void {
    this.#stale = true;
    this.#count -= 1;
  }

  /** True when so much is unmerged that the owner should read once, to bound memory. */
  get bloated(): boolean {
    return this.#added.length + this.#sorted.length > 2 * this.#count + MIN_SLACK;
  }

  /** The ids in order. `isMember` says whether an id is still in the set. */
  read(isMember: (id: string) => boolean): readonly string[] {
    if (this.#added.length === 0 && !this.#stale) return this.#sorted;
    this.#added.sort();
    this.#sorted = merge(this.#sorted, this.#added, isMember);
    this.#added = [];
    this.#stale = false;
    return this.#sorted;
  }
}

function merge(
  a: readonly string[],
  b: readonly string[],
  isMember: (id: string) => boolean,
): string[] {
  const out: string[] = [];
  let last: string | undefined;
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    const left = a[i];
    const right = b[j];
    let id: string;
    if (left !== undefined && (right === undefined || left <= right)) {
      id = left;
      i += 1;
    } else {
      id = right ?? "";
      j += 1;
    }
    if (id !== last && isMember(id)) out.push(id);
    last = id;
  }
  return out;
}
