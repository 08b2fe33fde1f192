import { BoundedQueue, withSignal } from "../../base/async.ts";
import { type Clock, sleep, type Timer } from "../../base/clock.ts";
import { SwarmError } from "../../base/errors.ts";
import type { NodeDescription } from "../../model/rows.ts";
import {
  ABSENT_CONTAINER,
  type ContainerHealth,
  type ContainerView,
  type FoundContainer,
} from "../core/container-view.ts";
import type { LogRecord } from "../core/log-frames.ts";
import { taskName } from "../core/task-context.ts";
import type { TaskWork } from "../core/task-work.ts";
import type {
  ContainerRef,
  CreatedContainer,
  Executor,
  ExecutorEvent,
  LogReadOptions,
} from "../executor.ts";

/** What a simulated container does and how long the Engine takes over it. */
export interface SimBehaviour {
  readonly pullMs: number;
  readonly createMs: number;
  readonly startMs: number;
  /** From the stop signal to the exit; beyond the grace it is killed. */
  readonly stopMs: number;
  readonly removeMs: number;
  /** The image is on the node without a pull. */
  readonly imageIsLocal: boolean;
  /** Errors in the Engine's words; empty = works. */
  readonly pullError: string;
  readonly createError: string;
  readonly startError: string;
  /** Ends by itself so long after its start; null = never. */
  readonly exitAfterMs: number | null;
  readonly exitCode: number;
  /** What the healthcheck says in the end and when; null = there is none. */
  readonly health: { readonly becomes: "healthy" | "unhealthy"; readonly afterMs: number } | null;
  /** Lines it writes when it starts. */
  readonly output: readonly string[];
}

export const SIM_BEHAVIOUR: SimBehaviour = {
  pullMs: 1000,
  createMs: 20,
  startMs: 250,
  stopMs: 50,
  removeMs: 20,
  imageIsLocal: true,
  pullError: "",
  createError: "",
  startError: "",
  exitAfterMs: null,
  exitCode: 0,
  health: null,
  output: [],
};

const STOP_EXIT_CODE = 143;
const KILL_EXIT_CODE = 137;
/** What dockerd says of a container it lost sight of. */
const LOST_EXIT_CODE = 255;
/** A watcher further behind than this is cut off and lists again. */
const WATCH_LIMIT_EVENTS = 10_000;
const CALL_MS = 1;

interface SimContainer {
  readonly taskId: string;
  readonly name: string;
  readonly behaviour: SimBehaviour;
  readonly log: LogRecord[];
  readonly logReaders: Set<BoundedQueue<LogRecord>>;
  readonly timers: Set<Timer>;
  view: ContainerView;
}

export interface SimExecutorOptions {
  readonly description: NodeDescription;
  readonly behaviour: (work: TaskWork) => Partial<SimBehaviour>;
}

/**
 * An Engine without containers, on the injected clock: for simulation, scale and tests. It keeps
 * its containers when the agent that uses it is replaced, and can be made to fail.
 */
export class SimExecutor implements Executor {
  readonly #options: SimExecutorOptions;
  readonly #clock: Clock;
  readonly #containers = new Map<string, SimContainer>();
  /** Ids by name. */
  readonly #names = new Map<string, string>();
  readonly #watchers = new Set<BoundedQueue<ExecutorEvent>>();
  readonly #images = new Set<string>();
  #reachable = true;
  #counter = 0;
  /** Calls so far, by name: what a test may assert not to have happened. */
  readonly calls = new Map<string, number>();

  constructor(options: SimExecutorOptions, deps: { readonly clock: Clock }) {
    this.#options = options;
    this.#clock = deps.clock;
  }

  /** Makes the Engine answer or not; what runs goes on running. */
  setReachable(reachable: boolean): void {
    this.#reachable = reachable;
    if (reachable) return;
    for (const watcher of this.#watchers) watcher.close(unreachable());
    this.#watchers.clear();
  }

  /** The Engine stops without live-restore and answers no more: every container ends. */
  crash(): void {
    this.setReachable(false);
    for (const container of this.#containers.values()) {
      if (container.view.phase === "running") this.#exit(container, LOST_EXIT_CODE);
    }
  }

  /** Ends a task's container from outside. */
  exitTask(taskId: string, exitCode: number): void {
    for (const container of this.#containers.values()) {
      if (container.taskId === taskId) this.#exit(container, exitCode);
    }
  }

  /** Removes a task's container from outside. */
  deleteTask(taskId: string): void {
    for (const [id, container] of this.#containers) {
      if (container.taskId === taskId) this.#delete(id, container);
    }
  }

  /** Tasks whose container runs, sorted. */
  runningTasks(): readonly string[] {
    return [...this.#containers.values()]
      .filter(container => container.view.phase === "running")
      .map(container => container.taskId)
      .sort();
  }

  async describe(signal: AbortSignal): Promise<NodeDescription> {
    await this.#call("describe", CALL_MS, signal);
    return this.#options.description;
  }

  async list(signal: AbortSignal): Promise<readonly FoundContainer[]> {
    await this.#call("list", CALL_MS, signal);
    return [...this.#containers].map(([id, { name, taskId, view }]) => {
      return { id, name, taskId, phase: view.phase };
    });
  }

  async inspect(ref: ContainerRef, signal: AbortSignal): Promise<ContainerView> {
    await this.#call("inspect", CALL_MS, signal);
    const found = ref.containerId === "" ? this.#byName(ref.name) : this.#get(ref.containerId);
    return found === undefined || found.taskId !== ref.taskId ? ABSENT_CONTAINER : found.view;
  }

  async pull(work: TaskWork, signal: AbortSignal): Promise<void> {
    const behaviour = this.#behaviour(work);
    await this.#call("pull", behaviour.pullMs, signal);
    if (behaviour.pullError !== "") throw refused(behaviour.pullError);
    this.#images.add(imageOf(work));
  }

  async create(work: TaskWork, signal: AbortSignal): Promise<CreatedContainer> {
    const behaviour = this.#behaviour(work);
    await this.#call("create", behaviour.createMs, signal);
    const name = taskName(work.assigned);
    const existing = this.#byName(name);
    if (existing !== undefined) return { id: existing.view.id, existed: true };
    const image = imageOf(work);
    if (!behaviour.imageIsLocal && !this.#images.has(image)) {
      throw new SwarmError("not_found", `No such image: ${image}`, { missing: "image" });
    }
    if (behaviour.createError !== "") throw refused(behaviour.createError);
    const id = `sim${String(++this.#counter).padStart(8, "0")}`;
    this.#names.set(name, id);
    this.#containers.set(id, {
      taskId: work.assigned.task.id,
      name,
      behaviour,
      log: [],
      logReaders: new Set(),
      timers: new Set(),
      view: { ...ABSENT_CONTAINER, phase: "created", id },
    });
    return { id, existed: false };
  }

  async start(containerId: string, _work: TaskWork, signal: AbortSignal): Promise<void> {
    const container = this.#require(containerId);
    await this.#call("start", container.behaviour.startMs, signal);
    if (container.view.phase === "running") return;
    const { startError, health, exitAfterMs, exitCode, output } = container.behaviour;
    if (startError !== "") throw refused(startError);
    const pid = ++this.#counter;
    this.#change(container, {
      phase: "running",
      pid,
      health: health === null ? "none" : "starting",
    });
    for (const line of output) this.#write(container, line);
    if (exitAfterMs !== null) {
      this.#later(container, exitAfterMs, () => this.#exit(container, exitCode));
    }
    if (health !== null) {
      this.#later(container, health.afterMs, () => this.#setHealth(container, health.becomes));
    }
  }

  async stop(containerId: string, graceMs: number, signal: AbortSignal): Promise<void> {
    const container = this.#get(containerId);
    const stopMs = container?.behaviour.stopMs ?? 0;
    await this.#call("stop", Math.min(stopMs, graceMs), signal);
    if (container === undefined) return;
    this.#exit(container, stopMs > graceMs ? KILL_EXIT_CODE : STOP_EXIT_CODE);
  }

  async kill(containerId: string, signal: AbortSignal): Promise<void> {
    await this.#call("kill", CALL_MS, signal);
    const container = this.#get(containerId);
    if (container !== undefined) this.#exit(container, KILL_EXIT_CODE);
  }

  async remove(containerId: string, _taskId: string, signal: AbortSignal): Promise<void> {
    const container = this.#get(containerId);
    await this.#call("remove", container?.behaviour.removeMs ?? CALL_MS, signal);
    if (container !== undefined) this.#delete(containerId, container);
  }

  async *watch(signal: AbortSignal): AsyncGenerator<ExecutorEvent, void> {
    if (!this.#reachable) throw unreachable();
    const queue = new BoundedQueue<ExecutorEvent>({ maxItems: WATCH_LIMIT_EVENTS });
    const onAbort = (): void => queue.close(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    this.#watchers.add(queue);
    try {
      yield { kind: "connected" };
      yield* queue;
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#watchers.delete(queue);
    }
  }

  async *logs(
    containerId: string,
    options: LogReadOptions,
    signal: AbortSignal,
  ): AsyncGenerator<LogRecord, void> {
    await this.#call("logs", CALL_MS, signal);
    const container = this.#require(containerId);
    const queue = new BoundedQueue<LogRecord>({ maxItems: WATCH_LIMIT_EVENTS });
    const sinceNs = BigInt(options.sinceMs) * 1_000_000n;
    const lines = container.log.filter(
      line => BigInt(line.timestampNs) >= sinceNs && options[line.stream],
    );
    const skipped = options.tail < 0 ? 0 : Math.max(0, lines.length - options.tail);
    for (const line of lines.slice(skipped)) {
      queue.push(line);
    }
    const live = options.follow && container.view.phase === "running";
    if (live) container.logReaders.add(queue);
    else queue.close();
    const onAbort = (): void => queue.close(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      for await (const line of queue) if (options[line.stream]) yield line;
    } finally {
      signal.removeEventListener("abort", onAbort);
      container.logReaders.delete(queue);
    }
  }

  /** A call takes its time, and fails when the Engine is away at its start or at its end. */
  async #call(name: string, durationMs: number, signal: AbortSignal): Promise<void> {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
    if (!this.#reachable) throw unreachable();
    await withSignal(sleep(this.#clock, durationMs, signal), signal);
    if (!this.#reachable) throw unreachable();
  }

  #behaviour(work: TaskWork): SimBehaviour {
    return { ...SIM_BEHAVIOUR, ...this.#options.behaviour(work) };
  }

  #get(id: string): SimContainer | undefined {
    return this.#containers.get(id);
  }

  #byName(name: string): SimContainer | undefined {
    const id = this.#names.get(name);
    return id === undefined ? undefined : this.#containers.get(id);
  }

  #require(id: string): SimContainer {
    const container = this.#containers.get(id);
    if (container !== undefined) return container;
    throw new SwarmError("not_found", `No such container: ${id}`, { missing: "container" });
  }

  #change(container: SimContainer, change: Partial<ContainerView>): void {
    container.view = { ...container.view, ...change };
  }

  #setHealth(container: SimContainer, health: ContainerHealth): void {
    this.#change(container, { health });
    this.#publish(container);
  }

  #exit(container: SimContainer, exitCode: number): void {
    if (container.view.phase !== "running") return;
    const finishedAtMs = this.#clock.nowMs();
    this.#change(container, { phase: "exited", pid: 0, exitCode, finishedAtMs });
    this.#silence(container);
    this.#publish(container);
  }

  #delete(id: string, container: SimContainer): void {
    this.#containers.delete(id);
    this.#names.delete(container.name);
    this.#silence(container);
    this.#publish(container);
  }

  #silence(container: SimContainer): void {
    for (const timer of container.timers) timer.cancel();
    container.timers.clear();
    for (const reader of container.logReaders) reader.close();
  }

  #later(container: SimContainer, delayMs: number, fn: () => void): void {
    container.timers.add(this.#clock.setTimer("sim container", delayMs, fn));
  }

  #write(container: SimContainer, line: string): void {
    const record: LogRecord = {
      stream: "stdout",
      timestampNs: String(BigInt(this.#clock.nowMs()) * 1_000_000n),
      data: new TextEncoder().encode(`${line}\n`),
      attrs: {},
    };
    container.log.push(record);
    for (const reader of container.logReaders) reader.push(record);
  }

  #publish(container: SimContainer): void {
    const event = {
      kind: "changed",
      taskId: container.taskId,
      containerId: container.view.id,
    } as const;
    for (const watcher of this.#watchers) {
      if (watcher.push(event)) continue;
      watcher.close(unreachable());
      this.#watchers.delete(watcher);
    }
  }
}

function imageOf(work: TaskWork): string {
  return work.assigned.spec.TaskTemplate?.ContainerSpec?.Image ?? "";
}

function unreachable(): SwarmError {
  return new SwarmError("unavailable", "the Docker Engine does not answer (simulated)");
}

function refused(words: string): SwarmError {
  return new SwarmError("invalid_argument", words);
}
