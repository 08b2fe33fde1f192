import { newDeferred, withSignal } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { StateStore } from "../state/ports.ts";
import type { IdentityStore } from "../tls/identity-store.ts";
import { loadDek, wrapDek } from "./dek-file.ts";

/** Between tries to write the keys anew, on a full disk for example. */
const RETRY_MS = 2_000;

export interface KeyGuardDeps {
  readonly store: StateStore;
  readonly identity: Pick<IdentityStore, "unlockKey" | "protect">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * On every manager: keeps the node's private key and the key of the Raft log on disk sealed with
 * the cluster's unlock key while autolock is on, and open while it is not.
 */
export class KeyGuard {
  readonly #raftDir: string;
  readonly #deps: KeyGuardDeps;
  /** No wrap is left from a change that a crash cut off. */
  #tidy = false;

  constructor(options: { readonly raftDir: string }, deps: KeyGuardDeps) {
    this.#raftDir = options.raftDir;
    this.#deps = deps;
  }

  /** Follows the cluster's unlock key until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { store, clock, logger } = this.#deps;
    let changed = newDeferred<void>();
    const stop = store.onCommit(commit => {
      if (commit.events.some(({ table }) => table === "cluster")) changed.resolve();
    });
    try {
      while (!signal.aborted) {
        changed = newDeferred();
        try {
          await this.#follow();
        } catch (error) {
          logger.error("cannot seal the keys on disk", { error: errorMessage(error) });
          await sleep(clock, RETRY_MS, signal);
          continue;
        }
        await withSignal(changed.promise, signal);
      }
    } finally {
      stop();
    }
  }

  /** In this order: at every point the log opens with what the node's key opens with. */
  async #follow(): Promise<void> {
    const { store, identity, logger } = this.#deps;
    const [cluster] = store.view.table("cluster").all();
    if (cluster === undefined) return;
    const wanted = cluster.unlockKey ? cluster.unlockKey : null;
    const had = identity.unlockKey;
    if (wanted === had && this.#tidy) return;
    const dek = await loadDek(this.#raftDir, had);
    if (wanted !== had) await wrapDek(this.#raftDir, dek, [had, wanted]);
    await identity.protect(wanted);
    await wrapDek(this.#raftDir, dek, [wanted]);
    this.#tidy = true;
    if (wanted === had) return;
    logger.info(wanted === null ? "keys on disk are open" : "keys on disk are sealed");
  }
}
