import { newDeferred, withSignal } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Member } from "../model/rows.ts";
import type { RaftNode } from "../raft/ports.ts";
import type { StateStore } from "../state/ports.ts";

/** Between tries of a removal that was refused, e.g. because it would cost the quorum. */
const RETRY_MS = 1_000;

export interface RoleManagerDeps {
  readonly store: StateStore;
  readonly raft: RaftNode;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * On the leader: takes members out of the Raft group whose node was demoted or removed. Certificates
 * follow (the node renews when it is told its role), never the other way round.
 */
export class RoleManager {
  readonly #deps: RoleManagerDeps;

  constructor(deps: RoleManagerDeps) {
    this.#deps = deps;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#deps;
    let wake = newDeferred<void>();
    const stop = store.onCommit(commit => {
      if (commit.events.some(({ table }) => table === "nodes" || table === "members"))
        wake.resolve();
    });
    try {
      while (!signal.aborted) {
        wake = newDeferred();
        const done = await this.#reconcile(signal);
        if (done) await withSignal(wake.promise, signal);
        else await sleep(clock, RETRY_MS, signal);
      }
    } finally {
      stop();
    }
  }

  /** False when something must be tried again. */
  async #reconcile(signal: AbortSignal): Promise<boolean> {
    const { raft, logger } = this.#deps;
    for (const member of this.#unwanted()) {
      try {
        logger.info("taking a manager out of the group", { node: member.nodeId });
        if (member.raftId === raft.raftId) await raft.transferLeadership(signal);
        else await raft.removeMember(member.raftId, signal);
      } catch (error) {
        if (signal.aborted) throw error;
        logger.warn("could not take a manager out of the group", {
          node: member.nodeId,
          error: errorMessage(error),
        });
        return false;
      }
    }
    return true;
  }

  #unwanted(): Member[] {
    const { view } = this.#deps.store;
    const nodes = view.table("nodes");
    return [...view.table("members").all()].filter(
      member => nodes.get(member.nodeId)?.spec.Role !== "manager",
    );
  }
}
