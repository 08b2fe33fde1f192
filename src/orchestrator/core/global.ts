import type { Node } from "../../model/rows.ts";
import { isTerminal } from "../../model/task-state.ts";
import type { Constraint } from "../../scheduler/core/constraint.ts";
import { type ServiceDraft, type Slot, wantedOf } from "./draft.ts";
import { constraintsOf, keepsTasks, nodeFits } from "./nodes.ts";
import { createInSlot, isExhausted, planRestarts } from "./restart.ts";

/** What a global service does on a node. */
type NodeUse =
  /** One task, updated and restarted. */
  | "run"
  /** What runs may run on; nothing is added, restarted or updated. */
  | "keep"
  /** Nothing: drained, down or not matching the constraints. */
  | "stop";

function useOf(constraints: readonly Constraint[] | null, node: Node): NodeUse {
  if (!keepsTasks(node) || !nodeFits(constraints, node)) return "stop";
  if (node.spec.Availability === "pause" || node.description === null) return "keep";
  return "run";
}

/** Ids of the nodes that a new task may be made for, in order. */
export function eligibleNodes(draft: ServiceDraft): string[] {
  const constraints = constraintsOf(draft.service.spec);
  return [...draft.view.table("nodes").all()]
    .filter(node => useOf(constraints, node) === "run")
    .map(node => node.id);
}

/** One task on every node that may have one. Returns the slots an update may touch. */
export function planGlobal(draft: ServiceDraft): ReadonlySet<string> {
  const constraints = constraintsOf(draft.service.spec);
  const nodes = draft.view.table("nodes");
  const updatable = new Set<string>();
  for (const slot of draft.slots()) {
    if (nodes.get(slot.nodeId) === undefined) removeAll(draft, slot);
  }
  for (const node of nodes.all()) {
    const use = useOf(constraints, node);
    if (use === "run") {
      planNode(draft, node.id);
      updatable.add(node.id);
    } else {
      stopOnNode(draft, node.id, use);
    }
  }
  return updatable;
}

/** The node was removed: nobody will report of these tasks again. */
function removeAll(draft: ServiceDraft, slot: Slot): void {
  for (const task of slot.tasks) draft.setDesired(task, "remove");
}

function planNode(draft: ServiceDraft, nodeId: string): void {
  planRestarts(draft, nodeId, "running");
  const slot = draft.slot(nodeId);
  if (slot !== undefined && (wantedOf(slot).length > 0 || isExhausted(draft, slot))) return;
  createInSlot(draft, { slot: 0, nodeId, tasks: slot?.tasks ?? [] }, 0, "running");
}

function stopOnNode(draft: ServiceDraft, nodeId: string, use: NodeUse): void {
  for (const task of wantedOf(draft.slot(nodeId))) {
    if (use === "stop" || isTerminal(task.status.state)) draft.setDesired(task, "shutdown");
  }
}
