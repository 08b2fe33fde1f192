import { assert } from "../../base/errors.ts";
import type { JointVoters } from "./quorum.ts";
import type { RaftId } from "./types.ts";
import { type ConfChange, type ConfChangeSingle, type ConfState, NO_ID } from "./types.ts";

/**
 * The members by role. Voters and learners are disjoint; a voter of the outgoing half that is to
 * become a learner waits in `learnersNext` until the joint configuration is left.
 */
export interface Membership {
  readonly voters: JointVoters;
  readonly learners: ReadonlySet<RaftId>;
  readonly learnersNext: ReadonlySet<RaftId>;
  /** The leader proposes to leave the joint configuration as soon as it is applied. */
  readonly autoLeave: boolean;
}

/** `fresh`: members about whose log nothing is known, including those removed and added again. */
export type MembershipResult =
  | { readonly ok: true; readonly membership: Membership; readonly fresh: ReadonlySet<RaftId> }
  | { readonly ok: false; readonly error: string };

export function isJoint(membership: Membership): boolean {
  return membership.voters.outgoing.size > 0;
}

/** Every id with a progress: voters of both halves and learners. */
export function memberIds(membership: Membership): ReadonlySet<RaftId> {
  const { voters, learners } = membership;
  return new Set([...voters.incoming, ...voters.outgoing, ...learners]);
}

export function toConfState(membership: Membership): ConfState {
  return {
    voters: sorted(membership.voters.incoming),
    learners: sorted(membership.learners),
    votersOutgoing: sorted(membership.voters.outgoing),
    learnersNext: sorted(membership.learnersNext),
    autoLeave: membership.autoLeave,
  };
}

export function fromConfState(conf: ConfState): Membership {
  const membership: Membership = {
    voters: { incoming: new Set(conf.voters), outgoing: new Set(conf.votersOutgoing) },
    learners: new Set(conf.learners),
    learnersNext: new Set(conf.learnersNext),
    autoLeave: conf.autoLeave,
  };
  const broken = brokenInvariant(membership);
  assert(broken === null, `a stored membership is inconsistent: ${broken}`);
  return membership;
}

/** Applies a committed change of any kind. */
export function changeMembership(membership: Membership, change: ConfChange): MembershipResult {
  if (leavesJoint(change)) return leaveJoint(membership);
  if (change.transition === "auto" && change.changes.length <= 1) {
    return changeSimply(membership, change.changes);
  }
  return enterJoint(membership, change.changes, change.transition !== "joint-explicit");
}

/** Whether the change ends a joint configuration rather than starting one. */
export function leavesJoint(change: ConfChange): boolean {
  return change.transition === "auto" && change.changes.length === 0;
}

/** From C_old to C_new,old (Raft dissertation 4.3). */
export function enterJoint(
  membership: Membership,
  changes: readonly ConfChangeSingle[],
  autoLeave: boolean,
): MembershipResult {
  if (isJoint(membership)) return refuse("config is already joint");
  if (membership.voters.incoming.size === 0) {
    return refuse("can't make a zero-voter config joint");
  }
  const draft = new Draft(membership, membership.voters.incoming);
  draft.applyAll(changes);
  return draft.finish(autoLeave);
}

/** From C_new,old to C_new. */
export function leaveJoint(membership: Membership): MembershipResult {
  if (!isJoint(membership)) return refuse("can't leave a non-joint config");
  const { voters, learners, learnersNext } = membership;
  const left: Membership = {
    voters: { incoming: voters.incoming, outgoing: new Set() },
    learners: new Set([...learners, ...learnersNext]),
    learnersNext: new Set(),
    autoLeave: false,
  };
  return { ok: true, membership: left, fresh: new Set() };
}

/** Changes that alter at most one voter: any majorities before and after overlap. */
export function changeSimply(
  membership: Membership,
  changes: readonly ConfChangeSingle[],
): MembershipResult {
  if (isJoint(membership)) return refuse("can't apply simple config change in joint config");
  const draft = new Draft(membership, new Set());
  draft.applyAll(changes);
  const result = draft.finish(false);
  if (!result.ok) return result;
  const before = membership.voters.incoming;
  if (differing(before, result.membership.voters.incoming) > 1) {
    return refuse("more than one voter changed without entering joint config");
  }
  return result;
}

/** A membership under change. All operations are idempotent; id 0 is ignored. */
class Draft {
  readonly #incoming: Set<RaftId>;
  readonly #outgoing: ReadonlySet<RaftId>;
  readonly #learners: Set<RaftId>;
  readonly #learnersNext: Set<RaftId>;
  readonly #known: Set<RaftId>;
  readonly #fresh = new Set<RaftId>();

  constructor(membership: Membership, outgoing: ReadonlySet<RaftId>) {
    this.#incoming = new Set(membership.voters.incoming);
    this.#outgoing = new Set(outgoing);
    this.#learners = new Set(membership.learners);
    this.#learnersNext = new Set(membership.learnersNext);
    this.#known = new Set(memberIds(membership));
  }

  applyAll(changes: readonly ConfChangeSingle[]): void {
    const operations = {
      "add-voter": (id: RaftId): void => this.#makeVoter(id),
      "add-learner": (id: RaftId): void => this.#makeLearner(id),
      remove: (id: RaftId): void => this.#remove(id),
      /** Changes only what the driver keeps of the member. */
      update: (): void => undefined,
    };
    for (const { op, id } of changes) if (id !== NO_ID) operations[op](id);
  }

  finish(autoLeave: boolean): MembershipResult {
    if (this.#incoming.size === 0) return refuse("removed all voters");
    const membership: Membership = {
      voters: { incoming: this.#incoming, outgoing: this.#outgoing },
      learners: this.#learners,
      learnersNext: this.#learnersNext,
      autoLeave,
    };
    const broken = brokenInvariant(membership);
    assert(broken === null, `a membership change broke an invariant: ${broken}`);
    return { ok: true, membership, fresh: this.#fresh };
  }

  #learnOf(id: RaftId): void {
    if (this.#known.has(id)) return;
    this.#known.add(id);
    this.#fresh.add(id);
  }

  #makeVoter(id: RaftId): void {
    this.#learnOf(id);
    this.#learners.delete(id);
    this.#learnersNext.delete(id);
    this.#incoming.add(id);
  }

  #makeLearner(id: RaftId): void {
    this.#learnOf(id);
    if (this.#learners.has(id)) return;
    this.#incoming.delete(id);
    if (this.#outgoing.has(id)) this.#learnersNext.add(id);
    else this.#learners.add(id);
  }

  #remove(id: RaftId): void {
    this.#incoming.delete(id);
    this.#learners.delete(id);
    this.#learnersNext.delete(id);
    if (this.#outgoing.has(id)) return;
    this.#known.delete(id);
    this.#fresh.delete(id);
  }
}

function refuse(error: string): MembershipResult {
  return { ok: false, error };
}

function sorted(ids: ReadonlySet<RaftId>): readonly RaftId[] {
  return [...ids].sort((a, b) => a - b);
}

function differing(a: ReadonlySet<RaftId>, b: ReadonlySet<RaftId>): number {
  const missing = (from: ReadonlySet<RaftId>, to: ReadonlySet<RaftId>): number =>
    [...from].filter(id => !to.has(id)).length;
  return missing(a, b) + missing(b, a);
}

function brokenInvariant(membership: Membership): string | null {
  const { voters, learners, learnersNext, autoLeave } = membership;
  for (const id of learnersNext) {
    if (!voters.outgoing.has(id)) return `${id} is a next learner but no outgoing voter`;
    if (learners.has(id)) return `${id} is a next learner and a learner`;
  }
  for (const id of learners) {
    if (voters.incoming.has(id) || voters.outgoing.has(id)) return `${id} is voter and learner`;
  }
  if (isJoint(membership)) return null;
  if (learnersNext.size > 0 || autoLeave) return "it is half joint";
  return null;
}
