import { decodeConfChange } from "../core/conf-change-codec.ts";
import type { ConfChange, Entry, SnapshotMeta } from "../core/types.ts";
import type { PeerInfo } from "../ports.ts";
import { decodePeer } from "./member-context.ts";
import type { DriverContext } from "./options.ts";
import type { PendingEntries } from "./pending.ts";

/** Applying yields to the event loop after this long: heartbeats must go out meanwhile. */
const SLICE_MS = 10;

type Work =
  | { readonly kind: "entries"; readonly entries: readonly Entry[] }
  | { readonly kind: "snapshot"; readonly meta: SnapshotMeta };

export interface ApplierDeps {
  readonly pending: PendingEntries;
  /** More entries are applied, or a snapshot is. */
  readonly onApplied: (batch: AppliedBatch) => void;
  /** Members were added, changed or removed. */
  readonly onMembers: () => void;
}

export interface AppliedBatch {
  readonly entries: number;
  readonly bytes: number;
  /** The state was replaced by a snapshot. */
  readonly restored: boolean;
}

/**
 * Feeds the state machine, in order and beside the log's own loop: a long apply holds up neither
 * heartbeats nor the log. The core bounds the bytes that wait here.
 */
export class Applier {
  readonly #context: DriverContext;
  readonly #deps: ApplierDeps;
  readonly #queue: Work[] = [];
  #draining: Promise<void> | null = null;
  #index: number;
  #term: number;
  #lastProgressMs: number;

  constructor(context: DriverContext, deps: ApplierDeps, start: SnapshotMeta | null) {
    this.#context = context;
    this.#deps = deps;
    this.#index = start?.index ?? 0;
    this.#term = start?.term ?? 0;
    this.#lastProgressMs = context.clock.monoMs();
  }

  /** Of the last applied entry. */
  get index(): number {
    return this.#index;
  }

  get term(): number {
    return this.#term;
  }

  /** How long nothing has been applied although something waits; 0 when nothing does. */
  stalledMs(nowMs: number): number {
    return this.#draining === null ? 0 : nowMs - this.#lastProgressMs;
  }

  entries(entries: readonly Entry[]): void {
    if (entries.length > 0) this.#push({ kind: "entries", entries });
  }

  snapshot(meta: SnapshotMeta): void {
    this.#push({ kind: "snapshot", meta });
  }

  /** Waits until everything handed over so far is applied. */
  async settle(): Promise<void> {
    while (this.#draining !== null) await this.#draining;
  }

  #push(work: Work): void {
    if (this.#draining === null) this.#lastProgressMs = this.#context.clock.monoMs();
    this.#queue.push(work);
    this.#draining ??= this.#drain();
  }

  async #drain(): Promise<void> {
    try {
      // Never in the turn of the caller: what it still has to send goes first.
      await Promise.resolve();
      for (let work = this.#queue.shift(); work !== undefined; work = this.#queue.shift()) {
        if (work.kind === "entries") await this.#applyAll(work.entries);
        else await this.#restore(work.meta);
      }
    } catch (error) {
      this.#context.fatal(error);
    } finally {
      this.#draining = null;
    }
  }

  async #applyAll(entries: readonly Entry[]): Promise<void> {
    const { clock, nextTurn } = this.#context;
    let sliceMs = clock.monoMs();
    let done = 0;
    let bytes = 0;
    for (const entry of entries) {
      this.#apply(entry);
      done += 1;
      bytes += entry.data.length;
      if (clock.monoMs() - sliceMs < SLICE_MS) continue;
      this.#progress({ entries: done, bytes, restored: false });
      done = 0;
      bytes = 0;
      await nextTurn();
      sliceMs = clock.monoMs();
    }
    if (done > 0) this.#progress({ entries: done, bytes, restored: false });
  }

  #progress(batch: AppliedBatch): void {
    this.#lastProgressMs = this.#context.clock.monoMs();
    this.#context.core.applied(this.#index);
    this.#deps.onApplied(batch);
    this.#context.wake();
  }

  #apply(entry: Entry): void {
    const { index, term } = entry;
    // A snapshot that arrived in between has these already.
    if (index <= this.#index) return;
    const result = this.#execute(entry);
    this.#index = index;
    this.#term = term;
    this.#deps.pending.applied(index, term, result);
  }

  #execute(entry: Entry): unknown {
    if (entry.kind === "conf-change") return this.#changeMembers(entry);
    // A new leader's empty entry is none of the state machine's business.
    if (entry.data.length === 0) return undefined;
    return this.#context.stateMachine.apply({ index: entry.index, data: entry.data });
  }

  #changeMembers(entry: Entry): unknown {
    const { core, stateMachine } = this.#context;
    const change = decodeConfChange(entry.data);
    const conf = core.applyConfChange(change);
    for (const { op, id } of change.changes) {
      const peer = this.#peerOf(change, id);
      stateMachine.applyMember(entry.index, { op: op === "remove" ? "remove" : "put", peer });
    }
    this.#deps.onMembers();
    return conf;
  }

  #peerOf(change: ConfChange, raftId: number): PeerInfo {
    const told = decodePeer(change.context);
    if (told?.raftId === raftId) return told;
    const known = this.#context.stateMachine.members().find(peer => peer.raftId === raftId);
    return known ?? { raftId, nodeId: "", addr: "" };
  }

  async #restore(meta: SnapshotMeta): Promise<void> {
    if (meta.index <= this.#index) return;
    const { stateMachine, storage, log } = this.#context;
    log.info("restoring state from a snapshot", { index: meta.index, term: meta.term });
    await stateMachine.restore(storage.readSnapshot(meta), meta.index);
    this.#index = meta.index;
    this.#term = meta.term;
    this.#deps.pending.coveredBySnapshot(meta.index);
    this.#deps.onMembers();
    this.#progress({ entries: 0, bytes: 0, restored: true });
  }
}
