import { deepEqual } from "../../base/deep-equal.ts";
import type { Change, RowEvent } from "../../model/change.ts";
import { EMPTY_PLAN, type Plan, type PlanContext, type Planner } from "../../model/planner.ts";
import type { Node, Service, Task } from "../../model/rows.ts";
import { type ModeKind, modeKind } from "../../model/service-spec.ts";
import { isTerminal } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { ServiceDraft } from "./draft.ts";
import { planGlobal } from "./global.ts";
import { planGlobalJob, planReplicatedJob } from "./jobs.ts";
import { planReplicas } from "./replicated.ts";
import { planUpdate } from "./update.ts";

/**
 * The tasks a service shall have: replicas or one a node, restarts, updates, rollbacks, removal. One
 * planner for all of it, since they decide about the same slots.
 */
export const servicePlanner: Planner = {
  name: "services",
  keysAreIndependent: true,
  keysOf,
  allKeys: view => [...view.table("services").all()].map(service => service.id),
  plan: planService,
};

function planService(view: StateView, key: string, ctx: PlanContext): Plan {
  const service = view.table("services").get(key);
  if (service === undefined) return EMPTY_PLAN;
  if (service.pendingDelete) return planRemoval(view, service);
  const mode = modeKind(service.spec);
  const kind = mode === "global" || mode === "global-job" ? "node" : "number";
  const draft = new ServiceDraft(view, service, ctx, kind);
  STAGES[mode](draft);
  // An automatic rollback changes the spec: what it means for the tasks is planned with it.
  if (draft.service.specVersion !== service.specVersion) STAGES[mode](draft);
  return draft.finish();
}

const STAGES: { readonly [Mode in ModeKind]: (draft: ServiceDraft) => void } = {
  replicated: draft => {
    planReplicas(draft);
    planUpdate(draft, null);
  },
  global: draft => planUpdate(draft, planGlobal(draft)),
  "replicated-job": planReplicatedJob,
  "global-job": planGlobalJob,
};

/** The service goes when its last task has gone, and its stored specs with it. */
function planRemoval(view: StateView, service: Service): Plan {
  const changes: Change[] = [];
  const tasks = view.tasksOfService(service.id);
  for (const { id, desiredState } of tasks) {
    if (desiredState === "remove") continue;
    changes.push({ op: "patch", table: "tasks", id, fields: { desiredState: "remove" } });
  }
  if (tasks.length > 0) return { changes, wakeAtMs: null, notes: [] };
  for (const { id } of view.specsOfService(service.id)) {
    changes.push({ op: "delete", table: "serviceSpecs", id });
  }
  changes.push({ op: "delete", table: "services", id: service.id, ifVersion: service.version });
  return { changes, wakeAtMs: null, notes: [] };
}

function keysOf(event: RowEvent, view: StateView): Iterable<string> {
  if (event.table === "services") return [event.id];
  if (event.table === "tasks") return keysOfTask(event.before, event.after, view);
  if (event.table === "nodes") return keysOfNode(event.id, event.before, event.after, view);
  return [];
}

/** Only what a planner reads of a task: coming, going, desired state, node, running, ended. */
function keysOfTask(before: Task | null, after: Task | null, view: StateView): Iterable<string> {
  const task = after ?? before;
  if (task === null || task.serviceId === "") return [];
  if (before === null || after === null) return [task.serviceId];
  const same =
    before.desiredState === after.desiredState &&
    before.nodeId === after.nodeId &&
    (before.status.state === after.status.state || !isMilestone(after, view));
  return same ? [] : [task.serviceId];
}

function isMilestone({ status, serviceId }: Task, view: StateView): boolean {
  if (status.state !== "running") return isTerminal(status.state);
  const service = view.table("services").get(serviceId);
  return service !== undefined && waitsForRunning(service);
}

/**
 * That a task runs is news to an update, and to a slot in which an old task runs until then. To a
 * service whose tasks all just start it is none, and a thousand of them need not be planned again.
 */
function waitsForRunning({ spec, updateStatus }: Service): boolean {
  const state = updateStatus?.state ?? "completed";
  if (state !== "completed" && state !== "rollback_completed") return true;
  const { UpdateConfig, RollbackConfig } = spec;
  return [UpdateConfig, RollbackConfig].some(config => config?.Order === "start-first");
}

/** Services with tasks there, and all global ones, when the node changed in what planners read. */
function keysOfNode(
  nodeId: string,
  before: Node | null,
  after: Node | null,
  view: StateView,
): Iterable<string> {
  if (before !== null && after !== null && samePlace(before, after)) return [];
  const keys = new Set(view.tasksOfNode(nodeId).map(task => task.serviceId));
  for (const service of view.table("services").all()) {
    if (modeKind(service.spec).startsWith("global")) keys.add(service.id);
  }
  keys.delete("");
  return keys;
}

/** As far as constraints and health go, the node is what it was. */
export function samePlace(a: Node, b: Node): boolean {
  return (
    a.status.state === b.status.state &&
    a.status.addr === b.status.addr &&
    a.certRole === b.certRole &&
    deepEqual(a.spec, b.spec) &&
    deepEqual(a.description, b.description)
  );
}
