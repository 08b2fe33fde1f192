import { createServer, type Socket } from "node:net";
import {
  Corked,
  END_HEADERS,
  END_STREAM,
  FRAME,
  FRAME_HEAD_BYTES,
  type Frame,
  GRPC_HEAD_BYTES,
  housekeep,
  openingFrames,
  PREFACE,
  putHead,
  RESPONSE_HEADERS,
  readFrames,
  requestHeaders,
  trailers,
} from "./h2-frames.ts";

/** From the request's bytes to the answer's; a rejection is answered as UNAVAILABLE. */
export type Handler = (message: Buffer) => Promise<Uint8Array>;

const OK = trailers(0);
const UNAVAILABLE = trailers(14);
/** Told to the client again when so much of the connection's window is used. */
const WINDOW_STEP = 1 << 24;

/** Serves the calls of `H2Client`: a request is one HEADERS and one DATA frame. */
export async function serveCalls(
  port: number,
  handlers: ReadonlyMap<string, Handler>,
): Promise<void> {
  const byHeaders = [...handlers].map(([path, run]) => ({ headers: requestHeaders(path), run }));
  const server = createServer({ noDelay: true }, socket => serve(socket, byHeaders));
  await new Promise<void>(resolve => server.listen(port, "127.0.0.1", resolve));
}

function serve(
  socket: Socket,
  byHeaders: readonly { readonly headers: Buffer; readonly run: Handler }[],
): void {
  const out = new Corked(socket);
  const handlers = new Map<number, Handler>();
  let received = 0;
  socket.on("error", () => socket.destroy());
  out.write(openingFrames());
  readFrames(socket, PREFACE.length, (frame: Frame) => {
    const { type, stream, payload } = frame;
    if (housekeep(frame, bytes => out.write(bytes))) return;
    if (type === FRAME.headers) {
      const found = byHeaders.find(({ headers }) => headers.equals(payload));
      if (found !== undefined) handlers.set(stream, found.run);
    } else if (type === FRAME.data) {
      received += payload.length;
      if (received >= WINDOW_STEP) {
        out.write(windowUpdate(received));
        received = 0;
      }
      const run = handlers.get(stream);
      handlers.delete(stream);
      run?.(payload.subarray(GRPC_HEAD_BYTES)).then(
        message => out.write(answer(stream, message)),
        () => out.write(refusal(stream)),
      );
    }
  });
}

function windowUpdate(bytes: number): Buffer {
  const update = Buffer.allocUnsafe(FRAME_HEAD_BYTES + 4);
  const at = putHead(update, 0, { length: 4, type: FRAME.window, flags: 0, stream: 0 });
  update.writeUInt32BE(bytes, at);
  return update;
}

/** Headers, message, trailers. */
function answer(stream: number, message: Uint8Array): Buffer {
  const dataBytes = GRPC_HEAD_BYTES + message.length;
  const size = 3 * FRAME_HEAD_BYTES + RESPONSE_HEADERS.length + dataBytes + OK.length;
  const bytes = Buffer.allocUnsafe(size);
  let at = headersAt(bytes, 0, stream, RESPONSE_HEADERS, END_HEADERS);
  at = putHead(bytes, at, { length: dataBytes, type: FRAME.data, flags: 0, stream });
  bytes[at] = 0;
  bytes.writeUInt32BE(message.length, at + 1);
  bytes.set(message, at + GRPC_HEAD_BYTES);
  headersAt(bytes, at + dataBytes, stream, OK, END_HEADERS | END_STREAM);
  return bytes;
}

function refusal(stream: number): Buffer {
  const block = Buffer.concat([RESPONSE_HEADERS, UNAVAILABLE]);
  const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + block.length);
  headersAt(bytes, 0, stream, block, END_HEADERS | END_STREAM);
  return bytes;
}

function headersAt(
  bytes: Buffer,
  at: number,
  stream: number,
  block: Buffer,
  flags: number,
): number {
  const next = putHead(bytes, at, { length: block.length, type: FRAME.headers, flags, stream });
  bytes.set(block, next);
  return next + block.length;
}
