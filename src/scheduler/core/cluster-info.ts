import { assert } from "../../base/errors.ts";
import type { RowEvent } from "../../model/change.ts";
import type { Node, Task } from "../../model/rows.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import { deepEqual } from "../../orchestrator/core/deep-equal.ts";
import { type Demand, type DemandCache, NO_DEMAND } from "./demand.ts";
import {
  addClaim,
  type Claim,
  claimOf,
  copyNodeInfo,
  emptyNodeInfo,
  type NodeInfo,
  occupiesNode,
  removeClaim,
} from "./node-info.ts";

/** Tasks looked at in one go when nodes are read anew, so that this holds the loop briefly. */
export const TASKS_PER_READ_MAX = 20_000;
/** A node costs as much as so many tasks. */
const TASKS_PER_NODE = 5;

/**
 * The nodes of one planning pass, in order of id. Placements of the pass are added as it goes, on
 * copies, so the tracked infos keep saying what the state says.
 */
export class ClusterInfo {
  readonly #ids: readonly string[];
  readonly #infos: ReadonlyMap<string, NodeInfo>;
  readonly #changed = new Map<string, NodeInfo>();

  constructor(ids: readonly string[], infos: ReadonlyMap<string, NodeInfo>) {
    this.#ids = ids;
    this.#infos = infos;
  }

  get size(): number {
    return this.#ids.length;
  }

  *nodes(): Generator<NodeInfo> {
    for (const id of this.#ids) {
      const info = this.get(id);
      if (info !== undefined) yield info;
    }
  }

  get(nodeId: string): NodeInfo | undefined {
    return this.#changed.get(nodeId) ?? this.#infos.get(nodeId);
  }

  /** Adds a placement of this pass to a node and returns the node as it is then. */
  claim(nodeId: string, claim: Claim): NodeInfo {
    let info = this.#changed.get(nodeId);
    if (info === undefined) {
      const tracked = this.#infos.get(nodeId);
      assert(tracked !== undefined, `placement on unknown node ${nodeId}`);
      info = copyNodeInfo(tracked);
      this.#changed.set(nodeId, info);
    }
    addClaim(info, claim);
    return info;
  }
}

/**
 * Keeps the infos of all nodes up to date with the state: by each change as it is applied, and by
 * reading a node anew when that is not enough.
 */
export class ClusterTracker {
  readonly #demands: DemandCache;
  readonly #infos = new Map<string, NodeInfo>();
  /** Nodes whose tasks must be read anew before the next pass. */
  readonly #stale = new Set<string>();
  /** Ids in order; null = a node came or went since. */
  #ids: readonly string[] | null = null;

  constructor(demands: DemandCache) {
    this.#demands = demands;
  }

  /** Everything is read anew. */
  reset(view: StateView): void {
    this.#infos.clear();
    this.#stale.clear();
    this.#ids = null;
    for (const node of view.table("nodes").all()) this.#track(node);
  }

  /** Takes in one change; `view` is the state after its commit. */
  observe(event: RowEvent, view: StateView): void {
    if (event.table === "nodes") this.#observeNode(event.before, event.after, event.id);
    else if (event.table === "tasks") this.#observeTask(event.before, event.after, view);
  }

  /**
   * The nodes for one pass. Null when there was too much to read at once: the next call goes on.
   */
  read(view: StateView): ClusterInfo | null {
    let tasksRead = 0;
    for (const nodeId of this.#stale) {
      if (tasksRead >= TASKS_PER_READ_MAX) return null;
      tasksRead += this.#readNode(view, nodeId);
    }
    this.#ids ??= [...this.#infos.keys()].sort();
    return new ClusterInfo(this.#ids, this.#infos);
  }

  #track(node: Node): void {
    this.#infos.set(node.id, emptyNodeInfo(node));
    this.#stale.add(node.id);
    this.#ids = null;
  }

  #observeNode(before: Node | null, after: Node | null, id: string): void {
    if (after === null) {
      this.#infos.delete(id);
      this.#stale.delete(id);
      this.#ids = null;
      return;
    }
    const info = this.#infos.get(id);
    if (info === undefined) {
      this.#track(after);
      return;
    }
    info.node = after;
    const resources = before?.description?.resources;
    if (!deepEqual(resources, after.description?.resources)) this.#stale.add(id);
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
  }

  #demandOf(task: Task, view: StateView): Demand | null {
    const row = specOfTask(view, task);
    return row === undefined ? null : this.#demands.of(row.spec);
  }

  /** Returns how much there was to look at. */
  #readNode(view: StateView, nodeId: string): number {
    this.#stale.delete(nodeId);
    const node = this.#infos.get(nodeId)?.node;
    if (node === undefined) return TASKS_PER_NODE;
    const info = emptyNodeInfo(node);
    const tasks = view.tasksOfNode(nodeId);
    for (const task of tasks) {
      if (occupiesNode(task)) {
        addClaim(info, claimOf(task, this.#demandOf(task, view) ?? NO_DEMAND));
      }
    }
    this.#infos.set(nodeId, info);
    return tasks.length + TASKS_PER_NODE;
  }
}
