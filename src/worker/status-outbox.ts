import type { StatusReporter, TaskStatusUpdate } from "../model/assignment.ts";

/** Statuses in one message to the manager. */
const MAX_BATCH_UPDATES = 500;

interface Batch {
  readonly sequence: number;
  readonly updates: readonly TaskStatusUpdate[];
}

/**
 * Keeps the newest unacknowledged status of each task. Pure bookkeeping: the session client takes
 * batches and says which were acknowledged; a broken session makes everything due again.
 */
export class StatusOutbox implements StatusReporter {
  readonly #pending = new Map<string, TaskStatusUpdate>();
  readonly #inFlight = new Map<number, Batch>();
  #sequence = 0;
  #onReport: (update: TaskStatusUpdate) => void = () => undefined;

  /** Called after each report; one listener. */
  onReport(listener: (update: TaskStatusUpdate) => void): void {
    this.#onReport = listener;
  }

  report(update: TaskStatusUpdate): void {
    this.#pending.delete(update.taskId);
    this.#pending.set(update.taskId, update);
    this.#onReport(update);
  }

  get idle(): boolean {
    return this.#pending.size === 0 && this.#inFlight.size === 0;
  }

  /** The next batch to send, or null. */
  take(): Batch | null {
    if (this.#pending.size === 0) return null;
    const updates = [...this.#pending.values()].slice(0, MAX_BATCH_UPDATES);
    for (const update of updates) this.#pending.delete(update.taskId);
    this.#sequence += 1;
    const batch = { sequence: this.#sequence, updates };
    this.#inFlight.set(batch.sequence, batch);
    return batch;
  }

  acknowledge(sequence: number): void {
    this.#inFlight.delete(sequence);
  }

  /** The session broke: what was not acknowledged is due again, unless a newer status exists. */
  requeue(): void {
    const lost = [...this.#inFlight.values()].sort((a, b) => a.sequence - b.sequence);
    this.#inFlight.clear();
    const newest = new Map<string, TaskStatusUpdate>();
    for (const batch of lost) for (const update of batch.updates) newest.set(update.taskId, update);
    for (const [taskId, update] of newest) {
      if (!this.#pending.has(taskId)) this.#pending.set(taskId, update);
    }
    this.#sequence = 0;
  }
}
