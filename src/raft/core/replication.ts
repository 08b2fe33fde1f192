import { assert } from "../../base/errors.ts";
import { payloadBytes } from "./log.ts";
import type { Progress } from "./progress.ts";
import type { ConfirmedRead, ReadRequest } from "./read-index.ts";
import type { RaftState } from "./state.ts";
import type { Entry, RaftId } from "./types.ts";

/** App messages sent to one member in a row; the rest follows its acknowledgements. */
const MAX_BURST = 1024;

/**
 * Sends `to` the entries it lacks, or a snapshot when they are gone. `evenEmpty` sends the commit
 * index alone when there is nothing else. False when nothing was sent.
 */
export function sendAppend(state: RaftState, to: RaftId, evenEmpty: boolean): boolean {
  const { log, config } = state;
  const progress = state.tracker.progress(to);
  if (progress === undefined || progress.paused) return false;
  const previous = progress.next - 1;
  const previousTerm = log.term(previous);
  if (previousTerm === undefined) return sendSnapshot(state, to, progress);
  const hasRoom = progress.state !== "replicate" || !progress.inflights.full;
  const entries =
    hasRoom && progress.next <= log.lastIndex
      ? log.slice(progress.next, log.lastIndex, config.maxMessageBytes)
      : [];
  if (entries.length === 0 && !evenEmpty) return false;
  state.send("app", to, {
    index: previous,
    logTerm: previousTerm,
    entries,
    commit: log.committed,
  });
  progress.sentEntries(entries.length, payloadBytes(entries));
  progress.sentCommit(log.committed);
  return true;
}

/** Sends all that the inflight bounds allow. */
export function sendBurst(state: RaftState, to: RaftId): void {
  for (let sent = 0; sent < MAX_BURST; sent += 1) {
    if (!sendAppend(state, to, false)) return;
  }
}

/** Not to a member that is silent: a snapshot is costly, and would have to be sent again. */
function sendSnapshot(state: RaftState, to: RaftId, progress: Progress): boolean {
  if (!progress.recentlyActive) return false;
  const { snapshot } = state.log;
  assert(snapshot !== null, "the log was compacted without a snapshot");
  progress.becomeSnapshot(snapshot.index);
  state.send("snap", to, { snapshot });
  return true;
}

export function broadcastAppend(state: RaftState): void {
  for (const [id] of state.tracker.members()) {
    if (id !== state.id) sendAppend(state, id, true);
  }
}

/** Also carries the proof of leadership that waiting reads need. */
export function broadcastHeartbeat(state: RaftState): void {
  const context = state.reads.startRound(state.id);
  for (const [id, progress] of state.tracker.members()) {
    if (id === state.id) continue;
    const commit = Math.min(progress.match, state.log.committed);
    state.send("heartbeat", id, { commit, context });
    progress.sentCommit(commit);
  }
}

/**
 * Appends to the leader's log. It acknowledges its own entries by a message to itself that is
 * delivered when they are durable.
 */
export function appendOwn(
  state: RaftState,
  bodies: readonly Pick<Entry, "kind" | "data">[],
): readonly Entry[] {
  const { log, term } = state;
  const start = log.lastIndex + 1;
  const entries = bodies.map(({ kind, data }, i) => ({ index: start + i, term, kind, data }));
  log.append(entries);
  state.uncommittedBytes += payloadBytes(entries);
  state.send("app-resp", state.id, { index: log.lastIndex });
  return entries;
}

/**
 * Commits what a quorum has, if it is of the present term: entries of earlier terms commit only
 * with it (Raft paper 5.4.2, Figure 8). True when the commit index moved.
 */
export function maybeCommit(state: RaftState): boolean {
  const { log, tracker, term } = state;
  const index = tracker.committed();
  const before = log.committed;
  if (!Number.isFinite(index) || index <= before || log.term(index) !== term) return false;
  log.commitTo(index);
  const own = log
    .slice(before + 1, index, Number.POSITIVE_INFINITY)
    .filter(entry => entry.term === term);
  state.uncommittedBytes = Math.max(0, state.uncommittedBytes - payloadBytes(own));
  return true;
}

/** A leader that has committed in its own term knows of all that was committed before it. */
export function hasCommittedInTerm(state: RaftState): boolean {
  return state.log.term(state.log.committed) === state.term;
}

/** Answers postponed reads after the first commit of the term. */
export function releaseReads(state: RaftState): void {
  if (!hasCommittedInTerm(state)) return;
  for (const request of state.reads.takePostponed()) startRead(state, request);
}

export function startRead(state: RaftState, request: ReadRequest): void {
  if (!hasCommittedInTerm(state)) {
    state.reads.postpone(request);
  } else if (state.tracker.isOnlyVoter(state.id)) {
    answerRead(state, { request, index: state.log.committed });
  } else {
    state.reads.add(request, state.log.committed);
  }
}

export function answerRead(state: RaftState, { request, index }: ConfirmedRead): void {
  const { from, context } = request;
  if (from === state.id) state.readStates.push({ index, context });
  else state.send("read-index-resp", from, { index, context });
}
