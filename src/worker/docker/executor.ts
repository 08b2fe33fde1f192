import type { Readable } from "node:stream";
import { withSignal } from "../../base/async.ts";
import type { Clock } from "../../base/clock.ts";
import { isSwarmError, SwarmError } from "../../base/errors.ts";
import type { NodeDescription } from "../../model/rows.ts";
import {
  CLUSTER_LABEL,
  type ContainerCreateBody,
  containerConfig,
  TASK_LABEL,
} from "../core/container-config.ts";
import {
  ABSENT_CONTAINER,
  type ContainerView,
  type FoundContainer,
} from "../core/container-view.ts";
import type { LogRecord } from "../core/log-frames.ts";
import { taskName } from "../core/task-context.ts";
import type { TaskWork } from "../core/task-work.ts";
import { withDeadline } from "../deadline.ts";
import type {
  ContainerRef,
  CreatedContainer,
  Executor,
  ExecutorEvent,
  LogReadOptions,
} from "../executor.ts";
import type { PreparedNetworks, TaskNetworks } from "../networks.ts";
import {
  belongsTo,
  containerView,
  type EventAnswer,
  foundContainer,
  type InfoAnswer,
  type InspectAnswer,
  type ListItem,
  nodeDescription,
} from "./answers.ts";
import { readContainerLogs } from "./container-logs.ts";
import type { DockerEngine, EngineCall } from "./engine.ts";
import { engineError } from "./engine-error.ts";
import { pullQuery } from "./image-ref.ts";
import { readJsonLines } from "./json-lines.ts";
import type { TaskFileStore } from "./task-files.ts";

/** How long a call may take before it counts as failed for now. */
const INFO_TIMEOUT_MS = 20_000;
const LIST_TIMEOUT_MS = 30_000;
const INSPECT_TIMEOUT_MS = 20_000;
const CREATE_TIMEOUT_MS = 60_000;
const START_TIMEOUT_MS = 120_000;
const KILL_TIMEOUT_MS = 30_000;
const REMOVE_TIMEOUT_MS = 60_000;
/** On top of the grace. */
const STOP_TIMEOUT_MS = 30_000;
/** Without any progress. */
export const PULL_IDLE_TIMEOUT_MS = 120_000;

const MS_PER_S = 1000;
/** Events after which the container is looked at again. */
const WATCHED_EVENTS = ["die", "oom", "destroy", "health_status"];

export interface DockerExecutorOptions {
  readonly clusterId: string;
}

export interface DockerExecutorDeps {
  readonly engine: DockerEngine;
  readonly files: TaskFileStore;
  readonly networks: TaskNetworks;
  readonly clock: Clock;
}

interface NewContainer {
  readonly body: ContainerCreateBody;
  readonly prepared: PreparedNetworks;
}

const NO_NETWORKS: PreparedNetworks = { endpoints: [], nameservers: [] };

/** Runs tasks as containers of the local Docker Engine. */
export class DockerExecutor implements Executor {
  readonly #clusterId: string;
  readonly #engine: DockerEngine;
  readonly #files: TaskFileStore;
  readonly #networks: TaskNetworks;
  readonly #clock: Clock;
  /** By image and credential; as many as there are images being pulled. */
  readonly #pulls = new Map<string, Promise<void>>();

  constructor(options: DockerExecutorOptions, deps: DockerExecutorDeps) {
    this.#clusterId = options.clusterId;
    this.#engine = deps.engine;
    this.#files = deps.files;
    this.#networks = deps.networks;
    this.#clock = deps.clock;
  }

  async describe(signal: AbortSignal): Promise<NodeDescription> {
    const call: EngineCall = { method: "GET", path: "/info" };
    return nodeDescription(await this.#call<InfoAnswer>(call, INFO_TIMEOUT_MS, signal));
  }

  async list(signal: AbortSignal): Promise<readonly FoundContainer[]> {
    const filters = JSON.stringify({ label: [`${CLUSTER_LABEL}=${this.#clusterId}`] });
    const call: EngineCall = {
      method: "GET",
      path: "/containers/json",
      query: { all: "1", filters },
    };
    const items = await this.#call<readonly ListItem[]>(call, LIST_TIMEOUT_MS, signal);
    return items.map(foundContainer);
  }

  async inspect(ref: ContainerRef, signal: AbortSignal): Promise<ContainerView> {
    const answer = await this.#inspect(ref.containerId || ref.name, signal);
    const owner = { clusterId: this.#clusterId, taskId: ref.taskId };
    if (answer === null || !belongsTo(answer.Config.Labels, owner)) return ABSENT_CONTAINER;
    return containerView(answer);
  }

  async #inspect(idOrName: string, signal: AbortSignal): Promise<InspectAnswer | null> {
    const call: EngineCall = { method: "GET", path: containerPath(idOrName, "/json") };
    return orNull(this.#call<InspectAnswer>(call, INSPECT_TIMEOUT_MS, signal));
  }

  async pull(work: TaskWork, signal: AbortSignal): Promise<void> {
    const image = work.assigned.spec.TaskTemplate?.ContainerSpec?.Image ?? "";
    const key = `${image} ${work.registryAuth}`;
    let running = this.#pulls.get(key);
    if (running === undefined) {
      // It goes on without the task that began it: others may wait for it, and the next will.
      running = this.#pull(image, work.registryAuth).finally(() => this.#pulls.delete(key));
      this.#pulls.set(key, running);
    }
    await withSignal(running, signal);
  }

  #pull(image: string, registryAuth: string): Promise<void> {
    const own = new AbortController().signal;
    const call: EngineCall = {
      method: "POST",
      path: "/images/create",
      query: pullQuery(image),
      registryAuth,
    };
    const what = `pulling ${image}`;
    return withDeadline(this.#clock, what, PULL_IDLE_TIMEOUT_MS, own, async (signal, extend) => {
      const stream = await this.#engine.stream(call, signal);
      for await (const message of this.#lines(stream, signal)) {
        extend();
        const { error } = message as { readonly error?: string };
        if (error !== undefined) throw new SwarmError("failed_precondition", error);
      }
    });
  }

  async create(work: TaskWork, signal: AbortSignal): Promise<CreatedContainer> {
    const { task } = work.assigned;
    const prepared =
      task.networks.length === 0
        ? NO_NETWORKS
        : await this.#networks.prepare(work.assigned, signal);
    const mounts = await this.#files.write(task.id, work.files);
    const body = containerConfig(work, mounts, prepared);
    const name = taskName(work.assigned);
    try {
      return await this.#createOrFind(name, task.id, { body, prepared }, signal);
    } catch (error) {
      if (!isSwarmError(error, "unavailable")) await this.#files.remove(task.id);
      throw error;
    }
  }

  /** The name is taken after a crash between create and its answer: the container is ours. */
  async #createOrFind(
    name: string,
    taskId: string,
    container: NewContainer,
    signal: AbortSignal,
  ): Promise<CreatedContainer> {
    try {
      return await this.#create(name, container, signal);
    } catch (error) {
      if (!isSwarmError(error, "already_exists")) throw error;
      const found = await this.#inspect(name, signal);
      const labels = found?.Config.Labels;
      if (found !== null && belongsTo(labels, { clusterId: this.#clusterId, taskId })) {
        return { id: found.Id, existed: true };
      }
      // Somebody else's container is theirs to keep.
      if (found !== null && labels?.[CLUSTER_LABEL] !== this.#clusterId) throw error;
      if (found !== null) await this.#remove(found.Id, signal);
      return this.#create(name, container, signal);
    }
  }

  async #create(
    name: string,
    { body, prepared }: NewContainer,
    signal: AbortSignal,
  ): Promise<CreatedContainer> {
    const call: EngineCall = { method: "POST", path: "/containers/create", query: { name }, body };
    const { Id } = await this.#call<{ readonly Id: string }>(call, CREATE_TIMEOUT_MS, signal);
    // The Engine's API takes one network at create (before v1.44).
    for (const { networkId, endpoint } of prepared.endpoints.slice(1)) {
      const connect: EngineCall = {
        method: "POST",
        path: `/networks/${encodeURIComponent(networkId)}/connect`,
        body: { Container: Id, EndpointConfig: endpoint },
      };
      await this.#call(connect, CREATE_TIMEOUT_MS, signal);
    }
    return { id: Id, existed: false };
  }

  async start(containerId: string, work: TaskWork, signal: AbortSignal): Promise<void> {
    const call: EngineCall = { method: "POST", path: containerPath(containerId, "/start") };
    await this.#call(call, START_TIMEOUT_MS, signal);
    if (work.assigned.task.networks.length > 0) await this.#networks.started(work.assigned);
  }

  async stop(containerId: string, graceMs: number, signal: AbortSignal): Promise<void> {
    const call: EngineCall = {
      method: "POST",
      path: containerPath(containerId, "/stop"),
      query: { t: String(Math.ceil(graceMs / MS_PER_S)) },
    };
    await orNull(this.#call(call, graceMs + STOP_TIMEOUT_MS, signal));
  }

  async kill(containerId: string, signal: AbortSignal): Promise<void> {
    const call: EngineCall = { method: "POST", path: containerPath(containerId, "/kill") };
    try {
      await orNull(this.#call(call, KILL_TIMEOUT_MS, signal));
    } catch (error) {
      // "is not running": what was wanted.
      if (!isSwarmError(error, "already_exists")) throw error;
    }
  }

  async remove(containerId: string, taskId: string, signal: AbortSignal): Promise<void> {
    // Files first: as long as the container is there, a crash in between is made good.
    await this.#files.remove(taskId);
    if (containerId !== "") await this.#remove(containerId, signal);
  }

  async #remove(containerId: string, signal: AbortSignal): Promise<void> {
    const call: EngineCall = {
      method: "DELETE",
      path: containerPath(containerId, ""),
      query: { v: "1", force: "1" },
    };
    await orNull(this.#call(call, REMOVE_TIMEOUT_MS, signal));
  }

  async *watch(signal: AbortSignal): AsyncGenerator<ExecutorEvent, void> {
    const filters = JSON.stringify({
      type: ["container"],
      event: WATCHED_EVENTS,
      label: [`${CLUSTER_LABEL}=${this.#clusterId}`],
    });
    const call: EngineCall = { method: "GET", path: "/events", query: { filters } };
    const stream = await this.#engine.stream(call, signal);
    yield { kind: "connected" };
    for await (const message of this.#lines(stream, signal)) {
      const { Actor: actor } = message as EventAnswer;
      const taskId = actor?.Attributes?.[TASK_LABEL];
      if (taskId !== undefined) yield { kind: "changed", taskId, containerId: actor?.ID ?? "" };
    }
    throw new SwarmError("unavailable", "the Docker Engine closed its stream of events");
  }

  async *logs(
    containerId: string,
    options: LogReadOptions,
    signal: AbortSignal,
  ): AsyncGenerator<LogRecord, void> {
    const answer = await this.#inspect(containerId, signal);
    if (answer === null) throw new SwarmError("not_found", `No such container: ${containerId}`);
    const source = { containerId, tty: answer.Config.Tty };
    yield* readContainerLogs(this.#engine, source, options, signal);
  }

  #call<T>(call: EngineCall, limitMs: number, signal: AbortSignal): Promise<T> {
    const what = `${call.method} ${call.path} of the Docker Engine`;
    return withDeadline(this.#clock, what, limitMs, signal, inner =>
      this.#engine.call<T>(call, inner),
    );
  }

  async *#lines(stream: Readable, signal: AbortSignal): AsyncGenerator<unknown, void> {
    try {
      yield* readJsonLines(stream);
    } catch (error) {
      throw signal.aborted ? signal.reason : engineError(error, this.#engine.socketPath);
    } finally {
      stream.destroy();
    }
  }
}

function containerPath(idOrName: string, rest: string): string {
  return `/containers/${encodeURIComponent(idOrName)}${rest}`;
}

/** Null for a container that is not there. */
async function orNull<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    if (isSwarmError(error, "not_found")) return null;
    throw error;
  }
}
