import {
  experimental,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServerOptions,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Clock, Timer } from "../base/clock.ts";
import { assert, errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { type CallerFacts, refusalOf } from "./access.ts";
import { parseHostPort } from "./address.ts";
import type { CallContext, CallScope, GrpcCall } from "./call.ts";
import { type Handlers, isHandler, toGrpcHandler } from "./handlers.ts";
import { RPC_LIMITS, type RpcLimits } from "./limits.ts";
import { type Accepted, TlsListener } from "./listener.ts";
import type { Access, IdentitySource, PeerIdentity } from "./ports.ts";
import { isBug, toGrpcStatus } from "./status.ts";

export interface RpcServerOptions {
  /** host:port to listen on; port 0 takes a free one. */
  readonly listenAddr: string | { readonly host: string; readonly port: number };
  /** Tests and unusual networks only. */
  readonly limits?: Partial<RpcLimits>;
}

export interface RpcServerDeps {
  readonly identity: IdentitySource;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether the node was removed from the cluster. Call `recheck` when an answer changes. */
  readonly isRemoved: (nodeId: string) => boolean;
  /** Whether the node's manager certificate counts as a worker's by now. Default: never. */
  readonly isDemoted?: (nodeId: string) => boolean;
}

/** An open connection as handlers and checks see it. */
interface Connection extends Accepted {
  /** Calls whose handler streams, to be told when the server closes. */
  readonly streams: Set<AbortController>;
}

/**
 * Who made a call. Filled by the interceptor of the call's own connection, under the metadata
 * object that grpc-js hands to the handler: nothing a caller sends can stand in for it.
 */
const callers = new WeakMap<object, Connection>();

/** The certificate's identity behind a call, null when the caller presented none. */
export function peerOf(call: Pick<GrpcCall, "metadata">): PeerIdentity | null {
  return callers.get(call.metadata)?.peer ?? null;
}

/**
 * gRPC on the cluster port. Connections arrive from our own TLS listener, already identified, and
 * go to one of two grpc-js servers: members of the cluster to one with room, strangers to one with
 * tight bounds on message size, streams, memory and age.
 */
export class RpcServer {
  readonly #options: RpcServerOptions;
  readonly #deps: RpcServerDeps;
  readonly #limits: RpcLimits;
  readonly #members: Server;
  readonly #strangers: Server;
  readonly #access = new Map<string, Access>();
  readonly #connections = new Set<Connection>();
  #listener: TlsListener | null = null;
  #sweep: Timer | null = null;
  #closing = false;
  #onEmpty: () => void = () => undefined;

  constructor(options: RpcServerOptions, deps: RpcServerDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#limits = { ...RPC_LIMITS, ...options.limits };
    this.#members = new Server(memberOptions(this.#limits));
    this.#strangers = new Server(strangerOptions(this.#limits));
  }

  /**
   * Adds a service, before or after `start`. `access` is keyed by the definition's method names
   * (`getRootCa`); a method without an entry is refused to all.
   */
  addService<S extends ServiceDefinition>(
    definition: S,
    handlers: Handlers<S>,
    access: Readonly<Record<string, Access>>,
  ): void {
    const implementation: UntypedServiceImplementation = {};
    for (const [name, method] of Object.entries(definition)) {
      const handler: unknown = Reflect.get(handlers, name);
      assert(isHandler(handler), `a handler for ${method.path}`);
      implementation[name] = toGrpcHandler(method, handler, this.#scope);
    }
    this.#members.addService(definition, implementation);
    this.#strangers.addService(definition, implementation);
    this.#grant(definition, access);
  }

  #grant(definition: ServiceDefinition, access: Readonly<Record<string, Access>>): void {
    for (const [name, method] of Object.entries(definition)) {
      const entry = access[name];
      if (entry !== undefined) this.#access.set(method.path, entry);
    }
  }

  /**
   * The same for handlers written against grpc-js itself, where streams must not pass through
   * iterators (Raft's). They map their own errors.
   */
  addNativeService(
    definition: ServiceDefinition,
    implementation: UntypedServiceImplementation,
    access: Readonly<Record<string, Access>>,
  ): void {
    this.#members.addService(definition, implementation);
    this.#strangers.addService(definition, implementation);
    this.#grant(definition, access);
  }

  /** Takes a service away: new calls are answered "unimplemented", running ones go on. */
  removeService(definition: ServiceDefinition): void {
    this.#members.removeService(definition);
    this.#strangers.removeService(definition);
    for (const method of Object.values(definition)) this.#access.delete(method.path);
  }

  /** Binds the port. Rejects with failed_precondition when it is taken; it may be tried again. */
  async start(): Promise<{ readonly port: number }> {
    assert(this.#listener === null, "a server starts once");
    const { listenAddr } = this.#options;
    const addr = typeof listenAddr === "string" ? parseHostPort(listenAddr) : listenAddr;
    const listener = new TlsListener(
      { addr, limits: this.#limits },
      {
        identity: this.#deps.identity,
        clock: this.#deps.clock,
        logger: this.#deps.logger,
        onConnection: accepted => this.#onConnection(accepted),
      },
    );
    const port = await listener.listen();
    this.#listener = listener;
    if (this.#closing) {
      listener.stop();
      throw new SwarmError("unavailable", "this manager is shutting down");
    }
    this.#scheduleSweep();
    return { port };
  }

  /** Connections open now, of one node or of all. */
  connectionCount(nodeId?: string): number {
    if (nodeId === undefined) return this.#connections.size;
    return [...this.#connections].filter(({ peer }) => peer?.nodeId === nodeId).length;
  }

  /**
   * Cuts the connections of nodes that were removed or whose certificate has ended. Their running
   * calls end with the reason, which has a moment to arrive.
   */
  recheck(): void {
    for (const connection of [...this.#connections]) {
      const refusal = refusalOf("anyone", this.#facts(connection));
      if (refusal === null) continue;
      const { peer, socket, streams } = connection;
      this.#deps.logger.info("closed a connection", { node: peer?.nodeId, why: refusal.message });
      const reason = new SwarmError(refusal.code, refusal.message);
      for (const controller of [...streams]) controller.abort(reason);
      this.#deps.clock.setTimer("rpc-farewell", this.#limits.farewellMs, () => socket.destroy());
    }
  }

  /**
   * Stops accepting, tells streaming handlers and peers to end, waits up to `graceMs` for calls in
   * flight and then cuts what is left.
   */
  async close(graceMs: number): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    this.#sweep?.cancel();
    this.#listener?.stop();
    const reason = new SwarmError("unavailable", "this manager is shutting down");
    for (const { streams } of this.#connections) {
      for (const controller of [...streams]) controller.abort(reason);
    }
    this.#members.tryShutdown(() => undefined);
    this.#strangers.tryShutdown(() => undefined);
    await this.#connectionsEnd(graceMs);
    this.#listener?.destroyAll();
    this.#members.forceShutdown();
    this.#strangers.forceShutdown();
  }

  #connectionsEnd(graceMs: number): Promise<void> {
    return new Promise(resolve => {
      if (this.#connections.size === 0 || graceMs <= 0) return resolve();
      const timer = this.#deps.clock.setTimer("rpc-close", graceMs, resolve);
      this.#onEmpty = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  #scheduleSweep(): void {
    this.#sweep = this.#deps.clock.setTimer("rpc-sweep", this.#limits.sweepMs, () => {
      this.recheck();
      this.#scheduleSweep();
    });
  }

  #onConnection(accepted: Accepted): void {
    const connection: Connection = { ...accepted, streams: new Set() };
    if (this.#closing) {
      accepted.socket.destroy();
      return;
    }
    this.#connections.add(connection);
    // A removed node is a stranger whose every call is refused: so it learns what became of it.
    const stranger = accepted.peer === null || this.#facts(connection).removed;
    const server = stranger ? this.#strangers : this.#members;
    const injector = server.createConnectionInjector(
      experimental.createServerCredentialsWithInterceptors(ServerCredentials.createInsecure(), [
        this.#guard(connection),
      ]),
    );
    accepted.socket.once("close", () => {
      this.#connections.delete(connection);
      injector.destroy();
      if (this.#connections.size === 0) this.#onEmpty();
    });
    injector.injectConnection(accepted.socket);
  }

  /** Checks every call of one connection before its first message is read. */
  #guard(connection: Connection): ServerInterceptor {
    return (method, call) =>
      new ServerInterceptingCall(call, {
        start: next =>
          next({
            onReceiveMetadata: (metadata, proceed) => {
              const refusal = refusalOf(this.#access.get(method.path), this.#facts(connection));
              if (refusal !== null) {
                call.sendStatus(toGrpcStatus(new SwarmError(refusal.code, refusal.message)));
                return;
              }
              callers.set(metadata, connection);
              proceed(metadata);
            },
          }),
      });
  }

  #facts(connection: Connection): CallerFacts {
    const { peer } = connection;
    const { isRemoved, isDemoted, clock } = this.#deps;
    return {
      peer,
      removed: peer !== null && isRemoved(peer.nodeId),
      demoted: peer?.role === "manager" && (isDemoted?.(peer.nodeId) ?? false),
      expired: connection.notAfterMs <= clock.nowMs(),
    };
  }

  readonly #scope: CallScope = {
    open: (call, streaming) => openCall(call, streaming),
    failed: (path, error) => this.#failed(path, error),
  };

  #failed(path: string, error: unknown): void {
    if (isBug(error)) {
      // A broken invariant ends the process: the caller's answer is not the place for it.
      queueMicrotask(() => {
        throw error;
      });
      return;
    }
    if (error instanceof SwarmError && error.code !== "internal") return;
    this.#deps.logger.error("call failed", { path, error: errorMessage(error) });
  }
}

function openCall(
  call: GrpcCall,
  streaming: boolean,
): { readonly context: CallContext; done(): void } {
  const connection = callers.get(call.metadata);
  assert(connection !== undefined, "a call reaches its handler through the guard");
  const controller = new AbortController();
  call.once("cancelled", () => {
    controller.abort(new SwarmError("canceled", "the caller ended the call"));
  });
  if (streaming) connection.streams.add(controller);
  return {
    context: {
      peer: connection.peer,
      remoteIp: connection.remoteIp,
      metadata: call.metadata,
      signal: controller.signal,
    },
    done: () => void connection.streams.delete(controller),
  };
}

function memberOptions(limits: RpcLimits): ServerOptions {
  return {
    ...commonOptions(limits),
    "grpc.max_receive_message_length": limits.maxMessageBytes,
    "grpc.max_concurrent_streams": limits.maxStreams,
    "grpc-node.max_session_memory": limits.maxSessionMb,
  };
}

function strangerOptions(limits: RpcLimits): ServerOptions {
  return {
    ...commonOptions(limits),
    "grpc.max_receive_message_length": limits.maxStrangerMessageBytes,
    "grpc.max_concurrent_streams": limits.maxStrangerStreams,
    "grpc-node.max_session_memory": limits.maxStrangerSessionMb,
    "grpc.max_connection_age_ms": limits.maxStrangerAgeMs,
    "grpc.max_connection_age_grace_ms": limits.maxStrangerIdleMs,
    "grpc.max_connection_idle_ms": limits.maxStrangerIdleMs,
  };
}

function commonOptions(limits: RpcLimits): ServerOptions {
  return {
    "grpc.enable_channelz": 0,
    "grpc.max_send_message_length": limits.maxMessageBytes,
    "grpc.keepalive_time_ms": limits.serverKeepaliveMs,
    "grpc.keepalive_timeout_ms": limits.serverKeepaliveTimeoutMs,
  };
}
