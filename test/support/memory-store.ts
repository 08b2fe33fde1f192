import type { Clock } from "../../src/base/clock.ts";
import { SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import type { Change, Commit } from "../../src/model/change.ts";
import type { StateView } from "../../src/model/view.ts";
import { encodeTransaction } from "../../src/state/core/transaction-codec.ts";
import type { StateStore, Watch } from "../../src/state/ports.ts";
import { ReplicatedStore, type ReplicatedStoreOptions } from "../../src/state/store.ts";
import { VirtualClock } from "./virtual-clock.ts";

/**
 * The real store without Raft: a transaction is encoded, decoded and applied at once. `put` does it
 * synchronously; `submit` as the port says.
 */
export class MemoryStore implements StateStore {
  readonly clock: Clock;
  readonly #store: ReplicatedStore;
  #index = 0;
  /** Set to make the next submits fail with it. */
  failWith: SwarmError | null = null;
  /** Transactions applied or refused so far. */
  submits = 0;

  constructor(clock: Clock = new VirtualClock(), options: ReplicatedStoreOptions = {}) {
    this.clock = clock;
    this.#store = new ReplicatedStore(options, { clock, logger: silentLogger });
  }

  get view(): StateView {
    return this.#store.view;
  }

  digest(): string {
    return this.#store.digest();
  }

  /** Applies now. Throws the SwarmError that `submit` would reject with. Returns the index. */
  put(...changes: readonly Change[]): number {
    const data = encodeTransaction({ nowMs: this.clock.nowMs(), changes });
    this.#index += 1;
    const result = this.#store.apply({ index: this.#index, data });
    if (!result.ok) throw new SwarmError(result.code, result.message);
    return result.index;
  }

  async submit(
    changes: readonly Change[],
    signal: AbortSignal,
  ): Promise<{ readonly index: number }> {
    await Promise.resolve();
    signal.throwIfAborted();
    this.submits += 1;
    if (this.failWith !== null) throw this.failWith;
    return { index: this.put(...changes) };
  }

  watch(options: { readonly maxCommits: number }): Watch {
    return this.#store.watch(options);
  }

  onCommit(listener: (commit: Commit) => void): () => void {
    return this.#store.onCommit(listener);
  }

  onRestore(listener: () => void): () => void {
    return this.#store.onRestore(listener);
  }
}
