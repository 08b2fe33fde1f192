import { newDeferred } from "../base/async.ts";
import { type ErrorCode, SwarmError } from "../base/errors.ts";
import type { Change } from "../model/change.ts";
import type { StateStore } from "../state/ports.ts";

/** Writes in one transaction. What follows on each is done in the same turn of the event loop. */
const MAX_BATCH_WRITES = 32;
/** Writes waiting for the log; beyond it a node is told to come again. */
const MAX_WAITING_WRITES = 16_384;

/** What the state says to a change that it does not take: the others of its batch may be taken. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "already_exists",
  "invalid_argument",
  "not_found",
  "out_of_sequence",
]);

interface Waiting {
  readonly nodeId: string;
  readonly change: Change | null;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Gathers what becomes of nodes into few transactions: while one is in the log, the following
 * changes wait and go together, so that a thousand nodes that come are some dozens of entries.
 * Changes of one node keep their order.
 */
export class NodeWrites {
  readonly #store: StateStore;
  readonly #signal: AbortSignal;
  readonly #waiting: Waiting[] = [];
  /** How many changes of a node are not in the state yet. */
  readonly #pending = new Map<string, number>();
  #isBusy = false;

  constructor(deps: { readonly store: StateStore; readonly signal: AbortSignal }) {
    this.#store = deps.store;
    this.#signal = deps.signal;
  }

  /** Whether the state does not say yet what was last written of the node. */
  isPending(nodeId: string): boolean {
    return this.#pending.has(nodeId);
  }

  /**
   * Resolves when the change is in the state. Null changes nothing: it resolves when a quorum has
   * taken an entry of this term, which proves that this manager leads. Rejects as StateStore.submit,
   * for the fault of this change only.
   */
  submit(nodeId: string, change: Change | null): Promise<void> {
    if (this.#waiting.length >= MAX_WAITING_WRITES) {
      return Promise.reject(
        new SwarmError("resource_exhausted", "too many changes of nodes wait for the log"),
      );
    }
    const { promise, resolve, reject } = newDeferred<void>();
    this.#waiting.push({ nodeId, change, resolve, reject });
    if (change !== null) this.#pending.set(nodeId, (this.#pending.get(nodeId) ?? 0) + 1);
    if (!this.#isBusy) void this.#work();
    return promise;
  }

  async #work(): Promise<void> {
    this.#isBusy = true;
    while (this.#waiting.length > 0) {
      await this.#commit(this.#waiting.splice(0, MAX_BATCH_WRITES));
    }
    this.#isBusy = false;
  }

  async #commit(batch: readonly Waiting[]): Promise<void> {
    const changes = batch.flatMap(({ change }) => change ?? []);
    try {
      await this.#store.submit(changes, this.#signal);
      for (const waiting of batch) {
        this.#settled(waiting);
        waiting.resolve();
      }
    } catch (error) {
      if (batch.length > 1 && isRefusal(error)) {
        for (const waiting of batch) await this.#commit([waiting]);
        return;
      }
      for (const waiting of batch) {
        this.#settled(waiting);
        waiting.reject(error);
      }
    }
  }

  #settled({ nodeId, change }: Waiting): void {
    if (change === null) return;
    const left = (this.#pending.get(nodeId) ?? 0) - 1;
    if (left > 0) this.#pending.set(nodeId, left);
    else this.#pending.delete(nodeId);
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof SwarmError && REFUSALS.has(error.code);
}
