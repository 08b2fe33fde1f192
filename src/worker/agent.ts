import { setMaxListeners } from "node:events";
import { aborted, type Deferred, newDeferred, TaskGroup, withSignal } from "../base/async.ts";
import { Backoff, type BackoffOptions } from "../base/backoff.ts";
import { type Clock, sleep, type Timer } from "../base/clock.ts";
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
import { ABSENT_CONTAINER, type FoundContainer } from "./core/container-view.ts";
import { planAssignments, planOwnership, type TaskAction } from "./core/reconcile.ts";
import type { TaskWork } from "./core/task-work.ts";
import { DependencyStore } from "./dependency-store.ts";
import { DescriptionCache } from "./description-cache.ts";
import { EngineOutage } from "./engine-outage.ts";
import type { Executor, ExecutorEvent } from "./executor.ts";
import type { LocalStore, TaskRecord } from "./local-store.ts";
import { readTaskLogs } from "./logs/task-logs.ts";
import type { TaskNetworks } from "./networks.ts";
import { newStepSlots, START_SLOTS } from "./step-slots.ts";
import { DEFAULT_STOP_GRACE_MS, type RunnerDeps, TaskRunner } from "./task-runner.ts";

/** How often what runs is compared with what should, in case an event was missed. */
export const AUDIT_INTERVAL_MS = 60_000;
/** An outage shorter than this is not worth a word in every task's status. */
export const ENGINE_LOST_REPORT_MS = 10_000;
/** A leave waits this long for the first look at the Engine. */
const FIRST_LOOK_WAIT_MS = 5_000;
/** Orphans removed in one pass; the rest waits for the next. */
const ORPHANS_PER_PASS = 64;
const ENGINE_BACKOFF: BackoffOptions = { baseMs: 100, maxMs: 2_000 };

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
  readonly #outage: EngineOutage;
  readonly #description: DescriptionCache;
  readonly #runners = new Map<string, TaskRunner>();
  /** Assignments of tasks that are being forgotten, to start over with afterwards. */
  readonly #returning = new Map<string, AssignedTask>();
  readonly #runnerDeps: RunnerDeps;
  #lostTimer: Timer | null = null;
  #group: TaskGroup | null = null;
  #loading: Promise<void> | null = null;
  /** The first look at the Engine is done: runners may work. */
  #started = false;
  readonly #firstLook = newDeferred<void>();
  #engineLost = false;
  /** Managers have said what is this node's: whatever else carries its labels is an orphan. */
  #confirmed = false;
  #emptied: Deferred<void> | null = null;

  constructor(options: AgentOptions, deps: AgentDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#description = new DescriptionCache(deps);
    this.#outage = new EngineOutage({ bootedAtMs: options.bootedAtMs }, { clock: deps.clock });
    this.#runnerDeps = {
      ...deps,
      slots: newStepSlots(options.startSlots ?? START_SLOTS),
      workOf: assigned => this.#workOf(assigned),
      wasInterrupted: finishedAtMs => this.#outage.covers(finishedAtMs),
    };
  }

  /** Works until the signal aborts; the containers go on without it. Closes the store. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#load();
    const group = new TaskGroup(signal);
    // Each task and each call to the Engine listens: many listeners are no leak here.
    setMaxListeners(0, group.signal);
    this.#group = group;
    for (const runner of this.#runners.values()) runner.report();
    group.start("engine watch", inner => this.#watchEngine(inner));
    group.start("container audit", inner => this.#auditLoop(inner));
    try {
      await Promise.race([group.done, aborted(group.signal)]);
    } finally {
      this.#lostTimer?.cancel();
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
    for (const action of planAssignments(new Set(this.#runners.keys()), changes, complete)) {
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
    // One that waits for a secret may have it now.
    for (const runner of this.#runners.values()) runner.poke();
    if (complete) this.#confirm();
  }

  async programmed(): Promise<void> {
    await this.#deps.networks.programmed();
  }

  /** From now on what no task owns is nobody's. */
  #confirm(): void {
    this.#confirmed = true;
    if (this.#started) this.#group?.start("orphans", signal => this.#tryAudit(signal));
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
    const left = await this.#deps.executor.list(signal);
    await Promise.all(left.map(container => this.#removeOrphan(container, signal)));
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

  /** Follows the Engine's events for ever; an Engine that goes away is waited for. */
  async #watchEngine(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(ENGINE_BACKOFF, this.#deps.rng);
    while (!signal.aborted) {
      try {
        for await (const event of this.#deps.executor.watch(signal)) {
          await this.#onEvent(event, signal);
          backoff.reset();
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#onEngineLost(error);
      }
      this.#startRunners();
      await sleep(this.#deps.clock, backoff.nextMs(), signal);
    }
  }

  async #onEvent(event: ExecutorEvent, signal: AbortSignal): Promise<void> {
    if (event.kind === "changed") {
      this.#runners.get(event.taskId)?.invalidate();
      return;
    }
    this.#description.expire();
    await this.describe();
    await this.#audit(signal);
    // What happened while nobody listened (a health, a restart) shows in no listing.
    for (const runner of this.#runners.values()) runner.recheck();
    this.#onEngineBack();
    this.#startRunners();
  }

  #startRunners(): void {
    if (this.#started) return;
    this.#started = true;
    this.#firstLook.resolve();
    for (const runner of this.#runners.values()) this.#begin(runner);
  }

  #onEngineLost(error: unknown): void {
    if (!this.#outage.lost()) return;
    this.#deps.logger.warn("the Docker Engine does not answer", { error: errorMessage(error) });
    this.#lostTimer = this.#deps.clock.setTimer("engine lost", ENGINE_LOST_REPORT_MS, () => {
      this.#setEngineLost(true);
    });
  }

  #onEngineBack(): void {
    this.#lostTimer?.cancel();
    if (this.#outage.ongoing) this.#deps.logger.info("the Docker Engine answers again");
    this.#outage.back();
    this.#setEngineLost(false);
  }

  #setEngineLost(lost: boolean): void {
    this.#engineLost = lost;
    for (const runner of this.#runners.values()) runner.setEngineLost(lost);
  }

  async #auditLoop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#deps.clock, AUDIT_INTERVAL_MS, signal);
      await this.#tryAudit(signal);
    }
  }

  async #tryAudit(signal: AbortSignal): Promise<void> {
    try {
      await this.#audit(signal);
    } catch (error) {
      this.#deps.logger.info("cannot compare containers", { error: errorMessage(error) });
    }
  }

  /** Compares the containers there are with the tasks there should be. */
  async #audit(signal: AbortSignal): Promise<void> {
    const found = await this.#deps.executor.list(signal);
    const { containers, orphans } = planOwnership(new Set(this.#runners.keys()), found);
    for (const [taskId, runner] of this.#runners) runner.observe(containers.get(taskId));
    if (!this.#confirmed) return;
    for (const orphan of orphans.slice(0, ORPHANS_PER_PASS)) {
      this.#group?.start(`orphan ${orphan.name}`, inner => this.#removeOrphan(orphan, inner));
    }
  }

  async #removeOrphan(orphan: FoundContainer, signal: AbortSignal): Promise<void> {
    const { executor, logger } = this.#deps;
    const { slots } = this.#runnerDeps;
    logger.info("removing a container that no task owns", { container: orphan.name });
    try {
      await slots.stop.use(signal, () => executor.stop(orphan.id, DEFAULT_STOP_GRACE_MS, signal));
      await slots.remove.use(signal, () => executor.remove(orphan.id, orphan.taskId, signal));
    } catch (error) {
      // The next audit finds it again.
      logger.warn("cannot remove a container", {
        container: orphan.name,
        error: errorMessage(error),
      });
    }
  }
}

function newRecord(assigned: AssignedTask): TaskRecord {
  const { desiredState, status } = assigned.task;
  return { assigned, goal: desiredState, status, stopReason: null };
}
