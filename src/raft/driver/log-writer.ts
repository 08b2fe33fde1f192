import type { HardState, Ready } from "../core/types.ts";
import type { RaftStorage } from "../storage/raft-storage.ts";

/**
 * Decides what of a Ready must be synced before it goes on. The commit index alone need not be: it
 * is learned again after a crash, so it waits for the next write. It must not fall behind by more
 * than one membership change, or two memberships without a common quorum could act at once: a
 * committed change is written at once.
 */
export class LogWriter {
  readonly #storage: RaftStorage;
  #durable: HardState;
  #latest: HardState;

  constructor(deps: { readonly storage: RaftStorage }, durable: HardState) {
    this.#storage = deps.storage;
    this.#durable = durable;
    this.#latest = durable;
  }

  async write(ready: Ready): Promise<void> {
    this.#latest = ready.hardState ?? this.#latest;
    if (!this.#isDue(ready)) return;
    const { snapshot, entries } = ready;
    await this.#append({ snapshot, entries });
  }

  /** Writes a commit index that still waits. */
  async flush(): Promise<void> {
    if (this.#latest === this.#durable) return;
    await this.#append({ snapshot: null, entries: [] });
  }

  async #append(batch: Pick<Ready, "snapshot" | "entries">): Promise<void> {
    const hardState = this.#latest;
    await this.#storage.append({ ...batch, hardState });
    this.#durable = hardState;
  }

  #isDue({ snapshot, entries, committed }: Ready): boolean {
    return (
      snapshot !== null ||
      entries.length > 0 ||
      this.#latest.term !== this.#durable.term ||
      this.#latest.vote !== this.#durable.vote ||
      committed.some(entry => entry.kind === "conf-change")
    );
  }
}
