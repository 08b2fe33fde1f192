import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Clock, Timer } from "../base/clock.ts";
import { ENDLESS, RequestFrame } from "./request-frame.ts";

/**
 * Requests whose connections are better joined to the Engine's than read as HTTP. HTTP servers cannot
 * let go of a connection, so every request's head is looked at before the server gets it.
 *
 * - `attach` and `exec start` became upgrades with API 1.24 (`Connection: Upgrade`); before, and in
 *   clients that never followed, both ends simply leave HTTP after the head of the answer.
 * - Images and archives are gigabytes that nobody here wants to see.
 */
const JOINED = [
  /^POST containers\/[^/]+\/attach$/,
  /^POST exec\/[^/]+\/start$/,
  /^POST (?:images\/load|build)$/,
  /^PUT containers\/[^/]+\/archive$/,
  /^GET images\/(?:.+\/)?get$/,
  /^GET containers\/[^/]+\/(?:export|archive)$/,
];
/** Method and path without version and query. */
const REQUEST_LINE = /^([A-Z]+) \/(?:v\d+\.\d+\/)?([^ ?]*)[^ ]* HTTP\/1\.[01]$/;
const UPGRADES = /^upgrade[ \t]*:/im;
const HOP_HEADERS = /^(?:connection|keep-alive|proxy-connection)[ \t]*:/i;
const LINE_END = "\r\n";
const HEAD_END = "\r\n\r\n";
const MAX_METHOD_CHARS = 16;
const MAX_HEAD_BYTES = 64 * 1024;
/** Of requests that a client sends before the answer to the one before; more are not read yet. */
const MAX_AHEAD_BYTES = 256 * 1024;

export interface ConnectionOptions {
  /** For the whole of a head, however it trickles, and for a first one to come. */
  readonly headTimeoutMs: number;
  /** For what is left of a body that nobody waits for, when the answer is out. */
  readonly lingerMs: number;
}

export interface ConnectionDeps {
  readonly clock: Clock;
  /** Gives the connection to the HTTP server. */
  readonly serve: (socket: Socket) => void;
  /** `start`: the request, asking the Engine to close the connection at its end. */
  readonly join: (socket: Socket, start: Buffer) => void;
}

type DataListener = (chunk: Buffer) => void;

/** One client's connection: request after request goes to the server, until one is to be joined. */
export class Connection {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #deps: ConnectionDeps;
  /** What the server would have read with; none before its first request. */
  #readers: readonly DataListener[] = [];
  /** Of a head that is not whole. */
  #seen: Buffer = Buffer.alloc(0);
  #timer: Timer | null;
  /** The request that the server has until its answer is out. */
  #current: Pick<RequestFrame, "ended" | "take"> | null = null;
  /** What came after it: every request is looked at by itself. */
  #ahead: Buffer[] = [];
  #aheadBytes = 0;

  constructor(socket: Socket, options: ConnectionOptions, deps: ConnectionDeps) {
    this.#socket = socket;
    this.#options = options;
    this.#deps = deps;
    this.#timer = this.#startTimer();
    socket.on("data", this.#onData);
    socket.on("end", this.#onLost).on("error", this.#onLost).on("close", this.#stopTimer);
  }

  /** The server has read a request: when its answer is out, the next one may be any kind. */
  serving(request: IncomingMessage, response: ServerResponse): void {
    response.on("close", () => {
      if (request.complete) this.#answered();
      else this.#linger(request);
    });
  }

  /** The server has let go of the connection; another reads it from here on. */
  release(): void {
    this.#stopTimer();
    this.#socket.off("data", this.#onData);
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#current !== null) {
      this.#pass(this.#current, chunk);
      return;
    }
    this.#seen = this.#seen.length === 0 ? chunk : Buffer.concat([this.#seen, chunk]);
    const verdict = judge(this.#seen);
    if (verdict === "wait") {
      this.#timer ??= this.#startTimer();
      return;
    }
    this.#stopTimer();
    const seen = this.#seen;
    this.#seen = Buffer.alloc(0);
    if (verdict === "join") this.#join(seen);
    else this.#serve(seen);
  };

  readonly #onLost = (): void => void this.#socket.destroy();

  readonly #stopTimer = (): void => {
    this.#timer?.cancel();
    this.#timer = null;
  };

  #startTimer(): Timer {
    const { headTimeoutMs } = this.#options;
    return this.#deps.clock.setTimer("api-head", headTimeoutMs, () => {
      if (this.#seen.length > 0) this.#socket.write(TOO_SLOW);
      this.#socket.destroySoon();
    });
  }

  #join(seen: Buffer): void {
    this.release();
    this.#socket.pause();
    this.#socket.off("end", this.#onLost).off("error", this.#onLost);
    this.#deps.join(this.#socket, closing(seen));
  }

  #serve(seen: Buffer): void {
    const current = frameOf(seen);
    this.#current = current;
    if (this.#readers.length === 0) this.#open();
    this.#pass(current, seen);
  }

  /** The next request, if the client has sent it already. */
  #answered(): void {
    if (this.#current?.ended !== true || this.#socket.destroyed) return;
    this.#current = null;
    const ahead = Buffer.concat(this.#ahead);
    this.#ahead = [];
    this.#aheadBytes = 0;
    this.#socket.resume();
    if (ahead.length > 0) this.#onData(ahead);
  }

  /** The server's own listeners for data are kept aside: what they get is for this to say. */
  #open(): void {
    const socket = this.#socket;
    socket.off("data", this.#onData).off("end", this.#onLost).off("error", this.#onLost);
    this.#deps.serve(socket);
    this.#readers = socket.listeners("data") as DataListener[];
    socket.removeAllListeners("data");
    socket.on("data", this.#onData);
  }

  #pass(current: Pick<RequestFrame, "take">, chunk: Buffer): void {
    const taken = current.take(chunk);
    if (taken < chunk.length) this.#keep(chunk.subarray(taken));
    if (taken === 0) return;
    const own = chunk.subarray(0, taken);
    for (const reader of this.#readers) reader.call(this.#socket, own);
  }

  #keep(chunk: Buffer): void {
    this.#ahead.push(chunk);
    this.#aheadBytes += chunk.length;
    if (this.#aheadBytes > MAX_AHEAD_BYTES) this.#socket.pause();
  }

  #linger(request: IncomingMessage): void {
    const { clock } = this.#deps;
    const end = (): void => void this.#socket.destroy();
    const timer = clock.setTimer("api-linger", this.#options.lingerMs, end);
    request.once("close", () => {
      timer.cancel();
      this.#answered();
    });
  }
}

const TOO_SLOW = [
  "HTTP/1.1 408 Request Timeout",
  "Connection: close",
  "Content-Length: 0",
  HEAD_END,
].join(LINE_END);

/** What is no HTTP is the server's to refuse. */
function judge(seen: Buffer): "http" | "join" | "wait" {
  const text = seen.toString("latin1");
  const method = text.slice(0, MAX_METHOD_CHARS);
  if (!/^[A-Z]*(?: |$)/.test(method) || seen.length > MAX_HEAD_BYTES) return "http";
  const lineEnd = text.indexOf(LINE_END);
  if (lineEnd < 0) return text.includes("\n") ? "http" : "wait";
  const line = REQUEST_LINE.exec(text.slice(0, lineEnd));
  if (line === null) return "http";
  const end = text.indexOf(HEAD_END);
  if (end < 0) return "wait";
  const isJoined = JOINED.some(pattern => pattern.test(`${line[1]} ${line[2]}`));
  return isJoined && !UPGRADES.test(text.slice(0, end)) ? "join" : "http";
}

/** What asks to leave HTTP, and what is none, ends with its connection. */
function frameOf(seen: Buffer): Pick<RequestFrame, "ended" | "take"> {
  const end = seen.indexOf(HEAD_END);
  const head = seen.subarray(0, Math.max(end, 0)).toString("latin1");
  if (end < 0 || UPGRADES.test(head)) return ENDLESS;
  return new RequestFrame(head, end + HEAD_END.length);
}

/** Without this the end would leave the client talking to the Engine alone. */
function closing(seen: Buffer): Buffer {
  const end = seen.indexOf(HEAD_END);
  const lines = seen.subarray(0, end).toString("latin1").split(LINE_END);
  const kept = lines.filter(line => !HOP_HEADERS.test(line));
  const head = [...kept, "Connection: close"].join(LINE_END) + HEAD_END;
  return Buffer.concat([Buffer.from(head, "latin1"), seen.subarray(end + HEAD_END.length)]);
}
