import type { NodeDescription } from "../model/rows.ts";
import type { ContainerView, FoundContainer } from "./core/container-view.ts";
import type { LogRecord } from "./core/log-frames.ts";
import type { TaskWork } from "./core/task-work.ts";

/** Names the container of a task: by id once it is known, else by the name it must have. */
export interface ContainerRef {
  readonly taskId: string;
  readonly name: string;
  /** Empty when not known. */
  readonly containerId: string;
}

export interface CreatedContainer {
  readonly id: string;
  /** It was there already, in a state to be asked for. */
  readonly existed: boolean;
}

export type ExecutorEvent =
  /** Events flow from now on; what happened before is to be listed. */
  | { readonly kind: "connected" }
  /** A container of this cluster changed: ask again. */
  | { readonly kind: "changed"; readonly taskId: string; readonly containerId: string };

export interface LogReadOptions {
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly follow: boolean;
  /** Lines from the end; -1 = all. */
  readonly tail: number;
  /** Epoch ms; 0 = from the start. */
  readonly sinceMs: number;
}

/**
 * What runs containers. Every call may be repeated after a crash: creating what exists, starting
 * what runs, stopping what has stopped and removing what is gone succeed.
 *
 * Errors (SwarmError): `unavailable` when the Engine does not answer or says "later",
 * `deadline_exceeded` when it did not finish in time, `not_found` with `details.missing` "image"
 * or "container"; any other is final and its message is the Engine's own.
 */
export interface Executor {
  /** What the node has to offer. */
  describe(signal: AbortSignal): Promise<NodeDescription>;
  /** All containers of this cluster, running or not. */
  list(signal: AbortSignal): Promise<readonly FoundContainer[]>;
  /** A container of that name that belongs to somebody else counts as absent. */
  inspect(ref: ContainerRef, signal: AbortSignal): Promise<ContainerView>;
  /** Fetches the image. Several tasks with one image share one pull. */
  pull(work: TaskWork, signal: AbortSignal): Promise<void>;
  /** Makes the container, or finds the one made before. Does not fetch the image. */
  create(work: TaskWork, signal: AbortSignal): Promise<CreatedContainer>;
  start(containerId: string, work: TaskWork, signal: AbortSignal): Promise<void>;
  /** Returns when the process has ended: by its stop signal, or killed after the grace. */
  stop(containerId: string, graceMs: number, signal: AbortSignal): Promise<void>;
  kill(containerId: string, signal: AbortSignal): Promise<void>;
  /** Removes a container, with its anonymous volumes and the files made for it. */
  remove(containerId: string, taskId: string, signal: AbortSignal): Promise<void>;
  /** Endless; throws `unavailable` when the Engine is lost. */
  watch(signal: AbortSignal): AsyncIterable<ExecutorEvent>;
  /** The log of a container; with follow until it ends. Lines keep their newline. */
  logs(containerId: string, options: LogReadOptions, signal: AbortSignal): AsyncIterable<LogRecord>;
}
