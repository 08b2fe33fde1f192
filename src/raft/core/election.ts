import { assert } from "../../base/errors.ts";
import { TRANSFER_CONTEXT } from "./message.ts";
import type { RaftState } from "./state.ts";
import { type Message, NO_ID } from "./types.ts";

export type Campaign = "pre-vote" | "vote" | "transfer";

/** One tick out of office. */
export function tickElection(state: RaftState): void {
  state.electionElapsed += 1;
  if (!state.promotable || !state.electionTimedOut()) return;
  state.electionElapsed = 0;
  startElection(state);
}

/** Stands for election, by a pre-vote where that is configured. */
export function startElection(state: RaftState): void {
  hup(state, state.config.preVote ? "pre-vote" : "vote");
}

/**
 * Stands for election if this node may. Not while a committed conf change is unapplied here: the
 * membership that counts the votes would be the old one.
 */
export function hup(state: RaftState, campaign: Campaign): void {
  if (state.role === "leader" || !state.promotable) return;
  if (state.log.hasUnappliedConfChange()) return;
  runCampaign(state, campaign);
}

/**
 * Asks every voter. The own vote is a message to itself that is delivered once the vote is
 * durable. A pre-vote asks for the next term without entering it (dissertation 9.6).
 */
export function runCampaign(state: RaftState, campaign: Campaign): void {
  const preVote = campaign === "pre-vote";
  if (preVote) becomePreCandidate(state);
  else becomeCandidate(state);
  const term = preVote ? state.term + 1 : state.term;
  const { index, term: logTerm } = state.log.last;
  const context = campaign === "transfer" ? TRANSFER_CONTEXT : "";
  for (const id of state.tracker.voterIds) {
    if (id === state.id) state.send(preVote ? "pre-vote-resp" : "vote-resp", id, { term });
    else state.send(preVote ? "pre-vote" : "vote", id, { term, index, logTerm, context });
  }
}

function becomeCandidate(state: RaftState): void {
  assert(state.role !== "leader", "a leader does not campaign");
  state.reset(state.term + 1);
  state.role = "candidate";
  state.vote = state.id;
  state.note("candidate");
}

/** Neither term nor vote change: a pre-vote disturbs nobody. */
function becomePreCandidate(state: RaftState): void {
  assert(state.role !== "leader", "a leader does not campaign");
  state.tracker.resetVotes();
  state.leaderId = NO_ID;
  state.role = "pre-candidate";
  state.note("pre-candidate");
}

/** Within an election timeout of hearing from a leader nobody else is wanted (dissertation 4.2.3). */
export function inLease(state: RaftState): boolean {
  const { checkQuorum, electionTicks } = state.config;
  return checkQuorum && state.leaderId !== NO_ID && state.electionElapsed < electionTicks;
}

/**
 * Answers a vote or pre-vote request, in any role (Raft paper 5.4.1). Learners vote too: one that
 * was promoted may not know it yet, and its vote may be the one that is needed.
 */
export function answerVote(state: RaftState, message: Message): void {
  const { from, index, logTerm, term } = message;
  const preVote = message.kind === "pre-vote";
  const free =
    state.vote === from ||
    (state.vote === NO_ID && state.leaderId === NO_ID) ||
    (preVote && term > state.term);
  const reply = preVote ? "pre-vote-resp" : "vote-resp";
  if (!free || !state.log.isUpToDate({ index, term: logTerm })) {
    state.send(reply, from, { reject: true });
    return;
  }
  // The request's term: a granted pre-vote is for a term that this node has not entered.
  state.send(reply, from, { term });
  if (preVote) return;
  state.electionElapsed = 0;
  state.vote = from;
  state.note("vote granted", from);
}
