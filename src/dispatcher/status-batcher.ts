import { newDeferred } from "../base/async.ts";
import { SwarmError } from "../base/errors.ts";
import type { TaskStatusUpdate } from "../model/assignment.ts";
import type { Change } from "../model/change.ts";
import type { StateStore } from "../state/ports.ts";

/** Statuses in one transaction. */
const MAX_BATCH_UPDATES = 200;
/** Full transactions on their way into the log side by side. */
const MAX_BATCHES_IN_FLIGHT = 8;
/** Statuses waiting for the log, over all nodes; beyond it a node is told to come again. */
const MAX_PENDING_UPDATES = 50_000;

interface Waiting {
  readonly updates: readonly TaskStatusUpdate[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Gathers the status reports of all nodes into few transactions: while one is in the log, the
 * following ones wait and go together, and only as many more as are full go beside it. The log keeps
 * their order. A report is acknowledged only after its commit.
 */
export class StatusBatcher {
  readonly #store: StateStore;
  readonly #signal: AbortSignal;
  #waiting: Waiting[] = [];
  #pendingUpdates = 0;
  #inFlight = 0;

  constructor(deps: { readonly store: StateStore; readonly signal: AbortSignal }) {
    this.#store = deps.store;
    this.#signal = deps.signal;
    // One listener for all: Node walks the list of them for each that comes or goes.
    deps.signal.addEventListener("abort", () => this.#giveUp(), { once: true });
  }

  /** Resolves when the updates are committed. Rejects as StateStore.submit. */
  submit(updates: readonly TaskStatusUpdate[]): Promise<void> {
    if (this.#signal.aborted) return Promise.reject(this.#signal.reason);
    if (updates.length === 0) return Promise.resolve();
    if (this.#pendingUpdates + updates.length > MAX_PENDING_UPDATES) {
      return Promise.reject(
        new SwarmError("resource_exhausted", "too many task statuses wait for the log"),
      );
    }
    const { promise, resolve, reject } = newDeferred<void>();
    this.#waiting.push({ updates, resolve, reject });
    this.#pendingUpdates += updates.length;
    this.#next();
    return promise;
  }

  #next(): void {
    while (this.#waiting.length > 0 && this.#hasTurn) {
      this.#inFlight += 1;
      void this.#commit(this.#take());
    }
  }

  get #hasTurn(): boolean {
    if (this.#inFlight === 0) return true;
    return this.#inFlight < MAX_BATCHES_IN_FLIGHT && this.#pendingUpdates >= MAX_BATCH_UPDATES;
  }

  async #commit(batch: readonly Waiting[]): Promise<void> {
    const changes: Change[] = batch.flatMap(({ updates }) =>
      updates.map(({ taskId, status }) => ({ op: "taskStatus" as const, id: taskId, status })),
    );
    try {
      // A node's own report may be larger than a transaction.
      const parts: Promise<unknown>[] = [];
      for (let i = 0; i < changes.length; i += MAX_BATCH_UPDATES) {
        const part = changes.slice(i, i + MAX_BATCH_UPDATES);
        parts.push(this.#store.submit(part, this.#signal));
      }
      await Promise.all(parts);
      for (const waiting of batch) waiting.resolve();
    } catch (error) {
      for (const waiting of batch) waiting.reject(error);
    }
    this.#inFlight -= 1;
    this.#next();
  }

  #take(): Waiting[] {
    let count = 0;
    let updates = 0;
    for (const next of this.#waiting) {
      if (count > 0 && updates + next.updates.length > MAX_BATCH_UPDATES) break;
      count += 1;
      updates += next.updates.length;
    }
    this.#pendingUpdates -= updates;
    return this.#waiting.splice(0, count);
  }

  /** What is in the log already is refused by the store itself. */
  #giveUp(): void {
    for (const { reject } of this.#waiting.splice(0)) reject(this.#signal.reason);
    this.#pendingUpdates = 0;
  }
}
