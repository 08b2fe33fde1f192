import type { Network, Task } from "../../model/rows.ts";
import { specRowId } from "../../model/rows.ts";
import { modeKind } from "../../model/service-spec.ts";
import type { StateView } from "../../model/view.ts";
import { DirtyCheck } from "../../orchestrator/core/dirty.ts";
import type { OperationContext } from "../context.ts";
import { type TaskFilter, taskFilter } from "../core/filters.ts";
import { findTask } from "../core/lookup.ts";
import type { OperationArgs, OperationResult, TaskView } from "../operations.ts";

export function listTasks(
  ctx: OperationContext,
  args: OperationArgs<"task.list">,
): OperationResult<"task.list"> {
  const { view } = ctx;
  const filter = taskFilter(view, args.filters);
  const upToDate = filter.upToDate ? new UpToDate(view) : null;
  const found: TaskView[] = [];
  for (const task of candidates(view, filter)) {
    if (!matches(view, filter, task) || upToDate?.has(task) === false) continue;
    found.push(taskView(view, task));
  }
  return found;
}

/** The smallest set that an index gives. */
function candidates(view: StateView, filter: TaskFilter): Iterable<Task> {
  if (filter.serviceIds !== null) {
    return filter.serviceIds.flatMap(id => [...view.tasksOfService(id)]);
  }
  if (filter.nodeIds !== null) return filter.nodeIds.flatMap(id => [...view.tasksOfNode(id)]);
  return view.table("tasks").all();
}

function matches(view: StateView, filter: TaskFilter, task: Task): boolean {
  if (filter.nodeIds !== null && !filter.nodeIds.includes(task.nodeId)) return false;
  const spec = specOf(view, task);
  const runtime = task.serviceId === "" ? "attachment" : "container";
  return filter.test(task, spec?.Labels, spec?.TaskTemplate?.Runtime ?? runtime);
}

/** The CLI's `_up-to-date` filter: tasks that an update would leave alone. */
class UpToDate {
  readonly #view: StateView;
  readonly #checks = new Map<string, DirtyCheck | null>();

  constructor(view: StateView) {
    this.#view = view;
  }

  has(task: Task): boolean {
    const { serviceId } = task;
    let check = this.#checks.get(serviceId);
    if (check === undefined) {
      const service = this.#view.table("services").get(serviceId);
      check = service === undefined ? null : new DirtyCheck(this.#view, service);
      this.#checks.set(serviceId, check);
    }
    return check !== null && !check.isDirty(task);
  }
}

function specOf(view: StateView, task: Task): TaskView["spec"] {
  const row = view.table("serviceSpecs").get(specRowId(task.serviceId, task.specVersion));
  return row?.spec ?? null;
}

function taskView(view: StateView, task: Task): TaskView {
  const spec = specOf(view, task);
  const mode = spec === null ? "replicated" : modeKind(spec);
  const networks: Record<string, Network> = {};
  for (const { networkId } of task.networks) {
    const network = view.table("networks").get(networkId);
    if (network !== undefined) networks[networkId] = network;
  }
  return { task, spec, job: mode.endsWith("-job"), networks };
}

export function getTask(
  ctx: OperationContext,
  args: OperationArgs<"task.get">,
): OperationResult<"task.get"> {
  return taskView(ctx.view, findTask(ctx.view, args.ref));
}
