import type { Node } from "../../model/rows.ts";
import type { Demand, Strategy } from "./demand.ts";
import { Heap, Least } from "./heap.ts";
import { type Candidate, type Compare, comparatorFor, randomComparator } from "./rank.ts";

/** The candidates of one place of the tree, best first. */
interface Leaf {
  best(taskId: string): Candidate | undefined;
  /** The candidate that `best` gave last was changed, or is full. */
  placed(candidate: Candidate, full: boolean): void;
}

class HeapLeaf implements Leaf {
  readonly #heap: Heap<Candidate>;

  constructor(candidates: Candidate[], compare: Compare) {
    this.#heap = new Heap(candidates, compare);
  }

  best(): Candidate | undefined {
    return this.#heap.peek();
  }

  placed(_candidate: Candidate, full: boolean): void {
    if (full) this.#heap.removeTop();
    else this.#heap.topChanged();
  }
}

/** The order differs from task to task, so each choice looks at all. */
class RandomLeaf implements Leaf {
  readonly #candidates: Set<Candidate>;

  constructor(candidates: readonly Candidate[]) {
    this.#candidates = new Set(candidates);
  }

  best(taskId: string): Candidate | undefined {
    const compare = randomComparator(taskId);
    let best: Candidate | undefined;
    for (const candidate of this.#candidates) {
      if (best === undefined || compare(candidate, best) < 0) best = candidate;
    }
    return best;
  }

  placed(candidate: Candidate, full: boolean): void {
    if (full) this.#candidates.delete(candidate);
  }
}

/** Where a task would go: the branches from the innermost out, and the node. */
export interface Choice {
  readonly path: SpreadTree[];
  readonly candidate: Candidate;
}

export interface TreeOptions {
  readonly strategy: Strategy;
  /** How many tasks will be placed at most. */
  readonly choices: number;
}

/**
 * Nodes grouped by the values of the spread preferences, outermost first (SwarmKit's decision
 * tree). Tasks go to the branch with the fewest tasks of the service that still has room, among
 * equals to the one with the better node; a node without the label is in the branch of the empty
 * value, which takes its equal share.
 */
export class SpreadTree {
  /** Wanted tasks of the service on all nodes of the branch, those without room included. */
  #tasks = 0;
  readonly #children = new Map<string, SpreadTree>();
  /** Children that may have room still. */
  readonly #open = new Set<SpreadTree>();
  readonly #options: TreeOptions;
  readonly #candidates: Least<Candidate>;
  #leaf: Leaf | null = null;

  constructor(options: TreeOptions) {
    this.#options = options;
    const { strategy, choices } = options;
    // Of as many choices none goes beyond as many of the best; at random anyone may be the best.
    const limit = strategy === "random" ? Number.POSITIVE_INFINITY : choices;
    this.#candidates = new Least(limit, comparatorFor(strategy));
  }

  /** Adds a node with `own` tasks of the service; no candidate when it has no room for more. */
  add(
    node: Node,
    own: number,
    preferences: Demand["preferences"],
    candidate: Candidate | null,
  ): void {
    let branch: SpreadTree = this;
    branch.#tasks += own;
    for (const read of preferences) {
      branch = branch.#child(read(node));
      branch.#tasks += own;
    }
    if (candidate !== null) branch.#candidates.add(candidate);
  }

  #child(value: string): SpreadTree {
    const known = this.#children.get(value);
    if (known !== undefined) return known;
    const child = new SpreadTree(this.#options);
    this.#children.set(value, child);
    this.#open.add(child);
    return child;
  }

  /** Ends the building: ranks the candidates. */
  seal(): void {
    for (const child of this.#children.values()) child.seal();
    const { strategy } = this.#options;
    const candidates = this.#candidates.take();
    this.#leaf =
      strategy === "random"
        ? new RandomLeaf(candidates)
        : new HeapLeaf(candidates, comparatorFor(strategy));
  }

  /** Where the task goes under the order `compare`; null when nothing below here has room. */
  choose(taskId: string, compare: Compare): Choice | null {
    const candidate = this.#leaf?.best(taskId);
    let best: Choice | null = candidate === undefined ? null : { path: [], candidate };
    let fewest = Number.POSITIVE_INFINITY;
    for (const child of this.#open) {
      if (child.#tasks > fewest) continue;
      const choice = child.choose(taskId, compare);
      if (choice === null) {
        this.#open.delete(child);
        continue;
      }
      const fewer = child.#tasks < fewest;
      if (fewer || best === null || compare(choice.candidate, best.candidate) < 0) best = choice;
      fewest = child.#tasks;
    }
    best?.path.push(this);
    return best;
  }

  /** Counts a task placed by a choice. */
  static placed({ path, candidate }: Choice, full: boolean): void {
    for (const branch of path) branch.#tasks += 1;
    const [place] = path;
    if (place !== undefined) place.#leaf?.placed(candidate, full);
  }
}
