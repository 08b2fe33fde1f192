import type { Socket } from "node:net";

/**
 * As little of HTTP/2 (RFC 9113) and of gRPC over it as one unary call needs, so that the price of a
 * client library is not measured with the log. The client works with any gRPC server; the server
 * knows this client only.
 */
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
export const FRAME_HEAD_BYTES = 9;
export const FRAME = { data: 0, headers: 1, rst: 3, settings: 4, ping: 6, window: 8 } as const;
export const END_STREAM = 1;
export const END_HEADERS = 4;
export const ACK = 1;
const SETTINGS_HEADER_TABLE = 1;
const SETTINGS_STREAMS = 3;
const SETTINGS_WINDOW = 4;
const MAX_WINDOW = 2 ** 31 - 1;
export const FIRST_WINDOW = 65_535;
/** Length and compression flag before a gRPC message. */
export const GRPC_HEAD_BYTES = 5;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** Writes a frame's head at `at`. */
export function putHead(
  into: Buffer,
  at: number,
  head: { length: number; type: number; flags: number; stream: number },
): number {
  into.writeUIntBE(head.length, at, 3);
  into[at + 3] = head.type;
  into[at + 4] = head.flags;
  into.writeUInt32BE(head.stream, at + 5);
  return at + FRAME_HEAD_BYTES;
}

export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + payload.length);
  bytes.set(payload, putHead(bytes, 0, { length: payload.length, type, flags, stream }));
  return bytes;
}

/** No dynamic header table, and windows so large that they never close. */
export function openingFrames(): Buffer {
  const settings = Buffer.alloc(18);
  settings.writeUInt16BE(SETTINGS_HEADER_TABLE, 0);
  settings.writeUInt16BE(SETTINGS_STREAMS, 6);
  settings.writeUInt32BE(MAX_WINDOW, 8);
  settings.writeUInt16BE(SETTINGS_WINDOW, 12);
  settings.writeUInt32BE(MAX_WINDOW, 14);
  const more = Buffer.alloc(4);
  more.writeUInt32BE(MAX_WINDOW - FIRST_WINDOW, 0);
  return Buffer.concat([frame(FRAME.settings, 0, 0, settings), frame(FRAME.window, 0, 0, more)]);
}

/** Calls `see` with each whole frame of what arrives. */
export function readFrames(socket: Socket, skipBytes: number, see: (frame: Frame) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  let skip = skipBytes;
  socket.on("data", (bytes: Buffer) => {
    let all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    const skipped = Math.min(skip, all.length);
    skip -= skipped;
    all = all.subarray(skipped);
    let at = 0;
    while (all.length - at >= FRAME_HEAD_BYTES) {
      const length = all.readUIntBE(at, 3);
      const end = at + FRAME_HEAD_BYTES + length;
      if (end > all.length) break;
      see({
        type: all[at + 3] ?? 0,
        flags: all[at + 4] ?? 0,
        stream: all.readUInt32BE(at + 5) & MAX_WINDOW,
        payload: all.subarray(at + FRAME_HEAD_BYTES, end),
      });
      at = end;
    }
    rest = all.subarray(at);
  });
}

/** Answers what keeps the connection alive; true when the frame was of that kind. */
export function housekeep(
  { type, flags, payload }: Frame,
  write: (bytes: Buffer) => void,
): boolean {
  if (type === FRAME.settings && (flags & ACK) === 0) {
    write(frame(FRAME.settings, ACK, 0, Buffer.alloc(0)));
  }
  if (type === FRAME.ping && (flags & ACK) === 0) write(frame(FRAME.ping, ACK, 0, payload));
  return type === FRAME.settings || type === FRAME.ping;
}

/** Frames of one turn leave in one write. */
export class Corked {
  readonly #socket: Socket;
  #waiting: Buffer[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  write(bytes: Buffer): void {
    this.#waiting.push(bytes);
    if (this.#waiting.length > 1) return;
    setImmediate(() => {
      const all = this.#waiting;
      this.#waiting = [];
      if (!this.#socket.destroyed) this.#socket.write(Buffer.concat(all));
    });
  }
}

/** A header as a literal that is in no table (RFC 7541, 6.2.2), without Huffman coding. */
function literal(name: string, value: string): Buffer {
  const text = (of: string): Buffer => Buffer.concat([Buffer.from([of.length]), Buffer.from(of)]);
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

/** Index of the static table (RFC 7541, 6.1). */
const POST = 0x83;
const HTTP = 0x86;
const STATUS_200 = 0x88;

export function requestHeaders(path: string): Buffer {
  return Buffer.concat([
    Buffer.from([POST, HTTP]),
    literal(":path", path),
    literal(":authority", "bench"),
    literal("content-type", "application/grpc"),
    literal("te", "trailers"),
  ]);
}

export const RESPONSE_HEADERS = Buffer.concat([
  Buffer.from([STATUS_200]),
  literal("content-type", "application/grpc"),
]);

export function trailers(status: number): Buffer {
  return literal("grpc-status", String(status));
}
