import {
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  status,
} from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type {
  ProbeReply,
  ProbeRequest,
  RaftAck,
  RaftBatch,
  RaftHello,
  SnapshotChunk,
  RaftMessage as WireMessage,
} from "../../rpc/gen/swarmd/v1/raft.ts";
import type { Message, RaftId } from "../core/types.ts";
import type { PeerInfo } from "../ports.ts";
import { decodeMessage, decodeMeta } from "./codec.ts";
import type { TransportHandler } from "./raft-transport.ts";
import { Refusal } from "./refusal.ts";
import { SnapshotReceiver, SnapshotRemains } from "./snapshot-receiver.ts";
import { SNAPSHOT_IDLE_MS } from "./snapshot-sender.ts";

/** A call as far as its peer's identity goes. */
export type AnyCall =
  | ServerDuplexStream<RaftBatch, RaftAck>
  | ServerReadableStream<SnapshotChunk, unknown>
  | ServerUnaryCall<ProbeRequest, ProbeReply>;

export interface InboundOptions {
  readonly clusterId: string;
  readonly self: PeerInfo;
}

export interface InboundDeps {
  readonly clock: Clock;
  readonly log: Logger;
  /** The node id of the caller's certificate; null when connections carry none (tests). */
  readonly nodeIdOf: ((call: AnyCall) => string) | null;
  /** A peer has opened its stream: it is up, and this is its address. */
  readonly onHello: (peer: PeerInfo) => void;
  /** Something came from the peer. */
  readonly onHeard: (raftId: RaftId) => void;
}

interface InboundStream {
  readonly peer: PeerInfo;
  readonly call: ServerDuplexStream<RaftBatch, RaftAck>;
  batches: number;
}

/** The receiving side: every message is checked for cluster, sender and addressee. */
export class Inbound {
  readonly #options: InboundOptions;
  readonly #deps: InboundDeps;
  readonly #streams = new Map<RaftId, InboundStream>();
  readonly #remains: SnapshotRemains;
  #handler: TransportHandler | null = null;
  received = 0;
  refused = 0;

  constructor(options: InboundOptions, deps: InboundDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#remains = new SnapshotRemains(deps);
  }

  start(handler: TransportHandler): void {
    this.#handler = handler;
  }

  close(): void {
    this.#handler = null;
    this.#remains.drop();
    for (const { call } of this.#streams.values()) call.end();
    this.#streams.clear();
  }

  stream(call: ServerDuplexStream<RaftBatch, RaftAck>): void {
    let stream: InboundStream | null = null;
    const closed = (): void => this.#onClosed(stream);
    call.on("error", closed);
    call.on("cancelled", closed);
    call.on("close", closed);
    call.on("end", () => {
      call.end();
      closed();
    });
    call.on("data", (batch: RaftBatch) => {
      try {
        stream ??= this.#open(call, batch.hello);
        this.#receive(stream, batch);
      } catch (error) {
        this.refused += 1;
        call.emit("error", this.#refuse(error));
      }
    });
  }

  async installSnapshot(call: ServerReadableStream<SnapshotChunk, unknown>): Promise<void> {
    const watchdog = this.#watch(call);
    const receiver = new SnapshotReceiver(this.#options, {
      remains: this.#remains,
      check: message => this.#checkSnapshot(call, message),
      open: message => this.#running().openSnapshot(message),
    });
    try {
      for await (const chunk of call) {
        watchdog.feed();
        await receiver.take(chunk);
        watchdog.feed();
      }
      receiver.checkComplete();
    } catch (error) {
      this.refused += 1;
      await receiver.fail();
      throw this.#refuse(error);
    } finally {
      watchdog.stop();
    }
  }

  probe(call: ServerUnaryCall<ProbeRequest, ProbeReply>): ProbeReply {
    const handler = this.#running();
    if (call.request.clusterId !== this.#options.clusterId) throw this.#otherCluster();
    const { raftId, nodeId } = this.#options.self;
    const { clusterId } = this.#options;
    const { snapshot } = call.request;
    const { bytes, crc } =
      snapshot === undefined ? { bytes: 0, crc: 0 } : this.#remains.of(decodeMeta(snapshot));
    const lastIndex = handler.lastIndex();
    return { raftId, nodeId, clusterId, lastIndex, snapshotBytes: bytes, snapshotCrc32c: crc };
  }

  #running(): TransportHandler {
    if (this.#handler === null) throw new Refusal(status.UNAVAILABLE, "Raft is not running here");
    return this.#handler;
  }

  #otherCluster(): Refusal {
    return new Refusal(status.FAILED_PRECONDITION, "this node belongs to another cluster");
  }

  #open(call: ServerDuplexStream<RaftBatch, RaftAck>, hello: RaftHello | undefined): InboundStream {
    this.#running();
    const from = hello?.from;
    if (hello === undefined || from === undefined || from.raftId === 0) {
      throw new Refusal(status.INVALID_ARGUMENT, "a stream begins with a hello");
    }
    if (hello.clusterId !== this.#options.clusterId) throw this.#otherCluster();
    const { self } = this.#options;
    if (hello.to !== self.raftId) {
      throw new Refusal(status.NOT_FOUND, `member ${self.raftId} lives here, not ${hello.to}`);
    }
    if (this.#deps.nodeIdOf !== null && this.#deps.nodeIdOf(call) !== from.nodeId) {
      throw new Refusal(status.PERMISSION_DENIED, "the certificate is another node's");
    }
    const stream: InboundStream = { peer: { ...from }, call, batches: 0 };
    const old = this.#streams.get(from.raftId);
    this.#streams.set(from.raftId, stream);
    old?.call.end();
    this.#deps.onHello(stream.peer);
    return stream;
  }

  #receive(stream: InboundStream, batch: RaftBatch): void {
    const handler = this.#running();
    stream.batches += 1;
    this.#deps.onHeard(stream.peer.raftId);
    for (const wire of batch.messages) {
      const message = this.#check(stream.peer.raftId, wire);
      if (message === null) this.refused += 1;
      else {
        this.received += 1;
        handler.onMessage(message);
      }
    }
    if (batch.messages.length === 0) stream.call.write({ batches: stream.batches });
  }

  /** Null for a message that is not what it claims to be. Snapshots have a call of their own. */
  #check(from: RaftId, wire: WireMessage): Message | null {
    const message = decodeMessage(wire);
    if (message === null || message.kind === "snap") return null;
    const addressed = message.to === this.#options.self.raftId && message.from === from;
    return addressed ? message : null;
  }

  #onClosed(stream: InboundStream | null): void {
    if (stream === null) return;
    const { raftId } = stream.peer;
    if (this.#streams.get(raftId) !== stream) return;
    this.#streams.delete(raftId);
    this.#handler?.onPeerLost(raftId);
  }

  #checkSnapshot(call: AnyCall, message: Message): void {
    this.#running();
    if (message.kind !== "snap" || message.snapshot === null) {
      throw new Refusal(status.INVALID_ARGUMENT, "a snapshot is announced by a snap message");
    }
    if (message.to !== this.#options.self.raftId) {
      throw new Refusal(status.NOT_FOUND, `member ${message.to} does not live here`);
    }
    const known = this.#streams.get(message.from);
    if (this.#deps.nodeIdOf !== null && known?.peer.nodeId !== this.#deps.nodeIdOf(call)) {
      throw new Refusal(status.PERMISSION_DENIED, "the snapshot is not from the peer it names");
    }
  }

  #watch(call: ServerReadableStream<SnapshotChunk, unknown>): { feed(): void; stop(): void } {
    const arm = () =>
      this.#deps.clock.setTimer("raft snapshot", SNAPSHOT_IDLE_MS, () => {
        call.destroy(new Refusal(status.DEADLINE_EXCEEDED, "the sender fell silent"));
      });
    let timer = arm();
    return {
      feed: () => {
        timer.cancel();
        timer = arm();
      },
      stop: () => timer.cancel(),
    };
  }

  #refuse(error: unknown): Refusal {
    if (error instanceof Refusal) {
      this.#deps.log.debug("raft call refused", { reason: error.message });
      return error;
    }
    this.#deps.log.warn("raft call failed", { error: errorMessage(error) });
    return new Refusal(status.INTERNAL, errorMessage(error));
  }
}
