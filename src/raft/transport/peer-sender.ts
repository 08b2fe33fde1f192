import type { ClientDuplexStream } from "@grpc/grpc-js";
import { Backoff } from "../../base/backoff.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { Rng } from "../../base/rng.ts";
import type { RaftAck, RaftBatch, RaftClient } from "../../rpc/gen/swarmd/v1/raft.ts";
import type { Message } from "../core/types.ts";
import type { PeerInfo } from "../ports.ts";
import { type EntryPacker, encodeMessage, encodePeer } from "./codec.ts";
import { SendQueue } from "./send-queue.ts";

const RECONNECT_BASE_MS = 50;
const RECONNECT_MAX_MS = 1000;
/** An empty batch that asks for an acknowledgement goes out this often. */
const PING_EVERY_MS = 500;
/** A peer of which nothing was heard for this long is given up and dialled anew. */
const SILENT_AFTER_MS = 2500;
/** The same if it is heard but acknowledges nothing: large appends may be in the way. */
const NO_ACK_AFTER_MS = 10_000;
/** A peer counts as reachable if it answered within this time. */
const REACHABLE_WITHIN_MS = 2000;
/** A later timer than this means that this process was paused: nothing is known of the peer. */
const PAUSED_AFTER_MS = 1000;
/**
 * The news of a commit alone waits so long for a message to go with: of writes that follow one
 * another at once, each saves a message and its answer.
 */
const NEWS_WAIT_MS = 2;
/** What is queued for a removed member still goes out within this time. */
const LINGER_MS = 500;

export interface SenderOptions {
  readonly clusterId: string;
  readonly self: PeerInfo;
  readonly peer: PeerInfo;
}

export interface SenderDeps {
  readonly dial: (peer: PeerInfo) => RaftClient;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Logger;
  readonly packer: EntryPacker;
  readonly onUnreachable: () => void;
}

export interface SenderCounters {
  sentMessages: number;
  sentBatches: number;
  droppedMessages: number;
  connects: number;
}

interface Connection {
  readonly client: RaftClient;
  readonly stream: ClientDuplexStream<RaftBatch, RaftAck>;
  /** The stream's buffer is full: wait for its drain. */
  blocked: boolean;
  lastAckMs: number;
  /** An acknowledgement, or any message from the peer on its own stream. */
  lastHeardMs: number;
}

/** One long-lived stream to one peer, dialled again whenever it breaks. */
export class PeerSender {
  readonly #options: SenderOptions;
  readonly #deps: SenderDeps;
  readonly #counters: SenderCounters;
  readonly #queue = new SendQueue();
  readonly #backoff: Backoff;
  #connection: Connection | null = null;
  #timer: Timer | null = null;
  #news: Timer | null = null;
  #flushing = false;
  #closed = false;
  #lastHeardMs = Number.NEGATIVE_INFINITY;

  constructor(options: SenderOptions, deps: SenderDeps, counters: SenderCounters) {
    this.#options = options;
    this.#deps = deps;
    this.#counters = counters;
    this.#backoff = new Backoff({ baseMs: RECONNECT_BASE_MS, maxMs: RECONNECT_MAX_MS }, deps.rng);
    this.#connect();
  }

  get peer(): PeerInfo {
    return this.#options.peer;
  }

  get reachable(): boolean {
    return this.#deps.clock.monoMs() - this.#lastHeardMs <= REACHABLE_WITHIN_MS;
  }

  send(message: Message): void {
    if (this.#connection === null || !this.#queue.push(message)) {
      this.#counters.droppedMessages += 1;
      this.#deps.onUnreachable();
      return;
    }
    if (this.#queue.canWait) this.#flushLater();
    else this.#flushSoon();
  }

  /** The peer is known to be up: no need to wait for the backoff. */
  kick(): void {
    if (this.#closed || this.#connection !== null) return;
    this.#timer?.cancel();
    this.#connect();
  }

  /** The peer has sent something on its own stream. */
  heard(): void {
    if (this.#connection === null) return;
    this.#lastHeardMs = this.#deps.clock.monoMs();
    this.#connection.lastHeardMs = this.#lastHeardMs;
  }

  /** Sends what is queued, then closes; at once when the peer does not take it. */
  linger(): void {
    this.#flush();
    if (this.#connection === null || this.#queue.size === 0) {
      this.#endGracefully();
      return;
    }
    this.#timer?.cancel();
    this.#timer = this.#deps.clock.setTimer("raft linger", LINGER_MS, () => this.close());
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#drop();
  }

  #endGracefully(): void {
    this.#closed = true;
    this.#timer?.cancel();
    const connection = this.#connection;
    this.#connection = null;
    this.#news?.cancel();
    this.#news = null;
    if (connection === null) return;
    connection.stream.end();
    this.#deps.clock.setTimer("raft linger", LINGER_MS, () => connection.client.close());
  }

  #connect(): void {
    const { self, clusterId, peer } = this.#options;
    this.#counters.connects += 1;
    const client = this.#dial();
    if (client === null) return;
    const stream = client.stream();
    const nowMs = this.#deps.clock.monoMs();
    const connection: Connection = {
      client,
      stream,
      blocked: false,
      lastAckMs: nowMs,
      lastHeardMs: nowMs,
    };
    this.#connection = connection;
    const broken = (error: unknown): void => this.#onBroken(connection, error);
    stream.on("data", () => this.#onAck(connection));
    stream.on("error", broken);
    stream.on("end", () => broken(new Error("the peer ended the stream")));
    stream.on("drain", () => {
      connection.blocked = false;
      this.#flush();
    });
    stream.write({
      hello: { clusterId, to: peer.raftId, from: encodePeer(self) },
      messages: [],
    });
    this.#armPing(connection);
  }

  #onAck(connection: Connection): void {
    if (this.#connection !== connection) return;
    connection.lastAckMs = this.#deps.clock.monoMs();
    this.#backoff.reset();
    this.heard();
  }

  #onBroken(connection: Connection, error: unknown): void {
    if (this.#connection !== connection) return;
    this.#deps.log.debug("raft stream broke", { error: errorMessage(error) });
    this.#drop();
    this.#deps.onUnreachable();
    this.#connectLater();
  }

  /** Null when there is nothing to dial with at the moment, such as during a shutdown. */
  #dial(): RaftClient | null {
    try {
      return this.#deps.dial(this.#options.peer);
    } catch (error) {
      this.#deps.log.debug("raft peer cannot be dialled", { error: errorMessage(error) });
      this.#connectLater();
      return null;
    }
  }

  #connectLater(): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    const delayMs = this.#backoff.nextMs();
    this.#timer = this.#deps.clock.setTimer("raft reconnect", delayMs, () => this.#connect());
  }

  /** Forgets the connection and what was queued for it: the core sends again what is needed. */
  #drop(): void {
    const connection = this.#connection;
    this.#connection = null;
    this.#news?.cancel();
    this.#news = null;
    this.#counters.droppedMessages += this.#queue.clear();
    this.#lastHeardMs = Number.NEGATIVE_INFINITY;
    if (connection === null) return;
    connection.stream.cancel();
    connection.client.close();
  }

  #armPing(connection: Connection): void {
    const { clock } = this.#deps;
    const dueMs = clock.monoMs() + PING_EVERY_MS;
    this.#timer?.cancel();
    this.#timer = clock.setTimer("raft ping", PING_EVERY_MS, () => {
      const nowMs = clock.monoMs();
      if (nowMs - dueMs > PAUSED_AFTER_MS) {
        connection.lastAckMs = nowMs;
        connection.lastHeardMs = nowMs;
      }
      if (isSilent(connection, nowMs)) {
        this.#onBroken(connection, new Error("the peer does not answer"));
        return;
      }
      if (!connection.blocked) this.#write(connection, []);
      this.#armPing(connection);
    });
  }

  #flushLater(): void {
    this.#news ??= this.#deps.clock.setTimer("raft news", NEWS_WAIT_MS, () => {
      this.#news = null;
      this.#flush();
    });
  }

  /** Everything sent in the same turn goes into the same batch. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    this.#news?.cancel();
    this.#news = null;
    const connection = this.#connection;
    if (connection === null) return;
    while (!connection.blocked && this.#queue.size > 0) {
      this.#write(connection, this.#queue.take());
    }
  }

  #write(connection: Connection, messages: readonly Message[]): void {
    const encoded = messages
      .map(message => encodeMessage(message, this.#deps.packer))
      .filter(message => message !== null);
    this.#counters.sentMessages += encoded.length;
    this.#counters.sentBatches += 1;
    connection.blocked = !connection.stream.write({ hello: undefined, messages: encoded });
  }
}

function isSilent({ lastAckMs, lastHeardMs }: Connection, nowMs: number): boolean {
  return nowMs - lastHeardMs > SILENT_AFTER_MS || nowMs - lastAckMs > NO_ACK_AFTER_MS;
}
