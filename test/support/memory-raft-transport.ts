import { SwarmError } from "../../src/base/errors.ts";
import type { Message, RaftId } from "../../src/raft/core/types.ts";
import type { PeerInfo } from "../../src/raft/ports.ts";
import type {
  ProbeAnswer,
  RaftTransport,
  TransportHandler,
  TransportStats,
} from "../../src/raft/transport/raft-transport.ts";

/** Links between members in one process; each direction can be cut or thinned out. */
export class MemoryNetwork {
  readonly #nodes = new Map<RaftId, MemoryRaftTransport>();
  readonly #cut = new Set<string>();
  /** Asked for every message that a link would carry; true loses it. */
  drop: (message: Message) => boolean = () => false;

  attach(node: MemoryRaftTransport): void {
    this.#nodes.set(node.self.raftId, node);
  }

  /** As when a process dies: the others' connections to it close. */
  detach(node: MemoryRaftTransport): void {
    if (this.#nodes.get(node.self.raftId) !== node) return;
    this.#nodes.delete(node.self.raftId);
    for (const other of this.#nodes.values()) other.handler?.onPeerLost(node.self.raftId);
  }

  /** Silence, both ways: nothing closes. */
  cut(a: RaftId, b: RaftId): void {
    this.cutOneWay(a, b);
    this.cutOneWay(b, a);
  }

  cutOneWay(from: RaftId, to: RaftId): void {
    this.#cut.add(`${from}>${to}`);
  }

  isolate(id: RaftId): void {
    for (const other of this.#nodes.keys()) if (other !== id) this.cut(id, other);
  }

  heal(): void {
    this.#cut.clear();
  }

  /** The handler at the other end, or null when nothing gets through. */
  reach(from: RaftId, to: RaftId): MemoryRaftTransport | null {
    return this.#cut.has(`${from}>${to}`) ? null : (this.#nodes.get(to) ?? null);
  }

  at(addr: string): MemoryRaftTransport | null {
    return [...this.#nodes.values()].find(node => node.self.addr === addr) ?? null;
  }
}

/** `RaftTransport` over a MemoryNetwork: delivers in a later microtask, in order. */
export class MemoryRaftTransport implements RaftTransport {
  readonly self: PeerInfo;
  readonly #clusterId: string;
  readonly #network: MemoryNetwork;
  handler: TransportHandler | null = null;
  #sent = 0;
  #received = 0;
  #dropped = 0;

  constructor(
    options: { readonly self: PeerInfo; readonly clusterId: string },
    network: MemoryNetwork,
  ) {
    this.self = options.self;
    this.#clusterId = options.clusterId;
    this.#network = network;
  }

  start(handler: TransportHandler): void {
    this.handler = handler;
    this.#network.attach(this);
  }

  setPeers(): void {
    // The network knows everybody.
  }

  send(message: Message): void {
    const target = this.#network.reach(message.from, message.to);
    if (target === null || this.#network.drop(message)) {
      this.#dropped += 1;
      if (target === null) this.handler?.onUnreachable(message.to);
      return;
    }
    this.#sent += 1;
    queueMicrotask(() => target.deliver(message));
  }

  deliver(message: Message): void {
    this.#received += 1;
    this.handler?.onMessage(message);
  }

  async sendSnapshot(message: Message, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    const target = this.#network.reach(message.from, message.to);
    if (target === null || target.handler === null) throw this.#noAnswer(message.to);
    const sink = await target.handler.openSnapshot(message);
    try {
      for await (const chunk of chunks) {
        if (this.#network.reach(message.from, message.to) !== target) {
          throw this.#noAnswer(message.to);
        }
        await sink.write(chunk);
      }
      await sink.commit();
    } catch (error) {
      await sink.abort();
      throw error;
    }
  }

  probe(peer: PeerInfo): Promise<ProbeAnswer> {
    const target = this.#network.at(peer.addr);
    if (target === null || target.handler === null) {
      return Promise.reject(this.#noAnswer(peer.raftId));
    }
    const { raftId, nodeId } = target.self;
    const lastIndex = target.handler.lastIndex();
    return Promise.resolve({ raftId, nodeId, clusterId: target.#clusterId, lastIndex });
  }

  reachable(raftId: RaftId): boolean {
    const { raftId: own } = this.self;
    const there = this.#network.reach(own, raftId);
    return there !== null && this.#network.reach(raftId, own) === this;
  }

  stats(): TransportStats {
    return {
      sentMessages: this.#sent,
      sentBatches: this.#sent,
      receivedMessages: this.#received,
      droppedMessages: this.#dropped,
      refusedMessages: 0,
      connects: 0,
    };
  }

  close(): Promise<void> {
    this.handler = null;
    this.#network.detach(this);
    return Promise.resolve();
  }

  #noAnswer(raftId: RaftId): SwarmError {
    return new SwarmError("unavailable", `member ${raftId} does not answer`);
  }
}
