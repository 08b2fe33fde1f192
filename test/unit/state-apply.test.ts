import fc from "fast-check";
import t from "tap";
import { isSwarmError } from "../../src/base/errors.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Change, Transaction } from "../../src/model/change.ts";
import { applyTransaction } from "../../src/state/core/apply.ts";
import { canonicalJson } from "../../src/state/core/canonical.ts";
import { Digester } from "../../src/state/core/digest.ts";
import {
  encodeImage,
  ImageDecoder,
  imageOf,
  MAX_SNAPSHOT_CHUNK_BYTES,
} from "../../src/state/core/snapshot-codec.ts";
import { StateTables } from "../../src/state/core/tables.ts";
import {
  decodeTransaction,
  encodeTransaction,
  MAX_CHANGES_PER_TRANSACTION,
  MAX_TRANSACTION_BYTES,
} from "../../src/state/core/transaction-codec.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const web = aService({ id: "s1", spec: { Name: "web" } });

function code(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    if (isSwarmError(error)) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "ok";
}

t.test("rows are stamped with index and leader's clock", t => {
  const clock = new VirtualClock(1000);
  const store = new MemoryStore(clock);
  const first = store.put({ op: "create", table: "nodes", row: aNode({ id: "n1" }) });
  clock.advance(5);
  const second = store.put({
    op: "patch",
    table: "nodes",
    id: "n1",
    fields: { certificatePem: "pem" },
  });
  const node = store.view.table("nodes").get("n1");
  t.match(node, { version: second, createdAtMs: 1000, updatedAtMs: 1005, certificatePem: "pem" });
  t.ok(first < second);
  t.ok(Object.isFrozen(node) && Object.isFrozen(node?.spec));
  t.end();
});

t.test("rows are frozen unless the daemon's store does without", t => {
  for (const [options, frozen] of [
    [{}, true],
    [{ freezesRows: false }, false],
  ] as const) {
    const state = new StateTables(options);
    const changes: Change[] = [{ op: "create", table: "nodes", row: aNode({ id: "n1" }) }];
    applyTransaction(state, { nowMs: 1, changes }, 1);
    const decoder = new ImageDecoder(options);
    for (const chunk of encodeImage(imageOf(state))) decoder.push(chunk);
    for (const tables of [state, decoder.finish()]) {
      const node = tables.table("nodes").get("n1");
      t.same([Object.isFrozen(node), Object.isFrozen(node?.spec)], [frozen, frozen]);
    }
  }
  t.end();
});

t.test("a refused transaction changes nothing", t => {
  const store = new MemoryStore();
  store.put(...createService(web));
  const before = store.digest();
  const outcome = code(() =>
    store.put(
      { op: "create", table: "tasks", row: aTask({ id: "t1", serviceId: "s1" }) },
      { op: "patch", table: "services", id: "s1", fields: { pendingDelete: true } },
      { op: "delete", table: "serviceSpecs", id: "s1.1" },
      { op: "create", table: "services", row: web },
    ),
  );
  t.equal(outcome, "already_exists: services s1 already exists");
  t.equal(store.digest(), before);
  t.same(store.view.tasksOfService("s1"), []);
  t.equal(store.view.serviceByName("web")?.pendingDelete, false);
  t.equal(store.view.specsOfService("s1").length, 1);
  t.end();
});

t.test("versions are checked at apply", t => {
  const store = new MemoryStore();
  const created = store.put(...createService(web));
  const update = (ifVersion: number): Change => ({
    op: "update",
    table: "services",
    row: { ...web, pendingDelete: true },
    ifVersion,
  });
  t.equal(
    code(() => store.put(update(created + 1))),
    "out_of_sequence: update out of sequence",
  );
  t.equal(
    code(() => store.put(update(created))),
    "ok",
  );
  t.equal(
    code(() => store.put(update(created))),
    "out_of_sequence: update out of sequence",
  );
  const gone = { op: "patch", table: "services", id: "x", fields: {} } as const;
  t.equal(
    code(() => store.put(gone)),
    "ok",
  );
  t.equal(
    code(() => store.put({ ...gone, ifVersion: 3 })),
    "not_found: services x not found",
  );
  t.equal(store.view.table("services").get("x"), undefined);
  t.equal(
    code(() => store.put({ op: "delete", table: "services", id: "s1", ifVersion: created })),
    "out_of_sequence: update out of sequence",
  );
  t.end();
});

t.test("names are unique without case, and free once the service is going", t => {
  const store = new MemoryStore();
  store.put(...createService(web));
  const other = aService({ id: "s2", spec: { Name: "WEB" } });
  t.equal(
    code(() => store.put(...createService(other))),
    "already_exists: name conflicts with an existing object: service WEB already exists",
  );
  store.put({ op: "patch", table: "services", id: "s1", fields: { pendingDelete: true } });
  t.equal(
    code(() => store.put(...createService(other))),
    "ok",
  );
  t.equal(store.view.serviceByName("WEB")?.id, "s2");
  t.equal(store.view.serviceByName("web"), undefined);
  const secret = {
    op: "create",
    table: "secrets",
    row: { id: "x", spec: { Name: "pw" } },
  } as const;
  store.put(secret);
  t.equal(
    code(() => store.put({ ...secret, row: { ...secret.row, id: "y" } })),
    "already_exists: secret pw already exists",
  );
  store.put({ op: "delete", table: "secrets", id: "x" });
  t.equal(
    code(() => store.put({ ...secret, row: { ...secret.row, id: "y" } })),
    "ok",
  );
  t.end();
});

t.test("a task's states only move forward", t => {
  const clock = new VirtualClock(1000);
  const store = new MemoryStore(clock);
  const task = () => store.view.table("tasks").get("t1");
  store.put({ op: "create", table: "tasks", row: aTask({ id: "t1" }) });
  clock.advance(1);
  store.put({ op: "taskStatus", id: "t1", status: aStatus("running", { timestampMs: 77 }) });
  t.match(task(), { runningSinceMs: 1001, endedAtMs: 0, status: { timestampMs: 77 } });
  clock.advance(1);
  store.put({ op: "taskStatus", id: "t1", status: aStatus("preparing") });
  t.equal(task()?.status.state, "running");
  store.put({ op: "taskStatus", id: "t1", status: aStatus("running", { pid: 4 }) });
  t.match(task(), { runningSinceMs: 1001, status: { pid: 4 } });
  store.put({ op: "taskStatus", id: "t1", status: aStatus("failed", { exitCode: 3 }) });
  t.match(task(), { endedAtMs: 1002, status: { exitCode: 3 } });
  store.put({ op: "taskStatus", id: "nobody", status: aStatus("failed") });
  t.equal(
    code(() =>
      store.put({
        op: "patch",
        table: "tasks",
        id: "t1",
        fields: { status: aStatus("assigned"), nodeId: "n9" },
      }),
    ),
    "out_of_sequence: update out of sequence",
  );
  t.equal(task()?.nodeId, "");
  store.put({ op: "patch", table: "tasks", id: "t1", fields: { desiredState: "shutdown" } });
  const back = {
    op: "patch",
    table: "tasks",
    id: "t1",
    fields: { desiredState: "ready" },
  } as const;
  t.equal(
    code(() => store.put(back)),
    "out_of_sequence: update out of sequence",
  );
  t.end();
});

t.test("indexes follow the rows", t => {
  const store = new MemoryStore();
  for (const id of ["t3", "t1", "t2"]) {
    store.put({ op: "create", table: "tasks", row: aTask({ id, serviceId: "s1" }) });
  }
  const ids = (rows: readonly { id: string }[]) => rows.map(row => row.id).join();
  t.equal(ids(store.view.tasksOfService("s1")), "t1,t2,t3");
  store.put({ op: "patch", table: "tasks", id: "t2", fields: { nodeId: "n1" } });
  t.equal(ids(store.view.tasksOfNode("n1")), "t2");
  t.equal(store.view.tasksOfService("s1")[1]?.nodeId, "n1");
  store.put({ op: "delete", table: "tasks", id: "t2" });
  store.put({ op: "create", table: "tasks", row: aTask({ id: "t2", serviceId: "s2" }) });
  t.equal(ids(store.view.tasksOfNode("n1")), "");
  t.equal(ids(store.view.tasksOfService("s1")), "t1,t3");
  t.equal(ids(store.view.tasksOfService("s2")), "t2");
  store.put({ op: "create", table: "nodes", row: aNode({ id: "n2" }) });
  t.equal(ids(store.view.nodesByHostname("n2")), "n2");
  t.end();
});

t.test("apply is total", t => {
  const garbage = [
    "",
    "nonsense",
    "[]",
    "{}",
    '{"v":1,"nowMs":1,"changes":[{"op":"create","table":"nodes","row":{"id":""}}]}',
    '{"v":1,"nowMs":1,"changes":[{"op":"create","table":"tables","row":{"id":"x"}}]}',
    '{"v":1,"nowMs":1,"changes":[{"op":"patch","table":"tasks","id":"t","fields":{"status":{}}}]}',
    '{"v":1,"nowMs":1,"changes":[{"op":"toString"}]}',
  ];
  for (const text of garbage) t.equal(decodeTransaction(Buffer.from(text)).ok, false, text);
  const malformed: Transaction = {
    nowMs: 1,
    changes: [JSON.parse('{"op":"create","table":"services","row":{"id":"s"}}')],
  };
  const state = new StateTables();
  t.match(applyTransaction(state, malformed, 7), {
    result: { ok: false, code: "invalid_argument" },
    commit: null,
  });
  t.equal(state.index, 7);
  t.throws(() => decodeTransaction(Buffer.from('{"v":2}')), { code: "data_loss" });
  t.end();
});

t.test("a transaction has limits", t => {
  const patch = { op: "delete", table: "nodes", id: "x" } as const;
  const many = Array.from({ length: MAX_CHANGES_PER_TRANSACTION + 1 }, () => patch);
  t.throws(() => encodeTransaction({ nowMs: 0, changes: many }), { code: "invalid_argument" });
  t.doesNotThrow(() => encodeTransaction({ nowMs: 0, changes: many.slice(1) }));
  const large: Change = {
    op: "create",
    table: "configs",
    row: { id: "c", spec: { Name: "c", Data: "x".repeat(MAX_TRANSACTION_BYTES) } },
  };
  t.throws(() => encodeTransaction({ nowMs: 0, changes: [large] }), { code: "invalid_argument" });
  t.end();
});

/** A random history of transactions over few ids, so that they collide. */
const history = fc.array(
  fc.record({
    nowMs: fc.integer({ min: 1, max: 9 }),
    changes: fc.array(
      fc.oneof(
        fc.record({
          op: fc.constant("create"),
          table: fc.constantFrom("nodes", "networks", "secrets"),
          row: fc.record({
            id: fc.constantFrom("a", "b", "c"),
            spec: fc.record({ Name: fc.constantFrom("x", "X", "y") }),
          }),
        }),
        fc.record({
          op: fc.constant("create"),
          table: fc.constant("tasks"),
          row: fc.record({
            id: fc.constantFrom("a", "b", "c"),
            serviceId: fc.constantFrom("", "s1"),
            nodeId: fc.constantFrom("", "n1"),
            desiredState: fc.constantFrom("ready", "running"),
            status: fc.record({ state: fc.constantFrom("new", "running") }),
          }),
        }),
        fc.record({
          op: fc.constant("patch"),
          table: fc.constantFrom("networks", "tasks"),
          id: fc.constantFrom("a", "b", "c"),
          fields: fc.record(
            { spec: fc.record({ Name: fc.constantFrom("x", "y") }), nodeId: fc.constant("n2") },
            { requiredKeys: ["nodeId"] },
          ),
        }),
        fc.record({
          op: fc.constant("taskStatus"),
          id: fc.constantFrom("a", "b", "c"),
          status: fc.record({ state: fc.constantFrom("new", "running", "failed") }),
        }),
        fc.record({
          op: fc.constant("delete"),
          table: fc.constantFrom("nodes", "tasks", "networks"),
          id: fc.constantFrom("a", "b", "c"),
        }),
      ),
      { minLength: 1, maxLength: 4 },
    ),
  }),
  { maxLength: 25 },
);

function decode(value: object): Transaction {
  const decoded = decodeTransaction(Buffer.from(JSON.stringify({ v: 1, ...value })));
  if (!decoded.ok) throw new Error(decoded.message);
  return decoded.tx;
}

function reread(state: StateTables, seed: number): StateTables {
  const rng = new SeededRng(seed);
  const bytes = Buffer.concat([...encodeImage(imageOf(state))]);
  const decoder = new ImageDecoder();
  for (let at = 0; at < bytes.length; ) {
    const end = at + 1 + (rng.uint32() % 97);
    decoder.push(bytes.subarray(at, end));
    at = end;
  }
  return decoder.finish();
}

function contents(state: StateTables): string {
  return Buffer.concat([...encodeImage({ ...imageOf(state), index: 0, nowMs: 0 })]).toString();
}

t.test("a snapshot is in order, however large, and never long at it", t => {
  const state = new StateTables();
  const rows = 9_000;
  for (let at = 0; at < rows; at += 100) {
    const changes: Change[] = Array.from({ length: 100 }, (_, i) => {
      const id = `c${((at + i) * 7_919) % rows}`;
      return { op: "create", table: "configs", row: { id, spec: { Name: id } } };
    });
    applyTransaction(state, { nowMs: 1, changes }, at + 1);
  }
  const ids = contents(state).match(/(?<="configs",\{"id":")c\d+/g) ?? [];
  t.equal(ids.length, rows);
  t.same(ids, [...ids].sort());
  const pauses = [...encodeImage(imageOf(state))].filter(chunk => chunk.length === 0);
  t.ok(pauses.length >= 4, "between the steps of sorting");
  t.end();
});

t.test("replay and snapshot give the same state", t => {
  fc.assert(
    fc.property(history, fc.nat(), (transactions, cut) => {
      const straight = new StateTables();
      let restored = new StateTables();
      transactions.forEach((value, i) => {
        if (i === cut % (transactions.length + 1)) restored = reread(restored, cut);
        const tx = decode(value);
        const before = reread(straight, cut);
        const a = applyTransaction(straight, tx, i + 1);
        const b = applyTransaction(restored, decode(value), i + 1);
        t.equal(canonicalJson(a), canonicalJson(b));
        if (!a.result.ok) t.equal(contents(straight), contents(before));
        for (const event of a.commit?.events ?? []) {
          if (event.after !== null) t.equal(event.after.version, i + 1);
        }
      });
      const digester = new Digester();
      t.equal(digester.digest(straight), new Digester().digest(restored));
      t.equal(digester.digest(straight), new Digester().digest(straight));
      for (const key of ["s1"]) {
        const scan = [...straight.table("tasks").all()].filter(task => task.serviceId === key);
        t.same(straight.tasksOfService(key), scan);
      }
    }),
    { numRuns: 100 },
  );
  t.end();
});

t.test("the digest tells states apart", t => {
  const state = new StateTables();
  const digester = new Digester();
  const seen = new Set([digester.digest(state)]);
  const node = aNode({ id: "n1" });
  const changes: Change[] = [
    { op: "create", table: "nodes", row: node },
    { op: "patch", table: "nodes", id: "n1", fields: { certificatePem: "x" } },
    { op: "patch", table: "nodes", id: "n1", fields: { certificatePem: "y" } },
    { op: "delete", table: "nodes", id: "n1" },
  ];
  changes.forEach((change, i) => {
    applyTransaction(state, { nowMs: 0, changes: [change] }, i + 1);
    seen.add(digester.digest(state));
  });
  t.equal(seen.size, 4, "the empty state has the digest it began with");
  t.end();
});

t.test("a damaged snapshot is refused", t => {
  const state = new StateTables();
  for (let i = 0; i < 400; i++) {
    const row = { id: `c${i}`, spec: { Name: `c${i}`, Data: "x".repeat(1000) } };
    const create: Change = { op: "create", table: "configs", row };
    applyTransaction(state, { nowMs: 1, changes: [create] }, i + 1);
  }
  const chunks = [...encodeImage(imageOf(state))];
  t.ok(chunks.length > 1);
  t.ok(chunks.every(chunk => chunk.length <= MAX_SNAPSHOT_CHUNK_BYTES));
  const read = (parts: readonly Uint8Array[]) => {
    const decoder = new ImageDecoder();
    for (const part of parts) decoder.push(part);
    return decoder.finish();
  };
  t.equal(read(chunks).table("configs").size, 400);
  t.throws(() => read(chunks.slice(0, -1)), { code: "data_loss" });
  t.throws(() => read([...chunks, Buffer.from("{}\n")]), { code: "data_loss" });
  t.throws(() => read([Buffer.from('{"v":9}\n')]), { code: "data_loss" });
  const flipped = Buffer.concat(chunks);
  flipped[flipped.indexOf("[")] = 0x7b;
  t.throws(() => read([flipped]), { code: "data_loss" });
  t.end();
});
