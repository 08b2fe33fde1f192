import { CANDIDATE_HANDLERS, PRE_CANDIDATE_HANDLERS } from "./candidate.ts";
import { answerVote, inLease } from "./election.ts";
import { FOLLOWER_HANDLERS } from "./follower.ts";
import type { HandlerTable } from "./handler.ts";
import { LEADER_HANDLERS } from "./leader.ts";
import { TRANSFER_CONTEXT } from "./message.ts";
import type { RaftState } from "./state.ts";
import { type Message, NO_ID, type RaftRole } from "./types.ts";

const HANDLERS: Readonly<Record<RaftRole, HandlerTable>> = {
  follower: FOLLOWER_HANDLERS,
  "pre-candidate": PRE_CANDIDATE_HANDLERS,
  candidate: CANDIDATE_HANDLERS,
  leader: LEADER_HANDLERS,
};

function isVoteRequest(message: Message): boolean {
  return message.kind === "vote" || message.kind === "pre-vote";
}

/** Handles one message, after the rule that terms impose on all of them (Raft paper 5.1). */
export function stepMessage(state: RaftState, message: Message): void {
  // Term 0: local reports, and requests passed on to the leader.
  if (message.term !== 0) {
    if (message.term < state.term) {
      answerStale(state, message);
      return;
    }
    if (message.term > state.term && !enterTerm(state, message)) return;
  }
  if (isVoteRequest(message)) answerVote(state, message);
  else HANDLERS[state.role][message.kind]?.(state, message);
}

/** False when the message is to be ignored. */
function enterTerm(state: RaftState, message: Message): boolean {
  const { kind, context, reject, term } = message;
  if (isVoteRequest(message) && context !== TRANSFER_CONTEXT && inLease(state)) return false;
  // A pre-vote changes no term; the grant of one is for a term not yet entered.
  if (kind === "pre-vote" || (kind === "pre-vote-resp" && !reject)) return true;
  state.becomeFollower(term, NO_ID);
  return true;
}

/**
 * With leases or pre-votes nobody's vote request moves this node's term forward any more, so an
 * old leader, or a node stuck in a term ahead, is told of the newer term by an answer.
 */
function answerStale(state: RaftState, message: Message): void {
  const { kind, from } = message;
  const { checkQuorum, preVote } = state.config;
  if ((checkQuorum || preVote) && (kind === "heartbeat" || kind === "app")) {
    state.send("app-resp", from);
  } else if (kind === "pre-vote") {
    state.send("pre-vote-resp", from, { reject: true });
  }
}
