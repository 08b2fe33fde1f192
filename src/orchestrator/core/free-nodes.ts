import type { Node, Task } from "../../model/rows.ts";
import { isTerminal } from "../../model/task-state.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import { type Demand, DemandCache, NO_DEMAND } from "../../scheduler/core/demand.ts";
import { filtersFor, refusedBy } from "../../scheduler/core/filters.ts";
import { addClaim, claimOf, emptyNodeInfo, occupiesNode } from "../../scheduler/core/node-info.ts";
import { type ServiceDraft, wantedOf } from "./draft.ts";

/** It is wanted and has no place yet. */
export function isUnplaced(task: Task): boolean {
  return !isTerminal(task.status.state) && !occupiesNode(task);
}

/**
 * The nodes that could take one more task of a service as it is now, beside all that holds room
 * there. What the service's own tasks hold that are told to stop is free soon and counts as free.
 * Found out when it is first asked.
 */
export class FreeNodes {
  readonly #draft: ServiceDraft;
  readonly #demands = new DemandCache();
  #free: ReadonlySet<string> | null = null;
  /** Tasks given one of them, in this plan or before the scheduler has chosen. */
  #taken = 0;

  constructor(draft: ServiceDraft) {
    this.#draft = draft;
  }

  /** Whether there is one; the node itself where it is given (global services). */
  has(nodeId: string): boolean {
    return nodeId === "" ? this.#nodes().size > 0 : this.#nodes().has(nodeId);
  }

  /** Whether there is one that no other task waits for; then this one does. */
  take(nodeId: string): boolean {
    if (nodeId !== "") return this.has(nodeId);
    if (this.#nodes().size <= this.#taken) return false;
    this.#taken += 1;
    return true;
  }

  /** Whether the place of a task would do for a new one when it has gone. */
  fitsInPlaceOf(task: Task): boolean {
    const { view, service } = this.#draft;
    const node = view.table("nodes").get(task.nodeId);
    if (node === undefined) return false;
    const staying = new Set(
      this.#draft
        .slots()
        .flatMap(wantedOf)
        .map(({ id }) => id),
    );
    staying.delete(task.id);
    return this.#fits(view, node, this.#demands.of(service.spec), staying);
  }

  #nodes(): ReadonlySet<string> {
    if (this.#free !== null) return this.#free;
    const { view, service } = this.#draft;
    const demand = this.#demands.of(service.spec);
    const wanted = this.#draft.slots().flatMap(wantedOf);
    const staying = new Set(wanted.map(({ id }) => id));
    const free = new Set<string>();
    for (const node of view.table("nodes").all()) {
      if (this.#fits(view, node, demand, staying)) free.add(node.id);
    }
    this.#taken = wanted.filter(isUnplaced).length;
    this.#free = free;
    return free;
  }

  #fits(view: StateView, node: Node, demand: Demand, staying: ReadonlySet<string>): boolean {
    const filters = filtersFor(demand);
    const { id: serviceId } = this.#draft.service;
    const info = emptyNodeInfo(node);
    // An empty node that is refused need not be filled first.
    if (refusedBy(filters, info, demand, serviceId) !== null) return false;
    for (const task of view.tasksOfNode(node.id)) {
      const leaving = task.serviceId === serviceId && !staying.has(task.id);
      if (leaving || !occupiesNode(task)) continue;
      const spec = specOfTask(view, task)?.spec;
      addClaim(info, claimOf(task, spec === undefined ? NO_DEMAND : this.#demands.of(spec)));
    }
    return refusedBy(filters, info, demand, serviceId) === null;
  }
}
