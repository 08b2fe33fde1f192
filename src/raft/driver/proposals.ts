import { type Deferred, newDeferred } from "../../base/async.ts";
import { SwarmError } from "../../base/errors.ts";
import { AbortWatch } from "./abort-watch.ts";
import { notLeader, refused, unknownOutcome } from "./errors.ts";
import { type DriverContext, MAX_ENTRY_BYTES } from "./options.ts";
import type { PendingEntries } from "./pending.ts";

/** Proposals that wait for their entry to be applied, queued ones included. */
const MAX_PENDING = 8192;
const MAX_PENDING_BYTES = 64 << 20;
/** One call of the core. */
const MAX_BATCH_ENTRIES = 512;
const MAX_BATCH_BYTES = 1 << 20;

interface Proposal {
  readonly data: Uint8Array;
  readonly deferred: Deferred<unknown>;
  readonly signal: AbortSignal;
  readonly onAbort: () => void;
  /** In the core's log: giving up now leaves the outcome open. */
  handedOver: boolean;
  settled: boolean;
}

/** Takes proposals and hands those of one turn to the core together. */
export class Proposals {
  readonly #context: DriverContext;
  readonly #pending: PendingEntries;
  readonly #aborts = new AbortWatch();
  #queue: Proposal[] = [];
  #count = 0;
  #bytes = 0;
  #closed = false;
  proposed = 0;
  refusals = 0;

  constructor(context: DriverContext, deps: { readonly pending: PendingEntries }) {
    this.#context = context;
    this.#pending = deps.pending;
  }

  get waiting(): number {
    return this.#count;
  }

  propose(data: Uint8Array, signal: AbortSignal): Promise<unknown> {
    const refusal = this.#refusal(data, signal);
    if (refusal !== null) {
      this.refusals += 1;
      return Promise.reject(refusal);
    }
    const proposal: Proposal = {
      data,
      deferred: newDeferred(),
      signal,
      onAbort: () => this.#giveUp(proposal, signal.reason),
      handedOver: false,
      settled: false,
    };
    this.#count += 1;
    this.#bytes += data.length;
    this.#queue.push(proposal);
    this.#aborts.add(signal, proposal.onAbort);
    this.#context.wake();
    return proposal.deferred.promise;
  }

  /** Hands the queued proposals to the core. */
  flush(): void {
    while (this.#queue.length > 0) {
      const batch = this.#takeBatch();
      const result = this.#context.core.propose(batch.map(proposal => proposal.data));
      if (!result.ok) {
        this.refusals += batch.length;
        const error = refused(this.#context, result.reason);
        for (const proposal of batch) this.#reject(proposal, error);
        continue;
      }
      this.proposed += batch.length;
      batch.forEach((proposal, i) => {
        proposal.handedOver = true;
        this.#pending.track(result.index + i, result.term, {
          resolve: value => {
            if (this.#settle(proposal)) proposal.deferred.resolve(value);
          },
          reject: error => this.#reject(proposal, error),
        });
      });
    }
  }

  /** No more proposals; queued ones are refused, those in flight run on. */
  close(): void {
    this.#closed = true;
    const queue = this.#queue;
    this.#queue = [];
    for (const proposal of queue) this.#reject(proposal, closing());
  }

  #refusal(data: Uint8Array, signal: AbortSignal): Error | null {
    if (signal.aborted) return canceled(signal.reason);
    if (this.#closed) return closing();
    if (data.length === 0) return new SwarmError("invalid_argument", "a change is never empty");
    if (data.length > MAX_ENTRY_BYTES) {
      return new SwarmError(
        "invalid_argument",
        `the change takes ${data.length} bytes; the most is ${MAX_ENTRY_BYTES}`,
      );
    }
    if (this.#context.leadership().role !== "leader") return notLeader(this.#context);
    if (this.#count >= MAX_PENDING || this.#bytes + data.length > MAX_PENDING_BYTES) {
      return refused(this.#context, "too-much-uncommitted");
    }
    return null;
  }

  #takeBatch(): Proposal[] {
    let bytes = 0;
    let count = 0;
    for (const { data } of this.#queue) {
      bytes += data.length;
      if (count === MAX_BATCH_ENTRIES || (count > 0 && bytes > MAX_BATCH_BYTES)) break;
      count += 1;
    }
    return this.#queue.splice(0, count);
  }

  #giveUp(proposal: Proposal, reason: unknown): void {
    if (proposal.handedOver) {
      this.#reject(proposal, unknownOutcome("the caller did not wait for it", reason));
      return;
    }
    this.#queue = this.#queue.filter(queued => queued !== proposal);
    this.#reject(proposal, canceled(reason));
  }

  #reject(proposal: Proposal, error: unknown): void {
    if (this.#settle(proposal)) proposal.deferred.reject(error);
  }

  #settle(proposal: Proposal): boolean {
    if (proposal.settled) return false;
    proposal.settled = true;
    this.#aborts.remove(proposal.signal, proposal.onAbort);
    this.#count -= 1;
    this.#bytes -= proposal.data.length;
    return true;
  }
}

function closing(): SwarmError {
  return new SwarmError("not_leader", "this manager is shutting down", { leader: null });
}

function canceled(reason: unknown): SwarmError {
  return reason instanceof SwarmError
    ? reason
    : new SwarmError("canceled", "the request was canceled", {}, reason);
}
