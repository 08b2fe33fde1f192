import { deepEqual } from "../../base/deep-equal.ts";
import { assert } from "../../base/errors.ts";
import type { RowEvent } from "../../model/change.ts";
import type { Node, Task } from "../../model/rows.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import { type Demand, type DemandCache, NO_DEMAND } from "./demand.ts";
import type { GenericPool } from "./generic.ts";
import { NodeLevels } from "./levels.ts";
import {
  addClaim,
  type Claim,
  claimOf,
  emptyNodeInfo,
  type NodeInfo,
  occupiesNode,
  removeClaim,
} from "./node-info.ts";

/** When more than this part of what may be read was, no tasks are placed in the same plan. */
const SMALL_READ = 1 / 4;
/** A node costs as much as so many tasks. */
const TASKS_PER_NODE = 5;

/** A placement of the present plan, and what it cannot be computed back from. */
interface Claimed {
  readonly info: NodeInfo;
  readonly claim: Claim;
  readonly genericBefore: GenericPool;
}

/**
 * Keeps the infos of all nodes up to date with the state: by each change as it is applied, and by
 * reading a node anew when that is not enough. A plan claims room as it goes and releases it all at
 * its end, since only what is applied counts.
 */
export class ClusterTracker {
  readonly #demands: DemandCache;
  readonly #infos = new Map<string, NodeInfo>();
  /** Nodes whose tasks must be read anew before the next pass. */
  readonly #stale = new Set<string>();
  /** Nodes behind this id have not been read since the reset, and are in no list; null = none. */
  #unreadAfter: string | null = null;
  #ids: string[] = [];
  /** The infos in the order of `#ids`; a hole where a node has never been read. */
  #inOrder: (NodeInfo | undefined)[] = [];
  #claimed: Claimed[] = [];
  /** Null when places have shifted since: made anew when it is needed. */
  #levels: NodeLevels | null = null;
  /** Nodes that changed in any way; who keeps something about nodes takes them out. */
  readonly touched = new Set<string>();

  constructor(demands: DemandCache) {
    this.#demands = demands;
  }

  /** Of all nodes, in order. */
  get ids(): readonly string[] {
    return this.#ids;
  }

  get(nodeId: string): NodeInfo | undefined {
    return this.#infos.get(nodeId);
  }

  /** In order of id. */
  *nodes(): Generator<NodeInfo> {
    for (const id of this.#ids) {
      const info = this.get(id);
      if (info !== undefined) yield info;
    }
  }

  /** Nodes by number of tasks. `read` must have been through. */
  levels(): NodeLevels {
    if (this.#levels !== null) return this.#levels;
    const levels = new NodeLevels(this.#ids.length);
    this.#levels = levels;
    for (let place = 0; place < this.#inOrder.length; place++) {
      const info = this.#inOrder[place];
      if (info === undefined) continue;
      info.place = place;
      levels.move(place, info.tasks);
    }
    return levels;
  }

  /** The place in `ids` of the first node behind this id. */
  firstAfter(id: string): number {
    let low = 0;
    let high = this.#ids.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ids[middle] ?? "") <= id) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Everything is read anew, by the calls of `read` that follow. */
  reset(): void {
    assert(this.#claimed.length === 0, "no plan is being made");
    this.#infos.clear();
    this.touched.clear();
    this.#stale.clear();
    this.#ids = [];
    this.#inOrder = [];
    this.#levels = null;
    this.#unreadAfter = "";
  }

  /** Takes in one change; `view` is the state after its commit. */
  observe(event: RowEvent, view: StateView): void {
    if (event.table === "nodes") this.#observeNode(event.before, event.after, event.id);
    else if (event.table === "tasks") this.#observeTask(event.before, event.after, view);
  }

  /**
   * Brings the nodes up to date, by reading up to so many tasks (a node counts as some); false when
   * this was enough for one plan: call again.
   */
  read(view: StateView, tasksMax: number): boolean {
    let cost = 0;
    for (const nodeId of this.#stale) {
      if (cost >= tasksMax) return false;
      this.#stale.delete(nodeId);
      const node = view.table("nodes").get(nodeId);
      if (node === undefined) continue;
      cost += this.#readNode(view, node, this.firstAfter(nodeId) - 1);
      this.touched.add(nodeId);
    }
    if (this.#unreadAfter === null) return true;
    for (const node of view.table("nodes").after(this.#unreadAfter)) {
      if (cost >= tasksMax) return false;
      this.#unreadAfter = node.id;
      this.#ids.push(node.id);
      cost += this.#readNode(view, node, this.#ids.length - 1);
    }
    this.#unreadAfter = null;
    this.levels();
    return cost <= tasksMax * SMALL_READ;
  }

  /** Takes room for a placement of the present plan. */
  claim(nodeId: string, claim: Claim): void {
    const info = this.#infos.get(nodeId);
    assert(info !== undefined, `placement on unknown node ${nodeId}`);
    this.#claimed.push({ info, claim, genericBefore: info.generic });
    addClaim(info, claim);
    this.#moved(info);
  }

  /** Ends a plan: its claims are undone. */
  release(): void {
    for (const { info, claim, genericBefore } of this.#claimed.reverse()) {
      removeClaim(info, claim);
      info.generic = genericBefore;
      this.#moved(info);
    }
    this.#claimed = [];
  }

  #moved(info: NodeInfo): void {
    this.touched.add(info.node.id);
    this.#levels?.move(info.place, info.tasks);
  }

  #observeNode(before: Node | null, after: Node | null, id: string): void {
    // A node not yet come to is read as it then is.
    if (this.#unreadAfter !== null && id > this.#unreadAfter) return;
    this.touched.add(id);
    if (after === null) {
      this.#forget(id);
      return;
    }
    const at = this.firstAfter(id);
    if (this.#ids[at - 1] !== id) {
      this.#ids.splice(at, 0, id);
      this.#inOrder.splice(at, 0, undefined);
      this.#levels = null;
    }
    const info = this.#infos.get(id);
    if (info === undefined) {
      this.#stale.add(id);
      return;
    }
    info.node = after;
    const resources = before?.description?.resources;
    if (!deepEqual(resources, after.description?.resources)) this.#stale.add(id);
  }

  #forget(id: string): void {
    const at = this.firstAfter(id) - 1;
    if (this.#ids[at] === id) {
      this.#ids.splice(at, 1);
      this.#inOrder.splice(at, 1);
    }
    this.#levels = null;
    this.#infos.delete(id);
    this.#stale.delete(id);
  }

  #observeTask(before: Task | null, after: Task | null, view: StateView): void {
    if (before !== null && occupiesNode(before)) this.#change(before, view, removeClaim);
    if (after !== null && occupiesNode(after)) this.#change(after, view, addClaim);
  }

  #change(task: Task, view: StateView, apply: (info: NodeInfo, claim: Claim) => void): void {
    const info = this.#infos.get(task.nodeId);
    if (info === undefined || this.#stale.has(task.nodeId)) return;
    const demand = this.#demandOf(task, view);
    if (demand === null || task.assignedGeneric.length > 0) this.#stale.add(task.nodeId);
    else apply(info, claimOf(task, demand));
    this.#moved(info);
  }

  #demandOf(task: Task, view: StateView): Demand | null {
    const row = specOfTask(view, task);
    return row === undefined ? null : this.#demands.of(row.spec);
  }

  /** Returns how much there was to look at. */
  #readNode(view: StateView, node: Node, place: number): number {
    const info = emptyNodeInfo(node);
    const tasks = view.tasksOfNode(node.id);
    for (const task of tasks) {
      if (occupiesNode(task)) {
        addClaim(info, claimOf(task, this.#demandOf(task, view) ?? NO_DEMAND));
      }
    }
    info.place = place;
    this.#inOrder[place] = info;
    this.#infos.set(node.id, info);
    this.#levels?.move(place, info.tasks);
    return tasks.length + TASKS_PER_NODE;
  }
}
