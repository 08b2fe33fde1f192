import type { Task } from "../../model/rows.ts";
import { isWanted } from "../../model/task-state.ts";

/** A task that runs with an address on a network, and is to end. */
export function mustDrain(task: Task): boolean {
  return (
    task.status.state === "running" &&
    !isWanted(task.desiredState) &&
    task.serviceId !== "" &&
    task.networks.length > 0
  );
}

interface Drain {
  readonly nodeId: string;
  readonly deadlineMs: number;
  /** By session: the assignments it must have programmed. */
  readonly waits: Map<string, number>;
}

export interface FinishedDrains {
  readonly byNode: ReadonlyMap<string, ReadonlySet<string>>;
  /** Sessions that did not say in time that their node has followed. */
  readonly late: ReadonlySet<string>;
}

/**
 * Tasks that are to end and are still being taken out of the tables of other nodes. A task's own
 * node hears of its end when every node that was told to send it no more connections says that it
 * does not, or when that has taken too long: a node that hangs must not keep a task alive. Times
 * are monotonic ms.
 */
export class Drains {
  readonly #drains = new Map<string, Drain>();

  /** Its node must not be told yet that it is to end. */
  has(taskId: string): boolean {
    return this.#drains.has(taskId);
  }

  /** `deadlineMs` must not be before that of a drain begun earlier. */
  begin(taskId: string, nodeId: string, deadlineMs: number): void {
    if (!this.#drains.has(taskId)) {
      this.#drains.set(taskId, { nodeId, deadlineMs, waits: new Map() });
    }
  }

  /** The session was sent the news of these tasks with these assignments. */
  waitFor(taskIds: Iterable<string>, sessionId: string, sequence: number): void {
    for (const taskId of taskIds) this.#drains.get(taskId)?.waits.set(sessionId, sequence);
  }

  /** What stood for that session is done with. */
  waitNoMore(taskIds: Iterable<string>, sessionId: string): void {
    for (const taskId of taskIds) this.#drains.get(taskId)?.waits.delete(sessionId);
  }

  /** A node's data path is as the assignments up to `sequence` want it. */
  programmed(sessionId: string, sequence: number): void {
    for (const { waits } of this.#drains.values()) {
      if ((waits.get(sessionId) ?? Number.POSITIVE_INFINITY) <= sequence) waits.delete(sessionId);
    }
  }

  forgetSession(sessionId: string): void {
    for (const { waits } of this.#drains.values()) waits.delete(sessionId);
  }

  forget(taskId: string): void {
    this.#drains.delete(taskId);
  }

  /** Ends the drains that are over; returns their tasks by node, and the sessions given up on. */
  finished(monoMs: number): FinishedDrains {
    const byNode = new Map<string, Set<string>>();
    const late = new Set<string>();
    for (const [taskId, { nodeId, deadlineMs, waits }] of this.#drains) {
      if (waits.size > 0 && monoMs < deadlineMs) continue;
      this.#drains.delete(taskId);
      byNode.set(nodeId, (byNode.get(nodeId) ?? new Set()).add(taskId));
      for (const sessionId of waits.keys()) late.add(sessionId);
    }
    return { byNode, late };
  }

  get size(): number {
    return this.#drains.size;
  }

  /** When the next one runs out of time; null when there is none. */
  get nextDeadlineMs(): number | null {
    // They all have the same time, so the one that began first is the next.
    for (const { deadlineMs } of this.#drains.values()) return deadlineMs;
    return null;
  }
}
