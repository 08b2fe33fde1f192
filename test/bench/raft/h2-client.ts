import { connect, type Socket } from "node:net";
import {
  Corked,
  END_HEADERS,
  END_STREAM,
  FIRST_WINDOW,
  FRAME,
  FRAME_HEAD_BYTES,
  type Frame,
  GRPC_HEAD_BYTES,
  housekeep,
  openingFrames,
  PREFACE,
  putHead,
  readFrames,
} from "./h2-frames.ts";

interface Call {
  answered: boolean;
  readonly done: () => void;
  readonly failed: (error: Error) => void;
}

/** Unary gRPC calls on one connection without TLS. Only whether a call succeeded is told. */
export class H2Client {
  readonly #socket: Socket;
  readonly #out: Corked;
  readonly #calls = new Map<number, Call>();
  #nextStream = 1;
  /** What the server still takes on the connection; calls beyond it wait. */
  #window = FIRST_WINDOW;
  #waiting: { readonly bytes: Buffer; readonly dataBytes: number }[] = [];

  constructor(host: string, port: number) {
    this.#socket = connect({ host, port, noDelay: true });
    this.#out = new Corked(this.#socket);
    this.#socket.on("error", error => this.#end(error));
    this.#socket.on("close", () => this.#end(new Error("the connection closed")));
    this.#socket.write(Buffer.concat([PREFACE, openingFrames()]));
    readFrames(this.#socket, 0, frame => this.#onFrame(frame));
  }

  /** `headers` from `requestHeaders`; resolves when the server has answered with a message. */
  call(headers: Buffer, message: Buffer): Promise<void> {
    const stream = this.#nextStream;
    this.#nextStream += 2;
    const dataBytes = GRPC_HEAD_BYTES + message.length;
    const bytes = Buffer.allocUnsafe(2 * FRAME_HEAD_BYTES + headers.length + dataBytes);
    const head = { length: headers.length, type: FRAME.headers, flags: END_HEADERS, stream };
    let at = putHead(bytes, 0, head);
    bytes.set(headers, at);
    const data = { length: dataBytes, type: FRAME.data, flags: END_STREAM, stream };
    at = putHead(bytes, at + headers.length, data);
    bytes[at] = 0;
    bytes.writeUInt32BE(message.length, at + 1);
    bytes.set(message, at + GRPC_HEAD_BYTES);
    return new Promise((done, failed) => {
      this.#calls.set(stream, { answered: false, done, failed });
      this.#waiting.push({ bytes, dataBytes });
      this.#flush();
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #flush(): void {
    let sent = 0;
    for (const { bytes, dataBytes } of this.#waiting) {
      if (dataBytes > this.#window) break;
      this.#window -= dataBytes;
      this.#out.write(bytes);
      sent += 1;
    }
    if (sent > 0) this.#waiting = this.#waiting.slice(sent);
  }

  #onFrame(frame: Frame): void {
    const { type, flags, stream, payload } = frame;
    if (housekeep(frame, bytes => this.#out.write(bytes))) return;
    if (type === FRAME.window && stream === 0) {
      this.#window += payload.readUInt32BE(0);
      this.#flush();
    }
    const call = this.#calls.get(stream);
    if (call === undefined) return;
    if (type === FRAME.data) call.answered = true;
    const ended = type === FRAME.rst || (flags & END_STREAM) !== 0;
    if (!ended || (type !== FRAME.rst && type !== FRAME.headers)) return;
    this.#calls.delete(stream);
    // A unary call that fails ends without a message.
    if (call.answered) call.done();
    else call.failed(new Error("the call was refused"));
  }

  #end(error: Error): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const { failed } of calls) failed(error);
  }
}
