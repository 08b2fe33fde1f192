import type {
  RaftMessage as WireMessage,
  RaftSnapshotMeta as WireMeta,
  RaftPeer as WirePeer,
} from "../../rpc/gen/swarmd/v1/raft.ts";
import { packEntries, unpackEntries } from "../core/pack.ts";
import type { Entry, Message, MessageKind, SnapshotMeta } from "../core/types.ts";
import type { PeerInfo } from "../ports.ts";

/** Numbers on the wire; one is never given to another kind. Local kinds have none. */
const KIND_NUMBERS: ReadonlyMap<MessageKind, number> = new Map<MessageKind, number>([
  ["app", 1],
  ["app-resp", 2],
  ["vote", 3],
  ["vote-resp", 4],
  ["pre-vote", 5],
  ["pre-vote-resp", 6],
  ["snap", 7],
  ["heartbeat", 8],
  ["heartbeat-resp", 9],
  ["read-index", 10],
  ["read-index-resp", 11],
  ["transfer-leader", 12],
  ["timeout-now", 13],
]);

const KINDS: ReadonlyMap<number, MessageKind> = new Map(
  [...KIND_NUMBERS].map(([kind, number]) => [number, kind]),
);

/** What a message takes in a batch besides its entries' data. */
const MESSAGE_OVERHEAD_BYTES = 64;
const ENTRY_OVERHEAD_BYTES = 16;

/** About as many bytes as the encoded message has. */
export function messageBytes(message: Message): number {
  let bytes = MESSAGE_OVERHEAD_BYTES;
  for (const entry of message.entries) bytes += ENTRY_OVERHEAD_BYTES + entry.data.length;
  return bytes;
}

const NO_BYTES = Buffer.alloc(0);
/** As many messages as one turn makes for one follower, most often. */
const PACKED_KEPT = 8;

interface Packed {
  readonly first: Entry;
  readonly last: Entry;
  readonly bytes: Buffer;
}

/** Packs entries, once for all followers: what one is sent the others mostly are as well. */
export class EntryPacker {
  #packed: readonly Packed[] = [];

  pack(entries: readonly Entry[]): Buffer {
    const first = entries[0];
    const last = entries.at(-1);
    if (first === undefined || last === undefined) return NO_BYTES;
    // Between the same two entries of a log there are always the same.
    const known = this.#packed.find(one => one.first === first && one.last === last);
    if (known !== undefined) return known.bytes;
    const { buffer, byteOffset, byteLength } = packEntries(entries);
    const bytes = Buffer.from(buffer, byteOffset, byteLength);
    this.#packed = [{ first, last, bytes }, ...this.#packed.slice(0, PACKED_KEPT - 1)];
    return bytes;
  }
}

/** Null for a kind that does not travel. */
export function encodeMessage(message: Message, packer = new EntryPacker()): WireMessage | null {
  const kind = KIND_NUMBERS.get(message.kind);
  if (kind === undefined) return null;
  const { snapshot } = message;
  return {
    kind,
    from: message.from,
    to: message.to,
    term: message.term,
    logTerm: message.logTerm,
    index: message.index,
    entries: packer.pack(message.entries),
    commit: message.commit,
    reject: message.reject,
    rejectHint: message.rejectHint,
    snapshot: snapshot === null ? undefined : encodeMeta(snapshot),
    context: message.context,
  };
}

/** Null for a kind that is unknown here or does not travel, and for malformed entries. */
export function decodeMessage(wire: WireMessage): Message | null {
  const kind = KINDS.get(wire.kind);
  if (kind === undefined) return null;
  const entries = unpackEntries(wire.entries, wire.index + 1);
  if (entries === null) return null;
  return {
    kind,
    from: wire.from,
    to: wire.to,
    term: wire.term,
    logTerm: wire.logTerm,
    index: wire.index,
    entries,
    commit: wire.commit,
    reject: wire.reject,
    rejectHint: wire.rejectHint,
    snapshot: wire.snapshot === undefined ? null : decodeMeta(wire.snapshot),
    context: wire.context,
  };
}

export function encodeMeta({ index, term, conf }: SnapshotMeta): WireMeta {
  return {
    index,
    term,
    voters: [...conf.voters],
    learners: [...conf.learners],
    votersOutgoing: [...conf.votersOutgoing],
    learnersNext: [...conf.learnersNext],
    autoLeave: conf.autoLeave,
  };
}

export function decodeMeta({ index, term, ...conf }: WireMeta): SnapshotMeta {
  return { index, term, conf };
}

export function encodePeer({ raftId, nodeId, addr }: PeerInfo): WirePeer {
  return { raftId, nodeId, addr };
}
