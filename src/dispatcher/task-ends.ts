import type { Clock, Timer } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";
import type { Task } from "../model/rows.ts";
import type { StateView } from "../model/view.ts";
import { Drains, mustDrain } from "./core/drains.ts";
import type { NodeSession } from "./node-session.ts";

/**
 * How long the end of a task waits for other nodes to send it no more connections. A node that is
 * silent for as long is down.
 */
export const DRAIN_TIMEOUT_MS = 10_000;
/** Stands for sessions of an earlier leader: only time ends the wait for them. */
const NEW_TERM = "new-term";
/** Stands for the news that has not gone out yet. */
const UNTOLD = "untold";

export interface TaskEndsDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** By node. */
  readonly sessions: ReadonlyMap<string, NodeSession>;
  /** These tasks of the node may end: it may be told. */
  readonly release: (nodeId: string, taskIds: ReadonlySet<string>) => void;
}

/**
 * Keeps the end of a task from its own node until no other node sends it connections any more, or
 * until that has taken too long.
 */
export class TaskEnds {
  readonly #deps: TaskEndsDeps;
  readonly #drains = new Drains();
  #timer: Timer | null = null;
  #stopped = false;

  constructor(deps: TaskEndsDeps) {
    this.#deps = deps;
  }

  /** What is to end when a term begins may still be in the tables of nodes: nobody knows. */
  start(view: StateView): void {
    for (const task of view.table("tasks").all()) {
      if (mustDrain(task)) this.#begin(task, NEW_TERM);
    }
    this.settle();
  }

  /** The end of the term ends no task: the next leader waits again. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** Whether the end of this task is still kept from its node. */
  isKept(taskId: string): boolean {
    return this.#drains.has(taskId);
  }

  /**
   * Takes in a change of a task. True when it has just begun to end: the nodes are to be told, and
   * then `told` is to be called.
   */
  observe(before: Task | null, after: Task | null): boolean {
    if (after === null || !mustDrain(after)) {
      this.#drains.forget(after?.id ?? before?.id ?? "");
      return false;
    }
    if (before === null || mustDrain(before)) return false;
    this.#begin(after, UNTOLD);
    return true;
  }

  /** The session was sent the news of these tasks with the assignments of that number. */
  sent(taskIds: Iterable<string>, sessionId: string, sequence: number): void {
    this.#drains.waitFor(taskIds, sessionId, sequence);
  }

  /** Every session that is to know of these tasks has been sent the news. */
  told(taskIds: Iterable<string>): void {
    this.#drains.waitNoMore(taskIds, UNTOLD);
    this.settle();
  }

  /** The data path of the session's node is as the assignments up to `sequence` want it. */
  programmed(sessionId: string, sequence: number): void {
    this.#drains.programmed(sessionId, sequence);
    this.settle();
  }

  sessionEnded(sessionId: string): void {
    this.#drains.forgetSession(sessionId);
    this.settle();
  }

  /** Lets the nodes hear of the end of tasks that no node sends connections to any more. */
  settle(): void {
    if (this.#stopped || this.#drains.size === 0) return;
    const { clock, release } = this.#deps;
    const { byNode, late } = this.#drains.finished(clock.monoMs());
    if (late.size > 0) this.#warnOf(late);
    for (const [nodeId, taskIds] of byNode) release(nodeId, taskIds);
    const nextMs = this.#drains.nextDeadlineMs;
    this.#timer?.cancel();
    this.#timer = null;
    if (nextMs === null) return;
    const delayMs = Math.max(0, nextMs - clock.monoMs());
    this.#timer = clock.setTimer("drains", delayMs, () => this.settle());
  }

  #begin({ id, nodeId }: Task, waitsFor: string): void {
    this.#drains.begin(id, nodeId, this.#deps.clock.monoMs() + DRAIN_TIMEOUT_MS);
    this.#drains.waitFor([id], waitsFor, Number.POSITIVE_INFINITY);
  }

  #warnOf(late: ReadonlySet<string>): void {
    const nodes = [...this.#deps.sessions.values()].filter(session => late.has(session.id));
    if (nodes.length === 0) return;
    this.#deps.logger.warn("nodes do not keep up with the data path: a task ends all the same", {
      nodes: nodes.map(session => session.nodeId),
      waitedMs: DRAIN_TIMEOUT_MS,
    });
  }
}
