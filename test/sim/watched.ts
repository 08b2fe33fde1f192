import type {
  ConfChange,
  ConfState,
  Message,
  ProposeResult,
  RaftCoreApi,
  RaftId,
  RaftStatus,
  Ready,
  SnapshotMeta,
} from "../../src/raft/core/types.ts";
import type { PeerInfo, StateMachine } from "../../src/raft/ports.ts";
import type {
  AppendBatch,
  RaftStorage,
  SnapshotWriter,
  StorageIdentity,
  StorageStats,
  StoredState,
} from "../../src/raft/storage/raft-storage.ts";
import type { ReplicatedStore } from "../../src/state/store.ts";
import type { Witness } from "./witness.ts";
import type { World } from "./world.ts";

/** Entries between two comparisons of the managers' states. */
const DIGEST_EVERY = 64;

export interface WatchDeps {
  readonly raftId: RaftId;
  readonly witness: Witness;
  readonly world: World;
}

/** A core that tells the witness what it hands out. */
export class WatchedCore implements RaftCoreApi {
  readonly #core: RaftCoreApi;
  readonly #deps: WatchDeps;
  #changedAtEvent = -1;
  #confBefore: ConfState;

  constructor(core: RaftCoreApi, deps: WatchDeps) {
    this.#core = core;
    this.#deps = deps;
    this.#confBefore = core.status().conf;
  }

  get id(): RaftId {
    return this.#core.id;
  }

  ready(): Ready | null {
    const ready = this.#core.ready();
    if (ready === null) return null;
    const term = ready.softState?.role === "leader" ? this.#core.status().term : 0;
    const { raftId, witness, world } = this.#deps;
    witness.ready(raftId, ready, term, () => {
      const { conf } = this.#core.status();
      const now = this.#changedAtEvent === world.events;
      return { conf, before: now ? this.#confBefore : conf };
    });
    return ready;
  }

  applyConfChange(change: ConfChange): ConfState {
    this.#confBefore = this.#core.status().conf;
    this.#changedAtEvent = this.#deps.world.events;
    return this.#core.applyConfChange(change);
  }

  tick(): void {
    this.#core.tick();
  }
  step(message: Message): void {
    this.#core.step(message);
  }
  propose(data: readonly Uint8Array[]): ProposeResult {
    return this.#core.propose(data);
  }
  proposeConfChange(change: ConfChange): ProposeResult {
    return this.#core.proposeConfChange(change);
  }
  readIndex(context: string): void {
    this.#core.readIndex(context);
  }
  transferLeadership(to: RaftId): void {
    this.#core.transferLeadership(to);
  }
  campaign(): void {
    this.#core.campaign();
  }
  reportUnreachable(id: RaftId): void {
    this.#core.reportUnreachable(id);
  }
  reportSnapshot(id: RaftId, ok: boolean): void {
    this.#core.reportSnapshot(id, ok);
  }
  advance(ready: Ready): void {
    this.#core.advance(ready);
  }
  applied(index: number): void {
    this.#core.applied(index);
  }
  compact(meta: SnapshotMeta, keepFrom: number): void {
    this.#core.compact(meta, keepFrom);
  }
  status(): RaftStatus {
    return this.#core.status();
  }
}

/** A storage that tells the witness what it promises to be durable. */
export class WatchedStorage implements RaftStorage {
  readonly #storage: RaftStorage;
  readonly #deps: WatchDeps;
  /** Digest of the image that is about to be written. */
  imageDigest: string | null = null;

  constructor(storage: RaftStorage, deps: WatchDeps) {
    this.#storage = storage;
    this.#deps = deps;
  }

  async open(expected: StorageIdentity): Promise<StoredState | null> {
    const state = await this.#storage.open(expected);
    this.#deps.witness.opened(this.#deps.raftId, state);
    return state;
  }

  async create(identity: StorageIdentity, first: AppendBatch): Promise<void> {
    const { raftId, witness } = this.#deps;
    witness.writing(raftId, first);
    await this.#storage.create(identity, first);
    witness.created(raftId, first);
  }

  async append(batch: AppendBatch): Promise<void> {
    const { raftId, witness } = this.#deps;
    witness.writing(raftId, batch);
    await this.#storage.append(batch);
    witness.wrote(raftId, batch);
  }

  compact(meta: SnapshotMeta, keepFrom: number): Promise<void> {
    return this.#storage.compact(meta, keepFrom);
  }

  newSnapshot(meta: SnapshotMeta): Promise<SnapshotWriter> {
    if (this.imageDigest !== null) {
      this.#deps.witness.digest(this.#deps.raftId, meta.index, this.imageDigest);
    }
    this.imageDigest = null;
    return this.#storage.newSnapshot(meta);
  }

  readSnapshot(meta: SnapshotMeta): AsyncIterable<Uint8Array> {
    this.#deps.witness.restored(this.#deps.raftId, meta);
    return this.#storage.readSnapshot(meta);
  }

  stats(): StorageStats {
    return this.#storage.stats();
  }

  close(): Promise<void> {
    return this.#storage.close();
  }
}

/** A state machine that tells the witness what is applied and what state it leads to. */
export class WatchedMachine implements StateMachine {
  readonly #machine: StateMachine;
  readonly #store: ReplicatedStore;
  readonly #storage: WatchedStorage;
  readonly #deps: WatchDeps;
  #index = 0;

  constructor(
    machine: StateMachine,
    deps: WatchDeps & { readonly store: ReplicatedStore; readonly storage: WatchedStorage },
  ) {
    this.#machine = machine;
    this.#store = deps.store;
    this.#storage = deps.storage;
    this.#deps = deps;
  }

  apply(entry: { readonly index: number; readonly data: Uint8Array }): unknown {
    const { raftId, witness } = this.#deps;
    if (entry.index <= this.#index) {
      witness.fail("applied-once", `member ${raftId} applies ${entry.index} after ${this.#index}`);
    }
    this.#index = entry.index;
    witness.applied(raftId, entry.index, entry.data);
    const result = this.#machine.apply(entry);
    if (entry.index % DIGEST_EVERY === 0) {
      witness.digest(raftId, entry.index, this.#store.digest());
    }
    return result;
  }

  applyMember(
    index: number,
    change: { readonly op: "put" | "remove"; readonly peer: PeerInfo },
  ): void {
    this.#machine.applyMember(index, change);
  }

  members(): readonly PeerInfo[] {
    return this.#machine.members();
  }

  snapshot(): AsyncIterable<Uint8Array> {
    this.#storage.imageDigest = this.#store.digest();
    return this.#machine.snapshot();
  }

  async restore(chunks: AsyncIterable<Uint8Array>, index: number): Promise<void> {
    await this.#machine.restore(chunks, index);
    this.#index = index;
    this.#deps.witness.digest(this.#deps.raftId, index, this.#store.digest());
  }
}
