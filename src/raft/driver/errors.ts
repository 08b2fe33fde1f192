import { SwarmError } from "../../base/errors.ts";
import type { ProposeResult } from "../core/types.ts";
import type { DriverContext } from "./options.ts";

type Refusal = Extract<ProposeResult, { readonly ok: false }>["reason"];

/** Names the leader's address when it is known. */
export function notLeader(context: DriverContext): SwarmError {
  const { leaderId } = context.leadership();
  const leader = context.stateMachine.members().find(peer => peer.raftId === leaderId);
  const known = leader !== undefined && leaderId !== context.core.id;
  return new SwarmError(
    "not_leader",
    known
      ? `this manager is not the leader; the leader is at ${leader.addr}`
      : "this manager is not the leader, and no leader is known at the moment",
    { leader: known ? leader.addr : null },
  );
}

export function unknownOutcome(why: string, cause?: unknown): SwarmError {
  return new SwarmError(
    "unknown_outcome",
    `it is not known whether the change was made: ${why}. Read the state before repeating it`,
    {},
    cause,
  );
}

/** Why the core took nothing, as an error for the caller: nothing was written. */
export function refused(context: DriverContext, reason: Refusal): SwarmError {
  const texts: Readonly<Record<Refusal, () => SwarmError>> = {
    "not-leader": () => notLeader(context),
    removed: () => new SwarmError("not_leader", "this manager has been removed from the cluster"),
    transferring: () =>
      new SwarmError("not_leader", "leadership is being handed over; try again", { leader: null }),
    "too-much-uncommitted": () =>
      new SwarmError(
        "resource_exhausted",
        "too many changes wait for a quorum of managers; try again later",
      ),
    "too-large": () => new SwarmError("invalid_argument", "the change is too large for one entry"),
    "conf-change-pending": () =>
      new SwarmError("unavailable", "another change of the managers is under way; try again"),
    "conf-change-invalid": () =>
      new SwarmError("failed_precondition", "the managers cannot be changed that way"),
  };
  return texts[reason]();
}
