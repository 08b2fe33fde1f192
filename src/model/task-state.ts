/**
 * The life of a task, in swarm mode's order (SwarmKit design/task_model.md). Observed state only
 * moves to a higher number; a task is never dispatched twice: a restart is a new task in the slot.
 */
export const TASK_STATES = [
  /** Created; waits for the allocator. */
  "new",
  /** Allocated; waits for the scheduler. */
  "pending",
  /** A node was chosen. */
  "assigned",
  /** The node's agent has it. */
  "accepted",
  /** Images, volumes and the container are being made ready. */
  "preparing",
  /** Prepared; waits for desired state RUNNING. */
  "ready",
  "starting",
  "running",
  /** Ended by itself with exit code 0. */
  "complete",
  /** Stopped on request. */
  "shutdown",
  /** Ended by an error after STARTING. */
  "failed",
  /** Could not be started on this node. */
  "rejected",
  /** Desired only: stop, then delete the row. */
  "remove",
  /** Its node has been gone for too long; nobody knows what became of it. */
  "orphaned",
] as const;

export type TaskState = (typeof TASK_STATES)[number];

/** What the orchestrator wants of a task. */
export type DesiredState = "ready" | "running" | "complete" | "shutdown" | "remove";

const ORDER: ReadonlyMap<string, number> = new Map(TASK_STATES.map((state, i) => [state, i]));

/** Position in the life of a task; higher is later. */
export function taskStateOrder(state: TaskState): number {
  return ORDER.get(state) ?? 0;
}

/** Negative when `a` comes before `b`. */
export function compareTaskStates(a: TaskState, b: TaskState): number {
  return taskStateOrder(a) - taskStateOrder(b);
}

/** The task has ended: COMPLETE or later. */
export function isTerminal(state: TaskState): boolean {
  return taskStateOrder(state) > taskStateOrder("running");
}

/** The states of a desired RUNNING or READY: the orchestrator counts the task as alive. */
export function isWanted(desired: DesiredState): boolean {
  return desired === "ready" || desired === "running" || desired === "complete";
}

/**
 * Error of a task that is to be stopped because its container is unhealthy. A running task that
 * says so gets no new connections.
 */
export const UNHEALTHY_TEXT = "dockerexec: unhealthy container";
