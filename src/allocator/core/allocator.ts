import type { Change, RowEvent } from "../../model/change.ts";
import type { Service, Task } from "../../model/rows.ts";
import { compareTaskStates, isWanted } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import {
  EMPTY_PLAN,
  type Plan,
  type PlanContext,
  type Planner,
} from "../../orchestrator/core/planner.ts";
import { allocatePorts } from "./ports.ts";

/** How soon a service that got no ports is tried again when nothing else happens. */
const RETRY_MS = 30_000;

/**
 * Gives services what their spec asks of the cluster: published ports. Until it has, `allocated` is
 * false and the tasks stay NEW. Keys are service ids; plans read each other's ports, so one follows
 * the other.
 */
export const serviceAllocator: Planner = {
  name: "service-allocator",
  keysOf: servicesToAllocate,
  allKeys: view => unallocated(view).map(service => service.id),
  plan: planService,
};

function unallocated(view: StateView): Service[] {
  return [...view.table("services").all()].filter(
    service => !service.allocated && !service.pendingDelete,
  );
}

/** The service itself; and those that wait, when one lets go of ports. */
function servicesToAllocate(event: RowEvent, view: StateView): Iterable<string> {
  if (event.table !== "services") return [];
  const { before, after } = event;
  if (after !== null && !after.allocated && !after.pendingDelete) return [event.id];
  return letsGoOfPorts(before, after) ? unallocated(view).map(service => service.id) : [];
}

function letsGoOfPorts(before: Service | null, after: Service | null): boolean {
  if (before === null || before.endpoint.ports.length === 0) return false;
  return after === null || after.pendingDelete || after.endpoint !== before.endpoint;
}

function planService(view: StateView, key: string, ctx: PlanContext): Plan {
  const service = view.table("services").get(key);
  if (service === undefined || service.allocated || service.pendingDelete) return EMPTY_PLAN;
  const allocation = allocatePorts(view, service);
  if (!allocation.ok) {
    const notes = [{ kind: "service", id: key, text: allocation.message } as const];
    return { changes: [], wakeAtMs: ctx.nowMs + RETRY_MS, notes };
  }
  const endpoint = {
    ...service.endpoint,
    spec: service.spec.EndpointSpec ?? {},
    ports: allocation.ports,
  };
  const fields = { endpoint, allocated: true };
  const ifVersion = service.version;
  const change: Change = { op: "patch", table: "services", id: key, fields, ifVersion };
  return { changes: [change], wakeAtMs: null, notes: [] };
}

/**
 * Moves the tasks of allocated services from NEW to PENDING, where the scheduler takes them. Keys
 * are service ids.
 */
export const taskAllocator: Planner = {
  name: "task-allocator",
  keysAreIndependent: true,
  keysOf: tasksToAllocate,
  allKeys: view => [...view.table("services").all()].map(service => service.id),
  plan: planTasks,
};

function tasksToAllocate(event: RowEvent): Iterable<string> {
  if (event.table === "services") {
    const opened = event.after?.allocated === true && event.before?.allocated !== true;
    return opened ? [event.id] : [];
  }
  if (event.table !== "tasks" || event.after === null || event.before !== null) return [];
  return event.after.serviceId === "" ? [] : [event.after.serviceId];
}

function planTasks(view: StateView, key: string, ctx: PlanContext): Plan {
  const service = view.table("services").get(key);
  if (service === undefined || !service.allocated) return EMPTY_PLAN;
  const changes = view
    .tasksOfService(key)
    .filter(isNew)
    .map(task => admit(task, ctx.nowMs));
  return changes.length === 0 ? EMPTY_PLAN : { changes, wakeAtMs: null, notes: [] };
}

function isNew(task: Task): boolean {
  return isWanted(task.desiredState) && compareTaskStates(task.status.state, "pending") < 0;
}

function admit(task: Task, nowMs: number): Change {
  const message = "pending task scheduling";
  const status = { ...task.status, state: "pending", timestampMs: nowMs, message } as const;
  return { op: "taskStatus", id: task.id, status };
}
