import { type Rng, SeededRng } from "../../src/base/rng.ts";
import { decodeConfChange } from "../../src/raft/core/conf-change-codec.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import {
  type ConfState,
  EMPTY_CONF_STATE,
  type Entry,
  type HardState,
  type Message,
  type RaftConfig,
  type RaftId,
  type RaftStatus,
  type ReadState,
  type Ready,
  type SnapshotMeta,
} from "../../src/raft/core/types.ts";

export const TEST_CONFIG: Omit<RaftConfig, "id"> = {
  electionTicks: 10,
  heartbeatTicks: 1,
  preVote: true,
  checkQuorum: true,
  maxMessageBytes: 1 << 20,
  maxInflightMessages: 256,
  maxInflightBytes: 1 << 24,
  maxUncommittedBytes: 1 << 24,
  maxCommittedBytes: 1 << 24,
  maxEntryBytes: 1 << 20,
};

export function voters(...ids: readonly RaftId[]): ConfState {
  return { ...EMPTY_CONF_STATE, voters: ids };
}

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function text(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

/** What survives a crash. */
interface Disk {
  hardState: HardState;
  snapshot: SnapshotMeta | null;
  entries: Entry[];
}

/** One node with a disk and a state machine that keeps what was applied. */
export class TestNode {
  readonly id: RaftId;
  readonly disk: Disk;
  readonly reads: ReadState[] = [];
  readonly #config: RaftConfig;
  readonly #rng: Rng;
  readonly #bootConf: ConfState;
  core: RaftCore;
  applied: Entry[] = [];
  conf: ConfState;
  /** Taken from the core and not yet written. */
  #inFlight: Ready | null = null;

  constructor(config: RaftConfig, options: { readonly conf: ConfState; readonly seed: number }) {
    this.id = config.id;
    this.#config = config;
    this.#rng = new SeededRng(options.seed);
    this.#bootConf = options.conf;
    this.conf = options.conf;
    this.disk = { hardState: { term: 0, vote: 0, commit: 0 }, snapshot: null, entries: [] };
    this.core = this.#start();
  }

  get status(): RaftStatus {
    return this.core.status();
  }

  get busy(): boolean {
    return this.#inFlight !== null;
  }

  #start(): RaftCore {
    const { hardState, snapshot, entries } = this.disk;
    this.conf = snapshot?.conf ?? this.#bootConf;
    this.applied = this.applied.filter(({ index }) => index <= (snapshot?.index ?? 0));
    return new RaftCore(this.#config, {
      rng: this.#rng,
      initial: { hardState, conf: this.conf, snapshot, entries, applied: snapshot?.index ?? 0 },
    });
  }

  /** Loses everything that is not on disk. */
  crash(): void {
    this.#inFlight = null;
    this.core = this.#start();
  }

  /** Takes a Ready, if there is one; returns what may be sent before the disk. */
  begin(): readonly Message[] {
    if (this.#inFlight !== null) return [];
    this.#inFlight = this.core.ready();
    return this.#inFlight?.sendNow ?? [];
  }

  /** Writes what `begin` took; returns what may be sent after that. */
  persist(stateAt: (index: number) => readonly Entry[]): readonly Message[] {
    const ready = this.#inFlight;
    if (ready === null) return [];
    this.#inFlight = null;
    this.#write(ready);
    if (ready.snapshot !== null) {
      this.applied = [...stateAt(ready.snapshot.index)];
      this.conf = ready.snapshot.conf;
    }
    this.core.advance(ready);
    for (const entry of ready.committed) this.#apply(entry);
    const last = ready.committed.at(-1);
    if (last !== undefined) this.core.applied(last.index);
    this.reads.push(...ready.readStates);
    return ready.sendAfterPersist;
  }

  #write({ hardState, snapshot, entries }: Ready): void {
    const { disk } = this;
    if (hardState !== null) disk.hardState = hardState;
    if (snapshot !== null) {
      disk.snapshot = snapshot;
      disk.entries = [];
    }
    const first = entries[0];
    if (first === undefined) return;
    disk.entries = [...disk.entries.filter(({ index }) => index < first.index), ...entries];
  }

  #apply(entry: Entry): void {
    this.applied.push(entry);
    if (entry.kind === "conf-change") {
      this.conf = this.core.applyConfChange(decodeConfChange(entry.data));
    }
  }

  /** Snapshots what is applied and keeps `keep` entries before it. */
  compact(keep: number): void {
    const last = this.applied.at(-1);
    if (last === undefined || last.index <= (this.disk.snapshot?.index ?? 0)) return;
    const meta: SnapshotMeta = { index: last.index, term: last.term, conf: this.conf };
    // On disk the snapshot must directly precede the first entry that is read back.
    this.disk.snapshot = meta;
    this.disk.entries = this.disk.entries.filter(({ index }) => index > meta.index);
    this.core.compact(meta, Math.max(1, last.index + 1 - keep));
  }

  values(): readonly string[] {
    return this.applied
      .filter(({ kind, data }) => kind === "normal" && data.length > 0)
      .map(({ data }) => text(data));
  }
}

/** Nodes in memory and the messages between them; nothing moves unless it is told to. */
export class TestCluster {
  readonly nodes = new Map<RaftId, TestNode>();
  messages: Message[] = [];
  readonly #overrides: Partial<RaftConfig>;
  readonly #seed: number;
  #cut: (from: RaftId, to: RaftId) => boolean = () => false;

  constructor(size: number, options: Partial<RaftConfig> & { readonly seed?: number } = {}) {
    const { seed = 1, ...overrides } = options;
    this.#overrides = overrides;
    this.#seed = seed;
    const ids = Array.from({ length: size }, (_, i) => i + 1);
    for (const id of ids) this.add(id, voters(...ids));
  }

  /** A node that joins later starts without a membership. */
  add(id: RaftId, conf: ConfState = EMPTY_CONF_STATE): TestNode {
    const config: RaftConfig = { ...TEST_CONFIG, ...this.#overrides, id };
    const node = new TestNode(config, { conf, seed: this.#seed * 1000 + id });
    this.nodes.set(id, node);
    return node;
  }

  node(id: RaftId): TestNode {
    const node = this.nodes.get(id);
    if (node === undefined) throw new Error(`no node ${id}`);
    return node;
  }

  get leader(): TestNode | undefined {
    return [...this.nodes.values()]
      .filter(({ status }) => status.role === "leader")
      .sort((a, b) => b.status.term - a.status.term)[0];
  }

  /** The leader that the test relies on. */
  mustLead(): TestNode {
    if (this.leader === undefined) throw new Error("no leader");
    return this.leader;
  }

  /** Messages for which `cut` holds are lost. */
  partition(cut: (from: RaftId, to: RaftId) => boolean): void {
    this.#cut = cut;
  }

  isolate(id: RaftId): void {
    this.partition((from, to) => from === id || to === id);
  }

  heal(): void {
    this.partition(() => false);
  }

  send(messages: readonly Message[]): void {
    for (const message of messages) {
      if (!this.#cut(message.from, message.to)) this.messages.push(message);
      else this.#reportSnapshot(message, false);
    }
  }

  deliver(message: Message): void {
    this.nodes.get(message.to)?.core.step(message);
    this.#reportSnapshot(message, true);
  }

  /** The transport's duty: without a report the leader waits for the snapshot's fate forever. */
  #reportSnapshot({ kind, from, to }: Message, ok: boolean): void {
    if (kind === "snap") this.nodes.get(from)?.core.reportSnapshot(to, ok);
  }

  /** Committed state is the same everywhere: any node that has it will do. */
  stateAt(index: number): readonly Entry[] {
    for (const { applied } of this.nodes.values()) {
      if ((applied.at(-1)?.index ?? 0) >= index) return applied.filter(e => e.index <= index);
    }
    throw new Error(`nobody has applied ${index}`);
  }

  process(node: TestNode): boolean {
    this.send(node.begin());
    if (!node.busy) return false;
    this.send(node.persist(index => this.stateAt(index)));
    return true;
  }

  /** Runs disks and network until nothing moves. */
  settle(): void {
    for (let moved = true; moved; ) {
      moved = false;
      for (const node of this.nodes.values()) while (this.process(node)) moved = true;
      const messages = this.messages;
      this.messages = [];
      for (const message of messages) this.deliver(message);
      moved ||= messages.length > 0;
    }
  }

  tick(ticks = 1): void {
    for (let i = 0; i < ticks; i += 1) {
      for (const node of this.nodes.values()) node.core.tick();
      this.settle();
    }
  }

  /** Ticks until `done`; fails the test by throwing when it takes too long. */
  tickUntil(what: string, done: () => boolean, limit = 1000): void {
    for (let i = 0; i < limit; i += 1) {
      if (done()) return;
      this.tick();
    }
    throw new Error(`${what}: not within ${limit} ticks`);
  }

  /** Elects node `id` in a settled cluster without a leader. */
  elect(id: RaftId): TestNode {
    const node = this.node(id);
    node.core.campaign();
    this.settle();
    if (node.status.role !== "leader") throw new Error(`node ${id} was not elected`);
    return node;
  }
}
