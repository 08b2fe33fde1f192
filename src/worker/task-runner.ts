import { type Deferred, newDeferred } from "../base/async.ts";
import { Backoff, type BackoffOptions } from "../base/backoff.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage, isSwarmError, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { AssignedTask, StatusReporter } from "../model/assignment.ts";
import { isTerminal } from "../model/task-state.ts";
import {
  ABSENT_CONTAINER,
  type ContainerView,
  type FoundContainer,
} from "./core/container-view.ts";
import { laterStatus } from "./core/reconcile.ts";
import { taskName } from "./core/task-context.ts";
import {
  decide,
  isEnding,
  laterGoal,
  type MachineInput,
  type StepFailure,
  type StepKind,
} from "./core/task-machine.ts";
import type { TaskWork } from "./core/task-work.ts";
import type { ContainerRef, Executor } from "./executor.ts";
import type { LocalStore, TaskRecord } from "./local-store.ts";
import type { TaskNetworks } from "./networks.ts";
import type { StepSlots } from "./step-slots.ts";

/** Pause before a failed step is tried again. */
export const STEP_BACKOFF: BackoffOptions = { baseMs: 200, maxMs: 10_000 };
/** Docker's default between stop signal and SIGKILL. */
export const DEFAULT_STOP_GRACE_MS = 10_000;
const NS_PER_MS = 1_000_000;

export interface RunnerDeps {
  readonly executor: Executor;
  readonly store: LocalStore;
  readonly reporter: StatusReporter;
  readonly networks: TaskNetworks;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly slots: StepSlots;
  /**
   * What the container is made from. Throws SwarmError: `unavailable` when a dependency may still
   * come, any other when the task can never be made.
   */
  readonly workOf: (assigned: AssignedTask) => TaskWork;
  /** Whether a container that ended then was ended by the Engine or the host going down. */
  readonly wasInterrupted: (finishedAtMs: number) => boolean;
}

/** Time for all nodes to take an unhealthy task out of their tables. */
const UNHEALTHY_NEWS_MS = 500;

/**
 * Drives one task: asks the machine for the next step, does it, and waits for something to change.
 * One step at a time, so a task never has two containers.
 */
export class TaskRunner {
  readonly #deps: RunnerDeps;
  readonly #backoff: Backoff;
  #record: TaskRecord;
  #container: ContainerView | null;
  #failure: StepFailure | null = null;
  #pulled = false;
  #pullError = "";
  #engineLost = false;
  /** Counts news of the container: an inspect that began before the last one is out of date. */
  #news = 0;
  #changed: Deferred<void> = newDeferred();
  /** The pause after a failure is over: the step may be tried again. */
  #rested = false;
  /** Ends the wait of a step that is pointless once the task is to end. */
  #abandon = new AbortController();

  constructor(record: TaskRecord, container: ContainerView | null, deps: RunnerDeps) {
    this.#record = record;
    this.#container = container;
    this.#deps = deps;
    this.#backoff = new Backoff(STEP_BACKOFF, deps.rng);
  }

  get record(): TaskRecord {
    return this.#record;
  }

  /** Empty until the container has been made. */
  get containerId(): string {
    return this.#container?.id || this.#record.status.containerId;
  }

  /** The container whose log is the task's; empty until it has started, null if it never will. */
  get logSource(): string | null {
    const { state } = this.#record.status;
    const phase = this.#container?.phase;
    if (isTerminal(state)) return this.containerId || null;
    return state === "running" || phase === "running" ? this.containerId : "";
  }

  /** A newer assignment; says the status again if the managers are behind. The caller saves it. */
  update(assigned: AssignedTask): void {
    const { goal, status } = this.#record;
    this.#record = {
      ...this.#record,
      assigned,
      goal: laterGoal(goal, assigned.task.desiredState),
      status: laterStatus(status, assigned.task.status),
    };
    if (assigned.task.status.state !== status.state) this.report();
    this.#goalChanged();
  }

  /** Stop it, remove its container, forget it. The caller saves it. */
  drop(): void {
    this.#record = { ...this.#record, goal: "gone" };
    this.#goalChanged();
  }

  #goalChanged(): void {
    if (isEnding(this.#record.goal)) this.#abandon.abort(new SwarmError("canceled", "ending"));
    this.poke();
  }

  report(): void {
    const { assigned, status, goal } = this.#record;
    if (goal === "gone") return;
    this.#deps.reporter.report({ taskId: assigned.task.id, status });
  }

  /** The Engine said that the container changed: what is known of it is old. */
  invalidate(): void {
    this.#news += 1;
    this.#container = null;
    this.poke();
  }

  /** Events may have been missed. What has ended does not change any more. */
  recheck(): void {
    if (!isTerminal(this.#record.status.state)) this.invalidate();
  }

  /** What a listing of all containers says; undefined = not in it. */
  observe(found: FoundContainer | undefined): void {
    if (found === undefined && this.#container?.phase === "absent") return;
    if (found?.phase === this.#container?.phase && found?.id === this.#container?.id) return;
    if (found !== undefined && isTerminal(this.#record.status.state)) {
      this.#container = { ...ABSENT_CONTAINER, phase: found.phase, id: found.id };
      this.poke();
    } else this.invalidate();
  }

  /** Whether the outage is long enough to be mentioned; false when the Engine is back. */
  setEngineLost(lost: boolean): void {
    this.#engineLost = lost;
    this.poke();
  }

  /** Looks again at once, backoff or not. */
  poke(): void {
    this.#changed.resolve();
  }

  /** Runs until nothing of the task is left (true) or the signal aborts (false). */
  async run(signal: AbortSignal): Promise<boolean> {
    const onAbort = (): void => {
      this.#abandon.abort(signal.reason);
      this.poke();
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      while (!signal.aborted) {
        if (await this.#turn(signal)) return true;
      }
      return false;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** One decision and what it asks for; true when the task is to be forgotten. */
  async #turn(signal: AbortSignal): Promise<boolean> {
    this.#changed = newDeferred();
    const { status, stopReason, step } = decide(this.#input());
    if (status !== null) {
      const stamped = { ...status, timestampMs: this.#deps.clock.nowMs() };
      await this.#keep({ ...this.#record, status: stamped });
      this.report();
    }
    if (stopReason !== null && this.#record.stopReason === null) {
      await this.#keep({ ...this.#record, stopReason });
    }
    if (step.kind === "forget") return true;
    if (step.kind === "again") return false;
    const rested = this.#rested;
    this.#rested = false;
    if (step.kind === "wait") await this.#changed.promise;
    else if (step.afterBackoff && !rested) await this.#rest();
    else await this.#perform(step.kind, signal);
    return false;
  }

  #input(): MachineInput {
    const { goal, status, stopReason } = this.#record;
    const container = this.#container;
    return {
      goal,
      status,
      container,
      stopReason,
      failure: this.#failure,
      pulled: this.#pulled,
      pullError: this.#pullError,
      interrupted: container !== null && this.#deps.wasInterrupted(container.finishedAtMs),
      engineLost: this.#engineLost,
    };
  }

  /**
   * A write that fails is no reason to stop a task: what it would have said is found out again from
   * the container after a restart.
   */
  async #keep(record: TaskRecord): Promise<void> {
    this.#record = record;
    try {
      await this.#deps.store.save([record], []);
    } catch (error) {
      this.#deps.logger.error("cannot save the state of a task", { error: errorMessage(error) });
    }
  }

  /** Until the pause is over or something changes. */
  async #rest(): Promise<void> {
    const delayMs = this.#backoff.nextMs();
    const timer = this.#deps.clock.setTimer("step backoff", delayMs, () => this.poke());
    await this.#changed.promise;
    timer.cancel();
    this.#rested = true;
  }

  async #perform(kind: StepKind, signal: AbortSignal): Promise<void> {
    const startedMs = this.#deps.clock.monoMs();
    // A step that waits for its turn, and a pull, end when the task is not wanted any more. A
    // request that makes or starts a container is never cut off: its outcome would be unknown.
    const patience = PATIENT_STEPS.has(kind) ? signal : this.#abandon.signal;
    let begun = false;
    try {
      await this.#deps.slots[kind].use(patience, () => {
        begun = kind !== "pull";
        return this.#execute(kind, kind === "pull" ? patience : signal);
      });
    } catch (error) {
      if (begun || !patience.aborted) this.#failed(kind, error);
      return;
    }
    const durationMs = Math.round(this.#deps.clock.monoMs() - startedMs);
    this.#deps.logger.debug("task step done", { step: kind, durationMs });
    this.#backoff.reset();
    if (kind !== "inspect" || this.#failure?.step === "inspect") this.#failure = null;
  }

  /** Waits for connections to end, if no new ones come. */
  async #partFromClients(signal: AbortSignal): Promise<void> {
    const { networks, clock } = this.#deps;
    const { assigned, goal, stopReason } = this.#record;
    if (!isEnding(goal)) {
      if (stopReason !== "unhealthy" || assigned.task.networks.length === 0) return;
      // Its status has said so; nobody tells when all other nodes have heard.
      await sleep(clock, UNHEALTHY_NEWS_MS, signal);
    }
    await networks.quiesce(assigned, signal);
  }

  #execute(kind: StepKind, signal: AbortSignal): Promise<void> {
    const { executor } = this.#deps;
    const id = this.containerId;
    const { assigned } = this.#record;
    const steps: Readonly<Record<StepKind, () => Promise<void>>> = {
      inspect: () => this.#inspect(signal),
      pull: () => this.#pull(signal),
      create: () => this.#create(signal),
      start: () => executor.start(id, this.#deps.workOf(assigned), signal).then(this.#unknown),
      stop: async () => {
        await this.#partFromClients(signal);
        await executor.stop(id, stopGraceMs(assigned), signal);
        this.#unknown();
      },
      kill: () => executor.kill(id, signal).then(this.#unknown),
      remove: async () => {
        await executor.remove(id, assigned.task.id, signal);
        this.#container = ABSENT_CONTAINER;
      },
    };
    return steps[kind]();
  }

  readonly #unknown = (): void => {
    this.#container = null;
  };

  async #inspect(signal: AbortSignal): Promise<void> {
    const news = this.#news;
    const view = await this.#deps.executor.inspect(this.#ref(), signal);
    this.#container = news === this.#news ? view : null;
  }

  #ref(): ContainerRef {
    const { assigned, status } = this.#record;
    const { containerId } = status;
    return { taskId: assigned.task.id, name: taskName(assigned), containerId };
  }

  async #pull(signal: AbortSignal): Promise<void> {
    this.#pulled = true;
    try {
      await this.#deps.executor.pull(this.#deps.workOf(this.#record.assigned), signal);
    } catch (error) {
      if (signal.aborted) throw error;
      if (isSwarmError(error, "unavailable")) {
        this.#pulled = false;
        throw error;
      }
      // Not fatal: the image may be here all the same. If it is not, `create` says so.
      this.#pullError = errorMessage(error);
    }
  }

  async #create(signal: AbortSignal): Promise<void> {
    const work = this.#deps.workOf(this.#record.assigned);
    const { id, existed } = await this.#deps.executor.create(work, signal);
    this.#container = existed ? null : { ...ABSENT_CONTAINER, phase: "created", id };
  }

  #failed(kind: StepKind, error: unknown): void {
    const failure: StepFailure = { step: kind, kind: failureKind(kind, error), message: "" };
    this.#failure = { ...failure, message: errorMessage(error) };
    // Whatever it was, what is there now is better asked than guessed.
    if (failure.kind !== "missingImage") this.#container = null;
    this.#deps.logger.info("task step failed", { ...this.#failure });
  }
}

/** Steps that go on when the task is to end. */
const PATIENT_STEPS: ReadonlySet<StepKind> = new Set(["inspect", "stop", "kill", "remove"]);

function failureKind(kind: StepKind, error: unknown): StepFailure["kind"] {
  if (kind === "inspect" || isSwarmError(error, "unavailable")) return "temporary";
  if (isSwarmError(error, "canceled")) return "temporary";
  if (isSwarmError(error, "deadline_exceeded")) return kind === "stop" ? "timeout" : "temporary";
  if (!isSwarmError(error, "not_found")) return "permanent";
  if (error.details["missing"] === "image") return "missingImage";
  return error.details["missing"] === "container" ? "temporary" : "permanent";
}

function stopGraceMs(assigned: AssignedTask): number {
  const graceNs = assigned.spec.TaskTemplate?.ContainerSpec?.StopGracePeriod;
  return graceNs === undefined ? DEFAULT_STOP_GRACE_MS : Math.ceil(graceNs / NS_PER_MS);
}
