import type { OverlayChange } from "./overlay.ts";
import type { Config, NodeDescription, Secret, Task, TaskStatus } from "./rows.ts";
import type { ServiceSpec } from "./service-spec.ts";

/** A task as its node needs it: the row and the spec version it was made from. */
export interface AssignedTask {
  readonly task: Task;
  readonly spec: ServiceSpec;
}

export type DependencyKind = "secret" | "config";

/** One item of an assignment message. `remove` means: no longer this node's business. */
export type AssignmentChange =
  | { readonly action: "update"; readonly kind: "task"; readonly item: AssignedTask }
  | { readonly action: "update"; readonly kind: "secret"; readonly item: Secret }
  | { readonly action: "update"; readonly kind: "config"; readonly item: Config }
  | { readonly action: "remove"; readonly kind: "task" | DependencyKind; readonly id: string }
  | OverlayChange;

/**
 * Work for one node. COMPLETE replaces everything the node knew (chunks of one complete set share
 * appliesTo 0 and end with `last`); INCREMENTAL applies on top of sequence `appliesTo`.
 */
export interface AssignmentMessage {
  readonly kind: "complete" | "incremental";
  readonly appliesTo: number;
  readonly resultsIn: number;
  readonly last: boolean;
  readonly changes: readonly AssignmentChange[];
}

export interface TaskStatusUpdate {
  readonly taskId: string;
  readonly status: TaskStatus;
}

/** Which logs to send (Docker's service logs options). */
export interface LogSubscription {
  readonly id: string;
  readonly taskIds: readonly string[];
  readonly options: {
    readonly stdout: boolean;
    readonly stderr: boolean;
    readonly follow: boolean;
    /** Lines from the end; -1 = all. */
    readonly tail: number;
    /** Epoch ms; 0 = from the start. */
    readonly sinceMs: number;
  };
}

/** One log line (or part of one) of a task's container. */
export interface LogMessage {
  readonly taskId: string;
  readonly nodeId: string;
  readonly stream: "stdout" | "stderr";
  readonly timestampNs: string;
  readonly data: Uint8Array;
  /** The log driver's extra attributes ("details"). */
  readonly attrs: Readonly<Record<string, string>>;
}

/**
 * The agent's side of a session, as the session client drives it (implemented in `worker/agent`).
 */
export interface AgentPort {
  describe(): Promise<NodeDescription>;
  /** Called in order, never concurrently. Must keep what it is told on disk. */
  applyAssignments(changes: readonly AssignmentChange[], complete: boolean): Promise<void>;
  /** Resolves when the data path is as all assignments applied so far want it. */
  programmed(): Promise<void>;
  /** Yields the log messages of one subscription until done or aborted. */
  readLogs(subscription: LogSubscription, signal: AbortSignal): AsyncIterable<LogMessage>;
}

/**
 * Where the agent reports task states (implemented by the session client): the newest status of a
 * task wins, and it is repeated after a reconnect until the manager has acknowledged it.
 */
export interface StatusReporter {
  report(update: TaskStatusUpdate): void;
}
