import { type Rng, randomInt, SeededRng } from "../../src/base/rng.ts";
import type { Entry, RaftId, RaftRole } from "../../src/raft/core/types.ts";
import { bytes, TestCluster, type TestNode, text } from "./raft-cluster.ts";

const SETTLE_TICKS = 400;

export interface ChaosOptions {
  readonly seed: number;
  readonly steps: number;
  readonly nodes: number;
  /** Whether members are added, removed, promoted and demoted on the way. */
  readonly confChanges: boolean;
}

/**
 * A cluster under a random schedule: every disk write, message and tick is its own step, messages
 * are lost, repeated, reordered and cut off, and nodes crash at any point with only their disk.
 * After every step the safety properties of the Raft paper (Figure 3) are checked; a violation
 * throws. One seed is one run.
 */
export class ChaosRun {
  readonly cluster: TestCluster;
  readonly #rng: Rng;
  readonly #options: ChaosOptions;
  readonly #leaders = new Map<number, RaftId>();
  readonly #roles = new Map<RaftId, RaftRole>();
  /** `index/term` -> the entry and the term before it, as first written by anyone. */
  readonly #written = new Map<string, string>();
  /** By index, as first applied by anyone. */
  readonly committed = new Map<number, Entry>();
  readonly #appliedSeen = new Map<RaftId, number>();
  readonly #terms = new Map<RaftId, number>();
  /** Highest index applied anywhere when the read was asked for. */
  readonly #reads = new Map<string, number>();
  readonly #readsSeen = new Map<RaftId, number>();
  /** How much goes wrong: some runs are calm enough for long logs, some never elect a leader. */
  readonly #rage: number;
  #values = 0;
  #steps = 0;
  readsConfirmed = 0;

  constructor(options: ChaosOptions) {
    this.#options = options;
    this.#rng = new SeededRng(options.seed);
    this.#rage = randomInt(this.#rng, 4);
    this.cluster = new TestCluster(options.nodes, {
      seed: options.seed,
      electionTicks: 5,
      maxMessageBytes: 64,
      maxInflightMessages: 3,
      // Without both, a removed member may disturb the rest for ever.
      preVote: options.confChanges || this.#chance(1, 2),
      checkQuorum: options.confChanges || this.#chance(1, 2),
    });
  }

  #chance(of: number, outOf: number): boolean {
    return randomInt(this.#rng, outOf) < of;
  }

  #pick<T>(items: readonly T[]): T {
    const item = items[randomInt(this.#rng, items.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  get #nodes(): readonly TestNode[] {
    return [...this.cluster.nodes.values()];
  }

  /** The unsafe phase. */
  run(): void {
    for (; this.#steps < this.#options.steps; this.#steps += 1) {
      this.#step();
      this.#check();
    }
  }

  /** The network heals and nodes stop crashing: a write must get through, to everyone. */
  recover(): void {
    this.cluster.heal();
    for (const node of this.#nodes) {
      for (const { id, state } of node.status.progress) {
        if (state === "snapshot") node.core.reportSnapshot(id, false);
      }
    }
    for (let i = 0; i < SETTLE_TICKS; i += 1) {
      this.cluster.tick();
      this.#check();
      const { leader } = this.cluster;
      // A leader may be deposed with the write; the writer tries again.
      if (leader?.values().includes("final")) break;
      leader?.core.propose([bytes("final")]);
    }
    this.cluster.tick(SETTLE_TICKS / 2);
    this.#check();
    const members = this.#memberIds();
    for (const id of members) {
      if (!this.cluster.node(id).values().includes("final")) {
        throw new Error(`member ${id} of ${members} did not recover`);
      }
    }
  }

  #memberIds(): readonly RaftId[] {
    const { conf } = this.cluster.mustLead();
    return [...conf.voters, ...conf.votersOutgoing, ...conf.learners];
  }

  #step(): void {
    const node = this.#pick(this.#nodes);
    const steps: readonly (readonly [weight: number, run: () => void])[] = [
      [120, () => this.#deliver()],
      [60, () => this.cluster.send(node.begin())],
      [60, () => this.#persist(node)],
      [40, () => node.core.tick()],
      [20, () => this.#propose(node)],
      [5, () => this.#read(node)],
      [this.#rage, () => node.crash()],
      [2, () => node.compact(randomInt(this.#rng, 4))],
      [this.#rage, () => this.#partition()],
      [3, () => this.cluster.heal()],
      [1, () => node.core.transferLeadership(this.#pick(this.#nodes).id)],
      [1, () => node.core.reportUnreachable(this.#pick(this.#nodes).id)],
      [1, () => node.core.reportSnapshot(this.#pick(this.#nodes).id, this.#chance(1, 2))],
      [this.#options.confChanges ? 3 : 0, () => this.#changeMembers(node)],
    ];
    let draw = randomInt(
      this.#rng,
      steps.reduce((sum, [weight]) => sum + weight, 0),
    );
    for (const [weight, run] of steps) {
      draw -= weight;
      if (draw < 0) {
        run();
        return;
      }
    }
  }

  /** Any message may be next, be lost, or arrive twice. */
  #deliver(): void {
    const { messages } = this.cluster;
    if (messages.length === 0) return;
    const at = this.#chance(3, 4) ? 0 : randomInt(this.#rng, messages.length);
    const message = messages[at];
    if (message === undefined) return;
    if (!this.#chance(this.#rage, 50)) messages.splice(at, 1);
    if (!this.#chance(this.#rage, 50)) this.cluster.deliver(message);
  }

  #persist(node: TestNode): void {
    const messages = node.persist(index => this.#stateAt(index));
    // A crash after the write and before the answers are sent.
    if (this.#chance(1, 100)) node.crash();
    else this.cluster.send(messages);
  }

  #stateAt(index: number): readonly Entry[] {
    const entries: Entry[] = [];
    for (let at = 1; at <= index; at += 1) {
      const entry = this.committed.get(at);
      if (entry === undefined) throw new Error(`a snapshot has ${at}, which nobody applied`);
      entries.push(entry);
    }
    return entries;
  }

  #propose(node: TestNode): void {
    const result = node.core.propose([bytes(`v${this.#values}`)]);
    if (result.ok) this.#values += 1;
  }

  #read(node: TestNode): void {
    const context = `read ${this.#steps}`;
    this.#reads.set(context, Math.max(0, ...this.committed.keys()));
    node.core.readIndex(context);
  }

  #partition(): void {
    const side = new Set(this.#nodes.filter(() => this.#chance(1, 2)).map(({ id }) => id));
    const oneWay = this.#chance(1, 3);
    this.cluster.partition((from, to) =>
      oneWay ? side.has(from) && !side.has(to) : side.has(from) !== side.has(to),
    );
  }

  /**
   * A leader never removes or demotes itself: it would step down as soon as it has applied that,
   * and the rest, not knowing it committed, might need a vote that its longer log denies them.
   * Leaders are to hand over first.
   */
  #changeMembers(node: TestNode): void {
    const context = new Uint8Array();
    if (node.conf.votersOutgoing.length > 0) {
      node.core.proposeConfChange({ transition: "auto", changes: [], context });
      return;
    }
    const count = this.#chance(1, 2) ? 1 : 2;
    const changes = Array.from({ length: count }, () => ({
      op: this.#pick(["add-voter", "add-voter", "add-learner", "remove"] as const),
      id: this.#pick(this.#nodes).id,
    }));
    if (changes.some(({ op, id }) => op !== "add-voter" && id === node.id)) return;
    const transition = this.#pick(["auto", "joint-implicit", "joint-explicit"] as const);
    node.core.proposeConfChange({ transition, changes, context });
  }

  #check(): void {
    for (const node of this.#nodes) {
      this.#checkElection(node);
      this.#checkDisk(node);
      this.#checkApplied(node);
      this.#checkReads(node);
    }
  }

  /** Election safety: one leader a term. Leader completeness: it has all that was committed. */
  #checkElection(node: TestNode): void {
    const { role, term } = node.status;
    const before = this.#roles.get(node.id);
    this.#roles.set(node.id, role);
    if (role !== "leader" || before === "leader") return;
    const other = this.#leaders.get(term) ?? node.id;
    if (other !== node.id) throw new Error(`term ${term} has leaders ${other} and ${node.id}`);
    this.#leaders.set(term, node.id);
    for (const [index, entry] of this.committed) {
      if (entry.term < term && !hasOnDisk(node, entry)) {
        throw new Error(`leader ${node.id} of term ${term} lacks committed entry ${index}`);
      }
    }
  }

  /** Log matching: same index and term, same entry and same predecessor. Terms never go back. */
  #checkDisk(node: TestNode): void {
    const { hardState, snapshot, entries } = node.disk;
    if (hardState.term < (this.#terms.get(node.id) ?? 0)) throw new Error("a term went back");
    this.#terms.set(node.id, hardState.term);
    let previous = snapshot?.term ?? 0;
    for (const { index, term, data } of entries.slice(-8)) {
      const known = entries.find(entry => entry.index === index - 1);
      if (known !== undefined) previous = known.term;
      else if (index - 1 !== (snapshot?.index ?? 0)) throw new Error(`a gap before ${index}`);
      const what = `${previous}:${text(data)}`;
      const first = this.#written.get(`${index}/${term}`) ?? what;
      if (first !== what) throw new Error(`${index}/${term} is both ${first} and ${what}`);
      this.#written.set(`${index}/${term}`, what);
    }
  }

  /** State machine safety, and that what is committed is on the disks of a majority. */
  #checkApplied(node: TestNode): void {
    const { applied } = node;
    const seen = Math.min(this.#appliedSeen.get(node.id) ?? 0, applied.length);
    applied.slice(seen).forEach((entry, i) => {
      if (entry.index !== seen + i + 1) throw new Error(`${node.id} applied out of order`);
      const first = this.committed.get(entry.index);
      if (first === undefined) this.#commit(entry);
      else if (first.term !== entry.term || text(first.data) !== text(entry.data)) {
        throw new Error(`entry ${entry.index} was applied in two versions`);
      }
    });
    this.#appliedSeen.set(node.id, applied.length);
  }

  #commit(entry: Entry): void {
    this.committed.set(entry.index, entry);
    if (this.#options.confChanges) return;
    const holders = this.#nodes.filter(node => hasOnDisk(node, entry)).length;
    if (holders * 2 <= this.#nodes.length) {
      throw new Error(`entry ${entry.index} was applied with ${holders} copies`);
    }
  }

  /** A read sees everything that anyone had applied when it was asked for. */
  #checkReads(node: TestNode): void {
    const { reads } = node;
    for (const { index, context } of reads.slice(this.#readsSeen.get(node.id) ?? 0)) {
      const least = this.#reads.get(context) ?? 0;
      if (index < least) throw new Error(`${context} is at ${index}, before ${least}`);
      this.readsConfirmed += 1;
    }
    this.#readsSeen.set(node.id, reads.length);
  }
}

function hasOnDisk({ disk }: TestNode, { index, term }: Entry): boolean {
  if (index <= (disk.snapshot?.index ?? 0)) return true;
  return disk.entries.some(entry => entry.index === index && entry.term === term);
}
