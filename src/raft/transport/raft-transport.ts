import type { Message, RaftId } from "../core/types.ts";
import type { PeerInfo } from "../ports.ts";

/** Where a snapshot on its way in goes. */
export interface SnapshotSink {
  write(chunk: Uint8Array): Promise<void>;
  /**
   * Durable and given to the core: with `message` when it was announced again since the sink was
   * opened, because its transfer broke and went on.
   */
  commit(message?: Message): Promise<void>;
  /** Idempotent; no effect after commit. */
  abort(): Promise<void>;
}

/** What the transport calls; every method but `openSnapshot` is synchronous and quick. */
export interface TransportHandler {
  /** A message for this member, from a peer of the same cluster. */
  onMessage(message: Message): void;
  /** The stream from the peer has closed: its process ended, or the connection broke. */
  onPeerLost(raftId: RaftId): void;
  /** Messages to the peer were dropped. */
  onUnreachable(raftId: RaftId): void;
  /** A snapshot is announced by its `snap` message. */
  openSnapshot(message: Message): Promise<SnapshotSink>;
  lastIndex(): number;
}

export interface ProbeAnswer {
  readonly raftId: RaftId;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly lastIndex: number;
}

export interface TransportStats {
  readonly sentMessages: number;
  readonly sentBatches: number;
  readonly receivedMessages: number;
  readonly droppedMessages: number;
  readonly refusedMessages: number;
  readonly connects: number;
}

/** Carries messages between members: may lose, delay and reorder them, never alters them. */
export interface RaftTransport {
  /** Before it, everything from outside is refused. */
  start(handler: TransportHandler): void;
  /** Whom it keeps connections to; this member itself is left out. */
  setPeers(peers: readonly PeerInfo[]): void;
  /** Never waits: a full or broken queue drops the message and calls `onUnreachable`. */
  send(message: Message): void;
  /**
   * Resolves when the receiver has the snapshot on disk; rejects on any failure. A transfer that
   * breaks goes on where it was: `chunks` may be read several times, from the beginning.
   */
  sendSnapshot(
    message: Message,
    chunks: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void>;
  /** Dials the peer's address and asks who is there. */
  probe(peer: PeerInfo, signal: AbortSignal): Promise<ProbeAnswer>;
  /** Whether the peer answered lately. */
  reachable(raftId: RaftId): boolean;
  stats(): TransportStats;
  close(): Promise<void>;
}
