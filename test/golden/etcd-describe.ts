import { decodeConfChange } from "../../src/raft/core/conf-change-codec.ts";
import type { Membership } from "../../src/raft/core/membership.ts";
import type {
  ConfChange,
  ConfChangeOp,
  ConfChangeSingle,
  ConfState,
  Entry,
  HardState,
  Message,
  MessageKind,
  ProgressStatus,
  RaftId,
  RaftRole,
  Ready,
  SnapshotMeta,
} from "../../src/raft/core/types.ts";

/** Marks, in a conf change's context, that a script asked for the older of two encodings. */
export const V1_CONTEXT = new TextEncoder().encode("v1");

const KIND_NAMES: Readonly<Record<MessageKind, string>> = {
  hup: "MsgHup",
  beat: "MsgBeat",
  prop: "MsgProp",
  app: "MsgApp",
  "app-resp": "MsgAppResp",
  vote: "MsgVote",
  "vote-resp": "MsgVoteResp",
  "pre-vote": "MsgPreVote",
  "pre-vote-resp": "MsgPreVoteResp",
  snap: "MsgSnap",
  heartbeat: "MsgHeartbeat",
  "heartbeat-resp": "MsgHeartbeatResp",
  "read-index": "MsgReadIndex",
  "read-index-resp": "MsgReadIndexResp",
  "transfer-leader": "MsgTransferLeader",
  "timeout-now": "MsgTimeoutNow",
  "forget-leader": "MsgForgetLeader",
  unreachable: "MsgUnreachable",
  "snap-status": "MsgSnapStatus",
  "check-quorum": "MsgCheckQuorum",
};

export const ROLE_NAMES: Readonly<Record<RaftRole, string>> = {
  follower: "StateFollower",
  "pre-candidate": "StatePreCandidate",
  candidate: "StateCandidate",
  leader: "StateLeader",
};

const STATE_NAMES: Readonly<Record<ProgressStatus["state"], string>> = {
  probe: "StateProbe",
  replicate: "StateReplicate",
  snapshot: "StateSnapshot",
};

const OP_LETTERS: Readonly<Record<ConfChangeOp, string>> = {
  "add-voter": "v",
  "add-learner": "l",
  remove: "r",
  update: "u",
};

export function kindOf(name: string): MessageKind {
  for (const [kind, known] of Object.entries(KIND_NAMES)) {
    if (known === name) return kind as MessageKind;
  }
  throw new Error(`unknown message type ${name}`);
}

/** Parses `v1 l2 r3 u4`. */
export function parseChanges(input: string): readonly ConfChangeSingle[] {
  const words = input.split(/\s+/).filter(word => word !== "");
  return words.map(word => {
    const op = Object.entries(OP_LETTERS).find(([, letter]) => letter === word[0])?.[0];
    if (op === undefined) throw new Error(`unknown input: ${word}`);
    return { op: op as ConfChangeOp, id: Number(word.slice(1)) };
  });
}

export function describeChange({ changes }: ConfChange): string {
  return changes.map(({ op, id }) => `${OP_LETTERS[op]}${id}`).join(" ");
}

export function describeEntry(entry: Entry): string {
  const { term, index, kind, data } = entry;
  if (kind === "normal") {
    const text = JSON.stringify(new TextDecoder().decode(data));
    return `${term}/${index} EntryNormal ${text}`;
  }
  const change = decodeConfChange(data);
  const v1 = new TextDecoder().decode(change.context) === "v1";
  const name = v1 ? "EntryConfChange" : "EntryConfChangeV2";
  return `${term}/${index} ${name} ${describeChange(change)}`.trimEnd();
}

export function describeEntries(entries: readonly Entry[]): readonly string[] {
  return entries.map(describeEntry);
}

function idList(ids: readonly RaftId[]): string {
  return `[${ids.join(" ")}]`;
}

function describeConf(conf: ConfState): string {
  return (
    `Voters:${idList(conf.voters)} VotersOutgoing:${idList(conf.votersOutgoing)} ` +
    `Learners:${idList(conf.learners)} LearnersNext:${idList(conf.learnersNext)} ` +
    `AutoLeave:${conf.autoLeave}`
  );
}

function describeSnapshot({ index, term, conf }: SnapshotMeta): string {
  return `Index:${index} Term:${term} ConfState:${describeConf(conf)}`;
}

function hex(id: RaftId): string {
  return id === 0 ? "None" : id.toString(16);
}

export function describeMessage(message: Message): readonly string[] {
  const { from, to, kind, term, logTerm, index, reject, rejectHint, commit, entries } = message;
  let head = `${hex(from)}->${hex(to)} ${KIND_NAMES[kind]} Term:${term} Log:${logTerm}/${index}`;
  if (reject) head += ` Rejected (Hint: ${rejectHint})`;
  if (commit !== 0) head += ` Commit:${commit}`;
  const [only] = entries;
  const lines: string[] = [];
  if (entries.length > 1) {
    lines.push(`${head} Entries:[`, ...entries.map(entry => `  ${describeEntry(entry)}`), "]");
  } else {
    lines.push(only === undefined ? head : `${head} Entries:[${describeEntry(only)}]`);
  }
  if (message.snapshot !== null) lines.push(`  Snapshot: ${describeSnapshot(message.snapshot)}`);
  return lines;
}

function describeHardState({ term, vote, commit }: HardState): string {
  return `Term:${term}${vote === 0 ? "" : ` Vote:${vote}`} Commit:${commit}`;
}

/**
 * Messages in upstream's order: what it lets wait for the disk comes last. (It does not let vote
 * requests wait, and does let pre-vote responses.)
 */
export function upstreamOrder({ sendNow, sendAfterPersist }: Ready): readonly Message[] {
  const all = [...sendNow, ...sendAfterPersist];
  const waits = ({ kind }: Message): boolean =>
    kind === "app-resp" || kind === "vote-resp" || kind === "pre-vote-resp";
  return [...all.filter(message => !waits(message)), ...all.filter(waits)];
}

export function describeReady(ready: Ready | null): readonly string[] {
  if (ready === null) return ["<empty Ready>"];
  const lines: string[] = [];
  const section = (title: string, body: readonly string[]): void => {
    if (body.length > 0) lines.push(title, ...body);
  };
  const { softState, hardState, readStates, entries, snapshot, committed } = ready;
  if (softState !== null) {
    lines.push(`Lead:${softState.leaderId} State:${ROLE_NAMES[softState.role]}`);
  }
  if (hardState !== null) lines.push(`HardState ${describeHardState(hardState)}`);
  if (readStates.length > 0) lines.push(`ReadStates ${JSON.stringify(readStates)}`);
  section("Entries:", describeEntries(entries));
  if (snapshot !== null) lines.push(`Snapshot ${describeSnapshot(snapshot)}`);
  section("CommittedEntries:", describeEntries(committed));
  section("Messages:", upstreamOrder(ready).flatMap(describeMessage));
  return lines.length === 0 ? ["<empty Ready>"] : ["Ready:", ...lines];
}

export function describeProgress(status: ProgressStatus): string {
  const { id, state, match, next } = status;
  let line = `${id}: ${STATE_NAMES[state]} match=${match} next=${next}`;
  if (status.learner) line += " learner";
  if (status.paused) line += " paused";
  if (status.pendingSnapshot > 0) line += ` pendingSnap=${status.pendingSnapshot}`;
  if (!status.recentlyActive) line += " inactive";
  if (status.inflightMessages > 0) line += ` inflight=${status.inflightMessages}`;
  if (status.inflightFull) line += "[full]";
  return line;
}

function hexSet(ids: ReadonlySet<RaftId>): string {
  return `(${[...ids]
    .sort((a, b) => a - b)
    .map(hex)
    .join(" ")})`;
}

export function describeMembership(membership: Membership): string {
  const { voters, learners, learnersNext, autoLeave } = membership;
  let line = `voters=${hexSet(voters.incoming)}`;
  if (voters.outgoing.size > 0) line += `&&${hexSet(voters.outgoing)}`;
  if (learners.size > 0) line += ` learners=${hexSet(learners)}`;
  if (learnersNext.size > 0) line += ` learners_next=${hexSet(learnersNext)}`;
  return autoLeave ? `${line} autoleave` : line;
}
