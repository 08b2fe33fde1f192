import type { ClusterTracker } from "./cluster-info.ts";
import type { Demand } from "./demand.ts";
import { type Filter, filtersFor, refusedBy } from "./filters.ts";
import type { HeapItem } from "./heap.ts";
import { type NodeInfo, serviceTasks } from "./node-info.ts";
import { type Candidate, MAX_FAILURES, reservedShare } from "./rank.ts";
import { SpreadTree } from "./spread-tree.ts";

/** Tasks of one service and spec version: they ask the same, so one look at the nodes does. */
export interface TaskGroup {
  readonly serviceId: string;
  readonly demand: Demand;
  /** Recent failures of the group's service and spec version, by node id. */
  readonly failures: ReadonlyMap<string, number>;
}

interface Entry extends Candidate, HeapItem {
  info: NodeInfo;
  leaf: SpreadTree<Entry>;
  /** The filter that keeps tasks from the node; null when it has room. */
  refusedBy: Filter | null;
}

/**
 * The nodes as one group of tasks sees them: which have room, and in which order. It is made in
 * portions, and stays right as nodes change if it is told of each; so one look at a node serves as
 * many plans as the group takes.
 *
 * Where tasks go to the node with the fewest of them, nodes are looked at in that order, and no
 * further than the first that is surely the best; otherwise all are looked at, in order of id.
 */
export class Survey {
  readonly group: TaskGroup;
  readonly #cluster: ClusterTracker;
  readonly #filters: readonly Filter[];
  readonly #tree: SpreadTree<Entry>;
  readonly #entries = new Map<string, Entry>();
  readonly #byLevel: boolean;
  /** Nodes before this level, and on it up to this id, have been looked at. */
  #level = 0;
  #seenTo = "";
  #complete = false;

  constructor(group: TaskGroup, cluster: ClusterTracker) {
    const { demand } = group;
    this.group = group;
    this.#cluster = cluster;
    this.#filters = filtersFor(demand);
    this.#tree = new SpreadTree(demand.strategy);
    this.#byLevel = demand.strategy === "spread" && demand.preferences.length === 0;
  }

  /** Every node has been looked at. */
  get complete(): boolean {
    return this.#complete;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** It is known what `choose` is to answer. */
  get ready(): boolean {
    if (this.#complete) return true;
    const best = this.#byLevel ? this.#tree.best() : undefined;
    if (best === undefined || best.own > 0 || best.failures >= MAX_FAILURES) return false;
    return this.#isBehind(best.tasks, best.nodeId);
  }

  /** Whether it is what the group would see. */
  isOf({ serviceId, demand, failures }: TaskGroup): boolean {
    const own = this.group;
    return (
      own.serviceId === serviceId && own.demand === demand && sameCounts(own.failures, failures)
    );
  }

  /** Looks at up to so many nodes more, until it is ready; returns how many there were. */
  advance(looks: number): number {
    return this.#byLevel ? this.#advanceByLevel(looks) : this.#advanceById(looks);
  }

  #advanceByLevel(looks: number): number {
    const levels = this.#cluster.levels();
    const { ids } = this.#cluster;
    let done = 0;
    let place = this.#cluster.firstAfter(this.#seenTo);
    while (done < looks && !this.ready) {
      const next = levels.next(this.#level, place);
      if (next === null) {
        this.#complete = true;
        break;
      }
      const id = ids[next.place] ?? "";
      this.#level = next.level;
      this.#seenTo = id;
      place = next.place + 1;
      this.#look(id);
      done += 1;
    }
    return done;
  }

  #advanceById(looks: number): number {
    if (this.#complete) return 0;
    const { ids } = this.#cluster;
    const start = this.#cluster.firstAfter(this.#seenTo);
    const end = Math.min(ids.length, start + looks);
    for (let i = start; i < end; i++) {
      const id = ids[i] ?? "";
      this.#seenTo = id;
      this.#look(id);
    }
    this.#complete = end === ids.length;
    return end - start;
  }

  /** The node changed, came or went. */
  refresh(nodeId: string): void {
    const tasks = this.#cluster.get(nodeId)?.tasks ?? 0;
    if (this.#entries.has(nodeId) || this.#isBehind(tasks, nodeId)) this.#look(nodeId);
  }

  /** The way through the nodes has passed the place of this one, and will not come there again. */
  #isBehind(tasks: number, nodeId: string): boolean {
    if (this.#complete) return true;
    if (this.#byLevel && tasks !== this.#level) return tasks < this.#level;
    return nodeId <= this.#seenTo;
  }

  /** The node for a task of the group; null when none has room. It must be ready. */
  choose(taskId: string): NodeInfo | null {
    return this.#tree.choose(taskId)?.info ?? null;
  }

  /** Nodes without room by the filter that refuses them, in order of id; once it is complete. */
  refusals(): ReadonlyMap<Filter, readonly NodeInfo[]> {
    const refused = new Map<Filter, NodeInfo[]>(this.#filters.map(filter => [filter, []]));
    for (const id of this.#cluster.ids) {
      const entry = this.#entries.get(id);
      if (entry?.refusedBy) refused.get(entry.refusedBy)?.push(entry.info);
    }
    return refused;
  }

  #look(nodeId: string): void {
    const info = this.#cluster.get(nodeId);
    const known = this.#entries.get(nodeId);
    if (known !== undefined && (info === undefined || known.info.node !== info.node)) {
      this.#entries.delete(nodeId);
      known.leaf.changed(known, false, -known.own);
      if (info !== undefined) this.#add(info);
    } else if (known !== undefined && info !== undefined) this.#update(known, info);
    else if (info !== undefined) this.#add(info);
  }

  #add(info: NodeInfo): void {
    const { failures, demand } = this.group;
    const { node } = info;
    const entry: Entry = {
      nodeId: node.id,
      own: 0,
      tasks: 0,
      reserved: 0,
      failures: failures.get(node.id) ?? 0,
      at: -1,
      info,
      leaf: this.#tree.leaf(demand.preferences.map(read => read(node))),
      refusedBy: null,
    };
    this.#entries.set(node.id, entry);
    this.#update(entry, info);
  }

  #update(entry: Entry, info: NodeInfo): void {
    const { demand, serviceId } = this.group;
    const own = serviceTasks(info, serviceId);
    const more = own - entry.own;
    entry.info = info;
    entry.own = own;
    entry.tasks = info.tasks;
    if (demand.strategy === "binpack") entry.reserved = reservedShare(info);
    entry.refusedBy = refusedBy(this.#filters, info, demand, serviceId);
    entry.leaf.changed(entry, entry.refusedBy === null, more);
  }
}

function sameCounts(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  if (a.size !== b.size) return false;
  for (const [id, count] of a) if (b.get(id) !== count) return false;
  return true;
}
