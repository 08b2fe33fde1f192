import type { Socket } from "node:net";

/**
 * Connections that are better joined to the Engine's than read as HTTP; known by their first
 * request. HTTP servers cannot let go of a connection, so that is looked at before the server gets it.
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
const REQUEST_LINE = /^([A-Z]+) \/(?:v\d+\.\d+\/)?([^ ?]*)[ ?]/;
const UPGRADES = /^upgrade[ \t]*:/im;
const HOP_HEADERS = /^(?:connection|keep-alive|proxy-connection)[ \t]*:/i;
const METHODS = ["POST ", "PUT ", "GET "];
const LINE_END = "\r\n";
const HEAD_END = "\r\n\r\n";
const MAX_HEAD_BYTES = 64 * 1024;

export interface FirstRequest {
  /** Not ours to look at: the connection with all its bytes. */
  readonly onHttp: (socket: Socket) => void;
  /** `start`: the request, asking the Engine to close the connection at its end. */
  readonly onJoin: (socket: Socket, start: Buffer) => void;
}

/** Waits for enough of the first request to tell who is to have the connection. */
export function sortConnection(socket: Socket, timeoutMs: number, to: FirstRequest): void {
  let seen: Buffer = Buffer.alloc(0);
  const onData = (chunk: Buffer): void => {
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const verdict = judge(seen);
    if (verdict === "wait") return;
    socket.pause();
    release();
    if (verdict === "join") {
      to.onJoin(socket, closing(seen));
      return;
    }
    socket.unshift(seen);
    to.onHttp(socket);
    socket.resume();
  };
  const onEnd = (): void => void socket.destroy();
  const release = (): void => {
    socket.setTimeout(0);
    socket.off("data", onData).off("end", onEnd).off("error", onEnd).off("timeout", onEnd);
  };
  socket.setTimeout(timeoutMs);
  socket.on("data", onData).on("end", onEnd).on("error", onEnd).on("timeout", onEnd);
}

function judge(seen: Buffer): "http" | "join" | "wait" {
  const text = seen.toString("latin1");
  const mayMatch = METHODS.some(method => text.startsWith(method.slice(0, text.length)));
  if (!mayMatch) return "http";
  if (seen.length > MAX_HEAD_BYTES) return "http";
  if (!text.includes(LINE_END)) return "wait";
  const [, method = "", path = ""] = REQUEST_LINE.exec(text) ?? [];
  if (!JOINED.some(pattern => pattern.test(`${method} ${path}`))) return "http";
  const end = text.indexOf(HEAD_END);
  if (end < 0) return "wait";
  return UPGRADES.test(text.slice(0, end)) ? "http" : "join";
}

/** Without this the end would leave the client talking to the Engine alone. */
function closing(seen: Buffer): Buffer {
  const end = seen.indexOf(HEAD_END);
  const lines = seen.subarray(0, end).toString("latin1").split(LINE_END);
  const kept = lines.filter(line => !HOP_HEADERS.test(line));
  const head = [...kept, "Connection: close"].join(LINE_END) + HEAD_END;
  return Buffer.concat([Buffer.from(head, "latin1"), seen.subarray(end + HEAD_END.length)]);
}
