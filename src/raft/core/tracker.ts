import { assert } from "../../base/errors.ts";
import { fromConfState, type Membership, memberIds, toConfState } from "./membership.ts";
import { Progress, type ProgressLimits } from "./progress.ts";
import { jointCommitted, jointIds, jointVote, type VoteResult } from "./quorum.ts";
import type { ConfState, RaftId } from "./types.ts";

/** The membership in force, each member's progress, and the votes of the present election. */
export class Tracker {
  readonly #limits: ProgressLimits;
  #membership: Membership;
  readonly #progress = new Map<RaftId, Progress>();
  readonly #votes = new Map<RaftId, boolean>();

  constructor(
    options: { readonly conf: ConfState; readonly lastIndex: number },
    limits: ProgressLimits,
  ) {
    this.#limits = limits;
    this.#membership = fromConfState(options.conf);
    this.switchTo(this.#membership, new Set(), options.lastIndex);
  }

  get membership(): Membership {
    return this.#membership;
  }

  get conf(): ConfState {
    return toConfState(this.#membership);
  }

  get voterIds(): readonly RaftId[] {
    return jointIds(this.#membership.voters);
  }

  isVoter(id: RaftId): boolean {
    const { incoming, outgoing } = this.#membership.voters;
    return incoming.has(id) || outgoing.has(id);
  }

  /** Whether `id` alone is a quorum. */
  isOnlyVoter(id: RaftId): boolean {
    const { incoming, outgoing } = this.#membership.voters;
    return incoming.size === 1 && incoming.has(id) && outgoing.size === 0;
  }

  progress(id: RaftId): Progress | undefined {
    return this.#progress.get(id);
  }

  /** Members in ascending order of id, so that order never depends on history. */
  members(): readonly (readonly [RaftId, Progress])[] {
    return [...this.#progress].sort(([a], [b]) => a - b);
  }

  /**
   * Members that stay keep their progress. A new one is first probed at the end of the leader's
   * log, and counts as active until the next quorum check: it had no chance to answer yet.
   */
  switchTo(membership: Membership, fresh: ReadonlySet<RaftId>, lastIndex: number): void {
    this.#membership = membership;
    const ids = memberIds(membership);
    for (const id of [...this.#progress.keys()]) {
      if (!ids.has(id) || fresh.has(id)) this.#progress.delete(id);
    }
    for (const id of ids) {
      const learner = membership.learners.has(id);
      const known = this.#progress.get(id);
      if (known === undefined) {
        const next = Math.max(lastIndex, 1);
        this.#add(id, { match: 0, next, learner, recentlyActive: true });
      } else known.learner = learner;
    }
  }

  /** Starts over with the membership of a snapshot. */
  replace(conf: ConfState, lastIndex: number): void {
    const membership = fromConfState(conf);
    this.switchTo(membership, memberIds(membership), lastIndex);
  }

  /** At the start of a term nothing is known of any log but our own. */
  resetProgress(self: RaftId, lastIndex: number): void {
    for (const [id, { learner }] of [...this.#progress]) {
      const match = id === self ? lastIndex : 0;
      this.#add(id, { match, next: lastIndex + 1, learner, recentlyActive: false });
    }
  }

  #add(id: RaftId, options: ConstructorParameters<typeof Progress>[0]): void {
    assert(Number.isSafeInteger(id) && id > 0, `${id} is not a Raft id`);
    this.#progress.set(id, new Progress(options, this.#limits));
  }

  /** The highest index that a quorum of the membership has. */
  committed(): number {
    return jointCommitted(this.#membership.voters, id => this.#progress.get(id)?.match);
  }

  /** Whether a quorum was heard from since the last check. */
  quorumActive(): boolean {
    const voteOf = (id: RaftId): boolean => this.#progress.get(id)?.recentlyActive ?? false;
    return jointVote(this.#membership.voters, voteOf) === "won";
  }

  resetVotes(): void {
    this.#votes.clear();
  }

  /** The first vote of a member counts. */
  recordVote(id: RaftId, granted: boolean): VoteResult {
    if (!this.#votes.has(id)) this.#votes.set(id, granted);
    return jointVote(this.#membership.voters, voter => this.#votes.get(voter));
  }
}
