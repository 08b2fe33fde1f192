import { type ClientWritableStream, Metadata, status } from "@grpc/grpc-js";
import { type Deferred, newDeferred, withSignal } from "../../base/async.ts";
import { type Clock, sleep, type Timer } from "../../base/clock.ts";
import { errorMessage, isSwarmError, SwarmError } from "../../base/errors.ts";
import type { RaftClient, SnapshotChunk } from "../../rpc/gen/swarmd/v1/raft.ts";
import type { Message } from "../core/types.ts";
import { crc32c } from "../storage/crc32c.ts";
import { encodeMessage, encodeMeta } from "./codec.ts";
import type { SnapshotPart } from "./snapshot-receiver.ts";

/** The receiver takes nothing for this long: the transfer has failed. */
export const SNAPSHOT_IDLE_MS = 30_000;
/** Message size on the wire, far below gRPC's default limit of 4 MiB. */
const CHUNK_BYTES = 256 << 10;

/** A transfer that breaks is taken up again after this time, */
const RETRY_MS = 500;
/** so often in a row without getting on. */
const MAX_TRIES = 3;
/** The receiver must say what it has within this time. */
const ASK_TIMEOUT_MS = 5_000;
/** The receiver's word: to try again would bring the same. */
const FINAL: ReadonlySet<unknown> = new Set([
  status.INVALID_ARGUMENT,
  status.NOT_FOUND,
  status.FAILED_PRECONDITION,
  status.DATA_LOSS,
  status.UNIMPLEMENTED,
]);

export interface SnapshotJob {
  readonly clusterId: string;
  readonly message: Message;
  /** May be read several times. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

export interface SnapshotSenderDeps {
  /** A connection of its own for each try. */
  readonly dial: () => RaftClient;
  readonly clock: Clock;
}

/**
 * Streams one snapshot over a call of its own, as fast as the receiver writes it. Resolves when the
 * receiver has it on disk. A transfer that breaks goes on with what the receiver does not have yet.
 */
export async function sendSnapshot(
  job: SnapshotJob,
  deps: SnapshotSenderDeps,
  signal: AbortSignal,
): Promise<void> {
  let furthest = 0;
  for (let tries = 1; ; tries += 1) {
    const client = deps.dial();
    try {
      const part = await withSignal(askForPart(client, job, deps.clock), signal);
      if (part.bytes > furthest) tries = 1;
      furthest = Math.max(furthest, part.bytes);
      await sendRest(job, part, { client, clock: deps.clock, signal });
      return;
    } catch (error) {
      if (signal.aborted || tries >= MAX_TRIES || isFinal(error)) {
        throw new SwarmError("unavailable", `snapshot not sent: ${errorMessage(error)}`, {}, error);
      }
    } finally {
      client.close();
    }
    await sleep(deps.clock, RETRY_MS, signal);
  }
}

function isFinal(error: unknown): boolean {
  if (isSwarmError(error)) return true;
  return error instanceof Error && "code" in error && FINAL.has(error.code);
}

function askForPart(client: RaftClient, job: SnapshotJob, clock: Clock): Promise<SnapshotPart> {
  const { clusterId, message } = job;
  const snapshot = message.snapshot === null ? undefined : encodeMeta(message.snapshot);
  const deadline = clock.nowMs() + ASK_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    client.probe({ clusterId, snapshot }, new Metadata(), { deadline }, (error, reply) => {
      if (error !== null) reject(error);
      else if (reply.raftId === message.to) {
        resolve({ bytes: reply.snapshotBytes, crc: reply.snapshotCrc32c });
      } else {
        reject(new SwarmError("unavailable", `member ${reply.raftId} lives there now`));
      }
    });
  });
}

async function sendRest(
  job: SnapshotJob,
  part: SnapshotPart,
  deps: { readonly client: RaftClient; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<void> {
  const fromBytes = part.bytes > 0 && (await beginsWith(job.chunks, part)) ? part.bytes : 0;
  const reply = newDeferred<void>();
  reply.promise.catch(() => undefined);
  const call = deps.client.installSnapshot(error => {
    if (error === null) reply.resolve();
    else reply.reject(error);
  });
  const transfer = new Transfer(call, reply, deps.clock);
  try {
    await withSignal(transfer.run(job, fromBytes), deps.signal);
  } catch (error) {
    call.cancel();
    throw error;
  } finally {
    transfer.stop();
  }
}

/** Whether what the receiver has is of this very snapshot: two leaders may write one differently. */
async function beginsWith(chunks: AsyncIterable<Uint8Array>, part: SnapshotPart): Promise<boolean> {
  let bytes = 0;
  let crc = 0;
  for await (const chunk of chunks) {
    const some = chunk.subarray(0, part.bytes - bytes);
    bytes += some.length;
    crc = crc32c(some, crc);
    if (bytes === part.bytes) return crc === part.crc;
  }
  return false;
}

class Transfer {
  readonly #call: ClientWritableStream<SnapshotChunk>;
  readonly #reply: Deferred<void>;
  readonly #clock: Clock;
  #watchdog: Timer | null = null;
  #drained: Deferred<void> | null = null;

  constructor(call: ClientWritableStream<SnapshotChunk>, reply: Deferred<void>, clock: Clock) {
    this.#call = call;
    this.#reply = reply;
    this.#clock = clock;
    call.on("drain", () => this.#drained?.resolve());
    call.on("error", error => reply.reject(error));
  }

  /** Leaves the first `fromBytes` out. */
  async run({ clusterId, message, chunks }: SnapshotJob, fromBytes: number): Promise<void> {
    const wire = encodeMessage(message) ?? undefined;
    await this.#write({
      body: { $case: "header", value: { clusterId, message: wire, fromBytes } },
    });
    let bytes = 0;
    let crc = 0;
    for await (const chunk of chunks) {
      const known = Math.min(chunk.length, Math.max(0, fromBytes - bytes));
      crc = crc32c(chunk, crc);
      bytes += chunk.length;
      for (let at = known; at < chunk.length; at += CHUNK_BYTES) {
        const length = Math.min(CHUNK_BYTES, chunk.length - at);
        const value = Buffer.from(chunk.buffer, chunk.byteOffset + at, length);
        await this.#write({ body: { $case: "data", value } });
      }
    }
    await this.#write({ body: { $case: "trailer", value: { bytes, crc32c: crc } } });
    this.#call.end();
    await this.#reply.promise;
  }

  stop(): void {
    this.#watchdog?.cancel();
  }

  async #write(chunk: SnapshotChunk): Promise<void> {
    this.#watchdog?.cancel();
    this.#watchdog = this.#clock.setTimer("raft snapshot", SNAPSHOT_IDLE_MS, () => {
      this.#reply.reject(new Error(`the receiver took nothing for ${SNAPSHOT_IDLE_MS} ms`));
    });
    if (this.#call.write(chunk)) return;
    this.#drained = newDeferred();
    await Promise.race([this.#drained.promise, this.#reply.promise]);
  }
}
