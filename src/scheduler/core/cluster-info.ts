import { assert } from "../../base/errors.ts";
import type { Node, Task } from "../../model/rows.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import type { DemandCache } from "./demand.ts";
import { addClaim, type Claim, copyNodeInfo, type NodeInfo, nodeInfoOf } from "./node-info.ts";

interface Entry {
  readonly node: Node;
  readonly tasks: readonly Task[];
  readonly info: NodeInfo;
}

/**
 * The nodes of one planning pass, in order of id. Placements of the pass are added as it goes, on
 * copies, so the cached infos keep saying what the state says.
 */
export class ClusterInfo {
  readonly #infos: Map<string, NodeInfo>;
  readonly #copied = new Set<string>();

  constructor(infos: Map<string, NodeInfo>) {
    this.#infos = infos;
  }

  get size(): number {
    return this.#infos.size;
  }

  nodes(): Iterable<NodeInfo> {
    return this.#infos.values();
  }

  get(nodeId: string): NodeInfo | undefined {
    return this.#infos.get(nodeId);
  }

  /** Adds a placement of this pass to a node and returns the node as it is then. */
  claim(nodeId: string, claim: Claim): NodeInfo {
    let info = this.#infos.get(nodeId);
    assert(info !== undefined, `placement on unknown node ${nodeId}`);
    if (!this.#copied.has(nodeId)) {
      info = copyNodeInfo(info);
      this.#copied.add(nodeId);
      this.#infos.set(nodeId, info);
    }
    addClaim(info, claim);
    return info;
  }
}

/**
 * Derives node infos from the state, reusing those whose node row and task rows are the very same
 * values as last time. Rows are frozen, so identity proves that nothing changed.
 */
export class ClusterInfoCache {
  readonly #demands: DemandCache;
  #entries: ReadonlyMap<string, Entry> = new Map();

  constructor(demands: DemandCache) {
    this.#demands = demands;
  }

  read(view: StateView): ClusterInfo {
    const entries = new Map<string, Entry>();
    const infos = new Map<string, NodeInfo>();
    for (const node of view.table("nodes").all()) {
      const entry = this.#entryOf(view, node);
      entries.set(node.id, entry);
      infos.set(node.id, entry.info);
    }
    this.#entries = entries;
    return new ClusterInfo(infos);
  }

  #entryOf(view: StateView, node: Node): Entry {
    const tasks = view.tasksOfNode(node.id);
    const known = this.#entries.get(node.id);
    if (known !== undefined && known.node === node && sameRows(known.tasks, tasks)) return known;
    const info = nodeInfoOf(node, tasks, task => {
      const row = specOfTask(view, task);
      return row === undefined ? null : this.#demands.of(row.spec);
    });
    return { node, tasks, info };
  }
}

function sameRows(a: readonly Task[], b: readonly Task[]): boolean {
  return a === b || (a.length === b.length && a.every((row, i) => row === b[i]));
}
