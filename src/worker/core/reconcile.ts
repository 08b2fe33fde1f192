import type { AssignedTask, AssignmentChange } from "../../model/assignment.ts";
import type { TaskStatus } from "../../model/rows.ts";
import { compareTaskStates } from "../../model/task-state.ts";
import type { FoundContainer } from "./container-view.ts";

/** What a set of assignments means for the tasks this node knows. */
export type TaskAction =
  /** A task this node has not seen, with its container if the Engine still has one. */
  | { readonly kind: "add"; readonly assigned: AssignedTask }
  /** A task it has: a newer desired state. */
  | { readonly kind: "update"; readonly assigned: AssignedTask }
  /** No longer this node's business: stop it and forget it. */
  | { readonly kind: "drop"; readonly taskId: string };

/**
 * Compares assignments with the known tasks, by id. With `complete` every known task that is not named is
 * dropped; without it only what a change says happens.
 */
export function planAssignments(
  known: Pick<ReadonlyMap<string, unknown>, "has" | "keys">,
  changes: readonly AssignmentChange[],
  complete: boolean,
): readonly TaskAction[] {
  const wanted = new Map<string, AssignedTask | null>();
  for (const change of changes) {
    if (change.action === "remove") {
      if (change.kind === "task") wanted.set(change.id, null);
    } else if (change.kind === "task") wanted.set(change.item.task.id, change.item);
  }
  const actions: TaskAction[] = [];
  for (const [taskId, assigned] of wanted) {
    if (assigned !== null) {
      actions.push({ kind: known.has(taskId) ? "update" : "add", assigned });
    } else if (known.has(taskId)) actions.push({ kind: "drop", taskId });
  }
  if (complete) {
    for (const taskId of known.keys()) {
      if (!wanted.has(taskId)) actions.push({ kind: "drop", taskId });
    }
  }
  return actions;
}

/** Which container belongs to which task, and which belong to nobody. */
export interface Ownership {
  readonly containers: ReadonlyMap<string, FoundContainer>;
  readonly orphans: readonly FoundContainer[];
}

/**
 * Gives each task at most one container: the running one if there are several (only outside hands
 * make a second one), else the first by name. All others of this cluster are orphans.
 */
export function planOwnership(
  taskIds: ReadonlySet<string>,
  found: readonly FoundContainer[],
): Ownership {
  const containers = new Map<string, FoundContainer>();
  const orphans: FoundContainer[] = [];
  for (const container of [...found].sort(byPreference)) {
    const owned = taskIds.has(container.taskId) && !containers.has(container.taskId);
    if (owned) containers.set(container.taskId, container);
    else orphans.push(container);
  }
  return { containers, orphans };
}

function byPreference(a: FoundContainer, b: FoundContainer): number {
  const running = Number(b.phase === "running") - Number(a.phase === "running");
  if (running !== 0) return running;
  return a.name < b.name ? -1 : Number(a.name > b.name);
}

/** The later of the status this node kept and the one the managers know. */
export function laterStatus(kept: TaskStatus, reported: TaskStatus): TaskStatus {
  return compareTaskStates(reported.state, kept.state) > 0 ? reported : kept;
}
