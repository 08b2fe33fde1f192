import { type Message, type MessageKind, NO_ID } from "./types.ts";

const BLANK: Omit<Message, "kind"> = {
  from: NO_ID,
  to: NO_ID,
  term: 0,
  logTerm: 0,
  index: 0,
  entries: [],
  commit: 0,
  reject: false,
  rejectHint: 0,
  snapshot: null,
  context: "",
};

/** A message with every field that `fields` does not name blank. */
export function newMessage(kind: MessageKind, fields: Partial<Omit<Message, "kind">>): Message {
  return { kind, ...BLANK, ...fields };
}

/** Context of a vote request that a leadership transfer forces past the voters' lease. */
export const TRANSFER_CONTEXT = "transfer";

/** Kinds that never cross the network. */
export const LOCAL_KINDS: ReadonlySet<MessageKind> = new Set<MessageKind>([
  "hup",
  "beat",
  "check-quorum",
  "unreachable",
  "snap-status",
  "forget-leader",
]);

/** Kinds without a term: what is local, and what a follower passes on to its leader. */
export const TERMLESS_KINDS: ReadonlySet<MessageKind> = new Set<MessageKind>([
  ...LOCAL_KINDS,
  "prop",
  "read-index",
]);

/** Kinds that answer a request: worth something only from a known member. */
export const RESPONSE_KINDS: ReadonlySet<MessageKind> = new Set<MessageKind>([
  "app-resp",
  "vote-resp",
  "pre-vote-resp",
  "heartbeat-resp",
  "read-index-resp",
]);

/**
 * Kinds that promise what the same Ready writes: a vote, or the durability of entries. A vote
 * request waits too, since a vote granted for entries that a crash then loses could elect a
 * shorter log. All else may overtake the disk.
 */
export const PERSIST_FIRST_KINDS: ReadonlySet<MessageKind> = new Set<MessageKind>([
  "vote",
  "vote-resp",
  "app-resp",
]);
