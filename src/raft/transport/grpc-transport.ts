import { type ChannelOptions, Metadata, status } from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import { errorMessage, SwarmError } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Rng } from "../../base/rng.ts";
import type { ProbeReply, RaftClient, RaftServer } from "../../rpc/gen/swarmd/v1/raft.ts";
import type { Message, RaftId } from "../core/types.ts";
import type { PeerInfo } from "../ports.ts";
import { EntryPacker } from "./codec.ts";
import { type AnyCall, Inbound } from "./inbound.ts";
import { PeerSender, type SenderCounters } from "./peer-sender.ts";
import type {
  ProbeAnswer,
  RaftTransport,
  TransportHandler,
  TransportStats,
} from "./raft-transport.ts";
import { Refusal } from "./refusal.ts";
import { sendSnapshot } from "./snapshot-sender.ts";

/**
 * What `dial` must set on its channels: a pool of their own, so that a dead connection is replaced
 * and not found again, quick reconnects, and keepalive so that a silent peer is noticed.
 */
export const RAFT_CHANNEL_OPTIONS = {
  "grpc.use_local_subchannel_pool": 1,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1000,
  "grpc.keepalive_time_ms": 1000,
  "grpc.keepalive_timeout_ms": 2000,
  "grpc.keepalive_permit_without_calls": 1,
} as const satisfies ChannelOptions;

/** A dial-back must be answered within this time (etcd's health check before a join: 5 s). */
export const PROBE_TIMEOUT_MS = 5000;
/** Senders that introduced themselves but are no members yet, or no more. */
const MAX_INTRODUCED = 32;

export interface GrpcTransportOptions {
  readonly clusterId: string;
  readonly self: PeerInfo;
}

export interface GrpcTransportDeps {
  /** A new client with a channel of its own (RAFT_CHANNEL_OPTIONS) to the peer's cluster port. */
  readonly dial: (peer: PeerInfo) => RaftClient;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Logger;
  /** The node id of the caller's certificate; null when connections carry none (tests). */
  readonly nodeIdOf: ((call: AnyCall) => string) | null;
}

interface Move {
  readonly from: string;
  readonly to: PeerInfo;
}

/** Only the node itself can say where it is. */
function hasMoved(known: PeerInfo, now: PeerInfo): boolean {
  return known.nodeId === now.nodeId && known.addr !== now.addr && now.addr !== "";
}

/** `RaftTransport` over gRPC: one stream a direction for every pair of members. */
export class GrpcRaftTransport implements RaftTransport {
  readonly #options: GrpcTransportOptions;
  readonly #deps: GrpcTransportDeps;
  readonly #inbound: Inbound;
  readonly #senders = new Map<RaftId, PeerSender>();
  readonly #packer = new EntryPacker();
  readonly #introduced = new Map<RaftId, PeerInfo>();
  /** Members that speak from another address than the log has for them so far. */
  readonly #moved = new Map<RaftId, Move>();
  readonly #counters: SenderCounters = {
    sentMessages: 0,
    sentBatches: 0,
    droppedMessages: 0,
    connects: 0,
  };
  #handler: TransportHandler | null = null;
  #members: ReadonlySet<RaftId> = new Set();

  constructor(options: GrpcTransportOptions, deps: GrpcTransportDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#inbound = new Inbound(options, {
      clock: deps.clock,
      log: deps.log,
      nodeIdOf: deps.nodeIdOf,
      onHello: peer => this.#onHello(peer),
      onHeard: raftId => this.#senders.get(raftId)?.heard(),
    });
  }

  /** The receiving side, for `raftServiceHandlers`. */
  get inbound(): Inbound {
    return this.#inbound;
  }

  start(handler: TransportHandler): void {
    this.#handler = handler;
    this.#inbound.start(handler);
  }

  setPeers(peers: readonly PeerInfo[]): void {
    const wanted = new Map(peers.map(peer => [peer.raftId, this.#whereNow(peer)]));
    wanted.delete(this.#options.self.raftId);
    this.#members = new Set(wanted.keys());
    for (const [raftId, sender] of this.#senders) {
      if (wanted.get(raftId)?.addr === sender.peer.addr) continue;
      this.#senders.delete(raftId);
      sender.linger();
    }
    for (const peer of wanted.values()) this.#introduced.delete(peer.raftId);
    for (const peer of wanted.values()) this.#senderTo(peer);
  }

  send(message: Message): void {
    const sender = this.#senderOf(message.to);
    if (sender !== undefined) {
      sender.send(message);
      return;
    }
    this.#counters.droppedMessages += 1;
    this.#handler?.onUnreachable(message.to);
  }

  async sendSnapshot(
    message: Message,
    chunks: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    const peer = this.#senderOf(message.to)?.peer;
    if (peer === undefined) {
      throw new SwarmError("unavailable", `the address of member ${message.to} is not known`);
    }
    const { clock } = this.#deps;
    const job = { clusterId: this.#options.clusterId, message, chunks };
    await sendSnapshot(job, { dial: () => this.#deps.dial(peer), clock }, signal);
  }

  async probe(peer: PeerInfo, signal: AbortSignal): Promise<ProbeAnswer> {
    const client = this.#deps.dial(peer);
    try {
      return await askWho(client, this.#options.clusterId, {
        deadline: new Date(this.#deps.clock.nowMs() + PROBE_TIMEOUT_MS),
        signal,
      });
    } catch (error) {
      throw new SwarmError(
        "unavailable",
        `no manager of this cluster answers at ${peer.addr}: ${errorMessage(error)}`,
        { addr: peer.addr },
        error,
      );
    } finally {
      client.close();
    }
  }

  reachable(raftId: RaftId): boolean {
    return this.#senders.get(raftId)?.reachable ?? false;
  }

  stats(): TransportStats {
    const { received, refused } = this.#inbound;
    return { ...this.#counters, receivedMessages: received, refusedMessages: refused };
  }

  close(): Promise<void> {
    this.#handler = null;
    this.#inbound.close();
    for (const sender of this.#senders.values()) sender.linger();
    this.#senders.clear();
    return Promise.resolve();
  }

  #onHello(peer: PeerInfo): void {
    const sender = this.#senders.get(peer.raftId);
    if (this.#members.has(peer.raftId)) {
      if (sender !== undefined && hasMoved(sender.peer, peer)) this.#follow(sender, peer);
      else sender?.kick();
      return;
    }
    sender?.kick();
    if (this.#introduced.size >= MAX_INTRODUCED) return;
    this.#introduced.set(peer.raftId, peer);
  }

  /**
   * The member restarted on another address. The log will say so, but perhaps only with this
   * member's vote: answers must reach it first.
   */
  #follow(sender: PeerSender, peer: PeerInfo): void {
    const { addr } = sender.peer;
    this.#deps.log.info("a manager has moved", { peer: peer.raftId, from: addr, to: peer.addr });
    this.#moved.set(peer.raftId, { from: this.#moved.get(peer.raftId)?.from ?? addr, to: peer });
    this.#senders.delete(peer.raftId);
    sender.linger();
    this.#senderTo(peer);
  }

  /** What the log says, unless the member has moved since. */
  #whereNow(peer: PeerInfo): PeerInfo {
    const move = this.#moved.get(peer.raftId);
    if (move === undefined) return peer;
    if (move.from === peer.addr) return move.to;
    this.#moved.delete(peer.raftId);
    return peer;
  }

  /** A member, or one that has introduced itself: a joiner must answer before it knows anybody. */
  #senderOf(raftId: RaftId): PeerSender | undefined {
    const sender = this.#senders.get(raftId);
    if (sender !== undefined) return sender;
    const introduced = this.#introduced.get(raftId);
    return introduced === undefined ? undefined : this.#senderTo(introduced);
  }

  #senderTo(peer: PeerInfo): PeerSender {
    const present = this.#senders.get(peer.raftId);
    if (present !== undefined) return present;
    const { dial, clock, rng, log } = this.#deps;
    const sender = new PeerSender(
      { clusterId: this.#options.clusterId, self: this.#options.self, peer },
      {
        dial,
        clock,
        rng,
        log: log.child({ peer: peer.raftId, addr: peer.addr }),
        packer: this.#packer,
        onUnreachable: () => this.#handler?.onUnreachable(peer.raftId),
      },
      this.#counters,
    );
    this.#senders.set(peer.raftId, sender);
    return sender;
  }
}

interface AskOptions {
  readonly deadline: Date;
  readonly signal: AbortSignal;
}

function askWho(client: RaftClient, clusterId: string, options: AskOptions): Promise<ProbeReply> {
  return new Promise((resolve, reject) => {
    const { deadline, signal } = options;
    const onAbort = (): void => call.cancel();
    const call = client.probe(
      { clusterId, snapshot: undefined },
      new Metadata(),
      { deadline },
      (error, reply) => {
        signal.removeEventListener("abort", onAbort);
        if (error === null) resolve(reply);
        else reject(error);
      },
    );
    if (signal.aborted) call.cancel();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}

/**
 * The handlers of the `Raft` service. They may be registered before there is a member: while
 * `current` returns null, callers are told to come again.
 */
export function raftServiceHandlers(current: () => GrpcRaftTransport | null): RaftServer {
  const inbound = (): Inbound => {
    const transport = current();
    if (transport === null) throw new Refusal(status.UNAVAILABLE, "Raft is not running here");
    return transport.inbound;
  };
  return {
    stream: call => {
      try {
        inbound().stream(call);
      } catch (error) {
        call.emit("error", error);
      }
    },
    installSnapshot: (call, callback) => {
      Promise.resolve()
        .then(() => inbound().installSnapshot(call))
        .then(
          () => callback(null, {}),
          (error: unknown) => callback(toStatus(error)),
        );
    },
    probe: (call, callback) => {
      try {
        callback(null, inbound().probe(call));
      } catch (error) {
        callback(toStatus(error));
      }
    },
  };
}

function toStatus(error: unknown): { readonly code: status; readonly details: string } {
  const code = error instanceof Refusal ? error.code : status.INTERNAL;
  return { code, details: errorMessage(error) };
}
