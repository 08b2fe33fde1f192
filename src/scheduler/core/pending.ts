import type { RowEvent } from "../../model/change.ts";
import type { Node, Task } from "../../model/rows.ts";
import { isWanted } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { occupiesNode } from "./node-info.ts";
import { compareText } from "./rank.ts";

/** Whether the task waits for the scheduler. */
export function awaitsScheduler(task: Task): boolean {
  return task.status.state === "pending" && isWanted(task.desiredState);
}

interface Entry {
  /** Something changed since the service was last planned without effect. */
  dirty: boolean;
  /** When an explanation held back may be written; null = none is. */
  refreshAtMs: number | null;
}

/**
 * Which services have tasks that wait for a node: an index over the state, fed by the commits and
 * rebuilt whenever it cannot prove that it has seen them all. It only says where to look; what is
 * there is always read from the state.
 */
export class PendingServices {
  readonly #entries = new Map<string, Entry>();
  #view: StateView | null = null;
  #index = -1;
  /** The service planned last: the next round starts behind it, so that none starves. */
  #cursor = "";

  /** Brings the index up to date with a view that may have moved on unseen. */
  sync(view: StateView): void {
    if (this.#view === view && this.#index === view.index) return;
    this.rebuild(view);
  }

  rebuild(view: StateView): void {
    this.#entries.clear();
    for (const task of view.table("tasks").all()) {
      if (awaitsScheduler(task)) this.#mark(task.serviceId);
    }
    this.#view = view;
    this.#index = view.index;
  }

  /** Takes in one change; true when there is something to plan because of it. */
  observe(event: RowEvent, view: StateView): boolean {
    if (this.#view !== view) this.rebuild(view);
    this.#index = view.index;
    if (event.table === "tasks") return this.#observeTask(event.before, event.after);
    if (event.table === "nodes") {
      return nodeMatters(event.before, event.after) && this.#markAll();
    }
    if (event.table === "serviceSpecs" && event.after !== null) {
      const known = this.#entries.has(event.after.serviceId);
      if (known) this.#mark(event.after.serviceId);
      return known;
    }
    return false;
  }

  #observeTask(before: Task | null, after: Task | null): boolean {
    if (after !== null && awaitsScheduler(after)) {
      // Its own explanation being written is no reason to look again.
      const onlyText =
        before !== null &&
        awaitsScheduler(before) &&
        before.nodeId === after.nodeId &&
        before.desiredState === after.desiredState;
      if (!onlyText) this.#mark(after.serviceId);
      return true;
    }
    if (before === null || !occupiesNode(before)) return false;
    const released = after === null || !occupiesNode(after);
    const unwanted =
      after !== null && isWanted(before.desiredState) !== isWanted(after.desiredState);
    return (released || unwanted) && this.#markAll();
  }

  #mark(serviceId: string): void {
    const entry = this.#entries.get(serviceId);
    if (entry === undefined) this.#entries.set(serviceId, { dirty: true, refreshAtMs: null });
    else entry.dirty = true;
  }

  #markAll(): boolean {
    for (const entry of this.#entries.values()) entry.dirty = true;
    return this.#entries.size > 0;
  }

  /** The services to look at now, each once, beginning behind the one planned last. */
  due(nowMs: number): readonly string[] {
    const due = [...this.#entries]
      .filter(([, { dirty, refreshAtMs }]) => dirty || (refreshAtMs ?? Infinity) <= nowMs)
      .map(([serviceId]) => serviceId)
      .sort(compareText);
    const start = due.findIndex(serviceId => serviceId > this.#cursor);
    return start <= 0 ? due : [...due.slice(start), ...due.slice(0, start)];
  }

  /**
   * Notes how planning a service ended. It stays due while it gave changes, so that it is planned
   * again should they not be applied.
   */
  planned(
    serviceId: string,
    outcome: { waiting: boolean; changed: boolean; refreshAtMs: number | null },
  ): void {
    this.#cursor = serviceId;
    const entry = this.#entries.get(serviceId);
    if (entry === undefined) return;
    if (!outcome.waiting) this.#entries.delete(serviceId);
    entry.dirty = outcome.changed;
    entry.refreshAtMs = outcome.refreshAtMs;
  }

  /** The earliest time at which a held-back explanation is due. */
  nextRefreshMs(): number | null {
    let next: number | null = null;
    for (const { refreshAtMs } of this.#entries.values()) {
      if (refreshAtMs !== null && (next === null || refreshAtMs < next)) next = refreshAtMs;
    }
    return next;
  }
}

/** Whether a change of a node can change where tasks may go. */
function nodeMatters(before: Node | null, after: Node | null): boolean {
  if (before === null || after === null) return true;
  return (
    before.spec !== after.spec ||
    before.description !== after.description ||
    before.certRole !== after.certRole ||
    before.status.state !== after.status.state ||
    before.status.addr !== after.status.addr
  );
}
