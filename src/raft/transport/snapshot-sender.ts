import type { ClientWritableStream } from "@grpc/grpc-js";
import { type Deferred, newDeferred, withSignal } from "../../base/async.ts";
import type { Clock, Timer } from "../../base/clock.ts";
import { errorMessage, SwarmError } from "../../base/errors.ts";
import type { RaftClient, SnapshotChunk } from "../../rpc/gen/swarmd/v1/raft.ts";
import type { Message } from "../core/types.ts";
import { crc32c } from "../storage/crc32c.ts";
import { encodeMessage } from "./codec.ts";

/** The receiver takes nothing for this long: the transfer has failed. */
export const SNAPSHOT_IDLE_MS = 30_000;
/** Message size on the wire, far below gRPC's default limit of 4 MiB. */
const CHUNK_BYTES = 256 << 10;

export interface SnapshotJob {
  readonly clusterId: string;
  readonly message: Message;
  readonly chunks: AsyncIterable<Uint8Array>;
}

/**
 * Streams one snapshot over a call of its own, as fast as the receiver writes it. Resolves when the
 * receiver has it on disk. A failed transfer is started again from the beginning.
 */
export async function sendSnapshot(
  job: SnapshotJob,
  deps: { readonly client: RaftClient; readonly clock: Clock },
  signal: AbortSignal,
): Promise<void> {
  const reply = newDeferred<void>();
  reply.promise.catch(() => undefined);
  const call = deps.client.installSnapshot(error => {
    if (error === null) reply.resolve();
    else reply.reject(error);
  });
  const transfer = new Transfer(call, reply, deps.clock);
  try {
    await withSignal(transfer.run(job), signal);
  } catch (error) {
    call.cancel();
    throw new SwarmError("unavailable", `snapshot not sent: ${errorMessage(error)}`, {}, error);
  } finally {
    transfer.stop();
    deps.client.close();
  }
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

  async run({ clusterId, message, chunks }: SnapshotJob): Promise<void> {
    const wire = encodeMessage(message) ?? undefined;
    await this.#write({ body: { $case: "header", value: { clusterId, message: wire } } });
    let bytes = 0;
    let crc = 0;
    for await (const chunk of chunks) {
      crc = crc32c(chunk, crc);
      bytes += chunk.length;
      for (let at = 0; at < chunk.length; at += CHUNK_BYTES) {
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
