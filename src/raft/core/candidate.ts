import { runCampaign, startElection } from "./election.ts";
import { handleAppend, handleHeartbeat, handleSnapshot } from "./follower.ts";
import type { Handler, HandlerTable } from "./handler.ts";
import { becomeLeader } from "./leader.ts";
import type { RaftState } from "./state.ts";
import { NO_ID } from "./types.ts";

/** A leader of this very term exists: the election is over. */
function concede(handle: Handler): Handler {
  return (state, message) => {
    state.becomeFollower(message.term, message.from);
    handle(state, message);
  };
}

function countVote(onWon: (state: RaftState) => void): Handler {
  return (state, { from, reject }) => {
    const result = state.tracker.recordVote(from, !reject);
    if (result === "won") onWon(state);
    else if (result === "lost") state.becomeFollower(state.term, NO_ID);
  };
}

const COMMON_HANDLERS: HandlerTable = {
  hup: startElection,
  app: concede(handleAppend),
  heartbeat: concede(handleHeartbeat),
  snap: concede(handleSnapshot),
};

export const PRE_CANDIDATE_HANDLERS: HandlerTable = {
  ...COMMON_HANDLERS,
  "pre-vote-resp": countVote(state => runCampaign(state, "vote")),
};

export const CANDIDATE_HANDLERS: HandlerTable = {
  ...COMMON_HANDLERS,
  "vote-resp": countVote(becomeLeader),
};
