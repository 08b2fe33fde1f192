import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import { KeyGuard } from "../../src/daemon/autolock.ts";
import { loadDek, wrapDek } from "../../src/daemon/dek-file.ts";
import { removeLeftContainers } from "../../src/daemon/left-containers.ts";
import { realClock } from "../../src/system/real.ts";
import { IdentityStore } from "../../src/tls/identity-store.ts";
import { newUnlockKey, parseUnlockKey, unlockKeyBytes } from "../../src/tls/unlock-key.ts";
import { eventually } from "../support/eventually.ts";
import { FakeEngine } from "../support/fake-engine.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aCluster } from "../support/rows.ts";
import { TestCa } from "../support/test-ca.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const deps = { logger: silentLogger };
const WRONG = {
  code: "unauthenticated",
  message: "swarm could not be unlocked: invalid key provided",
};

t.test("unlock keys are read as they are written", async t => {
  const key = newUnlockKey();
  t.match(key, /^SWMKEY-1-[A-Za-z0-9+/]{43}$/);
  t.equal(parseUnlockKey(` ${key}\n`), key);
  t.equal(unlockKeyBytes(key).length, 32);
  t.not(newUnlockKey(), key);
  for (const bad of [
    "",
    "x",
    key.slice(0, -1),
    `${key}a`,
    key.slice(9),
    `SWMKEY-2-${key.slice(9)}`,
  ]) {
    t.throws(() => parseUnlockKey(bad), {
      code: "invalid_argument",
      message: "invalid key string",
    });
  }
});

t.test("the node's key is sealed, opened again, and renewed sealed", async t => {
  const dataDir = t.testdir();
  const ca = await TestCa.create();
  const store = await IdentityStore.open({ dataDir }, deps);
  await store.replace(await ca.identity("manager"));
  const first = store.current();
  const unlockKey = newUnlockKey();
  await store.protect(unlockKey);
  t.equal(store.current().keyPem, first.keyPem, "nothing changes for the running node");
  const keyFile = join(dataDir, "certificates", "node.key");
  t.match(readFileSync(keyFile, "utf8"), /^-----BEGIN ENCRYPTED PRIVATE KEY-----/);

  const locked = await IdentityStore.open({ dataDir }, deps);
  t.ok(locked.locked && locked.present);
  const { nodeId, clusterId } = first;
  t.match(locked.lockedName, { nodeId, clusterId }, "whose it is can be told all the same");
  t.throws(() => locked.current());
  t.throws(() => locked.unlock(newUnlockKey()), WRONG);
  t.ok(locked.locked);
  locked.unlock(unlockKey);
  t.notOk(locked.locked);
  t.same(locked.current(), first);
  await locked.replace(await ca.identity("manager"));
  t.match(readFileSync(keyFile, "utf8"), /^-----BEGIN ENCRYPTED/, "a new key is sealed too");
  await locked.protect(null);
  t.notOk((await IdentityStore.open({ dataDir }, deps)).locked);
});

t.test("the log's key opens with what it is wrapped with", async t => {
  const dir = join(t.testdir(), "raft");
  const dek = await loadDek(dir, null);
  t.equal(dek.length, 32);
  t.equal(statSync(join(dir, "dek")).mode & 0o077, 0);
  t.same(await loadDek(dir, null), dek);
  const [one, two] = [newUnlockKey(), newUnlockKey()];
  await wrapDek(dir, dek, [one]);
  t.notOk(readFileSync(join(dir, "dek"), "utf8").includes(Buffer.from(dek).toString("base64")));
  t.same(await loadDek(dir, one), dek);
  await t.rejects(loadDek(dir, two), WRONG);
  await t.rejects(loadDek(dir, null), WRONG);
  await wrapDek(dir, dek, [one, two]);
  t.same(await loadDek(dir, one), dek, "a crash in a change leaves the old one good");
  t.same(await loadDek(dir, two), dek, "and the new one");
  writeFileSync(join(dir, "dek"), dek);
  t.same(await loadDek(dir, null), dek, "the bare key of an earlier version");
  writeFileSync(join(dir, "dek"), '{"format":1,"wraps":[{}]}');
  await t.rejects(loadDek(dir, one), { code: "data_loss" });
});

t.test("a manager follows the cluster's unlock key", async t => {
  const dataDir = t.testdir();
  const raftDir = join(dataDir, "raft");
  const ca = await TestCa.create();
  const identity = await IdentityStore.open({ dataDir }, deps);
  await identity.replace(await ca.identity("manager"));
  const dek = await loadDek(raftDir, null);
  const clock = new VirtualClock();
  const store = new MemoryStore(clock);
  const guard = new KeyGuard({ raftDir }, { store, identity, clock, logger: silentLogger });
  const stop = new AbortController();
  const running = guard.run(stop.signal).catch(() => undefined);
  t.teardown(async () => {
    stop.abort();
    await running;
  });
  const cluster = aCluster();
  store.put({ op: "create", table: "cluster", row: cluster });
  const become = async (unlockKey: string): Promise<void> => {
    store.put({ op: "patch", table: "cluster", id: cluster.id, fields: { unlockKey } });
    const wanted = unlockKey === "" ? null : unlockKey;
    const settled = async (): Promise<boolean> =>
      identity.unlockKey === wanted &&
      (await loadDek(raftDir, wanted).then(
        key => Buffer.from(key).equals(dek),
        () => false,
      )) &&
      JSON.parse(readFileSync(join(raftDir, "dek"), "utf8")).wraps.length === 1;
    await eventually(settled, { what: "the keys to be sealed anew" });
  };
  const key = newUnlockKey();
  await become(key);
  await t.rejects(loadDek(raftDir, null), WRONG, "no open wrap is left");
  await become(newUnlockKey());
  await t.rejects(loadDek(raftDir, key), WRONG, "nor the one for the old key");
  await become("");
  t.notOk((await IdentityStore.open({ dataDir }, deps)).locked);
});

t.test("the containers of a locked manager go when it leaves", async t => {
  const engine = new FakeEngine();
  await engine.start();
  t.teardown(() => engine.close());
  const asked: string[] = [];
  engine.on("GET /containers/json", (request, response) => {
    asked.push(decodeURIComponent(request.url ?? ""));
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end('[{"Id":"c1"},{"Id":"gone"}]');
  });
  engine.on("DELETE /containers/c1", (_request, response) => response.writeHead(204).end());
  const node = { nodeId: "n1", clusterId: "k1" };
  const never = new AbortController().signal;
  const parts = { clock: realClock, logger: silentLogger };
  await removeLeftContainers(node, engine.socketPath, never, parts);
  t.match(asked[0], /swarmd\.cluster\.id=k1.*com\.docker\.swarm\.node\.id=n1/);
  const removed = engine.requests.filter(request => request.startsWith("DELETE"));
  t.same(removed.sort(), ["DELETE /containers/c1", "DELETE /containers/gone"]);
  await removeLeftContainers(node, "/nonexistent.sock", never, parts);
  t.pass("without an Engine it leaves all the same");
});
