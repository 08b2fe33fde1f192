import type { PeerCertificate, SecureContext } from "node:tls";
import type { Client } from "@grpc/grpc-js";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { NodeRole } from "../model/rows.ts";
import { nodeNameOf } from "../pki/core/names.ts";
import { formatHostPort, parseHostPort } from "./address.ts";
import type { Method } from "./handlers.ts";
import {
  type CallOptions,
  CLIENT_LIMITS,
  type ClientConstructor,
  type ClientLimits,
  type Duplex,
  PeerChannel,
  secureContextOf,
} from "./peer-channel.ts";
import type { Identity, IdentitySource } from "./ports.ts";

/** Channels kept open; beyond it the longest unused one is closed. */
const MAX_CHANNELS = 256;

/** Who must be at the address. */
export interface Expected {
  /** Default: any node of that role. */
  readonly nodeId?: string;
  /** Default "manager". */
  readonly role?: NodeRole;
}

export interface RpcClientsDeps {
  readonly identity: IdentitySource;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Channels to other nodes by address, with mutual TLS: the server's chain must lead to our root,
 * and its subject name our cluster, the expected role and, where given, the expected node. After a
 * renewal of our own certificate new calls use new channels; running streams go on on the old.
 */
export class RpcClients {
  readonly #deps: RpcClientsDeps;
  readonly #limits: ClientLimits;
  readonly #channels = new Map<string, PeerChannel>();
  readonly #stopWatching: () => void;
  /** Of the identity shown last. */
  #context: { readonly of: Identity; readonly secure: SecureContext } | null = null;
  #closed = false;

  constructor(options: { readonly limits?: Partial<ClientLimits> }, deps: RpcClientsDeps) {
    this.#deps = deps;
    this.#limits = { ...CLIENT_LIMITS, ...options.limits };
    this.#stopWatching = deps.identity.onChange(() => this.#closeChannels());
  }

  /**
   * A generated client on a connection of its own, outside the pool: for a peer whose stream lives
   * as long as both do. The caller closes it; a renewal does not. `limits`: where they differ from
   * the pool's.
   */
  ownClient<C extends Client>(
    clientClass: ClientConstructor<C>,
    addr: string,
    expected: Expected = {},
    limits: Partial<ClientLimits> = {},
  ): C {
    if (this.#closed) throw new SwarmError("unavailable", "this node is shutting down");
    return this.#open(formatHostPort(parseHostPort(addr)), expected, limits).client(clientClass);
  }

  /** One call by method definition (`CAService.getRootCa`), with errors as SwarmErrors. */
  async unary<Req, Res>(
    method: Method<Req, Res>,
    addr: string,
    request: Req,
    options: CallOptions & Expected,
  ): Promise<Res> {
    return this.channel(addr, options).unary(method, request, options);
  }

  duplex<Req, Res>(
    method: Method<Req, Res>,
    addr: string,
    options: CallOptions & Expected,
  ): Duplex<Req, Res> {
    return this.channel(addr, options).duplex(method, options);
  }

  serverStream<Req, Res>(
    method: Method<Req, Res>,
    addr: string,
    request: Req,
    options: CallOptions & Expected,
  ): AsyncGenerator<Res, void> {
    return this.channel(addr, options).serverStream(method, request, options);
  }

  async clientStream<Req, Res>(
    method: Method<Req, Res>,
    addr: string,
    requests: AsyncIterable<Req>,
    options: CallOptions & Expected,
  ): Promise<Res> {
    return this.channel(addr, options).clientStream(method, requests, options);
  }

  /** The channel to an address. Throws unavailable after `close`, invalid_argument if malformed. */
  channel(addr: string, expected: Expected = {}): PeerChannel {
    if (this.#closed) throw new SwarmError("unavailable", "this node is shutting down");
    const target = formatHostPort(parseHostPort(addr));
    const key = `${target} ${expected.role ?? "manager"} ${expected.nodeId ?? ""}`;
    const channel = this.#channels.get(key) ?? this.#open(target, expected);
    // Moved to the end: the front of the map is the longest unused.
    this.#channels.delete(key);
    this.#channels.set(key, channel);
    this.#closeOverflow();
    return channel;
  }

  get size(): number {
    return this.#channels.size;
  }

  /** Takes no new calls. Running ones go on to their end or their signal. */
  close(): void {
    this.#closed = true;
    this.#stopWatching();
    this.#closeChannels();
  }

  #open(addr: string, expected: Expected, limits: Partial<ClientLimits> = {}): PeerChannel {
    const identity = this.#deps.identity.current();
    return new PeerChannel(
      {
        addr,
        tls: {
          caPem: identity.caPem,
          own: identity,
          context: this.#contextOf(identity),
          verifyPeer: cert => wrongPeer(addr, cert, identity, expected),
        },
        limits: { ...this.#limits, ...limits },
      },
      { clock: this.#deps.clock },
    );
  }

  /** Reading keys and certificates costs as much as a handshake: once an identity. */
  #contextOf(identity: Identity): SecureContext {
    if (this.#context?.of !== identity) {
      const secure = secureContextOf({ caPem: identity.caPem, own: identity });
      this.#context = { of: identity, secure };
    }
    return this.#context.secure;
  }

  #closeOverflow(): void {
    for (const [key, channel] of this.#channels) {
      if (this.#channels.size <= MAX_CHANNELS) return;
      this.#channels.delete(key);
      channel.close();
    }
  }

  #closeChannels(): void {
    for (const channel of this.#channels.values()) channel.close();
    this.#channels.clear();
  }
}

/** Why the node behind a verified certificate is not the one wanted; undefined when it is. */
function wrongPeer(
  addr: string,
  cert: PeerCertificate,
  own: Identity,
  expected: Expected,
): SwarmError | undefined {
  const name = nodeNameOf(cert.subject);
  const role = expected.role ?? "manager";
  const finding =
    name === null
      ? "its certificate is not that of a node"
      : name.clusterId !== own.clusterId
        ? "it belongs to another cluster"
        : name.role !== role
          ? `it is node ${name.nodeId}, a ${name.role}`
          : expected.nodeId !== undefined && expected.nodeId !== name.nodeId
            ? `it is node ${name.nodeId}, not ${expected.nodeId}`
            : null;
  if (finding === null) return undefined;
  const message = `${addr} answers, but not as the ${role} looked for: ${finding}`;
  return new SwarmError("unavailable", message, { addr });
}
