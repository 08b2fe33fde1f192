import { deepEqual } from "../../base/deep-equal.ts";
import type { RowEvent } from "../../model/change.ts";
import type { Node, Task } from "../../model/rows.ts";
import { isWanted } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { occupiesNode } from "./node-info.ts";
import { compareText } from "./rank.ts";
import { awaitsScheduler, ServiceQueue } from "./service-queue.ts";

interface Entry {
  /** Something changed since the service was last planned without effect. */
  dirty: boolean;
  /** When an explanation held back may be written; null = none is. */
  refreshAtMs: number | null;
  readonly queue: ServiceQueue;
}

/** How planning one service ended. */
export interface Outcome {
  /** It has tasks that wait for a node. */
  readonly waiting: boolean;
  /** The plan ended before it did: the next one goes on with it. */
  readonly unfinished: boolean;
  readonly changed: boolean;
  /** When an explanation held back may be written; null = none is. */
  readonly refreshAtMs: number | null;
}

/**
 * Plans in a row that place tasks of one service while others wait: going on is cheaper than
 * beginning with another, but no service shall keep the others waiting for long.
 */
export const PLANS_IN_A_ROW_MAX = 10;

/**
 * Which services may have tasks that wait for a node: an index over the state, fed by the changes
 * as they are applied. It only says where to look; what is there is always read from the state.
 */
export class PendingServices {
  readonly #entries = new Map<string, Entry>();
  /** The service planned last: the next round starts behind it, so that none starves. */
  #cursor = "";
  /** The service to go on with before the others; empty = none. */
  #staying = "";
  #plansInARow = 0;

  /** Every service is to be looked at. */
  reset(view: StateView): void {
    this.#entries.clear();
    for (const { id } of view.table("services").all()) this.#mark(id);
  }

  /** Takes in one change; true when there is something to plan because of it. */
  observe(event: RowEvent): boolean {
    if (event.table === "tasks") {
      const serviceId = (event.after ?? event.before)?.serviceId ?? "";
      this.#entries.get(serviceId)?.queue.observe(event.id, event.before, event.after);
      return this.#observeTask(event.before, event.after);
    }
    if (event.table === "nodes") return nodeMatters(event.before, event.after) && this.#markAll();
    if (event.table !== "serviceSpecs" || event.after === null) return false;
    const known = this.#entries.has(event.after.serviceId);
    if (known) this.#mark(event.after.serviceId);
    return known;
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
    if (entry !== undefined) entry.dirty = true;
    else {
      const queue = new ServiceQueue();
      this.#entries.set(serviceId, { dirty: true, refreshAtMs: null, queue });
    }
  }

  #markAll(): boolean {
    for (const entry of this.#entries.values()) entry.dirty = true;
    return this.#entries.size > 0;
  }

  /** Of a service that is due. */
  queueOf(serviceId: string): ServiceQueue {
    return this.#entries.get(serviceId)?.queue ?? new ServiceQueue();
  }

  /** The services to look at now, each once, beginning behind the one planned last. */
  due(nowMs: number): readonly string[] {
    const due: string[] = [];
    for (const [serviceId, { dirty, refreshAtMs }] of this.#entries) {
      if (dirty || (refreshAtMs !== null && refreshAtMs <= nowMs)) due.push(serviceId);
    }
    due.sort(compareText);
    const staying = due.indexOf(this.#staying);
    const start = staying >= 0 ? staying : due.findIndex(serviceId => serviceId > this.#cursor);
    return start <= 0 ? due : [...due.slice(start), ...due.slice(0, start)];
  }

  /**
   * Notes how planning a service ended. It stays due while it gave changes, so that it is planned
   * again should they not be applied.
   */
  planned(serviceId: string, { waiting, unfinished, changed, refreshAtMs }: Outcome): void {
    this.#cursor = serviceId;
    this.#plansInARow = this.#staying === serviceId ? this.#plansInARow + Number(changed) : 0;
    this.#staying = unfinished && this.#plansInARow < PLANS_IN_A_ROW_MAX ? serviceId : "";
    const entry = this.#entries.get(serviceId);
    if (!waiting || entry === undefined) {
      this.#entries.delete(serviceId);
      return;
    }
    entry.dirty = changed || unfinished;
    entry.refreshAtMs = refreshAtMs;
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
    before.status.state !== after.status.state ||
    before.status.addr !== after.status.addr ||
    before.certRole !== after.certRole ||
    !deepEqual(before.spec, after.spec) ||
    !deepEqual(before.description, after.description)
  );
}
