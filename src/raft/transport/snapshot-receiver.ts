import { status } from "@grpc/grpc-js";
import type { Clock, Timer } from "../../base/clock.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/logger.ts";
import type { SnapshotChunk } from "../../rpc/gen/swarmd/v1/raft.ts";
import type { Message, SnapshotMeta } from "../core/types.ts";
import { crc32c } from "../storage/crc32c.ts";
import { decodeMessage } from "./codec.ts";
import type { SnapshotSink } from "./raft-transport.ts";
import { Refusal } from "./refusal.ts";

/** What a broken transfer has brought is kept for so long. */
export const SNAPSHOT_KEPT_MS = 60_000;

/** How much of a snapshot is there, and CRC32C of it. */
export interface SnapshotPart {
  readonly bytes: number;
  readonly crc: number;
}

const NOTHING: SnapshotPart = { bytes: 0, crc: 0 };

interface Kept extends SnapshotPart {
  readonly meta: SnapshotMeta;
  readonly sink: SnapshotSink;
  readonly timer: Timer;
}

/** Keeps the beginning of one snapshot whose transfer broke, for the transfer that goes on with it. */
export class SnapshotRemains {
  readonly #clock: Clock;
  readonly #log: Logger;
  #kept: Kept | null = null;

  constructor(deps: { readonly clock: Clock; readonly log: Logger }) {
    this.#clock = deps.clock;
    this.#log = deps.log;
  }

  /** Nothing when it is another snapshot's. */
  of(meta: SnapshotMeta): SnapshotPart {
    return this.#kept !== null && isSame(this.#kept.meta, meta) ? this.#kept : NOTHING;
  }

  /** Takes the remains over if they are exactly the first `bytes` of this snapshot; else drops them. */
  claim(
    meta: SnapshotMeta,
    bytes: number,
  ): (SnapshotPart & { readonly sink: SnapshotSink }) | null {
    const kept = this.#kept;
    if (kept !== null && bytes > 0 && kept.bytes === bytes && isSame(kept.meta, meta)) {
      this.#forget();
      return kept;
    }
    this.drop();
    return null;
  }

  keep(meta: SnapshotMeta, sink: SnapshotSink, part: SnapshotPart): void {
    this.drop();
    const timer = this.#clock.setTimer("raft snapshot remains", SNAPSHOT_KEPT_MS, () =>
      this.drop(),
    );
    this.#kept = { meta, sink, timer, ...part };
  }

  drop(): void {
    const kept = this.#forget();
    kept?.sink.abort().catch((error: unknown) => {
      this.#log.warn("part of a snapshot was not removed", { error: errorMessage(error) });
    });
  }

  #forget(): Kept | null {
    const kept = this.#kept;
    kept?.timer.cancel();
    this.#kept = null;
    return kept;
  }
}

function isSame(a: SnapshotMeta, b: SnapshotMeta): boolean {
  return a.index === b.index && a.term === b.term;
}

export interface SnapshotReceiverDeps {
  readonly remains: SnapshotRemains;
  /** Throws a Refusal when the announcement is not from whom it says, or not for this member. */
  readonly check: (message: Message) => void;
  readonly open: (message: Message) => Promise<SnapshotSink>;
}

/** One transfer: header, data, trailer, in this order and checked. */
export class SnapshotReceiver {
  readonly #clusterId: string;
  readonly #deps: SnapshotReceiverDeps;
  #message: Message | null = null;
  #sink: SnapshotSink | null = null;
  #bytes = 0;
  #crc = 0;
  #complete = false;
  /** Something was wrong with it: nothing of it is worth keeping. */
  #spoiled = false;

  constructor(options: { readonly clusterId: string }, deps: SnapshotReceiverDeps) {
    this.#clusterId = options.clusterId;
    this.#deps = deps;
  }

  async take(chunk: SnapshotChunk): Promise<void> {
    try {
      await this.#take(chunk);
    } catch (error) {
      this.#spoiled = true;
      throw error;
    }
  }

  checkComplete(): void {
    if (!this.#complete) throw new Refusal(status.ABORTED, "the snapshot was cut short");
  }

  /** The call has failed. When it merely broke, the next goes on where it was. */
  async fail(): Promise<void> {
    const sink = this.#sink;
    const meta = this.#message?.snapshot ?? null;
    if (sink === null || this.#complete) return;
    if (this.#spoiled || meta === null || this.#bytes === 0) await sink.abort();
    else this.#deps.remains.keep(meta, sink, { bytes: this.#bytes, crc: this.#crc });
  }

  async #take({ body }: SnapshotChunk): Promise<void> {
    if (body === undefined || this.#complete) throw malformed();
    if (body.$case === "header") {
      const message = body.value.message === undefined ? null : decodeMessage(body.value.message);
      if (this.#sink !== null || message === null) throw malformed();
      if (body.value.clusterId !== this.#clusterId) {
        throw new Refusal(status.FAILED_PRECONDITION, "this node belongs to another cluster");
      }
      await this.#begin(message, body.value.fromBytes);
      return;
    }
    if (this.#sink === null || this.#message === null) throw malformed();
    if (body.$case === "data") {
      await this.#sink.write(body.value);
      this.#bytes += body.value.length;
      this.#crc = crc32c(body.value, this.#crc);
      return;
    }
    if (body.value.bytes !== this.#bytes || body.value.crc32c !== this.#crc) {
      throw new Refusal(status.DATA_LOSS, "the snapshot's checksum is wrong");
    }
    await this.#sink.commit(this.#message);
    this.#complete = true;
  }

  async #begin(message: Message, fromBytes: number): Promise<void> {
    this.#deps.check(message);
    const meta = message.snapshot;
    if (meta === null) throw malformed();
    const remains = this.#deps.remains.claim(meta, fromBytes);
    if (remains === null && fromBytes > 0) {
      throw new Refusal(status.ABORTED, "what an earlier call has brought is gone");
    }
    this.#message = message;
    this.#bytes = remains?.bytes ?? 0;
    this.#crc = remains?.crc ?? 0;
    this.#sink = remains?.sink ?? (await this.#deps.open(message));
  }
}

function malformed(): Refusal {
  return new Refusal(status.INVALID_ARGUMENT, "not a snapshot stream");
}
