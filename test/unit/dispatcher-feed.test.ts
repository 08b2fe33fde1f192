import fc from "fast-check";
import t from "tap";
import type { Clock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { AssignmentFeed } from "../../src/dispatcher/assignment-feed.ts";
import { ChangeEncoder } from "../../src/dispatcher/core/change-encoder.ts";
import { NetworkTables } from "../../src/dispatcher/core/network-tables.ts";
import { News } from "../../src/dispatcher/core/news.ts";
import { NodeSession } from "../../src/dispatcher/node-session.ts";
import { StatusBatcher } from "../../src/dispatcher/status-batcher.ts";
import { TaskEnds } from "../../src/dispatcher/task-ends.ts";
import type { AssignmentChange } from "../../src/model/assignment.ts";
import type { Change } from "../../src/model/change.ts";
import type { OverlayChange } from "../../src/model/overlay.ts";
import type { TaskStatus } from "../../src/model/rows.ts";
import type { StateStore } from "../../src/state/ports.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { settle } from "../support/virtual-run.ts";

/** How the leader tells many nodes what changed: in slices, with pauses, and each thing once. */

function assigned(id: string, nodeId: string): Change {
  const fields = { id, serviceId: "svc", serviceName: "web", nodeId };
  return { op: "create", table: "tasks", row: aTask({ ...fields, status: aStatus("assigned") }) };
}

interface Told {
  readonly nodeId: string;
  readonly atMs: number;
  readonly taskIds: readonly string[];
}

/** A feed over sessions of which each takes `costMs` of the clock to be told. */
class Rig {
  readonly timers = new VirtualClock();
  readonly clock: Clock = {
    nowMs: () => this.timers.nowMs() + this.#spentMs,
    monoMs: () => this.timers.monoMs() + this.#spentMs,
    setTimer: (name, delayMs, fn) => this.timers.setTimer(name, delayMs, fn),
  };
  readonly store = new MemoryStore(this.clock);
  readonly told: Told[] = [];
  readonly feed: AssignmentFeed;
  readonly sessions = new Map<string, NodeSession>();
  costMs = 0;
  #spentMs = 0;

  constructor(nodeIds: readonly string[]) {
    this.store.put(...createService(aService({ id: "svc", spec: { Name: "web" } })));
    const { clock, sessions, store } = this;
    const tables = new NetworkTables();
    const deps = { clock, logger: silentLogger, sessions };
    const ends = new TaskEnds({ ...deps, release: () => undefined });
    for (const nodeId of nodeIds) this.#connect(nodeId, tables);
    this.feed = new AssignmentFeed({ ...deps, view: store.view, tables, ends });
    store.onCommit(commit => this.feed.onCommit(commit));
    this.told.length = 0;
  }

  #connect(nodeId: string, tables: NetworkTables): void {
    const session = new NodeSession(
      `s-${nodeId}`,
      {
        nodeId,
        backlog: 0,
        send: ({ body }) => {
          if (body?.$case !== "assignments") return;
          this.#spentMs += this.costMs;
          const changes = body.value.changesJson.map(json => JSON.parse(json) as AssignmentChange);
          const taskIds = changes.flatMap(change =>
            change.kind === "task" && change.action === "update" ? [change.item.task.id] : [],
          );
          this.told.push({ nodeId, atMs: this.clock.monoMs(), taskIds });
        },
        close: () => undefined,
      },
      { logger: silentLogger, tables, draining: () => false, encoder: new ChangeEncoder() },
    );
    this.sessions.set(nodeId, session);
    session.sendComplete(this.store.view);
  }
}

t.test("with little to tell nodes are told at once, each only its own", async t => {
  const rig = new Rig(["n1", "n2"]);
  rig.store.put(assigned("t1", "n1"), assigned("t2", "n1"));
  t.same(rig.told, [{ nodeId: "n1", atMs: 0, taskIds: ["t1", "t2"] }]);
  rig.store.put(assigned("t3", "n2"));
  t.match(rig.told[1], { nodeId: "n2", taskIds: ["t3"] });
  rig.store.put({ op: "taskStatus", id: "t1", status: aStatus("running") });
  t.equal(rig.told.length, 2, "what a node said itself is no news for it");
});

t.test("telling many gives way to other work and is followed by a pause", async t => {
  const nodeIds = Array.from({ length: 10 }, (_, i) => `n${i}`);
  const rig = new Rig(nodeIds);
  rig.costMs = 4;
  rig.store.put(...nodeIds.map((nodeId, i) => assigned(`a${i}`, nodeId)));
  t.equal(rig.told.length, 3, "a slice of 10 ms");
  rig.store.put(...nodeIds.map((nodeId, i) => assigned(`b${i}`, nodeId)));
  t.equal(rig.told.length, 3, "not before the round is over");
  rig.timers.advance(0);
  t.equal(rig.told.length, 10);
  const endMs = rig.clock.monoMs();
  const firstB = rig.told.flatMap(({ taskIds }) => taskIds).indexOf("b0");
  t.equal(firstB, -1, "nodes of the first slice have not heard of the second commit");
  rig.timers.advance(79);
  t.equal(rig.told.length, 10, "twice as long as the round took");
  rig.timers.advance(1);
  rig.timers.advance(1_000);
  t.ok((rig.told[10]?.atMs ?? 0) >= endMs + 80);
  const all = rig.told.flatMap(({ taskIds }) => taskIds);
  t.same([...all].sort(), [...nodeIds.keys()].flatMap(i => [`a${i}`, `b${i}`]).sort());
});

t.test("a node that cannot be told loses its session, the others do not", async t => {
  const rig = new Rig(["n1", "n2"]);
  const broken = rig.sessions.get("n1");
  if (broken === undefined) throw new Error("n1 has a session");
  Object.defineProperty(broken, "sendIncremental", {
    value: () => {
      throw new Error("broken");
    },
  });
  rig.store.put(assigned("t1", "n1"), assigned("t2", "n2"));
  t.ok(broken.closed);
  t.match(rig.told, [{ nodeId: "n2", taskIds: ["t2"] }]);
  rig.store.put(assigned("t3", "n2"));
  t.match(rig.told[1], { taskIds: ["t3"] });
});

t.test("nothing is told after the end of the term", async t => {
  const rig = new Rig(["n1"]);
  rig.costMs = 4;
  rig.store.put(assigned("t1", "n1"));
  rig.store.put(assigned("t2", "n1"));
  rig.feed.stop();
  rig.timers.advance(10_000);
  t.equal(rig.told.length, 1);
  t.equal(rig.timers.pending, 0);
});

function endpoint(id: string, serving: boolean): OverlayChange {
  const item = {
    ...{ id, networkId: "net", taskId: id, serviceId: "svc", name: id, nodeId: "n1" },
    ...{ addr: "10.0.0.2", serving },
  };
  return { action: "update", kind: "endpoint", item };
}

t.test("news of an item is told once, as it is last", async t => {
  const step = fc.record({
    id: fc.constantFrom("a", "b", "c"),
    act: fc.constantFrom("up", "down", "gone"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), steps => {
      const news = new News();
      const last = new Map<string, OverlayChange>();
      for (const { id, act } of steps) {
        const change: OverlayChange =
          act === "gone" ? { action: "remove", kind: "endpoint", id } : endpoint(id, act === "up");
        last.set(id, change);
        news.addNetwork({ hosts: [], changes: new Map([["net", [change]]]), mesh: false });
      }
      const { network, nodeIds } = news.take();
      const told = network.changes.get("net") ?? [];
      t.equal(told.length, last.size);
      for (const change of told) t.ok([...last.values()].includes(change));
      return steps.length === 0 ? news.isEmpty : nodeIds === null;
    }),
  );
});

t.test("an encoded assignment says what it is made of", async t => {
  const encoder = new ChangeEncoder();
  const task = { ...aTask({ id: "t1" }), version: 1, createdAtMs: 0, updatedAtMs: 0 };
  const changes: AssignmentChange[] = [
    { action: "update", kind: "task", item: { task, spec: { Name: "a" } } },
    { action: "update", kind: "task", item: { task, spec: { Name: "b" } } },
    { action: "update", kind: "task", item: { task: { ...task, slot: 2 }, spec: { Name: "b" } } },
    { action: "remove", kind: "task", id: "t1" },
    endpoint("e", true),
    endpoint("e", false),
    { action: "remove", kind: "secret", id: "s" },
  ];
  for (const change of [...changes, ...changes]) {
    t.same(JSON.parse(encoder.encode(change)), JSON.parse(JSON.stringify(change)));
  }
});

t.test("statuses that wait when the term ends are refused, each of them", async t => {
  const stop = new AbortController();
  const pending: (() => void)[] = [];
  const store: Pick<StateStore, "submit"> = {
    submit: () => new Promise((_, reject) => pending.push(() => reject(stop.signal.reason))),
  };
  const batcher = new StatusBatcher({ store: store as StateStore, signal: stop.signal });
  const update = { taskId: "t", status: aStatus("running") };
  const waiting = Array.from({ length: 5 }, () => batcher.submit([update]));
  const refused = waiting.map(one => t.rejects(one, /the term is over/));
  await settle();
  stop.abort(new Error("the term is over"));
  for (const fail of pending) fail();
  await Promise.all(refused);
  await t.rejects(batcher.submit([update]), /the term is over/);
});

/** A store whose commits are made by hand; each is a list of the tasks in one transaction. */
class SlowStore implements Pick<StateStore, "submit"> {
  readonly submitted: string[][] = [];
  readonly #commits: (() => void)[] = [];

  submit(changes: readonly Change[]): Promise<{ readonly index: number }> {
    this.submitted.push(changes.map(change => ("id" in change ? change.id : "")));
    const index = this.submitted.length;
    return new Promise(resolve => this.#commits.push(() => resolve({ index })));
  }

  async commitAll(): Promise<void> {
    for (const commit of this.#commits.splice(0)) commit();
    await settle();
  }
}

function reports(from: number, count: number): { taskId: string; status: TaskStatus }[] {
  return Array.from({ length: count }, (_, i) => {
    return { taskId: `t${from + i}`, status: aStatus("running") };
  });
}

t.test("few statuses go together, many in full transactions side by side", async t => {
  const store = new SlowStore();
  const { signal } = new AbortController();
  const batcher = new StatusBatcher({ store: store as unknown as StateStore, signal });
  const done: number[] = [];
  const submit = (from: number, count: number): void => {
    void batcher.submit(reports(from, count)).then(() => done.push(from));
  };
  submit(0, 1);
  for (let i = 1; i < 100; i += 1) submit(i, 1);
  t.same(
    store.submitted.map(({ length }) => length),
    [1],
    "while the first is in the log the others wait",
  );
  await store.commitAll();
  t.same(done, [0]);
  t.same(
    store.submitted.map(({ length }) => length),
    [1, 99],
  );
  for (let i = 100; i < 4_100; i += 1) submit(i, 1);
  t.same(
    store.submitted.slice(2).map(({ length }) => length),
    new Array(7).fill(200),
    "eight at most are in the log",
  );
  while (done.length < 4_100) await store.commitAll();
  t.same(
    store.submitted.flat(),
    reports(0, 4_100).map(({ taskId }) => taskId),
    "in order",
  );
  submit(5_000, 450);
  t.same(
    store.submitted.slice(-3).map(({ length }) => length),
    [200, 200, 50],
  );
  await store.commitAll();
  t.equal(done.at(-1), 5_000);
});
