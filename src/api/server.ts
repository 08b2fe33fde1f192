import http from "node:http";
import net from "node:net";
import type { Duplex } from "node:stream";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { LoopHealth } from "../base/loop-health.ts";
import type { Rng } from "../base/rng.ts";
import { Connection } from "./connection.ts";
import { EngineClient } from "./engine.ts";
import { toHttpError } from "./errors.ts";
import { type ApiDeps, Exchange, type Handler } from "./exchange.ts";
import type { NodeLifecycle } from "./ports.ts";
import { EngineProxy } from "./proxy.ts";
import { Router } from "./router.ts";
import { API_ROUTES } from "./routes/table.ts";
import { SharedNetworks } from "./shared-networks.ts";
import { listenOnSocket } from "./socket.ts";
import {
  atLeast,
  checkVersion,
  FALLBACK_API_VERSION,
  formatApiVersion,
  splitVersion,
} from "./version.ts";

/** Connections to the Engine that are kept for the next request. */
const MAX_IDLE_ENGINE_SOCKETS = 32;
const MAX_ENGINE_SOCKETS = 10_000;
/** A client that has connected sends a request's head within this time. */
const HEAD_TIMEOUT_MS = 60_000;
/** What is left of a refused body is read off for so long; then the connection is closed. */
const LINGER_MS = 5_000;

export interface ApiServerOptions {
  readonly socketPath: string;
  readonly engineSocketPath: string;
  /** swarmd's version, for `Server` headers and `/version`. */
  readonly productVersion: string;
}

export interface ApiServerDeps {
  readonly lifecycle: NodeLifecycle;
  /** How promptly this process' event loop runs; absent: not measured. */
  readonly loopHealth?: () => LoopHealth;
  readonly ids: IdSource;
  readonly rng: Rng;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The Docker Engine API on swarmd's socket: the cluster's part is answered here, everything else
 * is the local Engine's.
 */
export class ApiServer {
  readonly #options: ApiServerOptions;
  readonly #deps: ApiDeps;
  readonly #router = new Router<Handler>(API_ROUTES);
  readonly #agent: http.Agent;
  readonly #server: http.Server;
  readonly #upgraded = new Set<Duplex>();
  /** By the socket, until it closes or is joined to the Engine's. */
  readonly #connections = new Map<Duplex, Connection>();

  constructor(options: ApiServerOptions, deps: ApiServerDeps) {
    this.#options = options;
    this.#agent = new http.Agent({
      keepAlive: true,
      maxSockets: MAX_ENGINE_SOCKETS,
      maxFreeSockets: MAX_IDLE_ENGINE_SOCKETS,
    });
    const engine = { socketPath: options.engineSocketPath, agent: this.#agent };
    const client = new EngineClient(engine, deps.clock);
    this.#deps = {
      ...deps,
      productVersion: options.productVersion,
      engine: client,
      networks: new SharedNetworks(client),
      proxy: new EngineProxy(engine, { logger: deps.logger }),
    };
    // Builds and image loads send for as long as they like; JSON bodies have a limit of their own.
    this.#server = http.createServer({
      requestTimeout: 0,
      // Heads arrive whole (Connection).
      headersTimeout: 0,
      keepAliveTimeout: 0,
    });
    this.#server.on("request", (request, response) => {
      this.#connections.get(request.socket)?.serving(request, response);
      void this.#serve(request, response);
    });
    this.#server.on("upgrade", (request, socket, head) => {
      this.#connections.get(socket)?.release();
      this.#tunnel(request, socket, head);
    });
    this.#sortConnections();
    this.#server.on("clientError", (_error, socket) => {
      if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
  }

  /** Node's own listener gets what the look at a connection leaves it. */
  #sortConnections(): void {
    const listeners = this.#server.listeners("connection");
    this.#server.removeAllListeners("connection");
    const deps = {
      clock: this.#deps.clock,
      serve: (socket: net.Socket) => {
        for (const listener of listeners) listener.call(this.#server, socket);
      },
      join: (socket: net.Socket, start: Buffer) => {
        this.#keep(this.#deps.proxy.join(socket, start));
      },
    };
    const options = { headTimeoutMs: HEAD_TIMEOUT_MS, lingerMs: LINGER_MS };
    this.#server.on("connection", (socket: net.Socket) => {
      this.#connections.set(socket, new Connection(socket, options, deps));
      socket.on("close", () => this.#connections.delete(socket));
    });
  }

  #keep(socket: Duplex): void {
    this.#upgraded.add(socket);
    socket.on("close", () => this.#upgraded.delete(socket));
  }

  /** Resolves when requests are answered. */
  async start(): Promise<void> {
    await listenOnSocket(this.#server, this.#options.socketPath);
    this.#deps.logger.info("api listens", { socket: this.#options.socketPath });
  }

  /** Stops listening and ends every connection. */
  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()));
    for (const socket of [...this.#upgraded, ...this.#connections.keys()]) socket.destroy();
    this.#agent.destroy();
    await closed;
  }

  /**
   * Some HTTP clients ask for HTTP/2 on every first request. What is ours is answered as HTTP/1.1,
   * which declines the upgrade (RFC 9110, 7.8); the Engine's hijacked connections are tunnels.
   */
  #tunnel(request: http.IncomingMessage, socket: Duplex, head: Buffer): void {
    const { path } = splitVersion(splitUrl(request.url ?? "/").pathname, FALLBACK_API_VERSION);
    if (socket instanceof net.Socket && this.#isOwn(request, path)) {
      const response = new http.ServerResponse(request);
      response.shouldKeepAlive = false;
      response.assignSocket(socket);
      response.on("finish", () => socket.end());
      void this.#serve(request, response);
      return;
    }
    this.#keep(socket);
    this.#deps.proxy.tunnel(request, socket, head);
  }

  /** Bodies cannot be read once the connection has been handed over. */
  #isOwn(request: http.IncomingMessage, path: string): boolean {
    if (request.method !== "GET" && request.method !== "HEAD") return false;
    return this.#router.match(request.method, path) !== null;
  }

  async #serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    try {
      await this.#answer(request, response);
    } catch (error) {
      this.#fail(request, response, error);
    }
  }

  async #answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const { engine, proxy } = this.#deps;
    const identity = await engine.identity();
    const { pathname, query } = splitUrl(request.url ?? "/");
    const { version, path } = splitVersion(pathname, identity.apiVersion);
    const match = this.#router.match(request.method ?? "", path);
    if (match === null) return proxy.forward(request, response);
    response.setHeader("Api-Version", formatApiVersion(identity.apiVersion));
    response.setHeader("Docker-Experimental", identity.experimental);
    response.setHeader("Ostype", identity.osType);
    response.setHeader("Server", `swarmd/${this.#options.productVersion} (linux)`);
    checkVersion(version, identity.apiVersion);
    const signal = abortedOnClose(response);
    const parts = { request, response, params: match.params, query, version, signal };
    await match.handler(new Exchange(parts, this.#deps));
  }

  #fail(request: http.IncomingMessage, response: http.ServerResponse, error: unknown): void {
    const { status, message } = toHttpError(error);
    const fields = { method: request.method, path: request.url, status, error: message };
    if (status === 500 && !(error instanceof SwarmError)) {
      this.#deps.logger.error("request failed", { ...fields, stack: stackOf(error) });
    } else this.#deps.logger.debug("request refused", fields);
    if (response.headersSent) {
      response.destroy();
      return;
    }
    // Whoever was too slow is not waited for again.
    if (status === 408) response.shouldKeepAlive = false;
    const isText = predatesJsonErrors(request.url ?? "/");
    const body = Buffer.from(isText ? `${message}\n` : `${JSON.stringify({ message })}\n`);
    response.writeHead(status, {
      "Content-Type": isText ? "text/plain; charset=utf-8" : "application/json",
      "Content-Length": body.length,
    });
    response.end(request.method === "HEAD" ? undefined : body);
  }
}

/** Errors became JSON with API 1.24. */
const JSON_ERRORS_SINCE = 24;

function predatesJsonErrors(url: string): boolean {
  const { version } = splitVersion(splitUrl(url).pathname, FALLBACK_API_VERSION);
  return !atLeast(version, JSON_ERRORS_SINCE);
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? "") : "";
}

function splitUrl(url: string): { readonly pathname: string; readonly query: URLSearchParams } {
  const at = url.indexOf("?");
  if (at < 0) return { pathname: url, query: new URLSearchParams() };
  return { pathname: url.slice(0, at), query: new URLSearchParams(url.slice(at + 1)) };
}

/** Aborts when the connection ends before the answer is complete. */
function abortedOnClose(response: http.ServerResponse): AbortSignal {
  const controller = new AbortController();
  response.on("close", () => {
    if (!response.writableFinished) {
      controller.abort(new SwarmError("canceled", "the client went away"));
    }
  });
  return controller.signal;
}
