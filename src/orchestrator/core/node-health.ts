import type { Change, RowEvent } from "../../model/change.ts";
import { earliest, type Plan, type PlanContext, type Planner } from "../../model/planner.ts";
import type { Task } from "../../model/rows.ts";
import { isTerminal, isWanted } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { isGone, nodeOf } from "./nodes.ts";

/** How long a replaced task of a node that is down is waited for (SwarmKit dispatcher: 24 h). */
export const ORPHAN_AFTER_MS = 24 * 3_600_000;

/**
 * Gives up tasks of nodes that are gone: at once when the node was removed, after a day when it is
 * down. Counted from the task's last change, since nothing changes a lost task once it is replaced.
 * Keys are node ids.
 */
export const nodeHealthPlanner: Planner = {
  name: "node-health",
  keysAreIndependent: true,
  keysOf,
  allKeys,
  plan: planOrphans,
};

function allKeys(view: StateView): Iterable<string> {
  const keys = new Set<string>();
  for (const node of view.table("nodes").all()) if (isGone(node)) keys.add(node.id);
  for (const task of view.table("tasks").all()) {
    if (task.nodeId !== "" && nodeOf(view, task.nodeId) === undefined) keys.add(task.nodeId);
  }
  return keys;
}

function keysOf(event: RowEvent, view: StateView): Iterable<string> {
  if (event.table === "nodes") {
    return event.after === null || event.after.status.state === "down" ? [event.id] : [];
  }
  if (event.table !== "tasks" || event.after === null || event.after.nodeId === "") return [];
  return isGone(nodeOf(view, event.after.nodeId)) ? [event.after.nodeId] : [];
}

function planOrphans(view: StateView, nodeId: string, ctx: PlanContext): Plan {
  const node = nodeOf(view, nodeId);
  const changes: Change[] = [];
  let wakeAtMs: number | null = null;
  if (!isGone(node)) return { changes, wakeAtMs, notes: [] };
  for (const task of view.tasksOfNode(nodeId)) {
    if (isTerminal(task.status.state)) continue;
    // A wanted task is the service planner's to replace first; its day begins then.
    if (node !== undefined && isWanted(task.desiredState)) continue;
    const dueMs = node === undefined ? ctx.nowMs : task.updatedAtMs + ORPHAN_AFTER_MS;
    if (dueMs <= ctx.nowMs) changes.push(orphan(task, node === undefined, ctx.nowMs));
    else wakeAtMs = earliest(wakeAtMs, dueMs);
  }
  return { changes, wakeAtMs, notes: [] };
}

function orphan(task: Task, removed: boolean, nowMs: number): Change {
  const err = removed
    ? "its node was removed from the cluster"
    : "its node has been down for 24 hours";
  const status = {
    ...task.status,
    state: "orphaned",
    timestampMs: nowMs,
    message: "task orphaned",
    err,
  } as const;
  return { op: "taskStatus", id: task.id, status };
}
