import { type Clock, sleep } from "../base/clock.ts";
import { assert, errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Change, Commit, TransactionResult } from "../model/change.ts";
import type {
  Member,
  Node,
  Service,
  ServiceSpecVersion,
  TableName,
  Tables,
  Task,
} from "../model/rows.ts";
import type { StateView, TableView } from "../model/view.ts";
import type { PeerInfo, RaftNode, StateMachine } from "../raft/ports.ts";
import { applyTransaction } from "./core/apply.ts";
import { Digester } from "./core/digest.ts";
import { encodeImage, ImageDecoder, imageOf } from "./core/snapshot-codec.ts";
import { StateTables, type StateTablesOptions } from "./core/tables.ts";
import { decodeTransaction, encodeTransaction } from "./core/transaction-codec.ts";
import type { StateStore, Watch } from "./ports.ts";
import { Watches } from "./watch.ts";

export interface ReplicatedStoreOptions extends StateTablesOptions {
  /** Watches open at once; more are refused (a leak shows instead of growing). */
  readonly maxWatches?: number;
}

export interface ReplicatedStoreDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told how long each granted transaction took from here to its application. */
  readonly onSubmitted?: (tookMs: number) => void;
}

const DEFAULT_MAX_WATCHES = 10_000;
const MAX_LISTENERS = 100;

/** A set of callbacks that a failing one does not break. */
class Listeners<Args extends unknown[]> {
  readonly #listeners = new Set<(...args: Args) => void>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(listener: (...args: Args) => void): () => void {
    assert(this.#listeners.size < MAX_LISTENERS, "too many state listeners: one is leaked");
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  call(...args: Args): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(...args);
      } catch (error) {
        this.#logger.error("a state listener failed", { error: errorMessage(error) });
      }
    }
  }
}

/** One object for the life of the store, though a snapshot replaces the tables behind it. */
class LiveView implements StateView {
  tables: StateTables;

  constructor(options: StateTablesOptions) {
    this.tables = new StateTables(options);
  }

  get index(): number {
    return this.tables.index;
  }

  table<T extends TableName>(name: T): TableView<Tables[T]> {
    return this.tables.table(name);
  }

  tasksOfService(serviceId: string): readonly Task[] {
    return this.tables.tasksOfService(serviceId);
  }

  tasksOfNode(nodeId: string): readonly Task[] {
    return this.tables.tasksOfNode(nodeId);
  }

  specsOfService(serviceId: string): readonly ServiceSpecVersion[] {
    return this.tables.specsOfService(serviceId);
  }

  serviceByName(name: string): Service | undefined {
    return this.tables.serviceByName(name);
  }

  nodesByHostname(hostname: string): readonly Node[] {
    return this.tables.nodesByHostname(hostname);
  }
}

/** The replicated state of one manager: Raft's state machine on one side, the store on the other. */
export class ReplicatedStore implements StateStore, StateMachine {
  readonly #clock: Clock;
  readonly #onSubmitted: (tookMs: number) => void;
  readonly #maxWatches: number;
  readonly #watches = new Watches();
  readonly #commitListeners: Listeners<[Commit]>;
  readonly #restoreListeners: Listeners<[]>;
  readonly #digester = new Digester();
  readonly #tablesOptions: StateTablesOptions;
  readonly #view: LiveView;
  #raft: Pick<RaftNode, "propose"> | null = null;

  constructor(options: ReplicatedStoreOptions, deps: ReplicatedStoreDeps) {
    this.#maxWatches = options.maxWatches ?? DEFAULT_MAX_WATCHES;
    this.#tablesOptions = options;
    this.#view = new LiveView(options);
    this.#clock = deps.clock;
    this.#onSubmitted = deps.onSubmitted ?? (() => undefined);
    this.#commitListeners = new Listeners(deps.logger);
    this.#restoreListeners = new Listeners(deps.logger);
  }

  get view(): StateView {
    return this.#view;
  }

  /** Gives `submit` its way into the log. Once, before the first submit. */
  attach(raft: Pick<RaftNode, "propose">): void {
    assert(this.#raft === null, "the store is attached to one raft node");
    this.#raft = raft;
  }

  async submit(
    changes: readonly Change[],
    signal: AbortSignal,
  ): Promise<{ readonly index: number }> {
    const raft = this.#raft;
    if (raft === null) throw new SwarmError("unavailable", "this manager is still starting");
    const data = encodeTransaction({ nowMs: this.#clock.nowMs(), changes });
    const beganMs = this.#clock.monoMs();
    const result = (await raft.propose(data, signal)) as TransactionResult;
    if (!result.ok) throw new SwarmError(result.code, result.message);
    this.#onSubmitted(this.#clock.monoMs() - beganMs);
    return { index: result.index };
  }

  watch(options: { readonly maxCommits: number }): Watch {
    if (this.#watches.size >= this.#maxWatches) {
      throw new SwarmError("resource_exhausted", `more than ${this.#maxWatches} watches are open`);
    }
    return this.#watches.open(options.maxCommits);
  }

  onCommit(listener: (commit: Commit) => void): () => void {
    return this.#commitListeners.add(listener);
  }

  onRestore(listener: () => void): () => void {
    return this.#restoreListeners.add(listener);
  }

  /** A fingerprint of the state, to compare between managers at the same index. */
  digest(): string {
    return this.#digester.digest(this.#view.tables);
  }

  apply(entry: { readonly index: number; readonly data: Uint8Array }): TransactionResult {
    if (entry.data.length === 0) {
      this.#view.tables.index = entry.index;
      return { ok: true, index: entry.index };
    }
    const decoded = decodeTransaction(entry.data);
    if (!decoded.ok) {
      this.#view.tables.index = entry.index;
      return { ok: false, code: "invalid_argument", message: decoded.message };
    }
    const { result, commit } = applyTransaction(this.#view.tables, decoded.tx, entry.index);
    if (commit !== null) this.#publish(commit);
    return result;
  }

  applyMember(
    index: number,
    change: { readonly op: "put" | "remove"; readonly peer: PeerInfo },
  ): void {
    const { raftId, nodeId, addr } = change.peer;
    const id = String(raftId);
    const old = this.#view.tables.table("members").get(id);
    const row: Omit<Member, "version" | "createdAtMs" | "updatedAtMs"> = {
      id,
      nodeId,
      raftId,
      addr,
    };
    const put: Change =
      old === undefined
        ? { op: "create", table: "members", row }
        : { op: "patch", table: "members", id, fields: { nodeId, raftId, addr } };
    const changes: Change[] = [change.op === "put" ? put : { op: "delete", table: "members", id }];
    // A membership change carries no clock: the last transaction's is the same on every manager.
    const tx = { nowMs: this.#view.tables.nowMs, changes };
    const { commit } = applyTransaction(this.#view.tables, tx, index);
    if (commit !== null) this.#publish(commit);
  }

  members(): readonly PeerInfo[] {
    const rows = [...this.#view.tables.table("members").all()];
    return rows.map(({ raftId, nodeId, addr }) => ({ raftId, nodeId, addr }));
  }

  snapshot(): AsyncIterable<Uint8Array> {
    return this.#slices(encodeImage(imageOf(this.#view.tables)));
  }

  async restore(chunks: AsyncIterable<Uint8Array>, index: number): Promise<void> {
    const decoder = new ImageDecoder(this.#tablesOptions);
    for await (const chunk of chunks) decoder.push(chunk);
    const state = decoder.finish();
    if (state.index > index) {
      throw new SwarmError(
        "data_loss",
        `the state snapshot is of index ${state.index}, its file says ${index}`,
      );
    }
    state.index = index;
    this.#view.tables = state;
    this.#watches.resync();
    this.#restoreListeners.call();
  }

  /** One chunk a turn of the event loop, so that a large state does not hold it. */
  async *#slices(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for (const chunk of chunks) {
      if (chunk.length > 0) yield chunk;
      await sleep(this.#clock, 0);
    }
  }

  #publish(commit: Commit): void {
    this.#commitListeners.call(commit);
    this.#watches.push(commit);
  }
}
