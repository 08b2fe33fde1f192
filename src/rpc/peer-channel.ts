import { createSecureContext, type PeerCertificate, type SecureContext } from "node:tls";
import {
  Channel,
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientOptions,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ClientWritableStream,
  connectivityState,
  Metadata,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { newDeferred, withSignal } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import { formatHostPort, parseHostPort } from "./address.ts";
import { connectError } from "./connect-errors.ts";
import type { Method } from "./handlers.ts";
import { TLS_BASE } from "./listener.ts";
import { NodeCredentials, SERVER_NAME } from "./node-credentials.ts";
import { fromGrpcError, isServersWord } from "./status.ts";
import { pump, readAll, writeOne } from "./streams.ts";

/** The client's side of the cluster port, per channel. */
export const CLIENT_LIMITS = {
  /** TCP: a kernel answers at once, however busy its host is. */
  connectTimeoutMs: 2_000,
  /** TLS. */
  handshakeTimeoutMs: 2_000,
  callTimeoutMs: 10_000,
  /** A silent connection is pinged this often and dropped when no answer comes. */
  keepaliveMs: 5_000,
  keepaliveTimeoutMs: 3_000,
  /** Between attempts to connect again, with grpc-js' jitter. */
  minReconnectMs: 50,
  maxReconnectMs: 400,
  /** A channel without calls gives its connection up after this. */
  idleMs: 5 * 60_000,
  maxMessageBytes: 4 * 1024 * 1024,
  maxSessionMb: 256,
  /**
   * What of a call is kept to send it again when the server refused it unseen. Until this is full
   * grpc-js takes messages faster than the network does, so it is also a bound on that.
   */
  retryBufferBytes: 64 * 1024,
} as const;

/** How grpc-js' resolver begins its error. */
const NO_SUCH_NAME = "Name resolution failed";
/** What grpc-js says of a server that answers in another protocol over HTTP/2. */
const NO_GRPC = /ended without gRPC status|Received HTTP status code/;

export type ClientLimits = { readonly [K in keyof typeof CLIENT_LIMITS]: number };

export interface ChannelTls extends TlsMaterial {
  readonly verifyPeer: (cert: PeerCertificate) => Error | undefined;
  /** Made of the same material by `secureContextOf`; absent: made anew, which takes milliseconds. */
  readonly context?: SecureContext;
}

export interface TlsMaterial {
  /** Roots to accept. Null accepts any certificate: for asking an unknown manager for its root. */
  readonly caPem: string | null;
  /** Null shows no certificate. */
  readonly own: { readonly certPem: string; readonly keyPem: string } | null;
}

export interface PeerChannelOptions {
  /** host:port. */
  readonly addr: string;
  readonly tls: ChannelTls;
  readonly limits: ClientLimits;
}

export interface CallOptions {
  readonly signal: AbortSignal;
  /** Default CLIENT_LIMITS.callTimeoutMs; for streams: none. */
  readonly timeoutMs?: number;
  readonly metadata?: Metadata;
}

/** One stream both ways. Ends of either side are separate. */
export interface Duplex<Req, Res> {
  /** Resolves when there is room for more. */
  send(message: Req): Promise<void>;
  /** No more requests. */
  end(): void;
  /** To be read once. Ends when the server has ended well, throws its SwarmError otherwise. */
  readonly responses: AsyncIterable<Res>;
  /** Gives the call up. */
  cancel(): void;
}

/** The constructor of a generated client. */
export type ClientConstructor<C extends Client> = new (
  address: string,
  credentials: ChannelCredentials,
  options?: Partial<ClientOptions>,
) => C;

/** One manager's address: a grpc-js channel that knows why it could not connect. */
export class PeerChannel {
  readonly addr: string;
  readonly #channel: Channel;
  readonly #client: Client;
  readonly #credentials: NodeCredentials;
  readonly #clock: Clock;
  readonly #limits: ClientLimits;
  #failure: SwarmError | null = null;
  #calls = 0;
  #closing = false;

  constructor(options: PeerChannelOptions, deps: { readonly clock: Clock }) {
    const addr = parseHostPort(options.addr);
    this.addr = formatHostPort(addr);
    this.#clock = deps.clock;
    this.#limits = options.limits;
    this.#credentials = new NodeCredentials(
      {
        addr,
        secureContext: options.tls.context ?? secureContextOf(options.tls),
        verifyChain: options.tls.caPem !== null,
        verifyPeer: options.tls.verifyPeer,
        connectTimeoutMs: options.limits.connectTimeoutMs,
        handshakeTimeoutMs: options.limits.handshakeTimeoutMs,
      },
      {
        clock: deps.clock,
        onFailure: (stage, error) => {
          this.#failure = connectError(this.addr, stage, error);
        },
        onSocket: socket => this.#watch(socket),
      },
    );
    this.#channel = new Channel(this.addr, this.#credentials, channelOptions(options.limits));
    this.#client = new Client(this.addr, this.#credentials, { channelOverride: this.#channel });
  }

  /** A generated client on this channel. */
  client<C extends Client>(clientClass: ClientConstructor<C>): C {
    return new clientClass(this.addr, this.#credentials, { channelOverride: this.#channel });
  }

  /** One call. Rejects with the server's SwarmError, or one that says why it was not reached. */
  unary<Req, Res>(method: Method<Req, Res>, request: Req, options: CallOptions): Promise<Res> {
    const { signal, timeoutMs = this.#limits.callTimeoutMs } = options;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const onAbort = (): void => call.cancel();
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        options.metadata ?? new Metadata(),
        { deadline: this.#clock.nowMs() + timeoutMs },
        (error, response) => {
          signal.removeEventListener("abort", onAbort);
          if (error === null && response !== undefined) resolve(response);
          else if (signal.aborted) reject(signal.reason);
          else reject(this.explain(error));
        },
      );
      this.#count(call);
      signal.addEventListener("abort", onAbort, { once: true });
    });
  }

  /** A bidirectional stream. */
  duplex<Req, Res>(method: Method<Req, Res>, options: CallOptions): Duplex<Req, Res> {
    const call = this.#client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      options.metadata ?? new Metadata(),
      this.#streamOptions(options),
    );
    this.#count(call);
    return this.#wrap(call, options.signal);
  }

  /** A stream from the server. */
  async *serverStream<Req, Res>(
    method: Method<Req, Res>,
    request: Req,
    options: CallOptions,
  ): AsyncGenerator<Res, void> {
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      options.metadata ?? new Metadata(),
      this.#streamOptions(options),
    );
    this.#count(call);
    let failure: SwarmError | null = null;
    call.on("error", (error: ServiceError) => {
      failure = this.explain(error);
    });
    try {
      yield* readAll<Res>(call, options.signal, () => failure);
    } finally {
      call.cancel();
    }
  }

  /** Sends a stream, waiting where the server is slower; resolves with its one answer. */
  async clientStream<Req, Res>(
    method: Method<Req, Res>,
    requests: AsyncIterable<Req>,
    options: CallOptions,
  ): Promise<Res> {
    const answer = newDeferred<Res>();
    const ended = new AbortController();
    const call = this.#client.makeClientStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      options.metadata ?? new Metadata(),
      this.#streamOptions(options),
      (error, response) => {
        if (error === null && response !== undefined) answer.resolve(response);
        else answer.reject(this.explain(error));
        // An early answer ends the sending too.
        ended.abort(new SwarmError("canceled", "the stream has ended"));
      },
    );
    this.#count(call);
    try {
      const limit = AbortSignal.any([options.signal, ended.signal]);
      await pump(requests, call, limit).catch((error: unknown) => {
        if (!ended.signal.aborted) throw error;
      });
      call.end();
      return await withSignal(answer.promise, options.signal);
    } catch (error) {
      call.cancel();
      answer.promise.catch(() => undefined);
      throw error;
    }
  }

  /**
   * Takes no new calls; running ones go on to their end, and the connection with the last of them:
   * grpc-js would cut a closed channel's at the next ping.
   */
  close(): void {
    this.#closing = true;
    if (this.#calls === 0) this.#channel.close();
  }

  #count(
    call: ClientUnaryCall | ClientReadableStream<unknown> | ClientWritableStream<never>,
  ): void {
    this.#calls += 1;
    call.once("status", () => {
      this.#calls -= 1;
      if (this.#closing && this.#calls === 0) this.#channel.close();
    });
  }

  #streamOptions(options: CallOptions): { deadline?: number } {
    return options.timeoutMs === undefined
      ? {}
      : { deadline: this.#clock.nowMs() + options.timeoutMs };
  }

  #wrap<Req, Res>(call: ClientDuplexStream<Req, Res>, signal: AbortSignal): Duplex<Req, Res> {
    let failure: SwarmError | null = null;
    const ended = new AbortController();
    const finish = (error: SwarmError): void => {
      signal.removeEventListener("abort", onAbort);
      ended.abort(error);
    };
    const onAbort = (): void => {
      ended.abort(signal.reason);
      call.cancel();
    };
    call.on("error", (error: ServiceError) => {
      failure = this.explain(error);
      finish(failure);
    });
    call.on("status", () => finish(new SwarmError("canceled", "the stream has ended")));
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    return {
      send: message => writeOne(call, message, ended.signal),
      end: () => call.end(),
      responses: readAll<Res>(call, signal, () => failure),
      cancel: () => call.cancel(),
    };
  }

  /**
   * A grpc-js error as a SwarmError: the server's own, or why no connection could be made
   * (unavailable: nothing was done), or that the connection went under the call (unknown_outcome).
   */
  explain(error: ServiceError | null): SwarmError {
    if (error === null) return new SwarmError("internal", `${this.addr} answered with nothing`);
    if (isServersWord(error)) return fromGrpcError(error);
    if (error.code === status.UNAVAILABLE && this.#failure !== null) {
      const { code, message, details } = this.#failure;
      return new SwarmError(code, message, details, error);
    }
    if (NO_GRPC.test(error.details)) {
      const text = `${this.addr} answers, but not as a swarm manager (it does not speak gRPC)`;
      return new SwarmError("unavailable", text, { addr: this.addr }, error);
    }
    if (error.code === status.UNAVAILABLE && error.details.startsWith(NO_SUCH_NAME)) {
      const cause = Object.assign(new Error(error.details), { code: "ENOTFOUND" });
      return connectError(this.addr, "tcp", cause);
    }
    if (error.code === status.UNAVAILABLE || error.code === status.CANCELLED) {
      const message = `the connection to ${this.addr} was lost before the answer`;
      return new SwarmError("unknown_outcome", message, { addr: this.addr }, error);
    }
    if (error.code === status.DEADLINE_EXCEEDED) {
      const message = `${this.addr} did not answer in time`;
      return new SwarmError("deadline_exceeded", message, { addr: this.addr }, error);
    }
    return fromGrpcError(error);
  }

  /** Notes whether a fresh connection lives long enough for HTTP/2 to begin. */
  #watch(socket: { once(event: "close", listener: () => void): unknown }): void {
    let begun = false;
    const state = this.#channel.getConnectivityState(false);
    this.#channel.watchConnectivityState(state, Infinity, error => {
      if (error || this.#channel.getConnectivityState(false) !== connectivityState.READY) return;
      begun = true;
      this.#failure = null;
    });
    socket.once("close", () => {
      if (!begun) this.#failure = connectError(this.addr, "http2", new Error("closed"));
    });
  }
}

/** May serve any number of channels. */
export function secureContextOf(tls: TlsMaterial): SecureContext {
  return createSecureContext({
    ...TLS_BASE,
    // An empty list, not none: none would mean the public roots.
    ca: tls.caPem ?? [],
    ...(tls.own === null ? {} : { cert: tls.own.certPem, key: tls.own.keyPem }),
  });
}

function channelOptions(limits: ClientLimits): ChannelOptions {
  return {
    "grpc.ssl_target_name_override": SERVER_NAME,
    "grpc.default_authority": SERVER_NAME,
    "grpc.enable_http_proxy": 0,
    "grpc.enable_retries": 0,
    "grpc.per_rpc_retry_buffer_size": limits.retryBufferBytes,
    "grpc.service_config_disable_resolution": 1,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_channelz": 0,
    "grpc.keepalive_time_ms": limits.keepaliveMs,
    "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.initial_reconnect_backoff_ms": limits.minReconnectMs,
    "grpc.min_reconnect_backoff_ms": limits.minReconnectMs,
    "grpc.max_reconnect_backoff_ms": limits.maxReconnectMs,
    "grpc.client_idle_timeout_ms": limits.idleMs,
    "grpc.max_receive_message_length": limits.maxMessageBytes,
    "grpc.max_send_message_length": limits.maxMessageBytes,
    "grpc-node.max_session_memory": limits.maxSessionMb,
  };
}
