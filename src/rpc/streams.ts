import { newDeferred, withSignal } from "../base/async.ts";

/** The reading side of a grpc-js stream. */
export interface GrpcReadable {
  read(): unknown;
  readonly readableEnded: boolean;
  on(event: "readable" | "end" | "close" | "error", listener: () => void): unknown;
  off(event: "readable" | "end" | "close" | "error", listener: () => void): unknown;
}

/** The writing side of one. */
export interface GrpcWritable {
  write(message: unknown): boolean;
  once(event: "drain", listener: () => void): unknown;
  off(event: "drain", listener: () => void): unknown;
}

/**
 * The messages of a stream, read one at a time: the next is not asked of the peer before this one
 * is taken. Ends with the stream; throws `failure()` when that is not null, or the signal's reason.
 * Leaving the loop early does not close the stream.
 */
export async function* readAll<T>(
  stream: GrpcReadable,
  signal: AbortSignal,
  failure: () => unknown = () => null,
): AsyncGenerator<T, void> {
  let ended = stream.readableEnded;
  let wake = newDeferred<void>();
  const onEvent = (): void => wake.resolve();
  const onEnd = (): void => {
    ended = true;
    wake.resolve();
  };
  stream.on("readable", onEvent);
  stream.on("error", onEvent);
  stream.on("end", onEnd);
  stream.on("close", onEnd);
  try {
    for (;;) {
      signal.throwIfAborted();
      const item = stream.read();
      if (item !== null) {
        yield item as T;
        continue;
      }
      const error = failure();
      if (error !== null) throw error;
      if (ended) return;
      await withSignal(wake.promise, signal);
      wake = newDeferred();
    }
  } finally {
    stream.off("readable", onEvent);
    stream.off("error", onEvent);
    stream.off("end", onEnd);
    stream.off("close", onEnd);
  }
}

/** Writes everything `source` yields, waiting whenever the peer is slower. */
export async function pump(
  source: AsyncIterable<unknown>,
  stream: GrpcWritable,
  signal: AbortSignal,
): Promise<void> {
  const iterator = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await withSignal(iterator.next(), signal);
      if (next.done) return;
      await writeOne(stream, next.value, signal);
    }
  } finally {
    // A generator that waits for something else answers only when that ends: it is not awaited.
    void iterator.return?.().catch(() => undefined);
  }
}

/** Resolves when the stream has room for more. */
export async function writeOne(
  stream: GrpcWritable,
  message: unknown,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  if (stream.write(message)) return;
  const drained = newDeferred<void>();
  const onDrain = (): void => drained.resolve();
  stream.once("drain", onDrain);
  try {
    await withSignal(drained.promise, signal);
  } finally {
    stream.off("drain", onDrain);
  }
}
