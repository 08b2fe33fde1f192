import { type Deferred, newDeferred, withSignal } from "../../base/async.ts";
import { SwarmError } from "../../base/errors.ts";
import { NO_ID, type ProgressStatus, type RaftId } from "../core/types.ts";
import { notLeader } from "./errors.ts";
import type { DriverContext } from "./options.ts";

interface Handing {
  readonly to: RaftId;
  readonly done: Deferred<void>;
}

/** Hands leadership over (Raft dissertation 3.10). */
export class Handover {
  readonly #context: DriverContext;
  #handing: Handing | null = null;

  constructor(context: DriverContext) {
    this.#context = context;
  }

  /** Resolves when this member is no longer the leader. */
  transfer(signal: AbortSignal, to?: RaftId): Promise<void> {
    if (this.#context.leadership().role !== "leader") {
      return Promise.reject(notLeader(this.#context));
    }
    const target = to ?? this.bestSuccessor();
    if (target === null) {
      return Promise.reject(
        new SwarmError("failed_precondition", "no other manager can take over the leadership"),
      );
    }
    const { core } = this.#context;
    core.transferLeadership(target);
    if (core.status().transferTarget !== target) {
      return Promise.reject(
        new SwarmError("failed_precondition", `member ${target} cannot take over the leadership`),
      );
    }
    this.#handing?.done.reject(new SwarmError("canceled", "leadership goes to somebody else"));
    const done = newDeferred<void>();
    done.promise.catch(() => undefined);
    this.#handing = { to: target, done };
    this.#context.wake();
    return withSignal(done.promise, signal);
  }

  /** The reachable voter whose log is longest. */
  bestSuccessor(): RaftId | null {
    const { core, transport } = this.#context;
    const { id, conf, progress } = core.status();
    const fit = progress.filter(
      peer => peer.id !== id && conf.voters.includes(peer.id) && transport.reachable(peer.id),
    );
    const best = fit.reduce<ProgressStatus | null>(
      (a, b) => (a === null || b.match > a.match ? b : a),
      null,
    );
    return best?.id ?? null;
  }

  leadershipLost(): void {
    this.#handing?.done.resolve();
    this.#handing = null;
  }

  /** The core gives a transfer up after an election timeout. */
  tick(): void {
    if (this.#handing === null) return;
    const { transferTarget, role } = this.#context.core.status();
    if (role !== "leader" || transferTarget !== NO_ID) return;
    const { to, done } = this.#handing;
    this.#handing = null;
    done.reject(new SwarmError("unavailable", `member ${to} did not take over in time`));
  }
}
