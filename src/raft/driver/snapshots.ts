import { errorMessage } from "../../base/errors.ts";
import type { ConfState, Message, SnapshotMeta } from "../core/types.ts";
import type { SnapshotSink } from "../transport/raft-transport.ts";
import type { AppliedBatch, Applier } from "./applier.ts";
import type { DriverContext, LogLimits } from "./options.ts";

/** Snapshots on their way to followers at a time; more are put off. */
const MAX_SENDING = 2;
/** Fresh snapshots taken in a row for a follower that the present one does not name. */
const MAX_FRESH_TRIES = 3;

/** Takes, sends and receives snapshots, beside the log's own loop. */
export class Snapshots {
  readonly #context: DriverContext;
  readonly #applier: Applier;
  readonly #signal: AbortSignal;
  #latest: SnapshotMeta | null;
  #entriesSince = 0;
  #bytesSince = 0;
  #taking: Promise<void> | null = null;
  readonly #sending = new Map<number, Promise<void>>();
  taken = 0;
  sent = 0;
  received = 0;
  failures = 0;

  constructor(
    context: DriverContext,
    deps: { readonly applier: Applier; readonly signal: AbortSignal },
    latest: SnapshotMeta | null,
  ) {
    this.#context = context;
    this.#applier = deps.applier;
    this.#signal = deps.signal;
    this.#latest = latest;
  }

  get #limits(): LogLimits {
    const { options, logLimits } = this.#context;
    return logLimits?.() ?? options;
  }

  /** Takes a snapshot when enough was applied since the last. */
  applied(batch: AppliedBatch): void {
    this.#entriesSince += batch.entries;
    this.#bytesSince += batch.bytes;
    const { snapshotBytes } = this.#context.options;
    const { snapshotEntries } = this.#limits;
    const due = this.#entriesSince >= snapshotEntries || this.#bytesSince >= snapshotBytes;
    if (due && !this.#signal.aborted) void this.#take();
  }

  /** The log was replaced by a received snapshot. */
  installed(meta: SnapshotMeta): void {
    this.#latest = meta;
    this.#entriesSince = 0;
    this.#bytesSince = 0;
  }

  /** Sends a snapshot for a `snap` message and reports the outcome to the core. */
  send(message: Message): void {
    const { core } = this.#context;
    if (this.#sending.has(message.to) || this.#sending.size >= MAX_SENDING) {
      core.reportSnapshot(message.to, false);
      return;
    }
    const job = this.#send(message).finally(() => this.#sending.delete(message.to));
    this.#sending.set(message.to, job);
  }

  /** For the transport: where an incoming snapshot is written. */
  async open(message: Message): Promise<SnapshotSink> {
    const { core, storage, log } = this.#context;
    const meta = message.snapshot;
    const status = core.status();
    const stale = meta === null || message.term < status.term || meta.index <= status.commit;
    if (stale) return this.#ignored(message);
    log.info("receiving a snapshot", { from: message.from, index: meta.index });
    const writer = await storage.newSnapshot(meta);
    return {
      write: chunk => writer.write(chunk),
      commit: async (latest = message) => {
        await writer.commit();
        this.received += 1;
        this.#deliver(latest);
      },
      abort: () => writer.abort(),
    };
  }

  async settle(): Promise<void> {
    await this.#taking;
    await Promise.all(this.#sending.values());
  }

  /** Nothing to write: the core answers with what it has, and the leader goes on from there. */
  #ignored(message: Message): SnapshotSink {
    return {
      write: () => Promise.resolve(),
      commit: (latest = message) => {
        this.#deliver(latest);
        return Promise.resolve();
      },
      abort: () => Promise.resolve(),
    };
  }

  #deliver(message: Message): void {
    this.#context.core.step(message);
    this.#context.wake();
  }

  async #send(message: Message): Promise<void> {
    const { core, storage, transport, log } = this.#context;
    let ok = false;
    try {
      const snapshot = await this.#namingMember(message);
      log.info("sending a snapshot", { to: message.to, index: snapshot.index });
      const chunks = { [Symbol.asyncIterator]: () => iterate(storage.readSnapshot(snapshot)) };
      await transport.sendSnapshot({ ...message, snapshot }, chunks, this.#signal);
      this.sent += 1;
      ok = true;
    } catch (error) {
      this.failures += 1;
      log.warn("a snapshot was not delivered", { to: message.to, error: errorMessage(error) });
    }
    core.reportSnapshot(message.to, ok);
    this.#context.wake();
  }

  /**
   * The latest snapshot if it names the receiver as a member, else a new one: a member ignores a
   * snapshot taken before it was added.
   */
  async #namingMember(message: Message): Promise<SnapshotMeta> {
    for (let tries = 0; tries < MAX_FRESH_TRIES; tries += 1) {
      const latest = this.#latest;
      if (latest !== null && names(latest.conf, message.to)) return latest;
      await this.#take();
    }
    throw new Error(`no snapshot names member ${message.to}`);
  }

  /** One at a time; a failure is not fatal, the log is kept until a later one succeeds. */
  #take(): Promise<void> {
    this.#taking ??= this.#write().finally(() => {
      this.#taking = null;
    });
    return this.#taking;
  }

  async #write(): Promise<void> {
    const { core, storage, stateMachine, log, clock } = this.#context;
    const startMs = clock.monoMs();
    // Image, index and membership belong together: no await between them.
    const { index, term } = this.#applier;
    const meta: SnapshotMeta = { index, term, conf: core.status().conf };
    this.#entriesSince = 0;
    this.#bytesSince = 0;
    if (index <= (this.#latest?.index ?? 0)) return;
    const chunks = stateMachine.snapshot();
    try {
      const writer = await storage.newSnapshot(meta);
      try {
        for await (const chunk of chunks) await writer.write(chunk);
        await writer.commit();
      } catch (error) {
        await writer.abort();
        throw error;
      }
      const keepFrom = Math.max(1, index - this.#limits.logEntriesForSlowFollowers + 1);
      await storage.compact(meta, keepFrom);
      if (index > (this.#latest?.index ?? 0)) this.#latest = meta;
      core.compact(meta, keepFrom);
      this.taken += 1;
      const tookMs = clock.monoMs() - startMs;
      this.#context.onSnapshot?.(tookMs);
      log.info("took a snapshot", { index, term, tookMs: Math.round(tookMs) });
    } catch (error) {
      this.failures += 1;
      log.error("taking a snapshot failed", { index, error: errorMessage(error) });
    }
  }
}

function names(conf: ConfState, raftId: number): boolean {
  return (
    conf.voters.includes(raftId) ||
    conf.learners.includes(raftId) ||
    conf.votersOutgoing.includes(raftId)
  );
}

function iterate<T>(values: AsyncIterable<T>): AsyncIterator<T> {
  return values[Symbol.asyncIterator]();
}
