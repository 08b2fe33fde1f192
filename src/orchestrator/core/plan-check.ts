import type { Change } from "../../model/change.ts";
import type { Service, Task } from "../../model/rows.ts";
import { modeKind, replicasOf } from "../../model/service-spec.ts";
import { compareTaskStates, isTerminal, isWanted } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";

type TaskPart = Pick<Task, "id" | "serviceId" | "slot" | "nodeId" | "desiredState" | "status">;

/** Live tasks of a slot, before and after the plan. */
interface Count {
  before: number;
  after: number;
}

/**
 * What is wrong with a plan, in words; empty when it may be submitted. It knows nothing of how plans
 * are made: it holds the result against the rules that every state must keep.
 */
export function checkPlan(view: StateView, changes: readonly Change[]): string[] {
  const faults: string[] = [];
  const touched = new Set<string>();
  const after = new Map<string, TaskPart | null>();
  for (const change of changes) {
    const fault = checkChange(view, change, after);
    if (fault !== null) faults.push(fault);
    if (change.op === "create" && change.table === "tasks") touched.add(change.row.serviceId);
  }
  for (const serviceId of touched) faults.push(...checkService(view, serviceId, after));
  return faults;
}

function checkChange(
  view: StateView,
  change: Change,
  after: Map<string, TaskPart | null>,
): string | null {
  if (change.op === "taskStatus") {
    return checkStep(view, after, change.id, { status: change.status });
  }
  if (change.table !== "tasks") return null;
  if (change.op === "delete") {
    const task = current(view, after, change.id);
    after.set(change.id, null);
    const alive = task !== null && isWanted(task.desiredState) && !isTerminal(task.status.state);
    return alive ? `task ${change.id} is deleted alive` : null;
  }
  if (change.op === "patch") return checkStep(view, after, change.id, change.fields);
  if (change.op === "update") return checkStep(view, after, change.row.id, change.row);
  after.set(change.row.id, change.row);
  return checkCreate(view, change.row);
}

function current(
  view: StateView,
  after: ReadonlyMap<string, TaskPart | null>,
  id: string,
): TaskPart | null {
  const planned = after.get(id);
  return planned === undefined ? (view.table("tasks").get(id) ?? null) : planned;
}

function checkStep(
  view: StateView,
  after: Map<string, TaskPart | null>,
  id: string,
  fields: Partial<TaskPart>,
): string | null {
  const task = current(view, after, id);
  if (task === null) return null;
  const next = { ...task, ...fields, id };
  after.set(id, next);
  if (compareTaskStates(next.desiredState, task.desiredState) < 0) {
    return `task ${id}: desired state goes back from ${task.desiredState} to ${next.desiredState}`;
  }
  if (compareTaskStates(next.status.state, task.status.state) < 0) {
    return `task ${id}: state goes back from ${task.status.state} to ${next.status.state}`;
  }
  if (task.nodeId !== "" && next.nodeId !== task.nodeId) return `task ${id} moves to another node`;
  return null;
}

function checkCreate(view: StateView, task: TaskPart): string | null {
  if (view.table("tasks").get(task.id) !== undefined) return `task ${task.id} is created twice`;
  const service = view.table("services").get(task.serviceId);
  if (task.serviceId === "") return null;
  if (service === undefined) return `task ${task.id} is created for no service`;
  return service.pendingDelete ? `task ${task.id} is created for a service on its way out` : null;
}

/** No more live tasks in a slot than the order of updates allows, no more slots than replicas. */
function checkService(
  view: StateView,
  serviceId: string,
  after: ReadonlyMap<string, TaskPart | null>,
): string[] {
  const service = view.table("services").get(serviceId);
  if (service === undefined) return [];
  const counts = countSlots(view, service, after);
  const { UpdateConfig, RollbackConfig } = service.spec;
  const beside = [UpdateConfig, RollbackConfig].some(config => config?.Order === "start-first");
  const faults: string[] = [];
  let before = 0;
  let total = 0;
  for (const [slot, count] of counts) {
    before += Math.min(1, count.before);
    total += Math.min(1, count.after);
    if (count.after > Math.max(beside ? 2 : 1, count.before)) {
      faults.push(`slot ${slot} of service ${serviceId} gets ${count.after} live tasks`);
    }
  }
  const limit = modeKind(service.spec) === "replicated" ? replicasOf(service.spec) : total;
  if (total > Math.max(before, limit)) {
    faults.push(`service ${serviceId} gets ${total} live slots, ${limit} are wanted`);
  }
  return faults;
}

function countSlots(
  view: StateView,
  service: Service,
  after: ReadonlyMap<string, TaskPart | null>,
): Map<string, Count> {
  const slots = new Map<string, Count>();
  const bySlot = !modeKind(service.spec).startsWith("global");
  const countOf = (task: TaskPart): Count => {
    const key = bySlot ? String(task.slot) : task.nodeId;
    const found = slots.get(key) ?? { before: 0, after: 0 };
    slots.set(key, found);
    return found;
  };
  for (const task of view.tasksOfService(service.id)) {
    if (isWanted(task.desiredState)) countOf(task).before += 1;
    const next = after.get(task.id);
    const planned = next === undefined ? task : next;
    if (planned !== null && isWanted(planned.desiredState)) countOf(planned).after += 1;
  }
  for (const task of after.values()) {
    if (task === null || task.serviceId !== service.id) continue;
    const isNew = view.table("tasks").get(task.id) === undefined;
    if (isNew && isWanted(task.desiredState)) countOf(task).after += 1;
  }
  return slots;
}
