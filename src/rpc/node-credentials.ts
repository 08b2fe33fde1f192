import { connect as connectTcp, type Socket } from "node:net";
import {
  connect as connectTls,
  type PeerCertificate,
  type SecureContext,
  type TLSSocket,
} from "node:tls";
import { CallCredentials, ChannelCredentials, type experimental } from "@grpc/grpc-js";
import type { Clock } from "../base/clock.ts";
import { unitOfRole } from "../pki/core/names.ts";
import type { HostPort } from "./address.ts";
import { type ConnectStage, ConnectTimeout } from "./connect-errors.ts";
import { ALPN_H2 } from "./listener.ts";

/** Every manager's certificate carries this name; TLS needs one to ask for. */
export const SERVER_NAME = unitOfRole("manager");

export interface NodeCredentialsOptions {
  readonly addr: HostPort;
  readonly secureContext: SecureContext;
  /** Whether the server's chain must lead to the context's root. False only before a join. */
  readonly verifyChain: boolean;
  /** Says why the server's certificate, its chain verified, is not the one wanted. */
  readonly verifyPeer: (cert: PeerCertificate) => Error | undefined;
  /** Of TCP. */
  readonly connectTimeoutMs: number;
  /** Of TLS. */
  readonly handshakeTimeoutMs: number;
}

export interface NodeCredentialsDeps {
  readonly clock: Clock;
  /** Told of each attempt that failed before HTTP/2 began, with the original error. */
  readonly onFailure: (stage: ConnectStage, error: unknown) => void;
  readonly onSocket: (socket: TLSSocket) => void;
}

/**
 * TLS of one channel. It exists, instead of grpc-js's own, for three things: a bound on how long a
 * connection attempt may take (a host that is cut off drops packets, and the kernel tries for two
 * minutes), the original error of a failed attempt, and checks on the certificate's subject.
 */
export class NodeCredentials extends ChannelCredentials {
  readonly #options: NodeCredentialsOptions;
  readonly #deps: NodeCredentialsDeps;
  /** Connections that are being made. */
  readonly #attempts = new Set<Socket>();

  constructor(options: NodeCredentialsOptions, deps: NodeCredentialsDeps) {
    super();
    this.#options = options;
    this.#deps = deps;
  }

  override _isSecure(): boolean {
    return true;
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(): experimental.SecureConnector {
    return {
      waitForReady: () => this.#reach(),
      connect: socket => this.#secure(socket),
      getCallCredentials: () => CallCredentials.createEmpty(),
      destroy: () => this.#giveUp(),
    };
  }

  /** A handshake that nobody waits for any more is no work for the other end either. */
  #giveUp(): void {
    for (const socket of [...this.#attempts]) socket.destroy();
  }

  /**
   * grpc-js opens TCP itself and waits for it without limit. So the way is tried first with one
   * connection of our own that is given up in time; grpc-js' own follows at once on the same way.
   */
  async #reach(): Promise<void> {
    const { addr, connectTimeoutMs } = this.#options;
    const socket = connectTcp({ host: addr.host, port: addr.port });
    try {
      await this.#within(connectTimeoutMs, socket, "connect");
    } catch (error) {
      this.#deps.onFailure("tcp", error);
      throw error;
    } finally {
      socket.destroy();
    }
  }

  async #secure(tcp: Socket): Promise<experimental.SecureConnectResult> {
    const { secureContext, verifyChain, verifyPeer, handshakeTimeoutMs } = this.#options;
    const socket = connectTls({
      socket: tcp,
      secureContext,
      ALPNProtocols: [ALPN_H2],
      servername: SERVER_NAME,
      rejectUnauthorized: verifyChain,
      checkServerIdentity: (_host, cert) => verifyPeer(cert),
    });
    try {
      await this.#within(handshakeTimeoutMs, socket, "secureConnect");
      if (socket.alpnProtocol !== ALPN_H2) throw new Error("it does not speak HTTP/2");
    } catch (error) {
      socket.destroy();
      this.#deps.onFailure("tls", error);
      throw error;
    }
    this.#deps.onSocket(socket);
    return { socket, secure: true };
  }

  /** Waits for the socket's event; an error, the end of the socket or of the time rejects. */
  #within(timeoutMs: number, socket: Socket, event: "connect" | "secureConnect"): Promise<void> {
    this.#attempts.add(socket);
    return new Promise((resolve, reject) => {
      const timer = this.#deps.clock.setTimer("connect", timeoutMs, () => {
        reject(new ConnectTimeout(timeoutMs));
        socket.destroy();
      });
      const settle = (run: () => void): void => {
        timer.cancel();
        this.#attempts.delete(socket);
        run();
      };
      socket.once(event, () => settle(resolve));
      socket.on("error", error => settle(() => reject(error)));
      socket.once("close", () => settle(() => reject(new Error("it closed the connection"))));
    });
  }
}
