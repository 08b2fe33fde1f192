import { hup, startElection } from "./election.ts";
import type { Handler, HandlerTable } from "./handler.ts";
import type { RaftState } from "./state.ts";
import { type Message, NO_ID, type SnapshotMeta } from "./types.ts";

/** Appends a leader's entries, or answers with a hint where the logs may meet. */
export function handleAppend(state: RaftState, message: Message): void {
  const { from, index, logTerm, entries, commit } = message;
  const { log } = state;
  if (index < log.committed) {
    state.send("app-resp", from, { index: log.committed });
    return;
  }
  if (log.maybeAppend({ index, term: logTerm }, entries, commit)) {
    state.send("app-resp", from, { index: index + entries.length });
    return;
  }
  const hint = log.findConflictByTerm(Math.min(index, log.lastIndex), logTerm);
  state.send("app-resp", from, {
    index,
    reject: true,
    rejectHint: hint.index,
    logTerm: hint.term,
  });
}

export function handleHeartbeat(state: RaftState, message: Message): void {
  state.log.commitTo(message.commit);
  state.send("heartbeat-resp", message.from, { context: message.context });
}

/** Acknowledges what the log reaches afterwards, whether or not the snapshot was of use. */
export function handleSnapshot(state: RaftState, message: Message): void {
  const { from, snapshot } = message;
  if (snapshot === null) return;
  const restored = maybeRestore(state, snapshot);
  const index = restored ? state.log.lastIndex : state.log.committed;
  state.send("app-resp", from, { index });
}

/**
 * False when the snapshot is of no use: old, or already in the log. It need not name this node as
 * a member: it may be older than the change that adds it, which then follows in the log. Until
 * then this node does not campaign.
 */
function maybeRestore(state: RaftState, snapshot: SnapshotMeta): boolean {
  const { log } = state;
  const { conf, index } = snapshot;
  if (index <= log.committed) return false;
  if (log.matches(snapshot)) {
    log.commitTo(index);
    return false;
  }
  log.restore(snapshot);
  state.tracker.replace(conf, log.lastIndex);
  state.note("snapshot taken over");
  return true;
}

function fromLeader(handle: Handler): Handler {
  return (state, message) => {
    state.electionElapsed = 0;
    state.leaderId = message.from;
    handle(state, message);
  };
}

export const FOLLOWER_HANDLERS: HandlerTable = {
  hup: startElection,
  app: fromLeader(handleAppend),
  heartbeat: fromLeader(handleHeartbeat),
  snap: fromLeader(handleSnapshot),
  /** A transfer needs no pre-vote: the leader itself asks, nobody comes out of a partition. */
  "timeout-now": state => hup(state, "transfer"),
  "forget-leader": state => {
    state.leaderId = NO_ID;
  },
  "read-index-resp": (state, { index, context }) => {
    state.readStates.push({ index, context });
  },
};
