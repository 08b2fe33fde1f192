import { newAllocators } from "../../allocator/core/allocator.ts";
import { assert } from "../../base/errors.ts";
import { RngIdSource } from "../../base/ids.ts";
import { SeededRng } from "../../base/rng.ts";
import type { Change } from "../../model/change.ts";
import { earliest, type Planner } from "../../model/planner.ts";
import { hostnameOf, type Service, type Task } from "../../model/rows.ts";
import type { PlannedNode, PlannedWait, ServicePlan } from "../../model/service-plan.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import { compareTaskStates, isTerminal, isWanted, type TaskState } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { servicePlanner } from "../../orchestrator/core/service-planner.ts";
import { isUpdating } from "../../orchestrator/core/update.ts";
import { SCHEDULER_KEY, Scheduler } from "../../scheduler/core/scheduler.ts";
import { applyTransaction } from "../../state/core/apply.ts";
import { StateTables } from "../../state/core/tables.ts";
import { rpcError } from "./errors.ts";

/** Rounds of planning; a rehearsal that has not come to rest by then tells what it has. */
const ROUNDS_MAX = 2_000;
/** A service that wants more tasks is not rehearsed: each round looks at all of them. */
export const REHEARSED_TASKS_MAX = 20_000;
/** Portions of tasks in which an update is rehearsed at most; a longer one takes larger portions. */
const UPDATE_STEPS_MAX = 100;

/** The fewer steps of an update come to the same nodes, and do not hold the daemon for long. */
export function rehearsedSpec(spec: ServiceSpec, tasks: number): ServiceSpec {
  const asked = spec.UpdateConfig?.Parallelism ?? 1;
  const least = Math.ceil(tasks / UPDATE_STEPS_MAX);
  const Parallelism = asked === 0 ? 0 : Math.max(asked, least);
  return { ...spec, UpdateConfig: { ...spec.UpdateConfig, Parallelism } };
}

/** Throws failed_precondition when the service wants more tasks than are rehearsed. */
export function refuseLarge({ Mode: mode }: ServiceSpec): void {
  const { MaxConcurrent = 0, TotalCompletions = 0 } = mode?.ReplicatedJob ?? {};
  const tasks = Math.max(mode?.Replicated?.Replicas ?? 0, MaxConcurrent, TotalCompletions);
  if (tasks <= REHEARSED_TASKS_MAX) return;
  const text = `${tasks} tasks are too many to plan ahead: at most ${REHEARSED_TASKS_MAX}`;
  throw rpcError("failed_precondition", text);
}

/** Gives others their turn when it is time; rejects when nobody waits for the result any more. */
export type Pause = () => Promise<void>;

interface Scene {
  readonly view: StateView;
  readonly nowMs: number;
  readonly pause: Pause;
}

/** What tasks a planner is asked about, and by which key. */
interface Part {
  readonly planner: Planner;
  readonly key: string;
}

/**
 * The real planners on a copy of the state, on which the changes of one service have been made, and
 * nodes that do at once what they are told. Nothing of it reaches the state.
 */
class Rehearsal {
  readonly state = new StateTables();
  readonly #serviceId: string;
  readonly #parts: readonly Part[];
  readonly #ids = new RngIdSource(new SeededRng(1));
  #nowMs: number;

  constructor(view: StateView, serviceId: string, nowMs: number) {
    this.#serviceId = serviceId;
    this.#nowMs = nowMs;
    copyState(view, this.state);
    const { services, tasks } = newAllocators();
    this.#parts = [
      { planner: services, key: serviceId },
      { planner: servicePlanner, key: serviceId },
      { planner: tasks, key: serviceId },
      { planner: new Scheduler(), key: SCHEDULER_KEY },
    ];
  }

  /** Why the service gets nothing at all; empty when it does. */
  refusal = "";

  async run(changes: readonly Change[], pause: Pause): Promise<void> {
    this.#apply(changes);
    for (const { planner } of this.#parts) planner.allKeys(this.state);
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const { changed, wakeAtMs } = await this.#plan(pause);
      if (this.#work() || changed || (wakeAtMs !== null && wakeAtMs <= this.#nowMs)) continue;
      // Time only helps where nothing but a delay of the update is waited for.
      const updating = this.service !== undefined && isUpdating(this.service);
      if (!updating || wakeAtMs === null || this.waiting().length > 0) return;
      this.#nowMs = wakeAtMs;
    }
  }

  get service(): Service | undefined {
    return this.state.table("services").get(this.#serviceId);
  }

  /** Wanted tasks that found no node. */
  waiting(): readonly Task[] {
    return this.state
      .tasksOfService(this.#serviceId)
      .filter(task => isWanted(task.desiredState) && !isPlaced(task));
  }

  async #plan(
    pause: Pause,
  ): Promise<{ readonly changed: boolean; readonly wakeAtMs: number | null }> {
    let changed = false;
    let wakeAtMs: number | null = null;
    for (const { planner, key } of this.#parts) {
      await pause();
      const plan = planner.plan(this.state, key, { nowMs: this.#nowMs, ids: this.#ids });
      this.#apply(plan.changes);
      changed ||= plan.changes.length > 0;
      wakeAtMs = earliest(wakeAtMs, plan.wakeAtMs);
      if (planner.name !== "service-allocator") continue;
      this.refusal = plan.notes.map(({ text }) => text).join("; ");
    }
    return { changed, wakeAtMs };
  }

  /** The nodes do what they were told. */
  #work(): boolean {
    const changes: Change[] = [];
    for (const task of this.state.tasksOfService(this.#serviceId)) {
      const state = nextState(task);
      if (state === null || state === task.status.state) continue;
      const status = { ...task.status, state, timestampMs: this.#nowMs };
      changes.push({ op: "taskStatus", id: task.id, status });
    }
    this.#apply(changes);
    return changes.length > 0;
  }

  #apply(changes: readonly Change[]): void {
    const index = this.state.index + 1;
    const tx = { nowMs: this.#nowMs, changes };
    const { result, commit } = applyTransaction(this.state, tx, index);
    assert(result.ok, `a rehearsed plan fits its own state: ${result.ok ? "" : result.message}`);
    for (const event of commit?.events ?? []) {
      for (const { planner } of this.#parts) planner.keysOf(event, this.state);
    }
  }
}

/** Rows are frozen: both states may hold the same ones. What has ended takes no room. */
function copyState(view: StateView, into: StateTables): void {
  for (const table of ["cluster", "nodes", "services", "serviceSpecs", "networks"] as const) {
    for (const row of view.table(table).all()) into.rows(table).put(row.id, row);
  }
  for (const task of view.table("tasks").all()) {
    if (!isTerminal(task.status.state)) into.rows("tasks").put(task.id, task);
  }
  into.index = view.index;
}

function isPlaced(task: Task): boolean {
  return task.nodeId !== "" && compareTaskStates(task.status.state, "assigned") >= 0;
}

/** What a node that works makes of the task at once; null = nothing. */
function nextState(task: Task): TaskState | null {
  if (isTerminal(task.status.state)) return null;
  if (!isWanted(task.desiredState)) return "shutdown";
  if (!isPlaced(task)) return null;
  if (task.desiredState === "complete") return "complete";
  const wanted = task.desiredState === "running" ? "running" : "ready";
  return compareTaskStates(task.status.state, wanted) < 0 ? wanted : null;
}

/** Where the tasks of a service would go, and why not, if these changes were made to it. */
export async function rehearse(
  { view, nowMs, pause }: Scene,
  serviceId: string,
  changes: readonly Change[],
): Promise<ServicePlan> {
  const before = view.tasksOfService(serviceId).filter(isAlive);
  const rehearsal = new Rehearsal(view, serviceId, nowMs);
  await rehearsal.run(changes, pause);
  const { service, state } = rehearsal;
  const waiting = rehearsal.waiting();
  return {
    service: service?.spec.Name ?? "",
    nodes: plannedNodes(state, before, state.tasksOfService(serviceId)),
    waiting: plannedWaits(state, waiting, rehearsal.refusal),
    unfinished: service !== undefined && isUpdating(service),
  };
}

function isAlive(task: Task): boolean {
  return isWanted(task.desiredState) && isPlaced(task) && !isTerminal(task.status.state);
}

function plannedNodes(
  view: StateView,
  before: readonly Task[],
  after: readonly Task[],
): readonly PlannedNode[] {
  const old = new Set(before.map(({ id }) => id));
  const remaining = after.filter(task => isWanted(task.desiredState) && isPlaced(task));
  const stay = new Set(remaining.map(({ id }) => id));
  const nodes = new Map<string, { kept: number; added: number; removed: number }>();
  const of = ({ nodeId }: Task): { kept: number; added: number; removed: number } => {
    const found = nodes.get(nodeId) ?? { kept: 0, added: 0, removed: 0 };
    nodes.set(nodeId, found);
    return found;
  };
  for (const task of before) {
    if (stay.has(task.id)) of(task).kept += 1;
    else of(task).removed += 1;
  }
  for (const task of remaining) if (!old.has(task.id)) of(task).added += 1;
  return [...nodes]
    .map(([nodeId, counts]) => ({ nodeId, hostname: nameOfNode(view, nodeId), ...counts }))
    .sort((a, b) => compareText(a.hostname, b.hostname) || compareText(a.nodeId, b.nodeId));
}

function plannedWaits(
  view: StateView,
  waiting: readonly Task[],
  refusal: string,
): readonly PlannedWait[] {
  const byReason = new Map<string, Task[]>();
  for (const task of waiting) {
    const reason = refusal || task.status.err || task.status.message;
    byReason.set(reason, [...(byReason.get(reason) ?? []), task]);
  }
  return [...byReason].map(([reason, tasks]) => {
    const placed = tasks.filter(({ nodeId }) => nodeId !== "");
    const nodes = placed.map(({ nodeId }) => nameOfNode(view, nodeId)).sort();
    return { tasks: tasks.length, reason, nodes };
  });
}

function nameOfNode(view: StateView, nodeId: string): string {
  const node = view.table("nodes").get(nodeId);
  return (node === undefined ? "" : hostnameOf(node)) || nodeId;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
