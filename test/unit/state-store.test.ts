import t from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import type { Change } from "../../src/model/change.ts";
import { EMPTY_CONF_STATE } from "../../src/raft/core/types.ts";
import type { RaftNode } from "../../src/raft/ports.ts";
import { encodeTransaction } from "../../src/state/core/transaction-codec.ts";
import type { WatchEvent } from "../../src/state/ports.ts";
import { ReplicatedStore } from "../../src/state/store.ts";
import { realClock } from "../../src/system/real.ts";
import { eventually } from "../support/eventually.ts";
import { aNode } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const signal = new AbortController().signal;

/** A log of one member: what is proposed is applied at once. */
class OneNodeRaft implements RaftNode {
  readonly raftId = 1;
  readonly #store: ReplicatedStore;
  #index = 0;
  failWith: SwarmError | null = null;
  readonly readBarrier = (): Promise<void> => Promise.resolve();
  readonly addMember = (): Promise<void> => Promise.resolve();
  readonly removeMember = (): Promise<void> => Promise.resolve();
  readonly transferLeadership = (): Promise<void> => Promise.resolve();
  readonly run = (): Promise<void> => Promise.resolve();

  constructor(store: ReplicatedStore) {
    this.#store = store;
  }

  async propose(data: Uint8Array): Promise<unknown> {
    if (this.failWith !== null) throw this.failWith;
    this.#index += 1;
    return this.#store.apply({ index: this.#index, data });
  }

  status(): ReturnType<RaftNode["status"]> {
    return {
      id: 1,
      term: 1,
      vote: 1,
      commit: this.#index,
      applied: this.#index,
      lastIndex: this.#index,
      role: "leader",
      leaderId: 1,
      transferTarget: 0,
      conf: EMPTY_CONF_STATE,
      progress: [],
    };
  }

  reachable(): boolean {
    return true;
  }

  onLeadership(): () => void {
    return () => undefined;
  }
}

function newStore() {
  const clock = new VirtualClock(5000);
  const store = new ReplicatedStore({ maxWatches: 3 }, { clock, logger: silentLogger });
  const raft = new OneNodeRaft(store);
  store.attach(raft);
  return { clock, store, raft };
}

function node(id: string): Change {
  return { op: "create", table: "nodes", row: aNode({ id }) };
}

async function collect(chunks: AsyncIterable<Uint8Array>, clock: VirtualClock) {
  const out: Uint8Array[] = [];
  let done = false;
  const reading = (async () => {
    for await (const chunk of chunks) out.push(chunk);
    done = true;
  })();
  await eventually(
    () => {
      clock.advance(1);
      return done;
    },
    { what: "the snapshot is read", everyMs: 1 },
  );
  await reading;
  return out;
}

async function* stream(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

t.test("submit goes through the log and back", async t => {
  const { store, raft } = newStore();
  t.same(await store.submit([node("n1")], signal), { index: 1 });
  t.match(store.view.table("nodes").get("n1"), { version: 1, createdAtMs: 5000 });
  await t.rejects(store.submit([node("n1")], signal), { code: "already_exists" });
  t.same(await store.submit([node("n2")], signal), { index: 3 });
  raft.failWith = new SwarmError("not_leader", "this node is not the leader");
  await t.rejects(store.submit([node("n3")], signal), { code: "not_leader" });
  const unattached = new ReplicatedStore({}, { clock: new VirtualClock(), logger: silentLogger });
  await t.rejects(unattached.submit([node("n1")], signal), { code: "unavailable" });
});

t.test("garbage in the log changes nothing but the index", t => {
  const { store } = newStore();
  const before = store.digest();
  t.match(store.apply({ index: 7, data: Buffer.from("nonsense") }), { ok: false });
  t.match(store.apply({ index: 8, data: new Uint8Array() }), { ok: true, index: 8 });
  t.equal(store.view.index, 8);
  t.equal(store.digest(), before);
  t.end();
});

t.test("members are rows", t => {
  const { store } = newStore();
  const peer = { raftId: 4, nodeId: "n4", addr: "10.0.0.4:2377" };
  const seen: string[] = [];
  store.onCommit(commit => seen.push(`${commit.index}:${commit.events[0]?.table}`));
  store.applyMember(1, { op: "put", peer });
  store.applyMember(2, { op: "put", peer: { ...peer, addr: "10.0.0.9:2377" } });
  t.same(store.members(), [{ ...peer, addr: "10.0.0.9:2377" }]);
  store.applyMember(3, { op: "remove", peer });
  store.applyMember(4, { op: "remove", peer });
  t.same(store.members(), []);
  t.same(seen, ["1:members", "2:members", "3:members"]);
  t.equal(store.view.index, 4);
  t.end();
});

t.test("a snapshot is of the moment it was asked for", async t => {
  const { store, clock } = newStore();
  for (let i = 0; i < 300; i++) {
    const row = { id: `c${i}`, spec: { Name: `c${i}`, Data: "x".repeat(2000) } };
    await store.submit([{ op: "create", table: "configs", row }], signal);
  }
  const digest = store.digest();
  const snapshot = store.snapshot();
  await store.submit([{ op: "delete", table: "configs", id: "c7" }, node("n1")], signal);
  const chunks = await collect(snapshot, clock);
  t.ok(chunks.length > 1);

  const other = newStore();
  await other.store.submit([node("old")], signal);
  const { view } = other.store;
  let restored = 0;
  other.store.onRestore(() => {
    restored += 1;
  });
  await other.store.restore(stream(chunks), 300);
  t.equal(other.store.digest(), digest);
  t.equal(view.table("nodes").get("old"), undefined, "a view that was kept sees the new state");
  t.equal(view.table("configs").size, 300);
  t.equal(restored, 1);
  const data = encodeTransaction({ nowMs: 5000, changes: [node("n1")] });
  t.same(other.store.apply({ index: 301, data }), { ok: true, index: 301 });
  await t.rejects(other.store.restore(stream(chunks.slice(0, 1)), 300), { code: "data_loss" });
  await t.rejects(other.store.restore(stream(chunks), 299), { code: "data_loss" });
  t.equal(view.table("nodes").size, 1, "a refused snapshot leaves the state alone");
});

t.test("watches deliver whole commits in order, and say when they cannot", async t => {
  const { store } = newStore();
  const fast = store.watch({ maxCommits: 10 });
  const slow = store.watch({ maxCommits: 2 });
  const closed = store.watch({ maxCommits: 2 });
  t.throws(() => store.watch({ maxCommits: 1 }), { code: "resource_exhausted" });
  closed.close();
  for (let i = 1; i <= 4; i++) await store.submit([node(`a${i}`), node(`b${i}`)], signal);
  const brief = (event: WatchEvent | undefined): string =>
    event?.kind === "commit"
      ? `${event.commit.index}:${event.commit.events.map(e => e.id).join()}`
      : (event?.kind ?? "end");
  const take = async (events: AsyncIterator<WatchEvent>, count: number) => {
    const out: string[] = [];
    for (let i = 0; i < count; i++) {
      const next = await events.next();
      out.push(next.done === true ? "end" : brief(next.value));
    }
    return out;
  };
  const fastEvents = fast[Symbol.asyncIterator]();
  const slowEvents = slow[Symbol.asyncIterator]();
  t.same(await take(fastEvents, 4), ["1:a1,b1", "2:a2,b2", "3:a3,b3", "4:a4,b4"]);
  t.equal((await take(slowEvents, 1))[0], "resync");
  await store.submit([node("n9")], signal);
  await store.submit([{ op: "delete", table: "nodes", id: "nobody" }], signal);
  t.same(await take(fastEvents, 1), ["5:n9"]);
  const rest = await take(slowEvents, 1);
  t.same(rest, ["5:n9"]);
  fast.close();
  t.same(await take(fastEvents, 1), ["end"]);
  t.same(await take(closed[Symbol.asyncIterator](), 1), ["end"]);
  slow.close();
  t.doesNotThrow(() => store.watch({ maxCommits: 1 }));
});

t.test("a failing listener breaks nothing", async t => {
  const { store } = newStore();
  const seen: number[] = [];
  store.onCommit(() => {
    throw new Error("oops");
  });
  const stop = store.onCommit(commit => seen.push(commit.index));
  await store.submit([node("n1")], signal);
  stop();
  await store.submit([node("n2")], signal);
  t.same(seen, [1]);
});

t.test("members that come and go leave nothing behind", async t => {
  const store = new ReplicatedStore({}, { clock: realClock, logger: silentLogger });
  const sizeAfter = async (from: number, to: number): Promise<number> => {
    for (let raftId = from; raftId <= to; raftId += 1) {
      const peer = { raftId, nodeId: `node-${raftId}`, addr: `10.0.0.1:${raftId}` };
      store.applyMember(2 * raftId, { op: "put", peer });
      store.applyMember(2 * raftId + 1, { op: "remove", peer });
    }
    let bytes = 0;
    for await (const chunk of store.snapshot()) bytes += chunk.length;
    return bytes;
  };
  const before = await sizeAfter(100, 149);
  t.equal(await sizeAfter(150, 199), before, "the state does not grow with them");
  t.same(store.members(), []);
});
