import { join } from "node:path";
import t from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { loadDek } from "../../src/daemon/dek-file.ts";
import { prepareRestoredGroup } from "../../src/daemon/recover.ts";
import { DEFAULT_SWARM_SPEC } from "../../src/model/defaults.ts";
import { nextTurn } from "../../src/raft/driver/turns.ts";
import { AesGcmSealer } from "../../src/raft/storage/sealer.ts";
import { loadBackup, takeBackup } from "../../src/recovery/backup.ts";
import { readStoredGroup } from "../../src/recovery/raft-log.ts";
import { encodeTransaction } from "../../src/state/core/transaction-codec.ts";
import { ReplicatedStore } from "../../src/state/store.ts";
import { realClock } from "../../src/system/real.ts";
import { IdentityStore } from "../../src/tls/identity-store.ts";
import { managerRig, message } from "../support/manager-rig.ts";
import { outcomeOf } from "../support/raft-group.ts";
import { aCluster } from "../support/rows.ts";
import { TestCa } from "../support/test-ca.ts";

const DEPS = { clock: realClock, logger: silentLogger };
const WHOSE = { clusterId: "c1", nodeId: "n1", productVersion: "0.1.0" };
const never = new AbortController().signal;

function storeWith(id = "c1", rootCa = { certPem: "root", keyPem: "key" }): ReplicatedStore {
  const store = new ReplicatedStore({}, DEPS);
  const spec = { Name: "password", Data: "c2VjcmV0" };
  const members = [{ id: "5", nodeId: "n1", raftId: 5, addr: "127.0.0.1:1" }];
  const data = encodeTransaction({
    nowMs: 7,
    changes: [
      { op: "create", table: "cluster", row: aCluster({ id, rootCa }) },
      { op: "create", table: "secrets", row: { id: "s1", spec } },
      ...members.map(row => ({ op: "create", table: "members", row }) as const),
    ],
  });
  store.apply({ index: 41, data });
  return store;
}

function raftThat(readBarrier: () => Promise<void>) {
  return { readBarrier, status: () => ({ term: 6 }) } as never;
}

async function bytesOf(passphrase = "", store = storeWith()): Promise<Buffer> {
  const raft = raftThat(async () => undefined);
  const file = await takeBackup({ ...WHOSE, passphrase }, { raft, store, ...DEPS }, never);
  const parts: Uint8Array[] = [];
  for await (const part of file) parts.push(part);
  return Buffer.concat(parts);
}

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

function load(bytes: Uint8Array, passphrase = "", size = 1 << 16) {
  return loadBackup(inPieces(bytes, size), passphrase, DEPS);
}

t.test("a backup holds the state, in pieces of any size", async t => {
  const bytes = await bytesOf();
  for (const size of [1, 7, 100_000]) {
    const { header, view } = await load(bytes, "", size);
    t.match(header, { format: 1, index: 41, term: 6, ...WHOSE, encryption: null });
    t.match(view.table("secrets").get("s1"), { spec: { Data: "c2VjcmV0" }, version: 41 });
  }
});

t.test("only what a quorum confirms is backed up", async t => {
  const raft = raftThat(async () => {
    throw new SwarmError("unavailable", "no quorum");
  });
  const deps = { raft, store: storeWith(), ...DEPS };
  await t.rejects(takeBackup({ ...WHOSE, passphrase: "" }, deps, never), { code: "unavailable" });
});

t.test("a passphrase hides what is in it", async t => {
  const bytes = await bytesOf("correct horse");
  t.notOk(bytes.includes("c2VjcmV0"));
  t.ok((await bytesOf()).includes("c2VjcmV0"), "and without one it would be there");
  const { view } = await load(bytes, "correct horse");
  t.equal(view.table("secrets").size, 1);
  await t.rejects(load(bytes), { code: "invalid_argument", message: /--passphrase-file/ });
  await t.rejects(load(bytes, "battery staple"), {
    code: "invalid_argument",
    message: "the backup's passphrase is another one",
  });
});

t.test("no damaged byte goes unnoticed", async t => {
  const bytes = await bytesOf();
  const codes = new Set<string>();
  for (let at = 0; at < bytes.length; at += 1) {
    const broken = Buffer.from(bytes);
    broken.writeUInt8((bytes[at] ?? 0) ^ 0x20, at);
    const code = await outcomeOf(load(broken));
    codes.add(code);
    if (code === "ok") t.fail(`byte ${at} was changed`);
  }
  t.same([...codes].sort(), ["data_loss", "invalid_argument"]);
  for (const length of [0, 7, 15, 40, bytes.length - 21, bytes.length - 1]) {
    await t.rejects(load(bytes.subarray(0, length)), { code: "data_loss", message: /cut short/ });
  }
  await t.rejects(load(Buffer.concat([bytes, Buffer.from("x")])), { message: /after the end/ });
});

t.test("damage is named by place", async t => {
  const bytes = await bytesOf();
  const at = bytes.indexOf("password");
  bytes.write("passport", at);
  await t.rejects(load(bytes), {
    code: "data_loss",
    message: /^the backup is damaged at byte \d+: the checksum of chunk 0 is wrong\. Use another/,
  });
  await t.rejects(load(Buffer.from("some other file that is long enough")), {
    code: "invalid_argument",
    message: "this is not a backup made by `swarmd backup`",
  });
});

t.test("a restored cluster is of this node alone and vouches for it", async t => {
  const ca = await TestCa.create();
  const dataDir = t.testdir();
  const backup = await load(await bytesOf("", storeWith(ca.clusterId, ca.root)));
  const identity = await IdentityStore.open({ dataDir }, DEPS);
  const rng = new SeededRng(3);
  const deps = { ...DEPS, identity, rng, ids: new RngIdSource(rng) };
  const state = {
    format: 1,
    listenAddr: "0.0.0.0:2377",
    advertiseAddr: "10.9.9.9:2377",
    dataPathAddr: "",
    raftId: 0,
    raftJoined: false,
    managers: [],
  } as const;
  const options = { dataDir, state, availability: "active", backup } as const;
  const prepared = await prepareRestoredGroup(options, deps);
  t.match(prepared.state, { raftJoined: true, managers: ["10.9.9.9:2377"] });
  await identity.replace(prepared.credentials);
  t.match(identity.current(), { role: "manager", clusterId: ca.clusterId });
  const { raftId } = prepared.state;
  const { nodeId } = identity.current();
  const dir = join(dataDir, `raft.next-${raftId}`);
  const sealer = new AesGcmSealer({ dek: await loadDek(dir, null) });
  const group = await readStoredGroup(
    { dir, identity: { raftId, clusterId: ca.clusterId } },
    { ...DEPS, sealer, nextTurn },
  );
  t.match([...group.view.table("members").all()], [{ raftId, nodeId, addr: "10.9.9.9:2377" }]);
  t.equal(group.view.table("members").size, 1);
  t.match(group.view.table("nodes").get(nodeId), { spec: { Role: "manager" } });
  t.match(group.view.table("cluster").get(ca.clusterId), { spec: DEFAULT_SWARM_SPEC });
  t.equal(group.term, 7);
});

t.test("the API streams it out and in", async t => {
  const rig = await managerRig(t);
  const passphrase = Buffer.from("geheim").toString("base64");
  const headers = { "X-Swarmd-Passphrase": passphrase };
  const reply = await rig.ask("GET", "/swarmd/v1/backup", { headers });
  t.equal(reply.status, 200);
  t.equal(reply.text, "a backup");
  const restored = await rig.ask(
    "POST",
    "/swarmd/v1/restore?advertiseAddr=eth1&listenAddr=&force=true",
    { headers, text: "some file" },
  );
  t.equal(restored.status, 200);
  t.match(rig.lifecycle.asked, [
    ["backup", "geheim"],
    [
      "restore",
      { advertiseAddr: "eth1", listenAddr: "", passphrase: "geheim", force: true },
      "some file",
    ],
  ]);
  const bad = await rig.ask("GET", "/swarmd/v1/backup", {
    headers: { "X-Swarmd-Passphrase": "" },
  });
  t.match(message(bad), /^400 x-swarmd-passphrase: base64/);
  rig.lifecycle.ready = false;
  t.match(message(await rig.ask("GET", "/swarmd/v1/backup")), /^503 /);
});
