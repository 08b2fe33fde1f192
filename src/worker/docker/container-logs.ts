import { LogDecoder, type LogRecord } from "../core/log-frames.ts";
import type { LogReadOptions } from "../executor.ts";
import type { DockerEngine, EngineCall } from "./engine.ts";
import { engineError } from "./engine-error.ts";

const MS_PER_S = 1_000;
const NS_PER_S = 1_000_000_000n;
/** How much farther back each look for the last lines of one stream goes. */
const WINDOW_GROWTH = 8;
/** A look farther back than this goes to the start of the log; more lines are not counted. */
const MAX_WINDOW_LINES = 1_000_000;

export interface LogSource {
  readonly containerId: string;
  readonly tty: boolean;
}

/**
 * The log of a container. The Engine takes the last lines of both streams and drops those of the
 * unwanted one afterwards, which leaves any number of them; here `tail` counts what is asked for.
 */
export async function* readContainerLogs(
  engine: DockerEngine,
  source: LogSource,
  options: LogReadOptions,
  signal: AbortSignal,
): AsyncGenerator<LogRecord, void> {
  const oneStream = !source.tty && options.stdout !== options.stderr;
  if (!oneStream || options.tail <= 0 || options.tail > MAX_WINDOW_LINES) {
    yield* read(engine, source, logQuery(options), signal);
    return;
  }
  const sinceNs = await lastLinesSince(engine, source, options, signal);
  const query = logQuery({ ...options, tail: -1 });
  const since = sinceNs === null ? {} : { since: secondsOf(sinceNs) };
  yield* read(engine, source, { ...query, ...since }, signal);
}

/** When the first of the last `tail` lines of the wanted stream was written; null: read them all. */
async function lastLinesSince(
  engine: DockerEngine,
  source: LogSource,
  options: LogReadOptions,
  signal: AbortSignal,
): Promise<bigint | null> {
  const { tail } = options;
  for (let window = tail; ; window *= WINDOW_GROWTH) {
    const lines = window > MAX_WINDOW_LINES ? -1 : window;
    const asked = { ...options, stdout: true, stderr: true, follow: false, tail: lines };
    let last: string[] = [];
    let seen = 0;
    for await (const { stream, timestampNs } of read(engine, source, logQuery(asked), signal)) {
      seen += 1;
      if (!options[stream]) continue;
      last.push(timestampNs);
      if (last.length >= 2 * tail) last = last.slice(-tail);
    }
    const first = last.at(-tail);
    if (first !== undefined) return BigInt(first);
    if (lines < 0 || seen < lines) return null;
  }
}

async function* read(
  engine: DockerEngine,
  { containerId, tty }: LogSource,
  query: Readonly<Record<string, string>>,
  signal: AbortSignal,
): AsyncGenerator<LogRecord, void> {
  const path = `/containers/${encodeURIComponent(containerId)}/logs`;
  const call: EngineCall = { method: "GET", path, query };
  const stream = await engine.stream(call, signal);
  const decoder = new LogDecoder({ tty });
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) yield* decoder.push(chunk);
    yield* decoder.end();
  } catch (error) {
    throw signal.aborted ? signal.reason : engineError(error, engine.socketPath);
  } finally {
    stream.destroy();
  }
}

function logQuery(options: LogReadOptions): Readonly<Record<string, string>> {
  return {
    stdout: options.stdout ? "1" : "0",
    stderr: options.stderr ? "1" : "0",
    follow: options.follow ? "1" : "0",
    tail: options.tail < 0 ? "all" : String(options.tail),
    ...(options.sinceMs > 0 && { since: String(options.sinceMs / MS_PER_S) }),
    timestamps: "1",
    details: "1",
  };
}

/** As the Engine's `since` has it, to the nanosecond. */
function secondsOf(ns: bigint): string {
  return `${ns / NS_PER_S}.${String(ns % NS_PER_S).padStart(9, "0")}`;
}
