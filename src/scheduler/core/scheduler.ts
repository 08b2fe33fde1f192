import type { Change, RowEvent } from "../../model/change.ts";
import type { Task, TaskStatus } from "../../model/rows.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import type { Plan, PlanContext, PlanNote, Planner } from "../../orchestrator/core/planner.ts";
import { EMPTY_PLAN, earliest } from "../../orchestrator/core/planner.ts";
import { type ClusterInfo, ClusterTracker } from "./cluster-info.ts";
import { DemandCache } from "./demand.ts";
import { type Explanation, explain, nodeUnsuitable, noSuitableNode } from "./explain.ts";
import { filtersFor, refusedBy } from "./filters.ts";
import { awaitsScheduler, type Outcome, PendingServices } from "./pending.ts";
import {
  claimNode,
  type Placement,
  placeTasks,
  recentFailures,
  type TaskGroup,
} from "./placement.ts";

/**
 * The one key. Services share the nodes' room, so they are planned one after another on one
 * picture of it: two plans made side by side could give the same room away twice.
 */
export const SCHEDULER_KEY = "cluster";

/** Changes of one plan; the rest follows in the next, so that no plan holds the loop for long. */
export const CHANGES_PER_PLAN_MAX = 1_000;

/** Nodes and tasks looked at in one plan, likewise. */
export const LOOKS_PER_PLAN_MAX = 15_000;

/**
 * Numbers in an explanation are brought up to date no more often than this, for every so many
 * tasks that share it: a full cluster with many tasks waiting must not write without end.
 */
export const EXPLAIN_REFRESH_MS = 10_000;
export const EXPLAIN_REFRESH_TASKS = 1_000;

const ASSIGNED_MESSAGE = "scheduler assigned task to node";
const CONFIRMED_MESSAGE = "scheduler confirmed task can run on preassigned node";

/**
 * Gives PENDING tasks a node (SwarmKit manager/scheduler). A task of a replicated service goes to
 * the best node that its filters leave; one that comes with a node (global services) is checked
 * against that node only. A task without a suitable node stays PENDING and says why.
 */
export class Scheduler implements Planner {
  readonly name = "scheduler";
  readonly #demands = new DemandCache();
  readonly #nodes = new ClusterTracker(this.#demands);
  readonly #pending = new PendingServices();
  #view: StateView | null = null;
  /** Raft index of the last change taken in. */
  #index = -1;

  /** To be called for every change, as it is applied: the scheduler's own indexes live on them. */
  keysOf(event: RowEvent, view: StateView): Iterable<string> {
    if (this.#view !== view) this.#reset(view);
    this.#index = view.index;
    this.#nodes.observe(event, view);
    return this.#pending.observe(event) ? [SCHEDULER_KEY] : [];
  }

  allKeys(view: StateView): Iterable<string> {
    this.#reset(view);
    return [SCHEDULER_KEY];
  }

  /** The indexes are no memory: what they hold is in the state and is read anew from there. */
  #reset(view: StateView): void {
    this.#pending.reset(view);
    this.#nodes.reset(view);
    this.#view = view;
    this.#index = view.index;
  }

  plan(view: StateView, key: string, ctx: PlanContext): Plan {
    if (key !== SCHEDULER_KEY) return EMPTY_PLAN;
    if (this.#view !== view || this.#index !== view.index) this.#reset(view);
    const due = this.#pending.due(ctx.nowMs);
    if (due.length === 0) return { ...EMPTY_PLAN, wakeAtMs: this.#pending.nextRefreshMs() };
    const cluster = this.#nodes.read(view);
    if (cluster === null) return { ...EMPTY_PLAN, wakeAtMs: ctx.nowMs };
    const pass = new Pass(view, cluster, this.#demands, ctx.nowMs);
    let left = due.length;
    for (const serviceId of due) {
      if (pass.exhausted) break;
      this.#pending.planned(serviceId, pass.planService(serviceId));
      left -= 1;
    }
    const more = left > 0 || pass.exhausted;
    const wakeAtMs = earliest(more ? ctx.nowMs : null, this.#pending.nextRefreshMs());
    return { changes: pass.changes, wakeAtMs, notes: pass.notes };
  }
}

/** One planning pass over the services that are due. */
class Pass {
  readonly changes: Change[] = [];
  readonly notes: PlanNote[] = [];
  readonly #view: StateView;
  readonly #cluster: ClusterInfo;
  readonly #demands: DemandCache;
  readonly #nowMs: number;
  #looks = 0;
  #refreshAtMs: number | null = null;

  constructor(view: StateView, cluster: ClusterInfo, demands: DemandCache, nowMs: number) {
    this.#view = view;
    this.#cluster = cluster;
    this.#demands = demands;
    this.#nowMs = nowMs;
  }

  get exhausted(): boolean {
    return this.#room === 0 || this.#looks >= LOOKS_PER_PLAN_MAX;
  }

  get #room(): number {
    return CHANGES_PER_PLAN_MAX - this.changes.length;
  }

  planService(serviceId: string): Outcome {
    const tasks = this.#view.tasksOfService(serviceId);
    this.#looks += tasks.length;
    const waiting = tasks.filter(awaitsScheduler);
    const changesBefore = this.changes.length;
    this.#refreshAtMs = null;
    for (const [specVersion, ofVersion] of groupBySpec(waiting)) {
      const demand = this.#demandOf(ofVersion[0]);
      if (demand === null) continue;
      const failures = recentFailures(tasks, specVersion, this.#nowMs);
      const group: TaskGroup = { serviceId, demand, failures };
      this.#planPreassigned(
        group,
        ofVersion.filter(task => task.nodeId !== ""),
      );
      this.#planGroup(
        group,
        ofVersion.filter(task => task.nodeId === ""),
      );
    }
    return {
      waiting: waiting.length > 0,
      changed: this.changes.length > changesBefore,
      refreshAtMs: this.#refreshAtMs,
    };
  }

  #demandOf(task: Task | undefined) {
    const row = task === undefined ? undefined : specOfTask(this.#view, task);
    return row === undefined ? null : this.#demands.of(row.spec);
  }

  /** Tasks whose node was chosen for them: only checked. Their node gone, others clean them up. */
  #planPreassigned(group: TaskGroup, tasks: readonly Task[]): void {
    const filters = filtersFor(group.demand);
    for (const task of tasks) {
      if (this.#room === 0) return;
      const info = this.#cluster.get(task.nodeId);
      if (info === undefined) continue;
      this.#looks += 1;
      if (refusedBy(filters, info, group.demand, group.serviceId) === null) {
        this.#assign(claimNode(this.#cluster, group, task, info), CONFIRMED_MESSAGE);
      } else {
        const why = explain([info], group.demand, group.serviceId);
        this.#refuse(task, nodeUnsuitable(why), why, EXPLAIN_REFRESH_MS);
      }
    }
  }

  #planGroup(group: TaskGroup, tasks: readonly Task[]): void {
    if (tasks.length === 0) return;
    const ordered = [...tasks].sort((a, b) => a.slot - b.slot);
    const attempted = ordered.slice(0, this.#room);
    const placements = placeTasks(this.#cluster, group, attempted);
    this.#looks += this.#cluster.size;
    for (const placement of placements) this.#assign(placement, ASSIGNED_MESSAGE);
    if (placements.length === attempted.length) return;
    this.#looks += this.#cluster.size;
    const why = explain(this.#cluster.nodes(), group.demand, group.serviceId);
    const err = noSuitableNode(why);
    const unplaced = ordered.slice(placements.length);
    const refreshMs = EXPLAIN_REFRESH_MS * Math.ceil(unplaced.length / EXPLAIN_REFRESH_TASKS);
    for (const task of unplaced) {
      if (this.#room === 0) return;
      this.#refuse(task, err, why, refreshMs);
    }
  }

  #assign({ task, nodeId, assignedGeneric }: Placement, message: string): void {
    const status: TaskStatus = {
      ...task.status,
      state: "assigned",
      timestampMs: this.#nowMs,
      message,
      err: "",
    };
    this.changes.push({
      op: "patch",
      table: "tasks",
      id: task.id,
      fields: { nodeId, status, assignedGeneric },
      ifVersion: task.version,
    });
  }

  /** Writes the reason down when it is another one; when only its numbers moved, not at once. */
  #refuse(task: Task, err: string, why: Explanation, refreshMs: number): void {
    if (task.status.err === err) return;
    const refreshAtMs = task.status.timestampMs + refreshMs;
    if (refreshAtMs > this.#nowMs && sameReason(task.status.err, why)) {
      this.#refreshAtMs = earliest(this.#refreshAtMs, refreshAtMs);
      return;
    }
    const status: TaskStatus = { ...task.status, timestampMs: this.#nowMs, err };
    this.changes.push({
      op: "patch",
      table: "tasks",
      id: task.id,
      fields: { status },
      ifVersion: task.version,
    });
    this.notes.push({ kind: "task", id: task.id, text: err });
  }
}

/** Whether a text gives the same reasons, whatever the numbers of nodes. */
function sameReason(text: string, { phrase }: Explanation): boolean {
  const uncounted = (words: string) => words.replace(/\d+ nodes?/g, "nodes");
  return phrase !== "" && uncounted(text).includes(uncounted(phrase));
}

/** By spec version, in order of it. */
function groupBySpec(tasks: readonly Task[]): readonly (readonly [number, readonly Task[]])[] {
  const groups = new Map<number, Task[]>();
  for (const task of tasks) {
    const group = groups.get(task.specVersion);
    if (group === undefined) groups.set(task.specVersion, [task]);
    else group.push(task);
  }
  return [...groups].sort(([a], [b]) => a - b);
}
