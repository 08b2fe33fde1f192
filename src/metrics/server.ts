import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { TaskGroup } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { HttpAddress } from "./core/address.ts";
import { EXPOSITION_TYPE, exposition, type Family } from "./core/exposition.ts";
import { type Health, readinessOf } from "./core/health.ts";
import { type MetricsTls, TlsFiles } from "./tls-files.ts";

/** Scrapers are few; what is beyond waits for none. */
const MAX_CONNECTIONS = 32;
const REQUEST_TIMEOUT_MS = 10_000;
const UNAVAILABLE = 503;
/** Between looks at the certificate's files: they are small, and nobody waits for a new one. */
const TLS_LOOK_MS = 10_000;

export interface MetricsServerOptions {
  readonly address: HttpAddress;
  /** Null: plain HTTP, which only loopback may have. */
  readonly tls: MetricsTls | null;
}

export interface MetricsServerDeps {
  /** All metrics as of now. */
  families(): Promise<readonly Family[]>;
  health(): Promise<Health>;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** Metrics, and answers to probes. Nothing is counted for it while nobody asks. */
export class MetricsServer {
  readonly #options: MetricsServerOptions;
  readonly #deps: MetricsServerDeps;
  readonly #server: Server;
  readonly #tasks = new TaskGroup();
  readonly #tls: { readonly files: TlsFiles; readonly server: TlsServer } | null;

  /** Throws invalid_argument when a certificate cannot be read. */
  constructor(options: MetricsServerOptions, deps: MetricsServerDeps) {
    this.#options = options;
    this.#deps = deps;
    const serve = (request: IncomingMessage, response: ServerResponse): void =>
      void this.#serve(request, response);
    if (options.tls === null) {
      this.#tls = null;
      this.#server = createServer(serve);
    } else {
      const files = new TlsFiles(options.tls, deps);
      const server = createTlsServer({ ...files.inUse, ...MUTUAL_TLS }, serve);
      this.#tls = { files, server };
      this.#server = server;
    }
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
        this.#tasks.start("certificate", signal => this.#followFiles(signal));
        resolve((this.#server.address() as AddressInfo).port);
      });
    });
  }

  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
    await Promise.all([closed, this.#tasks.close()]);
  }

  /** A certificate that was replaced is used from the next connection on. */
  async #followFiles(signal: AbortSignal): Promise<void> {
    if (this.#tls === null) return;
    const { files, server } = this.#tls;
    while (!signal.aborted) {
      await sleep(this.#deps.clock, TLS_LOOK_MS, signal);
      const contents = await files.changed();
      if (contents !== null) server.setSecureContext({ ...contents, ...MUTUAL_TLS });
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      if (request.method !== "GET" && request.method !== "HEAD") {
        response.setHeader("Allow", "GET, HEAD");
        send(response, { status: 405, type: TEXT, body: "use GET\n" });
        return;
      }
      const path = (request.url ?? "").replace(/\?.*$/, "");
      send(response, await this.#answer(path));
    } catch (error) {
      this.#deps.logger.error("could not answer for metrics", { error: errorMessage(error) });
      send(response, { status: 500, type: TEXT, body: "internal error\n" });
    }
  }

  async #answer(path: string): Promise<Answer> {
    switch (path) {
      case "/metrics":
        return { status: 200, type: METRICS, body: exposition(await this.#deps.families()) };
      case "/livez":
        return { status: 200, type: TEXT, body: "ok\n" };
      case "/healthz":
        return healthAnswer(await this.#deps.health());
      case "/readyz":
        return healthAnswer(readinessOf(await this.#deps.health()));
      default:
        return { status: 404, type: TEXT, body: `there are ${PATHS.join(", ")}\n` };
    }
  }
}

const TEXT = "text/plain";
const METRICS = EXPOSITION_TYPE;
const PATHS = ["/metrics", "/livez", "/healthz", "/readyz"];
const MUTUAL_TLS = { requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2" } as const;

function healthAnswer(health: Health): Answer {
  const body = `${JSON.stringify(health)}\n`;
  return { status: health.healthy ? 200 : UNAVAILABLE, type: "application/json", body };
}

function send(response: ServerResponse, { status, type, body }: Answer): void {
  response.writeHead(status, { "Content-Type": type, "Content-Length": Buffer.byteLength(body) });
  response.end(body);
}
