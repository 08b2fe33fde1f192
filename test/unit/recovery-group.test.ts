import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { groupHandlers } from "../../src/daemon/group.ts";
import { adoptNewGroup, eraseNewGroups, prepareNewGroup } from "../../src/daemon/new-group.ts";
import type { Change } from "../../src/model/change.ts";
import type { StateView } from "../../src/model/view.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import type { Entry } from "../../src/raft/core/types.ts";
import { nextTurn } from "../../src/raft/driver/turns.ts";
import { DRIVER_DEFAULTS, RaftDriver } from "../../src/raft/driver.ts";
import { LevelRaftStorage } from "../../src/raft/storage/level-storage.ts";
import { plainSealer } from "../../src/raft/storage/sealer.ts";
import {
  firstIndexOfGroup,
  INDEX_JUMP,
  imageOfNewGroup,
} from "../../src/recovery/core/new-group.ts";
import { readStoredGroup, writeNewGroup } from "../../src/recovery/raft-log.ts";
import { encodeTransaction } from "../../src/state/core/transaction-codec.ts";
import { ReplicatedStore } from "../../src/state/store.ts";
import { realClock } from "../../src/system/real.ts";
import { eventually } from "../support/eventually.ts";
import { MemoryNetwork, MemoryRaftTransport } from "../support/memory-raft-transport.ts";
import { aCluster, aNode, aTask } from "../support/rows.ts";

const OLD = { raftId: 7, clusterId: "cluster" };
const NEW = { raftId: 8, clusterId: "cluster" };
const FOUNDER = { raftId: 8, nodeId: "m1", addr: "10.0.0.9:2377" };
const DEPS = { sealer: plainSealer, clock: realClock, logger: silentLogger, nextTurn };
const CONF = {
  voters: [7, 2, 3],
  learners: [],
  votersOutgoing: [],
  learnersNext: [],
  autoLeave: false,
};
const HARD_STATE = { term: 4, vote: 2, commit: 12 };

function manager(id: string): Change {
  const spec = { Role: "manager", Availability: "active" } as const;
  return { op: "create", table: "nodes", row: aNode({ id, spec, certRole: "manager" }) };
}

const ROWS: readonly Change[] = [
  { op: "create", table: "cluster", row: aCluster() },
  manager("m1"),
  manager("m2"),
  { op: "create", table: "nodes", row: aNode({ id: "w1" }) },
  { op: "create", table: "members", row: { id: "7", nodeId: "m1", raftId: 7, addr: "a:1" } },
  { op: "create", table: "members", row: { id: "2", nodeId: "m2", raftId: 2, addr: "b:1" } },
];

function secret(id: string): Change {
  return { op: "create", table: "secrets", row: { id, spec: { Name: id, Data: "eA==" } } };
}

function transaction(changes: readonly Change[]): Uint8Array {
  return encodeTransaction({ nowMs: 1_000, changes });
}

/** A member of three: a snapshot at 10, committed to 12, and one entry more. */
async function oldGroup(dir: string): Promise<void> {
  const store = new ReplicatedStore({}, DEPS);
  store.apply({ index: 10, data: transaction(ROWS) });
  const storage = new LevelRaftStorage({ dir, keepOldSnapshots: 0 }, DEPS);
  await storage.open(OLD);
  const meta = { index: 10, term: 3, conf: CONF };
  const writer = await storage.newSnapshot(meta);
  for await (const chunk of store.snapshot()) await writer.write(chunk);
  await writer.commit();
  const entries: Entry[] = [
    { index: 11, term: 4, kind: "normal", data: new Uint8Array() },
    { index: 12, term: 4, kind: "normal", data: transaction([secret("acknowledged")]) },
    { index: 13, term: 4, kind: "normal", data: transaction([secret("proposed")]) },
  ];
  await storage.create(OLD, { snapshot: meta, hardState: HARD_STATE, entries });
  await storage.close();
}

function ids(view: StateView, table: "secrets" | "nodes" | "members"): string[] {
  return [...view.table(table).all()].map(row => row.id);
}

t.test("a group's first index is above all that was and all that may be", async t => {
  t.equal(firstIndexOfGroup(500, 7), 500 + INDEX_JUMP);
  t.equal(firstIndexOfGroup(500, 1_790_000_000_123.5), 1_790_000_000_123);
  const first = firstIndexOfGroup(500, 1_790_000_000_000);
  t.ok(firstIndexOfGroup(500, 1_790_000_060_000) > first, "a later one of the same state too");
  t.ok(firstIndexOfGroup(first + 10, 0) >= first + INDEX_JUMP, "whatever the clock says");
});

t.test("all is kept but the membership", async t => {
  const store = new ReplicatedStore({}, DEPS);
  const task = aTask({ id: "t1", nodeId: "m2" });
  store.apply({ index: 5, data: transaction([...ROWS, secret("s1")]) });
  store.apply({ index: 6, data: transaction([{ op: "create", table: "tasks", row: task }]) });
  const group = { index: 2_000, nowMs: 3_000, founder: FOUNDER };
  const image = new Map(imageOfNewGroup(store.view, group).tables);
  t.match(image.get("members"), [{ id: "8", ...FOUNDER, version: 2_000 }]);
  t.equal(image.get("members")?.length, 1);
  const roles = image.get("nodes")?.map(row => [row.id, row]);
  t.match(roles, [
    ["m1", { spec: { Role: "manager" }, certRole: "manager" }],
    ["m2", { spec: { Role: "worker", Availability: "active" }, status: { state: "ready" } }],
    ["w1", { spec: { Role: "worker" } }],
  ]);
  t.match(image.get("tasks"), [{ id: "t1", nodeId: "m2", createdAtMs: 1_000 }]);
  t.match(image.get("secrets"), [{ id: "s1" }]);
  const versions = [...image.values()].flat().map(row => row.version);
  t.ok(
    versions.every(version => version === 2_000),
    "nobody sees a version go back",
  );
  const row = { ...aNode({ id: "m9" }), version: 1, createdAtMs: 1, updatedAtMs: 1 };
  const founder = { ...FOUNDER, nodeId: "m9" };
  const fresh = new Map(imageOfNewGroup(store.view, { ...group, founder }, row).tables);
  t.match(
    fresh.get("nodes")?.map(node => node.id),
    ["m1", "m2", "w1", "m9"],
  );
  t.match(fresh.get("nodes")?.[0], { id: "m1", spec: { Role: "worker" } });
});

t.test("a member's log becomes a group of one that leads at once", async t => {
  const dir = t.testdir();
  await oldGroup(join(dir, "old"));
  const old = await readStoredGroup({ dir: join(dir, "old"), identity: OLD }, DEPS);
  t.match({ lastIndex: old.lastIndex, term: old.term }, { lastIndex: 13, term: 4 });
  t.same(ids(old.view, "secrets"), ["acknowledged", "proposed"], "its whole log counts");
  const image = imageOfNewGroup(old.view, { index: 9_000, nowMs: 1, founder: FOUNDER });
  const target = { dir: join(dir, "new"), identity: NEW, term: 5 };
  await writeNewGroup(target, image, DEPS);
  await t.rejects(writeNewGroup(target, image, DEPS), { code: "failed_precondition" });

  const store = new ReplicatedStore({}, DEPS);
  const transport = new MemoryRaftTransport(
    { self: FOUNDER, clusterId: NEW.clusterId },
    new MemoryNetwork(),
  );
  const driver = await RaftDriver.open(
    { ...DRIVER_DEFAULTS, clusterId: NEW.clusterId, self: FOUNDER, start: "restart" },
    {
      ...DEPS,
      storage: new LevelRaftStorage({ dir: target.dir, keepOldSnapshots: 0 }, DEPS),
      transport,
      stateMachine: store,
      rng: new SeededRng(1),
      log: silentLogger,
      createCore: (config, deps) => new RaftCore(config, deps),
    },
  );
  store.attach(driver);
  const stop = new AbortController();
  const ended = driver.run(stop.signal);
  await eventually(() => driver.status().role === "leader", { what: "it leads", everyMs: 1 });
  const { index } = await store.submit([secret("later")], stop.signal);
  t.ok(index > 9_000);
  t.same(ids(store.view, "secrets"), ["acknowledged", "later", "proposed"]);
  t.same(ids(store.view, "members"), ["8"]);
  t.same(driver.status().conf.voters, [8]);
  stop.abort();
  await ended;
});

t.test("a directory without a log is no group", async t => {
  const dir = t.testdir();
  await t.rejects(readStoredGroup({ dir, identity: OLD }, DEPS), {
    code: "data_loss",
    message: /no Raft log/,
  });
});

t.test("the prepared log takes its place when node.json names it, and only then", async t => {
  const dir = t.testdir();
  const store = new ReplicatedStore({}, DEPS);
  store.apply({ index: 5, data: transaction(ROWS) });
  const image = imageOfNewGroup(store.view, { index: 9_000, nowMs: 1, founder: FOUNDER });
  const group = { identity: NEW, term: 5, image };
  const names = (): string[] => readdirSync(dir).sort();
  const old = (): unknown => mkdirSync(join(dir, "raft", "old"), { recursive: true });

  old();
  await prepareNewGroup(dir, group, { ...DEPS, identity: { unlockKey: null } });
  t.same(names(), ["raft", "raft.next-8"]);
  await adoptNewGroup(dir, OLD.raftId);
  t.same(names(), ["raft"], "not named: the crash came before");
  t.same(readdirSync(join(dir, "raft")), ["old"]);

  await prepareNewGroup(dir, group, { ...DEPS, identity: { unlockKey: null } });
  await adoptNewGroup(dir, NEW.raftId);
  await adoptNewGroup(dir, NEW.raftId);
  t.same(names(), ["raft"]);
  t.ok(readdirSync(join(dir, "raft")).includes("dek"), "named: it is in place");

  mkdirSync(join(dir, "raft.building"));
  mkdirSync(join(dir, "raft.next-8"));
  await eraseNewGroups(dir);
  t.same(names(), ["raft"]);
});

t.test("a manager that was away learns whether it is still a member", async t => {
  const store = new ReplicatedStore({}, DEPS);
  store.apply({ index: 5, data: transaction(ROWS) });
  const ask = async (raftId: number, commit: number, leaderId = 2) => {
    const raft = { status: () => ({ applied: 50, leaderId }) } as never;
    const call = {} as never;
    return groupHandlers({ raft, store }).ask({ raftId, commit }, call);
  };
  t.same(await ask(7, 900), { verdict: "member", hasLeader: true });
  t.same(await ask(9, 50), { verdict: "retired", hasLeader: true }, "removed by what is applied");
  t.same(await ask(9, 51), { verdict: "unknown", hasLeader: true }, "this one may be behind");
  t.same(await ask(7, 1, 0), { verdict: "member", hasLeader: false });
});
