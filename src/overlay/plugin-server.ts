import { mkdir, rm } from "node:fs/promises";
import http from "node:http";
import { dirname } from "node:path";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";

/** Answers one method of the Engine's plugin protocol; what it throws reaches the Engine as text. */
export type PluginMethod = (request: Readonly<Record<string, unknown>>) => Promise<object>;

const CONTENT_TYPE = "application/vnd.docker.plugins.v1+json";
const MAX_REQUEST_BYTES = 1024 * 1024;

/** Serves the Engine's plugin protocol on a Unix socket (docs.docker.com, "Plugin API"). */
export class PluginServer {
  readonly #socketPath: string;
  readonly #methods: ReadonlyMap<string, PluginMethod>;
  readonly #logger: Logger;
  readonly #server: http.Server;

  constructor(
    options: {
      readonly socketPath: string;
      readonly methods: Readonly<Record<string, PluginMethod>>;
    },
    deps: { readonly logger: Logger },
  ) {
    this.#socketPath = options.socketPath;
    this.#methods = new Map(Object.entries(options.methods));
    this.#logger = deps.logger;
    this.#server = http.createServer((request, response) => void this.#serve(request, response));
  }

  async listen(): Promise<void> {
    await mkdir(dirname(this.#socketPath), { recursive: true });
    // What is left of a daemon that was killed.
    await rm(this.#socketPath, { force: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.#socketPath, () => resolve());
    });
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>(resolve => this.#server.close(() => resolve()));
  }

  async #serve(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const name = (request.url ?? "/").slice(1);
    const reply = (status: number, body: object): void => {
      response.writeHead(status, { "Content-Type": CONTENT_TYPE });
      response.end(JSON.stringify(body));
    };
    const method = this.#methods.get(name);
    if (method === undefined) {
      reply(404, { Err: `no such method: ${name}` });
      return;
    }
    try {
      reply(200, await method(await readRequest(request)));
    } catch (error) {
      this.#logger.warn("the Engine's request failed", {
        method: name,
        error: errorMessage(error),
      });
      // A status other than 200 would make the Engine try again for 15 seconds.
      // Network drivers call it one thing, IPAM drivers another.
      const text = errorMessage(error);
      reply(200, { Err: text, Error: text });
    }
  }
}

async function readRequest(
  request: http.IncomingMessage,
): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_REQUEST_BYTES)
      throw new SwarmError("invalid_argument", "the request is too long");
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString("utf8");
  const parsed: unknown = text === "" ? {} : JSON.parse(text);
  return typeof parsed === "object" && parsed !== null ? { ...parsed } : {};
}
