import type { Change, RowEvent } from "../../model/change.ts";
import { DEFAULT_SWARM_SPEC } from "../../model/defaults.ts";
import type { Plan, PlanContext, Planner } from "../../model/planner.ts";
import type { Service, Task } from "../../model/rows.ts";
import { modeKind } from "../../model/service-spec.ts";
import { compareTaskStates, isTerminal, isWanted } from "../../model/task-state.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import { groupBySlot, type Slot } from "./draft.ts";
import { nodeOf } from "./nodes.ts";
import { restartPolicyOf } from "./policy.ts";
import { evidenceOf, isUpdating } from "./update.ts";

/**
 * Deletes rows that nobody needs: tasks to be removed once they have stopped, history beyond the
 * cluster's limit, spec versions that no task points at (SwarmKit taskreaper). Keys are service
 * ids, also of services that have gone.
 */
export const reaperPlanner: Planner = {
  name: "reaper",
  keysAreIndependent: true,
  keysOf,
  allKeys,
  plan: planReaping,
};

function allKeys(view: StateView): Iterable<string> {
  const keys = new Set<string>();
  for (const row of view.table("services").all()) keys.add(row.id);
  for (const row of view.table("tasks").all()) keys.add(row.serviceId);
  for (const row of view.table("serviceSpecs").all()) keys.add(row.serviceId);
  keys.delete("");
  return keys;
}

function keysOf(event: RowEvent, view: StateView): Iterable<string> {
  if (event.table === "services") return [event.id];
  if (event.table === "cluster") return allKeys(view);
  if (event.table === "nodes" && event.after === null) {
    return new Set(view.tasksOfNode(event.id).map(task => task.serviceId));
  }
  if (event.table === "tasks") return keysOfTask(event.before, event.after);
  return [];
}

function keysOfTask(before: Task | null, after: Task | null): Iterable<string> {
  const task = after ?? before;
  if (task === null || task.serviceId === "") return [];
  if (before === null || after === null) return [task.serviceId];
  const ended = isTerminal(after.status.state) && !isTerminal(before.status.state);
  return ended || before.desiredState !== after.desiredState ? [task.serviceId] : [];
}

function neverAssigned(task: Task): boolean {
  return compareTaskStates(task.status.state, "assigned") < 0;
}

/** No agent will ever report of it, so its end is recorded here; the scheduler leaves it alone. */
function retire(task: Task, nowMs: number): Change {
  const message = "shut down before it was assigned";
  const status = { ...task.status, state: "shutdown", timestampMs: nowMs, message } as const;
  return { op: "taskStatus", id: task.id, status };
}

/** Nothing of it runs any more, or ever will, or could be heard of. */
function isDead(view: StateView, task: Task): boolean {
  if (isTerminal(task.status.state)) return true;
  if (neverAssigned(task)) return true;
  return nodeOf(view, task.nodeId) === undefined;
}

function planReaping(view: StateView, serviceId: string, ctx: PlanContext): Plan {
  const service = view.table("services").get(serviceId);
  const tasks = view.tasksOfService(serviceId);
  const kept: Change[] = [];
  const doomed = new Set<string>();
  for (const task of tasks) {
    const { id, desiredState } = task;
    if (desiredState === "remove") {
      if (isDead(view, task)) doomed.add(id);
    } else if (service === undefined) {
      kept.push({ op: "patch", table: "tasks", id, fields: { desiredState: "remove" } });
    } else if (desiredState === "shutdown" && neverAssigned(task)) {
      kept.push(retire(task, ctx.nowMs));
    }
  }
  if (service !== undefined) for (const id of expired(view, service, tasks)) doomed.add(id);
  const changes = kept.filter(change => !("id" in change) || !doomed.has(change.id));
  for (const id of doomed) changes.push({ op: "delete", table: "tasks", id });
  const rest = tasks.filter(task => !doomed.has(task.id));
  for (const id of unusedSpecs(view, serviceId, service, rest)) {
    changes.push({ op: "delete", table: "serviceSpecs", id });
  }
  return { changes, wakeAtMs: null, notes: [] };
}

function expired(view: StateView, service: Service, tasks: readonly Task[]): string[] {
  const cluster = [...view.table("cluster").all()][0];
  const { TaskHistoryRetentionLimit: limit } = (cluster?.spec ?? DEFAULT_SWARM_SPEC).Orchestration;
  if (limit < 0 || tasks.length <= limit) return [];
  const slots = new Map<string, Slot>();
  const kind = modeKind(service.spec).startsWith("global") ? "node" : "number";
  groupBySlot(tasks, kind, slots);
  return [...slots.values()].flatMap(slot => expiredOf(view, service, slot, limit));
}

/**
 * The oldest tasks of a slot beyond the limit (which counts the live one too). As many as the
 * restart policy counts are kept, the newest is kept (it tells that the slot needs no other), and so
 * are those by which a running update judges the slot.
 */
function expiredOf(view: StateView, service: Service, slot: Slot, limit: number): string[] {
  const newest = slot.tasks.at(-1);
  if (newest === undefined) return [];
  const { maxAttempts } = restartPolicyOf(specOfTask(view, newest)?.spec);
  const keep = maxAttempts > 0 ? Math.max(limit, maxAttempts + 1) : limit;
  const evidence = isUpdating(service) ? evidenceOf(slot, service.specVersion) : [];
  const ids: string[] = [];
  for (const task of slot.tasks) {
    if (slot.tasks.length - ids.length <= keep) break;
    if (task === newest || evidence.includes(task) || isWanted(task.desiredState)) continue;
    if (isDead(view, task)) ids.push(task.id);
  }
  return ids;
}

function unusedSpecs(
  view: StateView,
  serviceId: string,
  service: Service | undefined,
  tasks: readonly Task[],
): string[] {
  const used = new Set(tasks.map(task => task.specVersion));
  if (service !== undefined) {
    used.add(service.specVersion);
    used.add(service.previousSpecVersion);
  }
  return view
    .specsOfService(serviceId)
    .filter(row => !used.has(row.specVersion))
    .map(row => row.id);
}
