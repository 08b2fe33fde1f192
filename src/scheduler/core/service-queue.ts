import { SortedSet } from "../../base/sorted-set.ts";
import type { Task } from "../../model/rows.ts";
import { isWanted } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";

/** Whether the task waits for the scheduler. */
export function awaitsScheduler(task: Task): boolean {
  return task.status.state === "pending" && isWanted(task.desiredState);
}

/** A failure counts against its node. */
function hasFailed({ nodeId, status }: Task): boolean {
  return nodeId !== "" && (status.state === "failed" || status.state === "rejected");
}

/** The waiting tasks of one spec version, in order of slot and id. */
export interface VersionQueue {
  readonly specVersion: number;
  /** Those that may go to any node. */
  readonly free: SortedSet<Task>;
  /** Those whose node was chosen for them. */
  readonly bound: SortedSet<Task>;
}

function newTasks(): SortedSet<Task> {
  return new SortedSet((a, b) => (a.slot === b.slot ? a.id < b.id : a.slot < b.slot));
}

/**
 * What the scheduler has to know of a service's tasks, however many there are: those that wait, and
 * those that failed. It is read from the state once, in portions, and then follows its changes.
 */
export class ServiceQueue {
  readonly #versions = new Map<number, VersionQueue>();
  readonly #failed = new Map<string, Task>();
  /** Tasks behind this id have not been read; null = none. */
  #unreadAfter: string | null = "";

  /** All tasks have been read. */
  get complete(): boolean {
    return this.#unreadAfter === null;
  }

  /** How many tasks wait. */
  get waiting(): number {
    let waiting = 0;
    for (const { free, bound } of this.#versions.values()) waiting += free.size + bound.size;
    return waiting;
  }

  /** In order of spec version. */
  versions(): readonly VersionQueue[] {
    return [...this.#versions.values()].sort((a, b) => a.specVersion - b.specVersion);
  }

  /** Failed and rejected tasks, in no order. */
  failed(): Iterable<Task> {
    return this.#failed.values();
  }

  /** Reads up to so many tasks of the service more; returns how many there were. */
  read(view: StateView, serviceId: string, tasksMax: number): number {
    if (this.#unreadAfter === null) return 0;
    const tasks = view.tasksOfService(serviceId);
    const start = firstBehind(tasks, this.#unreadAfter);
    const end = Math.min(tasks.length, start + tasksMax);
    for (let i = start; i < end; i++) {
      const task = tasks[i];
      if (task === undefined) continue;
      this.#unreadAfter = task.id;
      this.#take(task);
    }
    if (end === tasks.length) this.#unreadAfter = null;
    return end - start;
  }

  /** Takes in a change of one of the service's tasks. */
  observe(id: string, before: Task | null, after: Task | null): void {
    // A task not yet come to is read as it then is.
    if (this.#unreadAfter !== null && id > this.#unreadAfter) return;
    if (before !== null) this.#leave(before);
    if (after !== null) this.#take(after);
  }

  #take(task: Task): void {
    if (hasFailed(task)) this.#failed.set(task.id, task);
    if (awaitsScheduler(task)) this.#setOf(task).add(task);
  }

  #leave(task: Task): void {
    this.#failed.delete(task.id);
    if (!awaitsScheduler(task)) return;
    this.#setOf(task).remove(task);
    const version = this.#versions.get(task.specVersion);
    if (version?.free.size === 0 && version.bound.size === 0) {
      this.#versions.delete(task.specVersion);
    }
  }

  #setOf({ specVersion, nodeId }: Task): SortedSet<Task> {
    let version = this.#versions.get(specVersion);
    if (version === undefined) {
      version = { specVersion, free: newTasks(), bound: newTasks() };
      this.#versions.set(specVersion, version);
    }
    return nodeId === "" ? version.free : version.bound;
  }
}

/** The place of the first task behind that id; tasks are in order of id. */
function firstBehind(tasks: readonly Task[], id: string): number {
  let low = 0;
  let high = tasks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((tasks[middle]?.id ?? "") <= id) low = middle + 1;
    else high = middle;
  }
  return low;
}
