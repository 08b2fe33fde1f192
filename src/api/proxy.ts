import http from "node:http";
import type net from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream";
import type { Logger } from "../base/logger.ts";
import { engineDown } from "./engine.ts";
import { toHttpError } from "./errors.ts";
import { acceptInto, connectInto, pumped } from "./pump.ts";

/** Headers that belong to one connection and not to the message (RFC 9110, 7.6.1). */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
]);

/** Requests that may be sent again when a kept-alive connection turns out to be dead. */
const REPEATABLE = new Set(["GET", "HEAD"]);

/**
 * Passes requests on to the local Engine: bodies stream both ways with back-pressure, upgraded
 * connections (attach, exec, build sessions) become plain tunnels, and when one side goes away so
 * does the other.
 */
export class EngineProxy {
  readonly #socketPath: string;
  readonly #agent: http.Agent;
  readonly #logger: Logger;

  constructor(
    options: { readonly socketPath: string; readonly agent: http.Agent },
    deps: { readonly logger: Logger },
  ) {
    this.#socketPath = options.socketPath;
    this.#agent = options.agent;
    this.#logger = deps.logger;
  }

  /**
   * Answers with the Engine's answer. `body`, when the request's own body has been read already,
   * is sent in its place. Resolves when the answer is complete or either side is gone.
   */
  forward(
    request: http.IncomingMessage,
    response: http.ServerResponse,
    body?: Buffer,
  ): Promise<void> {
    return new Promise(resolve => {
      response.on("close", resolve);
      this.#attempt(request, response, body, true);
    });
  }

  #attempt(
    request: http.IncomingMessage,
    response: http.ServerResponse,
    body: Buffer | undefined,
    mayRepeat: boolean,
  ): void {
    const upstream = http.request({
      socketPath: this.#socketPath,
      agent: this.#agent,
      method: request.method,
      path: request.url,
      headers: forwardedHeaders(request, body),
    });
    const abort = (): void => void upstream.destroy();
    response.on("close", abort);
    upstream.on("response", answer => {
      response.writeHead(answer.statusCode ?? 502, answer.statusMessage, passedOn(answer));
      // Followers of a stream wait for the headers before its first byte.
      response.flushHeaders();
      pipeline(answer, response, error => {
        if (error) response.destroy();
      });
    });
    upstream.on("error", error => {
      response.off("close", abort);
      if (response.headersSent || response.destroyed) {
        response.destroy();
      } else if (mayRepeat && upstream.reusedSocket && REPEATABLE.has(request.method ?? "")) {
        this.#attempt(request, response, body, false);
      } else {
        this.#logger.warn("engine does not answer", { error: error.message });
        replyEngineDown(response, this.#socketPath, error);
      }
    });
    if (body !== undefined || REPEATABLE.has(request.method ?? "")) upstream.end(body);
    else request.pipe(upstream);
  }

  /**
   * Makes one connection of two: what the client sent so far goes to the Engine as it came, and
   * from there on both ends talk to each other, half-closes included.
   */
  tunnel(request: http.IncomingMessage, client: Duplex, head: Buffer): void {
    const start = Buffer.concat([Buffer.from(rawHead(request)), head]);
    this.#connect(to => pumped(client, to), start);
  }

  /**
   * The same for a client that has sent `start` so far. Its connection goes on as the one that is
   * given back.
   */
  join(client: net.Socket, start: Buffer): Duplex {
    return this.#connect(to => acceptInto(client, to), start);
  }

  #connect(accept: (to: () => Duplex | null) => Duplex, start: Buffer): Duplex {
    const upstream: net.Socket = connectInto(this.#socketPath, () => client);
    // Sent when the connection is there, and before anything of the client's own.
    upstream.write(start);
    const client = accept(() => upstream);
    const close = (): void => {
      client.destroy();
      upstream.destroy();
    };
    client.on("error", close);
    client.on("close", () => closeWritten(upstream));
    upstream.on("close", () => closeWritten(client));
    upstream.on("error", error => {
      if (upstream.bytesRead === 0 && client.writable) {
        this.#logger.warn("engine does not answer", { error: error.message });
        client.end(rawEngineDown(this.#socketPath, error));
      } else close();
    });
    upstream.on("connect", () => {
      client.resume();
      upstream.resume();
    });
    return client;
  }
}

/** The other end is gone: one that ended in order has said things that are on their way still. */
function closeWritten(stream: Duplex): void {
  const isOnItsWay = stream.writableEnded && !stream.writableFinished;
  if (isOnItsWay) stream.once("finish", () => stream.destroy());
  else stream.destroy();
}

type HeaderList = [string, string][];

function headerList(rawHeaders: readonly string[]): HeaderList {
  const list: HeaderList = [];
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    list.push([rawHeaders[i] ?? "", rawHeaders[i + 1] ?? ""]);
  }
  return list;
}

function grouped(list: HeaderList): http.OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of list) {
    const known = headers[name];
    headers[name] = known === undefined ? value : [known, value].flat();
  }
  return headers;
}

function passedOn(message: http.IncomingMessage): http.OutgoingHttpHeaders {
  const list = headerList(message.rawHeaders);
  return grouped(list.filter(([name]) => !HOP_BY_HOP.has(name.toLowerCase())));
}

function forwardedHeaders(
  request: http.IncomingMessage,
  body: Buffer | undefined,
): http.OutgoingHttpHeaders {
  const headers = passedOn(request);
  if (body === undefined) return headers;
  for (const name of Object.keys(headers)) {
    if (name.toLowerCase() === "content-length") delete headers[name];
  }
  return { ...headers, "Content-Length": String(body.length) };
}

/** The request's head, byte for byte as the client meant it. */
function rawHead(request: http.IncomingMessage): string {
  const lines = headerList(request.rawHeaders).map(([name, value]) => `${name}: ${value}`);
  return [`${request.method} ${request.url} HTTP/1.1`, ...lines, "", ""].join("\r\n");
}

function replyEngineDown(response: http.ServerResponse, socketPath: string, cause: unknown): void {
  const { status, message } = toHttpError(engineDown(socketPath, cause));
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(`${JSON.stringify({ message })}\n`);
}

function rawEngineDown(socketPath: string, cause: unknown): string {
  const { status, message } = toHttpError(engineDown(socketPath, cause));
  const body = `${JSON.stringify({ message })}\n`;
  return [
    `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ""}`,
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
    "",
    body,
  ].join("\r\n");
}
