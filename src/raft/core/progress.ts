import { assert } from "../../base/errors.ts";
import { Inflights } from "./inflights.ts";
import type { ProgressStatus, RaftId } from "./types.ts";

export type ProgressState = ProgressStatus["state"];

export interface ProgressLimits {
  readonly maxInflightMessages: number;
  readonly maxInflightBytes: number;
}

/**
 * What the leader knows of one member's log, and how fast it may send to it (after etcd/raft's
 * tracker):
 * - probe: where the logs meet is not known; one app message a heartbeat interval.
 * - replicate: it is known; messages are streamed up to the inflight bounds.
 * - snapshot: the entries it needs are gone; nothing is sent until the snapshot is settled.
 *
 * Invariant: match < next.
 */
export class Progress {
  readonly inflights: Inflights;
  match: number;
  next: number;
  state: ProgressState = "probe";
  learner: boolean;
  /** Heard from since the last quorum check. */
  recentlyActive: boolean;
  /** Index of the snapshot being sent; 0 when none. */
  pendingSnapshot = 0;
  #paused = false;
  /** Highest commit index sent to it (not always received). */
  #sentCommit = 0;

  constructor(
    options: {
      readonly match: number;
      readonly next: number;
      readonly learner: boolean;
      readonly recentlyActive: boolean;
    },
    limits: ProgressLimits,
  ) {
    this.match = options.match;
    this.next = options.next;
    this.learner = options.learner;
    this.recentlyActive = options.recentlyActive;
    this.inflights = new Inflights({
      maxMessages: limits.maxInflightMessages,
      maxBytes: limits.maxInflightBytes,
    });
  }

  get paused(): boolean {
    return this.state === "snapshot" || this.#paused;
  }

  #enter(state: ProgressState): void {
    this.#paused = false;
    this.pendingSnapshot = 0;
    this.state = state;
    this.inflights.reset();
  }

  /** After a snapshot, probing starts behind it, since it was probably received. */
  becomeProbe(): void {
    const afterSnapshot = this.state === "snapshot" ? this.pendingSnapshot + 1 : 0;
    this.#enter("probe");
    this.next = Math.max(this.match + 1, afterSnapshot);
    this.#boundSentCommit();
  }

  becomeReplicate(): void {
    this.#enter("replicate");
    this.next = this.match + 1;
  }

  becomeSnapshot(index: number): void {
    this.#enter("snapshot");
    this.pendingSnapshot = index;
    this.next = index + 1;
    this.#sentCommit = index;
  }

  /** Waits for an answer (or the next heartbeat's) before it is sent anything more. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
  }

  /** Accounts for an app message of `count` entries, possibly none. */
  sentEntries(count: number, bytes: number): void {
    assert(this.state !== "snapshot", "entries were sent during a snapshot");
    if (this.state === "probe") {
      if (count > 0) this.#paused = true;
      return;
    }
    if (count > 0) {
      this.next += count;
      this.inflights.add(this.next - 1, bytes);
    }
    this.#paused = this.inflights.full;
  }

  sentCommit(commit: number): void {
    this.#sentCommit = commit;
  }

  /** Whether sending `commit` could tell the member something new. */
  canBumpCommit(commit: number): boolean {
    return commit > this.#sentCommit && this.#sentCommit < this.next - 1;
  }

  #boundSentCommit(): void {
    this.#sentCommit = Math.min(this.#sentCommit, this.next - 1);
  }

  /** The member has everything up to `index`. False when that was known. */
  maybeUpdate(index: number): boolean {
    if (index <= this.match) return false;
    this.match = index;
    this.next = Math.max(this.next, index + 1);
    this.#paused = false;
    return true;
  }

  /**
   * The member rejected an append after `rejected`; `hint` is where the logs may meet. False when
   * the rejection is stale.
   */
  maybeDecrease(rejected: number, hint: number): boolean {
    if (this.state === "replicate") {
      if (rejected <= this.match) return false;
      this.next = this.match + 1;
      this.#boundSentCommit();
      return true;
    }
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, hint + 1), this.match + 1);
    this.#boundSentCommit();
    this.#paused = false;
    return true;
  }

  status(id: RaftId): ProgressStatus {
    return {
      id,
      match: this.match,
      next: this.next,
      state: this.state,
      learner: this.learner,
      recentlyActive: this.recentlyActive,
      paused: this.paused,
      inflightMessages: this.inflights.count,
      inflightFull: this.inflights.full,
      pendingSnapshot: this.pendingSnapshot,
    };
  }
}
