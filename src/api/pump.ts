import net from "node:net";
import type { Duplex } from "node:stream";

/**
 * Two connections made one, without a look at what passes. Bytes are read into a few buffers that
 * are used again and again: fresh ones for every read would have the garbage collector walk the
 * daemon's whole heap for every 64 MB that pass.
 */

const CHUNK_BYTES = 64 * 1024;
/** Chunks on their way, in one direction: both sides go on working while one is late. */
const CHUNKS = 16;
export const MAX_IN_FLIGHT_BYTES = CHUNKS * CHUNK_BYTES;

/** Buffers of one direction; the one that is read into is never one that is being written. */
class Chunks {
  readonly #free: Buffer[] = [];
  #made = 0;

  get hasRoom(): boolean {
    return this.#free.length > 0 || this.#made < CHUNKS;
  }

  /** One more than there is room for is asked for in vain, while reading is paused. */
  take(): Buffer {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    this.#made += 1;
    return Buffer.allocUnsafeSlow(CHUNK_BYTES);
  }

  give(chunk: Buffer): void {
    this.#free.push(chunk);
  }
}

/** Where a source's chunks go, and when the source is to go on. */
class Sink {
  readonly #chunks = new Chunks();
  readonly #to: () => Duplex | null;
  readonly #resume: () => void;

  /** For `onread` of the source (net.Socket). */
  readonly onread = {
    buffer: (): Buffer => this.#chunks.take(),
    callback: (bytes: number, buffer: Uint8Array): boolean => this.#write(bytes, buffer as Buffer),
  };

  constructor(to: () => Duplex | null, resume: () => void) {
    this.#to = to;
    this.#resume = resume;
  }

  #write(bytes: number, buffer: Buffer): boolean {
    const to = this.#to();
    if (to === null || to.destroyed || to.writableEnded) return false;
    to.write(buffer.subarray(0, bytes), () => {
      const wasFull = !this.#chunks.hasRoom;
      this.#chunks.give(buffer);
      if (wasFull) this.#resume();
    });
    return this.#chunks.hasRoom;
  }
}

/** What a socket stands on. Node has no other way to give an accepted one buffers of its own. */
function takeHandle(socket: net.Socket): object | null {
  const handle: unknown = Reflect.get(socket, "_handle");
  if (typeof handle !== "object" || handle === null || !("useUserBuffer" in handle)) return null;
  Reflect.set(socket, "_handle", null);
  // Its server counts it as gone.
  socket.destroy();
  return handle;
}

/**
 * A connection to the Engine that reads straight into what is written to the client.
 *
 * @param client - null before there is one: nothing is read then.
 */
export function connectInto(path: string, client: () => Duplex | null): net.Socket {
  const sink = new Sink(client, () => upstream.resume());
  const upstream = net.connect({ path, allowHalfOpen: true, onread: sink.onread });
  upstream.on("end", () => client()?.end());
  return upstream;
}

/**
 * The accepted connection as one that reads straight into what is written to the Engine. What it has
 * read must have been taken.
 */
export function acceptInto(accepted: net.Socket, upstream: () => Duplex | null): net.Socket {
  const handle = takeHandle(accepted);
  if (handle === null) return pumped(accepted, upstream);
  const sink = new Sink(upstream, () => client.resume());
  const options = { handle, allowHalfOpen: true, onread: sink.onread };
  const client = new net.Socket(options);
  client.on("end", () => upstream()?.end());
  return client;
}

/** The same for a stream that stays as it is. */
export function pumped<T extends Duplex>(from: T, to: () => Duplex | null): T {
  let inFlightBytes = 0;
  from.on("data", (chunk: Buffer) => {
    inFlightBytes += chunk.length;
    to()?.write(chunk, () => {
      inFlightBytes -= chunk.length;
      if (from.isPaused() && inFlightBytes < MAX_IN_FLIGHT_BYTES) from.resume();
    });
    if (inFlightBytes >= MAX_IN_FLIGHT_BYTES) from.pause();
  });
  from.on("end", () => to()?.end());
  from.pause();
  return from;
}
