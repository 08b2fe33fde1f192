import { setMaxListeners } from "node:events";
import { aborted, type Deferred, newDeferred, TaskGroup, withSignal } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { assert, errorMessage, SwarmError, toSwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type {
  AgentPort,
  AssignedTask,
  AssignmentChange,
  LogMessage,
  LogSubscription,
  StatusReporter,
} from "../model/assignment.ts";
import { isOverlayChange } from "../model/overlay.ts";
import type { NodeDescription } from "../model/rows.ts";
import { compareTaskStates } from "../model/task-state.ts";
import { ContainerAudit } from "./container-audit.ts";
import { ABSENT_CONTAINER } from "./core/container-view.ts";
import { planAssignments, type TaskAction } from "./core/reconcile.ts";
import type { TaskWork } from "./core/task-work.ts";
import { DependencyStore } from "./dependency-store.ts";
import { DescriptionCache } from "./description-cache.ts";
import { EngineWatch } from "./engine-watch.ts";
import type { Executor } from "./executor.ts";
import type { LocalStore, TaskRecord } from "./local-store.ts";
import { readTaskLogs } from "./logs/task-logs.ts";
import type { TaskNetworks } from "./networks.ts";
import { newStepSlots, START_SLOTS } from "./step-slots.ts";
import { type RunnerDeps, TaskRunner } from "./task-runner.ts";

/** A leave waits this long for the first look at the Engine. */
const FIRST_LOOK_WAIT_MS = 5_000;

export interface AgentOptions {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Name for `{{.Node.Hostname}}` until the Engine has said its own. */
  readonly hostname: string;
  /** When the host started, epoch ms; 0 = unknown. */
  readonly bootedAtMs: number;
  readonly startSlots?: number;
}

export interface AgentDeps {
  readonly executor: Executor;
  readonly store: LocalStore;
  readonly reporter: StatusReporter;
  readonly networks: TaskNetworks;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/**
 * The worker of a node: keeps the containers as the managers last said, whether or not a manager
 * answers. Nothing in here stops a container because swarmd ends, a session breaks or the Engine
 * is away; only an assignment does, or the task's own failure.
 */
export class Agent implements AgentPort {
  readonly #options: AgentOptions;
  readonly #deps: AgentDeps;
  readonly #dependencies = new DependencyStore();
  readonly #engine: EngineWatch;
  readonly #audit: ContainerAudit;
  readonly #description: DescriptionCache;
  readonly #runners = new Map<string, TaskRunner>();
  /** Assignments of tasks that are being forgotten, to start over with afterwards. */
  readonly #returning = new Map<string, AssignedTask>();
  readonly #runnerDeps: RunnerDeps;
  #group: TaskGroup | null = null;
  #loading: Promise<void> | null = null;
  /** The first look at the Engine is done: runners may work. */
  #started = false;
  readonly #firstLook = newDeferred<void>();
  #engineLost = false;
  #emptied: Deferred<void> | null = null;

  constructor(options: AgentOptions, deps: AgentDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#description = new DescriptionCache(deps);
    const slots = newStepSlots(options.startSlots ?? START_SLOTS);
    this.#runnerDeps = {
      ...{ ...deps, slots },
      workOf: assigned => this.#workOf(assigned),
      wasInterrupted: finishedAtMs => this.#engine.covers(finishedAtMs),
    };
    const runners = this.#runners;
    this.#audit = new ContainerAudit({ ...deps, slots, runners, group: () => this.#group });
    this.#engine = new EngineWatch(options, {
      ...deps,
      onConnected: signal => this.#onEngine(signal),
      onChanged: taskId => runners.get(taskId)?.invalidate(),
      onLooked: () => this.#startRunners(),
      onLost: lost => this.#setEngineLost(lost),
    });
  }

  /** Works until the signal aborts; the containers go on without it. Closes the store. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#load();
    const group = new TaskGroup(signal);
    // Each task and each call to the Engine listens: many listeners are no leak here.
    setMaxListeners(0, group.signal);
    this.#group = group;
    for (const runner of this.#runners.values()) runner.report();
    group.start("engine watch", inner => this.#engine.run(inner));
    group.start("container audit", inner => this.#audit.run(inner));
    try {
      await Promise.race([group.done, aborted(group.signal)]);
    } finally {
      try {
        await group.close();
      } finally {
        await this.#deps.store.close();
      }
    }
  }

  /** The tasks of this node and what is known of each; for status pages and tests. */
  tasks(): readonly TaskRecord[] {
    return [...this.#runners.values()].map(runner => runner.record);
  }

  /**
   * Seconds old at most while the Engine answers; the last one while it does not. Throws
   * `unavailable` when it has never answered.
   */
  async describe(): Promise<NodeDescription> {
    await this.#load();
    const signal = this.#group?.signal ?? new AbortController().signal;
    const description = await this.#description.get(signal);
    const overlay = await this.#deps.networks.capability();
    return overlay === undefined ? description : { ...description, overlay };
  }

  async applyAssignments(changes: readonly AssignmentChange[], complete: boolean): Promise<void> {
    await this.#load();
    this.#dependencies.apply(changes, complete);
    // Before the tasks: they need their networks.
    this.#deps.networks.apply(changes.filter(isOverlayChange), complete);
    const touched: TaskRunner[] = [];
    const added: TaskRunner[] = [];
    for (const action of planAssignments(this.#runners, changes, complete)) {
      if (action.kind === "add") added.push(this.#add(newRecord(action.assigned)));
      else touched.push(...this.#change(action));
    }
    try {
      await this.#deps.store.save(
        [...added, ...touched].map(runner => runner.record),
        [],
      );
    } catch (error) {
      // As if it had never come: the session ends, and the next one brings it again.
      for (const runner of added) this.#runners.delete(runner.record.assigned.task.id);
      throw toSwarmError(error, "unavailable");
    }
    if (this.#started) for (const runner of added) this.#begin(runner);
    // One that waits for a secret or a network may have it now.
    if (complete || changes.some(({ kind }) => kind !== "task")) {
      for (const runner of this.#runners.values()) runner.poke();
    }
    if (complete) this.#confirm();
  }

  async programmed(): Promise<void> {
    await this.#deps.networks.programmed();
  }

  #confirm(): void {
    this.#audit.confirm();
    if (this.#started) this.#group?.start("orphans", signal => this.#audit.tryOnce(signal));
  }

  #change(action: Exclude<TaskAction, { kind: "add" }>): readonly TaskRunner[] {
    const taskId = action.kind === "drop" ? action.taskId : action.assigned.task.id;
    const runner = this.#runners.get(taskId);
    assert(runner !== undefined, `assignment for ${taskId}, which is not known`);
    if (action.kind === "drop") {
      this.#returning.delete(taskId);
      runner.drop();
    } else if (runner.record.goal === "gone") {
      this.#returning.set(taskId, action.assigned);
      return [];
    } else runner.update(action.assigned);
    return [runner];
  }

  async *readLogs(
    subscription: LogSubscription,
    signal: AbortSignal,
  ): AsyncGenerator<LogMessage, void> {
    const { executor, clock } = this.#deps;
    const sourceOf = (taskId: string): string | null =>
      this.#runners.get(taskId)?.logSource ?? null;
    const deps = { executor, clock, sourceOf, nodeId: this.#options.nodeId };
    yield* readTaskLogs(subscription, signal, deps);
  }

  /**
   * Stops and removes everything this node owns, for `leave`. Resolves when nothing is left;
   * rejects when the signal aborts first. Needs `run` to be running. Throws unavailable when the
   * Engine has not answered since then.
   */
  async shutdownAll(signal: AbortSignal): Promise<void> {
    if (!this.#started) await this.#untilFirstLook(signal);
    this.#returning.clear();
    for (const runner of this.#runners.values()) runner.drop();
    await this.#deps.store.save(this.tasks(), []);
    if (this.#runners.size > 0) {
      this.#emptied ??= newDeferred();
      await withSignal(this.#emptied.promise, signal);
    }
    await this.#audit.removeAll(signal);
    await this.#deps.store.clear();
  }

  /** A node that has only just joined, or started, may be told to leave again. */
  async #untilFirstLook(signal: AbortSignal): Promise<void> {
    const waited = sleep(this.#deps.clock, FIRST_LOOK_WAIT_MS, signal);
    await Promise.race([this.#firstLook.promise, waited]);
    if (this.#started) return;
    throw new SwarmError(
      "unavailable",
      "the Docker Engine does not answer, so this node's tasks cannot be ended: leave with --force",
    );
  }

  #load(): Promise<void> {
    this.#loading ??= this.#readStore();
    return this.#loading;
  }

  async #readStore(): Promise<void> {
    await this.#description.load();
    for (const record of await this.#deps.store.load()) this.#add(record);
  }

  #add(record: TaskRecord): TaskRunner {
    const { task } = record.assigned;
    const isNew = compareTaskStates(record.status.state, "assigned") <= 0;
    const logger = this.#deps.logger.child({ task: task.id, service: task.serviceName });
    const container = isNew ? ABSENT_CONTAINER : null;
    const runner = new TaskRunner(record, container, { ...this.#runnerDeps, logger });
    runner.setEngineLost(this.#engineLost);
    this.#runners.set(task.id, runner);
    return runner;
  }

  #begin(runner: TaskRunner): void {
    const taskId = runner.record.assigned.task.id;
    this.#group?.start(`task ${taskId}`, async signal => {
      if (await runner.run(signal)) await this.#forget(taskId);
    });
  }

  async #forget(taskId: string): Promise<void> {
    this.#runners.delete(taskId);
    const again = this.#returning.get(taskId);
    this.#returning.delete(taskId);
    if (again === undefined) await this.#keep("forgotten", this.#deps.store.save([], [taskId]));
    else {
      const runner = this.#add(newRecord(again));
      await this.#keep("returned", this.#deps.store.save([runner.record], []));
      this.#begin(runner);
    }
    if (this.#runners.size === 0) this.#emptied?.resolve();
  }

  /** What cannot be written is found out again after a restart; no task stops for it. */
  async #keep(what: string, writing: Promise<void>): Promise<void> {
    try {
      await writing;
    } catch (error) {
      this.#deps.logger.error("cannot write to the worker's database", {
        what,
        error: errorMessage(error),
      });
    }
  }

  #workOf(assigned: AssignedTask): TaskWork {
    const { nodeId, clusterId, hostname } = this.#options;
    const seen = this.#description.latest;
    const node = {
      nodeId,
      clusterId,
      hostname: seen?.hostname ?? hostname,
      os: seen?.os ?? "linux",
      architecture: seen?.architecture ?? "",
    };
    return {
      assigned,
      node,
      files: this.#dependencies.filesOf({ assigned, node }),
      registryAuth: assigned.spec.TaskTemplate?.ContainerSpec?.PullOptions?.RegistryAuth ?? "",
    };
  }

  /** What happened while nobody listened (a health, a restart) shows in no listing. */
  async #onEngine(signal: AbortSignal): Promise<void> {
    this.#description.expire();
    await this.describe();
    await this.#audit.once(signal);
    for (const runner of this.#runners.values()) runner.recheck();
  }

  #startRunners(): void {
    if (this.#started) return;
    this.#started = true;
    this.#firstLook.resolve();
    for (const runner of this.#runners.values()) this.#begin(runner);
  }

  #setEngineLost(lost: boolean): void {
    this.#engineLost = lost;
    for (const runner of this.#runners.values()) runner.setEngineLost(lost);
  }
}

function newRecord(assigned: AssignedTask): TaskRecord {
  const { desiredState, status } = assigned.task;
  return { assigned, goal: desiredState, status, stopReason: null };
}
