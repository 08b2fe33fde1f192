import { assert } from "../../base/errors.ts";
import { decodeConfChange, encodeConfChange } from "./conf-change-codec.ts";
import type { HandlerTable } from "./handler.ts";
import { changeMembership, isJoint, leavesJoint } from "./membership.ts";
import type { Progress } from "./progress.ts";
import {
  answerRead,
  appendOwn,
  broadcastAppend,
  broadcastHeartbeat,
  hasCommittedInTerm,
  maybeCommit,
  releaseReads,
  sendAppend,
  sendBurst,
  startRead,
} from "./replication.ts";
import type { RaftState } from "./state.ts";
import {
  type ConfChange,
  type Entry,
  type Message,
  NO_ID,
  type ProposeResult,
  type RaftId,
} from "./types.ts";

type Refusal = Extract<ProposeResult, { ok: false }>["reason"];

const NO_OP: Pick<Entry, "kind" | "data"> = { kind: "normal", data: new Uint8Array() };

/**
 * Takes office: an empty entry of the new term, whose commit also commits what earlier terms left
 * (Raft paper 5.4.2, dissertation 6.4). No conf change before all that is applied.
 */
export function becomeLeader(state: RaftState): void {
  assert(state.role === "candidate", `a ${state.role} cannot become leader`);
  state.reset(state.term);
  state.role = "leader";
  state.leaderId = state.id;
  const own = state.tracker.progress(state.id);
  assert(own !== undefined, "a leader is a member");
  own.becomeReplicate();
  own.recentlyActive = true;
  state.pendingConfIndex = state.log.lastIndex;
  state.note("leader");
  appendOwn(state, [NO_OP]);
  broadcastAppend(state);
}

/** One tick in office: quorum check, end of a stuck transfer, heartbeats. */
export function tickLeader(state: RaftState): void {
  const { config } = state;
  state.heartbeatElapsed += 1;
  state.electionElapsed += 1;
  if (state.electionElapsed >= config.electionTicks) {
    state.electionElapsed = 0;
    if (config.checkQuorum) checkQuorum(state);
    state.transferTarget = NO_ID;
  }
  if (state.role !== "leader" || state.heartbeatElapsed < config.heartbeatTicks) return;
  state.heartbeatElapsed = 0;
  broadcastHeartbeat(state);
}

/** Steps down when no quorum was heard from for an election timeout (dissertation 6.2). */
function checkQuorum(state: RaftState): void {
  if (!state.tracker.quorumActive()) {
    state.note("no quorum heard");
    state.becomeFollower(state.term, NO_ID);
    return;
  }
  for (const [id, progress] of state.tracker.members()) {
    if (id !== state.id) progress.recentlyActive = false;
  }
}

/** Appends proposals and sends them on, or says why not; nothing is done in part. */
export function proposeEntries(
  state: RaftState,
  bodies: readonly Pick<Entry, "kind" | "data">[],
): ProposeResult {
  assert(bodies.length > 0, "a proposal has at least one entry");
  const reason = refusal(state, bodies);
  if (reason !== null) return { ok: false, reason };
  const index = state.log.lastIndex + 1;
  bodies.forEach(({ kind }, i) => {
    if (kind === "conf-change") state.pendingConfIndex = index + i;
  });
  appendOwn(state, bodies);
  broadcastAppend(state);
  return { ok: true, index, term: state.term };
}

function refusal(
  state: RaftState,
  bodies: readonly Pick<Entry, "kind" | "data">[],
): Refusal | null {
  const { config, tracker } = state;
  if (tracker.progress(state.id) === undefined) return "removed";
  if (state.transferTarget !== NO_ID) return "transferring";
  if (bodies.some(({ data }) => data.length > config.maxEntryBytes)) return "too-large";
  const changes = bodies.filter(({ kind }) => kind === "conf-change");
  if (changes.length > 1) return "conf-change-pending";
  for (const { data } of changes) {
    const reason = confChangeRefusal(state, decodeConfChange(data));
    if (reason !== null) return reason;
  }
  const bytes = bodies.reduce((sum, { data }) => sum + data.length, 0);
  const overfull = state.uncommittedBytes + bytes > config.maxUncommittedBytes;
  // A proposal larger than the whole bound passes when nothing else is under way.
  return overfull && bytes > 0 && state.uncommittedBytes > 0 ? "too-much-uncommitted" : null;
}

/**
 * One change at a time, and none before an entry of the leader's own term is committed: without
 * that two leaders' changes could each find a majority (the 2015 correction to dissertation 4.1).
 */
function confChangeRefusal(state: RaftState, change: ConfChange): Refusal | null {
  if (state.config.validateConfChanges === false) return null;
  const pending = state.pendingConfIndex > state.log.applied;
  if (pending || !hasCommittedInTerm(state)) return "conf-change-pending";
  const { membership } = state.tracker;
  if (isJoint(membership) && !leavesJoint(change)) return "conf-change-pending";
  return changeMembership(membership, change).ok ? null : "conf-change-invalid";
}

/** Proposes to leave a joint configuration that is applied, if it asks for that. */
export function maybeAutoLeave(state: RaftState): void {
  if (state.role !== "leader" || !state.tracker.membership.autoLeave) return;
  if (state.log.applied < state.pendingConfIndex) return;
  const leave: ConfChange = { transition: "auto", changes: [], context: new Uint8Array() };
  // A refusal (transfer, no own commit yet) is retried after the next applied entry.
  proposeEntries(state, [{ kind: "conf-change", data: encodeConfChange(leave) }]);
}

/** What a change of membership asks of a leader. */
export function afterMembershipChange(state: RaftState): void {
  if (state.role !== "leader") return;
  const own = state.tracker.progress(state.id);
  if (own === undefined || own.learner) {
    if (state.config.stepDownOnRemoval !== false) state.becomeFollower(state.term, NO_ID);
    return;
  }
  if (maybeCommit(state)) {
    releaseReads(state);
    broadcastAppend(state);
  } else {
    for (const [id] of state.tracker.members()) if (id !== state.id) sendAppend(state, id, false);
  }
  if (!state.tracker.isVoter(state.transferTarget)) state.transferTarget = NO_ID;
}

/** Hands over to `to` once it has the whole log (dissertation 3.10). */
export function startTransfer(state: RaftState, to: RaftId): void {
  const progress = state.tracker.progress(to);
  if (progress === undefined || progress.learner || to === state.transferTarget) return;
  state.transferTarget = NO_ID;
  if (to === state.id) return;
  state.electionElapsed = 0;
  state.transferTarget = to;
  state.note("transfer begun", to);
  if (progress.match === state.log.lastIndex) state.send("timeout-now", to);
  else sendAppend(state, to, true);
}

/** A handler that needs to know the sender's progress; strangers are ignored. */
type MemberHandler = (state: RaftState, message: Message, progress: Progress) => void;

function ofMember(handle: MemberHandler): (state: RaftState, message: Message) => void {
  return (state, message) => {
    const progress = state.tracker.progress(message.from);
    if (progress !== undefined) handle(state, message, progress);
  };
}

const onAppendResponse: MemberHandler = (state, message, progress) => {
  progress.recentlyActive = true;
  if (message.reject) onRejected(state, message, progress);
  else onAccepted(state, message, progress);
};

/**
 * Skips back over all indexes whose term here is above the follower's term at its hint: they
 * cannot match (Raft paper 5.3, last paragraphs).
 */
function onRejected(state: RaftState, message: Message, progress: Progress): void {
  const { from, index, rejectHint, logTerm } = message;
  const hint = logTerm > 0 ? state.log.findConflictByTerm(rejectHint, logTerm).index : rejectHint;
  if (!progress.maybeDecrease(index, hint)) return;
  if (progress.state === "replicate") progress.becomeProbe();
  sendAppend(state, from, true);
}

function onAccepted(state: RaftState, message: Message, progress: Progress): void {
  const { from, index } = message;
  const probed = progress.state === "probe" && progress.match === index;
  if (!progress.maybeUpdate(index) && !probed) return;
  advanceFlow(state, index, progress);
  if (maybeCommit(state)) {
    releaseReads(state);
    broadcastAppend(state);
  } else if (from !== state.id && progress.canBumpCommit(state.log.committed)) {
    sendAppend(state, from, true);
  }
  if (from === state.id) return;
  sendBurst(state, from);
  if (from === state.transferTarget && progress.match === state.log.lastIndex) {
    state.send("timeout-now", from);
  }
}

/** What an acknowledgement up to `index` means for the pace of sending. */
function advanceFlow(state: RaftState, index: number, progress: Progress): void {
  if (progress.state === "replicate") {
    progress.inflights.freeUpTo(index);
  } else if (progress.state === "probe") {
    progress.becomeReplicate();
  } else if (progress.match + 1 >= state.log.firstIndex) {
    // Whichever snapshot it got, the log reaches back to it.
    progress.becomeProbe();
    progress.becomeReplicate();
  }
}

/** An answer re-opens a stalled flow: all messages of a full window may have been lost. */
const onHeartbeatResponse: MemberHandler = (state, message, progress) => {
  const { from, context } = message;
  progress.recentlyActive = true;
  progress.resume();
  if (progress.match < state.log.lastIndex || progress.state === "probe") {
    sendAppend(state, from, true);
  }
  if (context === "") return;
  state.reads.acknowledge(from, context);
  for (const read of state.reads.takeConfirmed(state.tracker.membership.voters)) {
    answerRead(state, read);
  }
};

/** Either way the next app message waits for the member's next answer. */
const onSnapshotStatus: MemberHandler = (_state, message, progress) => {
  if (progress.state !== "snapshot") return;
  if (message.reject) progress.pendingSnapshot = 0;
  progress.becomeProbe();
  progress.pause();
};

const onUnreachable: MemberHandler = (_state, _message, progress) => {
  if (progress.state === "replicate") progress.becomeProbe();
};

export const LEADER_HANDLERS: HandlerTable = {
  beat: state => broadcastHeartbeat(state),
  "check-quorum": state => checkQuorum(state),
  prop: (state, { entries }) => {
    if (entries.length > 0) proposeEntries(state, entries);
  },
  "read-index": (state, { from, context }) => startRead(state, { from, context }),
  "transfer-leader": (state, { index }) => startTransfer(state, index),
  "app-resp": ofMember(onAppendResponse),
  "heartbeat-resp": ofMember(onHeartbeatResponse),
  "snap-status": ofMember(onSnapshotStatus),
  unreachable: ofMember(onUnreachable),
};
