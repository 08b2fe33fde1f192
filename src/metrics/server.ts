import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { HttpAddress } from "./core/address.ts";
import { EXPOSITION_TYPE, exposition, type Family } from "./core/exposition.ts";
import type { Health } from "./core/health.ts";

/** Scrapers are few; what is beyond waits for none. */
const MAX_CONNECTIONS = 32;
const REQUEST_TIMEOUT_MS = 10_000;
const UNAVAILABLE = 503;

export interface MetricsTls {
  /** Paths of PEM files. */
  readonly cert: string;
  readonly key: string;
  /** Clients must have a certificate of one of these authorities. */
  readonly clientCa: string;
}

export interface MetricsServerOptions {
  readonly address: HttpAddress;
  /** Null: plain HTTP, which only loopback may have. */
  readonly tls: MetricsTls | null;
}

export interface MetricsServerDeps {
  /** All metrics as of now. */
  families(): readonly Family[];
  health(): Health;
  readonly logger: Logger;
}

/** `GET /metrics` and `GET /healthz`. Nothing is counted for it while nobody asks. */
export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #deps: MetricsServerDeps;
  readonly #server: Server;

  /** Throws invalid_argument when a certificate cannot be read. */
  constructor(options: MetricsServerOptions, deps: MetricsServerDeps) {
    this.#options = options;
    this.#deps = deps;
    const serve = (request: IncomingMessage, response: ServerResponse): void =>
      this.#serve(request, response);
    this.#server =
      options.tls === null ? createServer(serve) : createTlsServer(tlsOptions(options.tls), serve);
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.requestTimeout = REQUEST_TIMEOUT_MS;
    this.#server.headersTimeout = REQUEST_TIMEOUT_MS;
  }

  /** Rejects with failed_precondition when the port is taken. Resolves to the port. */
  start(): Promise<number> {
    const { host, port } = this.#options.address;
    return new Promise((resolve, reject) => {
      this.#server.once("error", error => {
        const why = `cannot serve metrics on ${host}:${port}: ${errorMessage(error)}`;
        reject(new SwarmError("unavailable", `${why}. Choose another --http-addr`));
      });
      this.#server.listen({ host, port }, () => {
        resolve((this.#server.address() as AddressInfo).port);
      });
    });
  }

  close(): Promise<void> {
    return new Promise(resolve => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    try {
      this.#answer(request, response);
    } catch (error) {
      this.#deps.logger.error("could not answer for metrics", { error: errorMessage(error) });
      send(response, 500, "text/plain", "internal error\n");
    }
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? "").replace(/\?.*$/, "");
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("Allow", "GET, HEAD");
      send(response, 405, "text/plain", "use GET\n");
    } else if (path === "/metrics") {
      send(response, 200, EXPOSITION_TYPE, exposition(this.#deps.families()));
    } else if (path === "/healthz") {
      const health = this.#deps.health();
      const status = health.healthy ? 200 : UNAVAILABLE;
      send(response, status, "application/json", `${JSON.stringify(health)}\n`);
    } else send(response, 404, "text/plain", "there are /metrics and /healthz\n");
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}

function tlsOptions(tls: MetricsTls): Readonly<Record<string, unknown>> {
  return {
    cert: readPem("http-cert", tls.cert),
    key: readPem("http-key", tls.key),
    ca: readPem("http-client-ca", tls.clientCa),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
  };
}

function readPem(flag: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new SwarmError("invalid_argument", `--${flag}: ${errorMessage(error)}`);
  }
}
