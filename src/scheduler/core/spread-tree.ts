import type { Strategy } from "./demand.ts";
import { Heap, type HeapItem } from "./heap.ts";
import { type Candidate, type Compare, comparatorFor, randomComparator } from "./rank.ts";

type Item = Candidate & HeapItem;

/**
 * Nodes grouped by the values of the spread preferences, outermost first (SwarmKit's decision
 * tree). Tasks go to the branch with the fewest tasks of the service that still has room, among
 * equals to the one with the better node; a node without the label is in the branch of the empty
 * value, which takes its equal share. Nodes are in the innermost branches, the leaves.
 */
export class SpreadTree<T extends Item> implements HeapItem {
  at = -1;
  /** Wanted tasks of the service on all nodes of the branch, those without room included. */
  #tasks = 0;
  readonly #parent: SpreadTree<T> | null;
  readonly #strategy: Strategy;
  readonly #children = new Map<string, SpreadTree<T>>();
  /** Children with room still, the one that is next on top. */
  readonly #open: Heap<SpreadTree<T>>;
  /** Of a leaf: nodes with room, best first. */
  readonly #candidates: Heap<T>;

  constructor(strategy: Strategy, parent: SpreadTree<T> | null = null) {
    this.#parent = parent;
    this.#strategy = strategy;
    const compare = comparatorFor(strategy);
    this.#candidates = new Heap<T>(compare);
    this.#open = new Heap<SpreadTree<T>>((a, b) => compareBranches(a, b, compare));
  }

  get tasks(): number {
    return this.#tasks;
  }

  /** The leaf below the branches of these values. */
  leaf(values: readonly string[]): SpreadTree<T> {
    let branch: SpreadTree<T> = this;
    for (const value of values) branch = branch.#child(value);
    return branch;
  }

  #child(value: string): SpreadTree<T> {
    const known = this.#children.get(value);
    if (known !== undefined) return known;
    const child = new SpreadTree<T>(this.#strategy, this);
    this.#children.set(value, child);
    return child;
  }

  /**
   * Of a leaf: one of its nodes, or one that becomes one of them, is now ranked otherwise, has room
   * or has none any more, and has so many more tasks of the service.
   */
  changed(candidate: T, hasRoom: boolean, moreTasks: number): void {
    const inHeap = candidate.at >= 0;
    if (hasRoom && inHeap) this.#candidates.changed(candidate);
    else if (hasRoom) this.#candidates.push(candidate);
    else if (inHeap) this.#candidates.remove(candidate);
    this.#rise(moreTasks);
  }

  #rise(moreTasks: number): void {
    let branch: SpreadTree<T> = this;
    for (;;) {
      branch.#tasks += moreTasks;
      const parent = branch.#parent;
      if (parent === null) return;
      parent.#ranked(branch);
      branch = parent;
    }
  }

  #ranked(child: SpreadTree<T>): void {
    const inHeap = child.at >= 0;
    if (child.best() === undefined) {
      if (inHeap) this.#open.remove(child);
    } else if (inHeap) this.#open.changed(child);
    else this.#open.push(child);
  }

  /** The best node of the branch that is next; undefined when nothing here has room. */
  best(): T | undefined {
    return this.#candidates.peek() ?? this.#open.peek()?.best();
  }

  /** Where this task goes. */
  choose(taskId: string): T | undefined {
    return this.#strategy === "random" ? this.#bestBy(randomComparator(taskId)) : this.best();
  }

  /** The order is this task's own, so all nodes of the branches that are level are looked at. */
  #bestBy(compare: Compare): T | undefined {
    let best = least(this.#candidates.items(), compare);
    let fewest = Number.POSITIVE_INFINITY;
    for (const child of this.#open.items()) {
      if (child.#tasks > fewest) continue;
      const candidate = child.#bestBy(compare);
      if (candidate === undefined) continue;
      if (child.#tasks < fewest || best === undefined || compare(candidate, best) < 0) {
        best = candidate;
      }
      fewest = child.#tasks;
    }
    return best;
  }
}

function compareBranches<T extends Item>(
  a: SpreadTree<T>,
  b: SpreadTree<T>,
  compare: Compare,
): number {
  const fewer = a.tasks - b.tasks;
  if (fewer !== 0) return fewer;
  const [bestA, bestB] = [a.best(), b.best()];
  return bestA === undefined || bestB === undefined ? 0 : compare(bestA, bestB);
}

function least<T extends Item>(items: readonly T[], compare: Compare): T | undefined {
  let best: T | undefined;
  for (const item of items) if (best === undefined || compare(item, best) < 0) best = item;
  return best;
}
