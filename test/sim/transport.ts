import { SwarmError } from "../../src/base/errors.ts";
import type { Message, RaftId } from "../../src/raft/core/types.ts";
import type { PeerInfo } from "../../src/raft/ports.ts";
import { decodeMessage, encodeMessage } from "../../src/raft/transport/codec.ts";
import type {
  ProbeAnswer,
  RaftTransport,
  TransportHandler,
  TransportStats,
} from "../../src/raft/transport/raft-transport.ts";
import type { HostId, Network } from "./network.ts";
import type { SimProcess } from "./process.ts";

/** A peer that answered within this counts as reachable (as in the gRPC transport). */
const REACHABLE_WITHIN_MS = 2000;

const NO_STATS: TransportStats = {
  sentMessages: 0,
  sentBatches: 0,
  receivedMessages: 0,
  droppedMessages: 0,
  refusedMessages: 0,
  connects: 0,
};

export interface SimTransportOptions {
  readonly self: PeerInfo;
  readonly clusterId: string;
  readonly hostId: HostId;
}

export interface SimTransportDeps {
  readonly process: SimProcess;
  readonly network: Network;
  /** Every message on its way out. */
  readonly onSend: (message: Message) => void;
  readonly onReceive: (message: Message) => void;
  readonly peer: (raftId: RaftId) => SimTransport | null;
  readonly at: (addr: string) => SimTransport | null;
}

/** `RaftTransport` over the simulated network, with the production encoding of messages. */
export class SimTransport implements RaftTransport {
  readonly hostId: HostId;
  readonly process: SimProcess;
  readonly #options: SimTransportOptions;
  readonly #deps: SimTransportDeps;
  readonly #heardAtMs = new Map<RaftId, number>();
  #handler: TransportHandler | null = null;

  constructor(options: SimTransportOptions, deps: SimTransportDeps) {
    this.hostId = options.hostId;
    this.process = deps.process;
    this.#options = options;
    this.#deps = deps;
  }

  get raftId(): RaftId {
    return this.#options.self.raftId;
  }

  start(handler: TransportHandler): void {
    this.#handler = handler;
  }

  setPeers(): void {
    // The network knows everybody.
  }

  send(message: Message): void {
    this.#deps.onSend(message);
    const wire = encodeMessage(message);
    const peer = this.#deps.peer(message.to);
    if (wire === null) return;
    const carried =
      peer !== null &&
      this.#deps.network.datagram(this.hostId, peer.hostId, () => {
        peer.process.deliver(() => {
          const received = decodeMessage(wire);
          if (received !== null) peer.receive(received);
        });
      });
    if (!carried) this.process.after(0, () => this.#handler?.onUnreachable(message.to));
  }

  receive(message: Message): void {
    this.#heardAtMs.set(message.from, this.process.clock.monoMs());
    this.#deps.onReceive(message);
    this.#handler?.onMessage(message);
  }

  /** The stream from `raftId` closes. */
  peerLost(raftId: RaftId): void {
    this.process.deliver(() => {
      this.#heardAtMs.delete(raftId);
      this.#handler?.onPeerLost(raftId);
    });
  }

  async sendSnapshot(
    message: Message,
    chunks: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    const peer = this.#deps.peer(message.to);
    if (peer === null) throw new SwarmError("unavailable", `member ${message.to} is not there`);
    const sink = await this.#call(peer, () => peer.#accept(message));
    const abort = (): void => peer.process.deliver(() => void sink.abort());
    const forget = this.process.onKill(abort);
    try {
      for await (const chunk of chunks) {
        signal.throwIfAborted();
        await this.#call(peer, () => sink.write(chunk));
      }
      await this.#call(peer, () => sink.commit());
    } catch (error) {
      abort();
      throw error;
    } finally {
      forget();
    }
  }

  #accept(message: Message): ReturnType<TransportHandler["openSnapshot"]> {
    if (this.#handler === null) return Promise.reject(new SwarmError("unavailable", "starting"));
    return this.#handler.openSnapshot(message);
  }

  probe(peer: PeerInfo): Promise<ProbeAnswer> {
    const target = this.#deps.at(peer.addr);
    if (target === null) {
      return Promise.reject(new SwarmError("unavailable", `nobody answers at ${peer.addr}`));
    }
    return this.#call(target, () => {
      const { self, clusterId } = target.#options;
      const lastIndex = target.#handler?.lastIndex();
      if (lastIndex === undefined) throw new SwarmError("unavailable", "the member is starting");
      return Promise.resolve({ raftId: self.raftId, nodeId: self.nodeId, clusterId, lastIndex });
    });
  }

  #call<T>(peer: SimTransport, work: () => Promise<T>): Promise<T> {
    const ends = { from: this.hostId, to: peer.hostId };
    const processes = { caller: this.process, callee: peer.process };
    return this.#deps.network.call(ends, processes, async () => work());
  }

  reachable(raftId: RaftId): boolean {
    const heardAtMs = this.#heardAtMs.get(raftId) ?? Number.NEGATIVE_INFINITY;
    return this.process.clock.monoMs() - heardAtMs <= REACHABLE_WITHIN_MS;
  }

  stats(): TransportStats {
    return NO_STATS;
  }

  close(): Promise<void> {
    this.#handler = null;
    return Promise.resolve();
  }
}
