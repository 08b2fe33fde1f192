import type { SortedSet } from "../../base/sorted-set.ts";
import type { Change, RowEvent } from "../../model/change.ts";
import type { Plan, PlanContext, PlanNote, Planner } from "../../model/planner.ts";
import { EMPTY_PLAN, earliest } from "../../model/planner.ts";
import type { Task, TaskStatus } from "../../model/rows.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import { ClusterTracker } from "./cluster-info.ts";
import { DemandCache } from "./demand.ts";
import { type Explanation, explain, nodeUnsuitable, noSuitableNode } from "./explain.ts";
import { filtersFor, refusedBy } from "./filters.ts";
import { type Outcome, PendingServices } from "./pending.ts";
import { claimNode, type Placement, placeTasks, recentFailures } from "./placement.ts";
import type { ServiceQueue, VersionQueue } from "./service-queue.ts";
import { Survey, type TaskGroup } from "./survey.ts";

/**
 * The one key. Services share the nodes' room, so they are planned one after another on one
 * picture of it: two plans made side by side could give the same room away twice.
 */
export const SCHEDULER_KEY = "cluster";

/** Changes of one plan; the rest follows in the next, so that no plan holds the loop for long. */
export const CHANGES_PER_PLAN_MAX = 1_000;

/** Nodes looked at in one plan, likewise; and tasks, each of which costs a tenth of a node. */
export const NODE_LOOKS_PER_PLAN_MAX = 10_000;
export const TASK_LOOKS_PER_PLAN_MAX = 100_000;
/** Reading a task from the state costs as much as so many looks. */
const LOOKS_PER_TASK_READ = 40;
/** Tasks read in one plan when nodes are read from the state, likewise. */
export const NODE_TASK_READS_PER_PLAN_MAX = 10_000;

/** The limits of one plan. */
export interface PlanLimits {
  readonly changes: number;
  readonly nodeLooks: number;
  readonly taskLooks: number;
  readonly nodeTaskReads: number;
  /**
   * A new leader's first plans run code that Node.js has not compiled yet, at a tenth of its later
   * speed: the first has one in so many of the other limits, the next one two, and so on.
   */
  readonly plansToWarmUp: number;
}

export const PLAN_LIMITS: PlanLimits = {
  changes: CHANGES_PER_PLAN_MAX,
  nodeLooks: NODE_LOOKS_PER_PLAN_MAX,
  taskLooks: TASK_LOOKS_PER_PLAN_MAX,
  nodeTaskReads: NODE_TASK_READS_PER_PLAN_MAX,
  plansToWarmUp: 8,
};

/** What of a limit the plan of that number, from 1 on, may use. */
function portionOf(limit: number, { plansToWarmUp }: PlanLimits, plan: number): number {
  return Math.ceil(limit * Math.min(1, plan / plansToWarmUp));
}

function limitsOf(limits: PlanLimits, plan: number): PlanLimits {
  return {
    ...limits,
    changes: portionOf(limits.changes, limits, plan),
    nodeLooks: portionOf(limits.nodeLooks, limits, plan),
    taskLooks: portionOf(limits.taskLooks, limits, plan),
  };
}

/**
 * Numbers in an explanation are brought up to date no more often than this, for every so many
 * tasks that share it: a full cluster with many tasks waiting must not write without end.
 */
export const EXPLAIN_REFRESH_MS = 10_000;
export const EXPLAIN_REFRESH_TASKS = 1_000;

const ASSIGNED_MESSAGE = "scheduler assigned task to node";
const CONFIRMED_MESSAGE = "scheduler confirmed task can run on preassigned node";

/** The survey made last, kept as long as it is of use. */
class SurveyShelf {
  readonly #cluster: ClusterTracker;
  #survey: Survey | null = null;

  constructor(cluster: ClusterTracker) {
    this.#cluster = cluster;
  }

  clear(): void {
    this.#survey = null;
  }

  /** A survey for the group, up to date as far as it is made. */
  of(group: TaskGroup): Survey {
    const { touched } = this.#cluster;
    if (this.#survey?.isOf(group)) for (const id of touched) this.#survey.refresh(id);
    else this.#survey = new Survey(group, this.#cluster);
    touched.clear();
    return this.#survey;
  }
}

/**
 * Gives PENDING tasks a node (SwarmKit manager/scheduler). A task of a replicated service goes to
 * the best node that its filters leave; one that comes with a node (global services) is checked
 * against that node only. A task without a suitable node stays PENDING and says why.
 */
export class Scheduler implements Planner {
  readonly name = "scheduler";
  /** Each names the version of its task, and takes room that no other takes. */
  readonly changesAreIndependent = true;
  readonly #limits: PlanLimits;
  readonly #demands = new DemandCache();
  readonly #nodes = new ClusterTracker(this.#demands);
  readonly #surveys = new SurveyShelf(this.#nodes);
  readonly #pending = new PendingServices();
  #view: StateView | null = null;
  /** Raft index of the last change taken in. */
  #index = -1;
  /** Plans that read nodes, and plans that placed tasks. */
  #reads = 0;
  #plans = 0;

  constructor(limits: PlanLimits = PLAN_LIMITS) {
    this.#limits = limits;
  }

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
    this.#nodes.reset();
    this.#surveys.clear();
    this.#view = view;
    this.#index = view.index;
  }

  plan(view: StateView, key: string, ctx: PlanContext): Plan {
    if (key !== SCHEDULER_KEY) return EMPTY_PLAN;
    if (this.#view !== view || this.#index !== view.index) this.#reset(view);
    const due = this.#pending.due(ctx.nowMs);
    if (due.length === 0) return { ...EMPTY_PLAN, wakeAtMs: this.#pending.nextRefreshMs() };
    this.#reads += 1;
    const readsMax = portionOf(this.#limits.nodeTaskReads, this.#limits, this.#reads);
    if (!this.#nodes.read(view, readsMax)) return { ...EMPTY_PLAN, wakeAtMs: ctx.nowMs };
    this.#plans += 1;
    const limits = limitsOf(this.#limits, this.#plans);
    const tools = { cluster: this.#nodes, surveys: this.#surveys, demands: this.#demands };
    const pass = new Pass({ view, nowMs: ctx.nowMs, limits }, tools);
    let left = due.length;
    let unfinished = false;
    try {
      for (const serviceId of due) {
        const outcome = pass.planService(serviceId, this.#pending.queueOf(serviceId));
        this.#pending.planned(serviceId, outcome);
        left -= 1;
        unfinished = outcome.unfinished;
        if (unfinished || pass.exhausted) break;
      }
    } finally {
      this.#nodes.release();
    }
    const more = left > 0 || unfinished || pass.exhausted;
    const wakeAtMs = earliest(more ? ctx.nowMs : null, this.#pending.nextRefreshMs());
    return { changes: pass.changes, wakeAtMs, notes: pass.notes };
  }
}

interface PassOptions {
  readonly view: StateView;
  readonly nowMs: number;
  readonly limits: PlanLimits;
}

interface PassTools {
  readonly cluster: ClusterTracker;
  readonly surveys: SurveyShelf;
  readonly demands: DemandCache;
}

/** One planning pass over the services that are due. */
class Pass {
  readonly changes: Change[] = [];
  readonly notes: PlanNote[] = [];
  readonly #view: StateView;
  readonly #nowMs: number;
  readonly #limits: PlanLimits;
  readonly #tools: PassTools;
  readonly #cluster: ClusterTracker;
  #nodeLooks = 0;
  #taskLooks = 0;
  #unfinished = false;
  #refreshAtMs: number | null = null;

  constructor({ view, nowMs, limits }: PassOptions, tools: PassTools) {
    this.#view = view;
    this.#nowMs = nowMs;
    this.#limits = limits;
    this.#tools = tools;
    this.#cluster = tools.cluster;
  }

  get exhausted(): boolean {
    const { nodeLooks, taskLooks } = this.#limits;
    return this.#room === 0 || this.#nodeLooks >= nodeLooks || this.#taskLooks >= taskLooks;
  }

  get #room(): number {
    return this.#limits.changes - this.changes.length;
  }

  planService(serviceId: string, queue: ServiceQueue): Outcome {
    const changesBefore = this.changes.length;
    this.#refreshAtMs = null;
    this.#unfinished = false;
    if (!this.#read(serviceId, queue)) this.#unfinished = true;
    else {
      for (const version of queue.versions()) {
        if (!this.#unfinished) this.#planVersion(serviceId, version, queue);
      }
    }
    return {
      waiting: queue.waiting > 0 || !queue.complete,
      unfinished: this.#unfinished || this.#room === 0,
      changed: this.changes.length > changesBefore,
      refreshAtMs: this.#refreshAtMs,
    };
  }

  /** False when there was too much to read at once. */
  #read(serviceId: string, queue: ServiceQueue): boolean {
    const looks = Math.max(0, this.#limits.taskLooks - this.#taskLooks);
    const tasksMax = Math.ceil(looks / LOOKS_PER_TASK_READ);
    this.#taskLooks += LOOKS_PER_TASK_READ * queue.read(this.#view, serviceId, tasksMax);
    this.#taskLooks += queue.waiting;
    return queue.complete;
  }

  #planVersion(serviceId: string, version: VersionQueue, queue: ServiceQueue): void {
    const { specVersion, bound, free } = version;
    const demand = this.#demandOf(bound.first() ?? free.first());
    if (demand === null) return;
    const failures = recentFailures(queue.failed(), specVersion, this.#nowMs);
    const group: TaskGroup = { serviceId, demand, failures };
    this.#planPreassigned(group, bound);
    this.#planGroup(group, free);
  }

  #demandOf(task: Task | undefined) {
    const row = task === undefined ? undefined : specOfTask(this.#view, task);
    return row === undefined ? null : this.#tools.demands.of(row.spec);
  }

  /** Tasks whose node was chosen for them: only checked. Their node gone, others clean them up. */
  #planPreassigned(group: TaskGroup, tasks: SortedSet<Task>): void {
    if (tasks.size === 0) return;
    const filters = filtersFor(group.demand);
    for (const task of tasks) {
      if (this.#room === 0) return;
      const info = this.#cluster.get(task.nodeId);
      if (info === undefined) continue;
      this.#nodeLooks += 1;
      const refusing = refusedBy(filters, info, group.demand, group.serviceId);
      if (refusing === null) {
        this.#assign(claimNode(this.#cluster, group, task, info), CONFIRMED_MESSAGE);
      } else {
        const why = explain(new Map([[refusing, [info]]]), group.demand);
        this.#refuse(task, nodeUnsuitable(why), why, EXPLAIN_REFRESH_MS);
      }
    }
  }

  #planGroup(group: TaskGroup, tasks: SortedSet<Task>): void {
    if (tasks.size === 0 || this.#room === 0) return;
    const survey = this.#tools.surveys.of(group);
    const looksMax = Math.max(1, this.#limits.nodeLooks - this.#nodeLooks);
    const tasksMax = Math.min(this.#room, tasks.size, this.#choicesOf(survey));
    const placed = placeTasks(this.#cluster, survey, tasks, { tasksMax, looksMax });
    const { placements, looks } = placed;
    this.#nodeLooks += looks;
    for (const placement of placements) this.#assign(placement, ASSIGNED_MESSAGE);
    if (placements.length === tasks.size) return;
    if (!survey.ready || placements.length === tasksMax) this.#unfinished = true;
    else this.#explain(survey, tasks, placements.length);
  }

  /** At random each choice looks at every node, otherwise at the best ones only. */
  #choicesOf(survey: Survey): number {
    if (survey.group.demand.strategy !== "random") return Number.POSITIVE_INFINITY;
    return Math.ceil(this.#limits.nodeLooks / Math.max(1, this.#cluster.ids.length));
  }

  /** Tells those left over, all but the first `placed`, why. */
  #explain(survey: Survey, tasks: SortedSet<Task>, placed: number): void {
    this.#nodeLooks += this.#cluster.ids.length;
    const why = explain(survey.refusals(), survey.group.demand);
    const err = noSuitableNode(why);
    const unplaced = tasks.size - placed;
    const refreshMs = EXPLAIN_REFRESH_MS * Math.ceil(unplaced / EXPLAIN_REFRESH_TASKS);
    let i = 0;
    for (const task of tasks) {
      i += 1;
      if (i <= placed) continue;
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
