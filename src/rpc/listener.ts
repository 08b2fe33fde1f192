import { constants } from "node:crypto";
import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";
import {
  createServer as createTlsServer,
  type TLSSocket,
  type Server as TlsServer,
} from "node:tls";
import type { Clock, Timer } from "../base/clock.ts";
import { errnoOf, errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { nodeNameOfCertificate, validityOf } from "../pki/certificate.ts";
import { formatHostPort, type HostPort, plainIp } from "./address.ts";
import type { RpcLimits } from "./limits.ts";
import type { Identity, IdentitySource, PeerIdentity } from "./ports.ts";

/** A connection past its handshake, with who is on the other end. */
export interface Accepted {
  readonly socket: TLSSocket;
  /** Null when no certificate was presented. */
  readonly peer: PeerIdentity | null;
  /** End of the certificate, epoch ms; Infinity without one. */
  readonly notAfterMs: number;
  readonly remoteIp: string;
}

export interface TlsListenerDeps {
  readonly identity: IdentitySource;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onConnection: (accepted: Accepted) => void;
}

/** A TCP connection from its first packet on. */
interface Tracked {
  readonly socket: Socket;
  readonly ip: string;
  readonly timer: Timer;
  stranger: boolean;
}

interface IpCount {
  all: number;
  strangers: number;
}

/** What every TLS end of the cluster port has in common. */
export const TLS_BASE = {
  minVersion: "TLSv1.2",
  ecdhCurve: "X25519:P-256",
  /** TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has nothing else. */
  ciphers: [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
  ].join(":"),
} as const;

export const ALPN_H2 = "h2";
/**
 * A resumed session would skip the check of the certificate's dates, and renegotiation (TLS 1.2) is
 * only good for making the server work: there is neither.
 */
const SECURE_OPTIONS = constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION;

function serverContext(identity: Identity): {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
} & typeof TLS_BASE & { readonly secureOptions: number } {
  return {
    cert: identity.certPem,
    key: identity.keyPem,
    ca: identity.caPem,
    secureOptions: SECURE_OPTIONS,
    ...TLS_BASE,
  };
}

/**
 * The cluster port. Speaks TLS and nothing else; asks for a client certificate and lets through who
 * presents one of this cluster, or none at all. Who presents another is cut off.
 */
export class TlsListener {
  readonly #addr: HostPort;
  readonly #limits: RpcLimits;
  readonly #deps: TlsListenerDeps;
  readonly #tcp: Server;
  readonly #tls: TlsServer;
  readonly #tracked = new Map<string, Tracked>();
  readonly #perIp = new Map<string, IpCount>();
  /** Connections whose handshake has not begun; bounded as the tracked ones, which hold them too. */
  readonly #waiting: Socket[] = [];
  #isGreeting = false;
  readonly #stopWatching: () => void;

  constructor(options: { addr: HostPort; limits: RpcLimits }, deps: TlsListenerDeps) {
    this.#addr = options.addr;
    this.#limits = options.limits;
    this.#deps = deps;
    this.#tls = createTlsServer({
      ...serverContext(deps.identity.current()),
      requestCert: true,
      // Decided in #onSecure, where a missing certificate and a wrong one can be told apart.
      rejectUnauthorized: false,
      ALPNProtocols: [ALPN_H2],
    });
    this.#tls.on("secureConnection", socket => this.#onSecure(socket));
    this.#tls.on("tlsClientError", (error, socket) => {
      deps.logger.debug("TLS handshake failed", {
        remote: socket.remoteAddress,
        error: errorMessage(error),
      });
    });
    this.#tcp = createTcpServer({ noDelay: true }, socket => this.#onTcp(socket));
    this.#stopWatching = deps.identity.onChange(identity => this.#swap(identity));
  }

  /** Resolves with the bound port. Rejects with failed_precondition when that is not possible. */
  listen(): Promise<number> {
    const { host, port } = this.#addr;
    return new Promise((resolve, reject) => {
      const onError = (error: Error): void => reject(listenError(this.#addr, error));
      this.#tcp.once("error", onError);
      this.#tcp.listen({ host, port }, () => {
        this.#tcp.off("error", onError);
        this.#tcp.on("error", error => {
          this.#deps.logger.error("cluster port failed", { error: error.message });
        });
        const bound = this.#tcp.address();
        resolve(typeof bound === "object" && bound !== null ? bound.port : port);
      });
    });
  }

  /** Accepts nothing more. Connections past their handshake are the caller's. */
  stop(): void {
    this.#stopWatching();
    this.#tcp.close();
    for (const socket of this.#waiting.splice(0)) socket.destroy();
  }

  /** Ends every connection, finished handshake or not. */
  destroyAll(): void {
    for (const tracked of [...this.#tracked.values()]) tracked.socket.destroy();
  }

  #swap(identity: Identity): void {
    try {
      this.#tls.setSecureContext(serverContext(identity));
    } catch (error) {
      this.#deps.logger.error("new certificate not taken into use", { error: errorMessage(error) });
    }
  }

  #onTcp(socket: Socket): void {
    socket.on("error", error =>
      this.#deps.logger.debug("connection failed", { error: error.message }),
    );
    const ip = plainIp(socket.remoteAddress ?? "");
    if (ip === "" || !this.#hasRoom(ip)) {
      this.#deps.logger.debug("connection refused: too many", { remote: ip });
      socket.destroy();
      return;
    }
    this.#track(socket, ip);
    // Who only tries whether somebody listens says nothing: TLS state is for those who speak. What
    // was read by then stays in the socket, where TLS finds it.
    socket.once("readable", () => this.#onFirstBytes(socket));
  }

  #onFirstBytes(socket: Socket): void {
    if (socket.readableLength === 0) {
      socket.destroy();
      return;
    }
    this.#waiting.push(socket);
    if (!this.#isGreeting) void this.#greet();
  }

  /** Hundreds of handshakes in one turn of the event loop would hold it for a second. */
  async #greet(): Promise<void> {
    this.#isGreeting = true;
    while (this.#waiting.length > 0) {
      for (const socket of this.#waiting.splice(0, this.#limits.maxHandshakesPerTurn)) {
        if (!socket.destroyed) this.#tls.emit("connection", socket);
      }
      await nextTurn();
    }
    this.#isGreeting = false;
  }

  #hasRoom(ip: string): boolean {
    const count = this.#perIp.get(ip);
    if (this.#tracked.size >= this.#limits.maxConnections) return false;
    if (count === undefined) return true;
    return (
      count.all < this.#limits.maxConnectionsPerIp &&
      count.strangers < this.#limits.maxStrangersPerIp
    );
  }

  #track(socket: Socket, ip: string): void {
    const key = keyOf(socket);
    const timer = this.#deps.clock.setTimer("tls-handshake", this.#limits.handshakeMs, () =>
      socket.destroy(),
    );
    const tracked: Tracked = { socket, ip, timer, stranger: true };
    this.#tracked.set(key, tracked);
    const count = this.#perIp.get(ip) ?? { all: 0, strangers: 0 };
    count.all += 1;
    count.strangers += 1;
    this.#perIp.set(ip, count);
    socket.once("close", () => this.#forget(key, tracked, count));
  }

  #forget(key: string, tracked: Tracked, count: IpCount): void {
    tracked.timer.cancel();
    if (this.#tracked.get(key) === tracked) this.#tracked.delete(key);
    count.all -= 1;
    if (tracked.stranger) count.strangers -= 1;
    if (count.all === 0) this.#perIp.delete(tracked.ip);
  }

  #onSecure(socket: TLSSocket): void {
    socket.on("error", error =>
      this.#deps.logger.debug("connection failed", { error: error.message }),
    );
    const tracked = this.#tracked.get(keyOf(socket));
    if (tracked === undefined || socket.alpnProtocol !== ALPN_H2) {
      socket.destroy();
      return;
    }
    const accepted = this.#identify(socket, tracked.ip);
    if (accepted === null) {
      socket.destroy();
      return;
    }
    tracked.timer.cancel();
    if (accepted.peer !== null) this.#admit(tracked);
    this.#deps.onConnection(accepted);
  }

  #admit(tracked: Tracked): void {
    tracked.stranger = false;
    const count = this.#perIp.get(tracked.ip);
    if (count !== undefined) count.strangers -= 1;
  }

  /** Null when the certificate presented is not one of a node of this cluster. */
  #identify(socket: TLSSocket, remoteIp: string): Accepted | null {
    const cert = socket.getPeerX509Certificate();
    if (cert === undefined) return { socket, peer: null, notAfterMs: Infinity, remoteIp };
    const peer = socket.authorized ? nodeNameOfCertificate(cert) : null;
    if (peer !== null && peer.clusterId === this.#deps.identity.current().clusterId) {
      return { socket, peer, notAfterMs: validityOf(cert).notAfterMs, remoteIp };
    }
    this.#deps.logger.info("refused a certificate that is not of this cluster", {
      remote: remoteIp,
      reason: String(socket.authorizationError ?? "its subject is not that of a node"),
    });
    return null;
  }
}

/** A live TCP connection's name. The TLS socket has the same one as the socket below it. */
function keyOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress}`;
}

function listenError(addr: HostPort, error: Error): SwarmError {
  const at = formatHostPort(addr);
  const errno = errnoOf(error);
  const why =
    errno === "EADDRINUSE"
      ? "another program listens there (another swarmd, or Docker's own swarm mode)"
      : errno === "EADDRNOTAVAIL"
        ? "this host has no such address"
        : error.message;
  return new SwarmError("failed_precondition", `cannot listen on ${at}: ${why}`, { errno }, error);
}
