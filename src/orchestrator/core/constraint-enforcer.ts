import type { Change, RowEvent } from "../../model/change.ts";
import { EMPTY_PLAN, type Plan, type PlanContext, type Planner } from "../../model/planner.ts";
import type { Node, Task } from "../../model/rows.ts";
import { modeKind, type ResourceReservations } from "../../model/service-spec.ts";
import { compareTaskStates, isWanted } from "../../model/task-state.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import { constraintsOf, keepsTasks, nodeFits, nodeOf } from "./nodes.ts";
import { samePlace } from "./service-planner.ts";

/**
 * Rejects tasks whose node has changed so that it no longer meets their service's constraints, or no
 * longer has what they reserve (SwarmKit constraintenforcer). Their replacement is the restart
 * policy's. Keys are node ids.
 */
export const constraintEnforcer: Planner = {
  name: "constraint-enforcer",
  keysAreIndependent: true,
  keysOf: event => (isNodeChange(event) ? [event.id] : []),
  allKeys: view => [...view.table("nodes").all()].map(node => node.id),
  plan: planEnforcement,
};

function isNodeChange(event: RowEvent): boolean {
  if (event.table !== "nodes" || event.after === null) return false;
  return event.before === null || !samePlace(event.before, event.after);
}

function planEnforcement(view: StateView, nodeId: string, ctx: PlanContext): Plan {
  const node = nodeOf(view, nodeId);
  if (node === undefined || !keepsTasks(node) || node.description === null) return EMPTY_PLAN;
  const changes: Change[] = [];
  const budget = new Budget(node);
  const tasks = view.tasksOfNode(nodeId).filter(isBound).sort(oldestFirst);
  for (const task of tasks) {
    const reservations = specOfTask(view, task)?.spec.TaskTemplate?.Resources?.Reservations;
    if (!meetsConstraints(view, task, node) || !budget.take(task, reservations ?? {})) {
      changes.push(reject(task, ctx.nowMs));
    }
  }
  return { changes, wakeAtMs: null, notes: [] };
}

/** Scheduled, alive, and meant to be. */
function isBound(task: Task): boolean {
  const { state } = task.status;
  return (
    isWanted(task.desiredState) &&
    compareTaskStates(state, "assigned") >= 0 &&
    compareTaskStates(state, "running") <= 0
  );
}

function oldestFirst(a: Task, b: Task): number {
  return a.createdAtMs - b.createdAtMs || (a.id < b.id ? -1 : 1);
}

/** Global modes look after their nodes themselves. */
function meetsConstraints(view: StateView, task: Task, node: Node): boolean {
  const service = view.table("services").get(task.serviceId);
  if (service === undefined || modeKind(service.spec).startsWith("global")) return true;
  return nodeFits(constraintsOf(service.spec), node);
}

function reject(task: Task, nowMs: number): Change {
  const status = {
    ...task.status,
    state: "rejected",
    timestampMs: nowMs,
    message: "task rejected by constraint enforcer",
    err: "assigned node no longer meets constraints",
  } as const;
  return { op: "taskStatus", id: task.id, status };
}

/** What the node has, less what the tasks already looked at reserve: the oldest keep theirs. */
class Budget {
  #nanoCpus: number;
  #memoryBytes: number;
  readonly #discrete = new Map<string, number>();
  readonly #named = new Set<string>();

  constructor(node: Node) {
    this.#nanoCpus = node.description?.resources.nanoCpus ?? 0;
    this.#memoryBytes = node.description?.resources.memoryBytes ?? 0;
    for (const item of node.description?.resources.generic ?? []) {
      const { DiscreteResourceSpec: discrete, NamedResourceSpec: named } = item;
      if (discrete !== undefined) this.#discrete.set(discrete.Kind ?? "", discrete.Value ?? 0);
      if (named !== undefined) this.#named.add(`${named.Kind}=${named.Value}`);
    }
  }

  /** False, and nothing taken, when it is not there. */
  take(task: Task, reservations: ResourceReservations): boolean {
    const nanoCpus = this.#nanoCpus - (reservations.NanoCPUs ?? 0);
    const memoryBytes = this.#memoryBytes - (reservations.MemoryBytes ?? 0);
    if (reservations.NanoCPUs && nanoCpus < 0) return false;
    if (reservations.MemoryBytes && memoryBytes < 0) return false;
    if (!this.#takeGeneric(task)) return false;
    this.#nanoCpus = nanoCpus;
    this.#memoryBytes = memoryBytes;
    return true;
  }

  #takeGeneric(task: Task): boolean {
    const left = new Map<string, number>();
    for (const item of task.assignedGeneric) {
      const { DiscreteResourceSpec: discrete, NamedResourceSpec: named } = item;
      if (named !== undefined && !this.#named.has(`${named.Kind}=${named.Value}`)) return false;
      if (discrete === undefined) continue;
      const kind = discrete.Kind ?? "";
      const had = left.get(kind) ?? this.#discrete.get(kind) ?? 0;
      left.set(kind, had - (discrete.Value ?? 0));
    }
    if ([...left.values()].some(amount => amount < 0)) return false;
    for (const [kind, amount] of left) this.#discrete.set(kind, amount);
    return true;
  }
}
