import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { ClassicLevel } from "classic-level";
import t from "tap";
import type { Entry, SnapshotMeta } from "../../src/raft/core/types.ts";
import { crc32c } from "../../src/raft/storage/crc32c.ts";
import { nodeFiles } from "../../src/raft/storage/files.ts";
import {
  entryKey,
  IDENTITY_KEY,
  SNAPSHOT_KEY,
  TAIL_KEY,
  VERSION_KEY,
} from "../../src/raft/storage/level-keys.ts";
import { liveTables } from "../../src/raft/storage/level-manifest.ts";
import { LevelRaftStorage } from "../../src/raft/storage/level-storage.ts";
import { findDamagedTable } from "../../src/raft/storage/level-tables.ts";
import { EMPTY_BATCH, type StoredState } from "../../src/raft/storage/raft-storage.ts";
import { encodeMeta } from "../../src/raft/storage/record.ts";
import { AesGcmSealer, plainSealer, type Sealer } from "../../src/raft/storage/sealer.ts";
import { realClock } from "../../src/system/real.ts";

const IDENTITY = { raftId: 1, clusterId: "c1" };
const CONF = { voters: [1], learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false };
const META: SnapshotMeta = { index: 3, term: 1, conf: CONF };

function entry(index: number): Entry {
  return { index, term: 1, kind: "normal", data: Buffer.from(`entry number ${index}`) };
}

function storageIn(dir: string, sealer: Sealer = plainSealer): LevelRaftStorage {
  return new LevelRaftStorage({ dir, keepOldSnapshots: 0 }, { sealer, clock: realClock });
}

/** A small log of several writes with a snapshot, closed. */
async function writeSample(dir: string, sealer?: Sealer): Promise<void> {
  const storage = storageIn(dir, sealer);
  await storage.open(IDENTITY);
  await storage.create(IDENTITY, EMPTY_BATCH);
  for (let index = 1; index <= 8; index += 1) {
    const hardState = { term: 1, vote: 1, commit: Math.max(0, index - 1) };
    await storage.append({ snapshot: null, hardState, entries: [entry(index)] });
  }
  const writer = await storage.newSnapshot(META);
  await writer.write(Buffer.from("first chunk of the state"));
  await writer.write(Buffer.from("second chunk of the state"));
  await writer.commit();
  await storage.compact(META, 2);
  await storage.append({ ...EMPTY_BATCH, entries: [entry(9)] });
  await storage.close();
}

async function load(dir: string, sealer?: Sealer): Promise<StoredState | null> {
  const storage = storageIn(dir, sealer);
  try {
    const state = await storage.open(IDENTITY);
    for await (const chunk of storage.readSnapshot(META)) Buffer.from(chunk);
    return state;
  } finally {
    await storage.close();
  }
}

function readable(state: StoredState | null): string {
  return JSON.stringify(state, (_, value) =>
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  );
}

t.test("crc32c is Castagnoli's, whole or in parts", async t => {
  t.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  t.equal(crc32c(new Uint8Array(32)), 0x8a9136aa, "RFC 3720 B.4");
  const bytes = Buffer.from("the quick brown fox jumps over the lazy dog");
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    t.equal(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut))), crc32c(bytes));
  }
});

t.test("a sealed record opens only with its key and in its place", async t => {
  const sealer = new AesGcmSealer({ dek: Buffer.alloc(32, 1) });
  const place = Buffer.from("here");
  const sealed = sealer.seal(Buffer.from("secret"), place);
  t.notOk(Buffer.from(sealed).includes("secret"));
  t.equal(Buffer.from(sealer.open(sealed, place)).toString(), "secret");
  t.throws(() => sealer.open(sealed, Buffer.from("there")), { code: "data_loss" });
  const other = new AesGcmSealer({ dek: Buffer.alloc(32, 2) });
  t.throws(() => other.open(sealed, place), { code: "data_loss" });
  t.notSame(sealer.seal(Buffer.from("secret"), place), sealed, "a nonce is used once");
});

t.test("nothing of an entry or a snapshot is readable on disk", async t => {
  const dir = join(t.testdir(), "raft");
  const sealer = new AesGcmSealer({ dek: Buffer.alloc(32, 3) });
  await writeSample(dir, sealer);
  for (const folder of ["log", "snap"]) {
    for (const name of readdirSync(join(dir, folder))) {
      const bytes = readFileSync(join(dir, folder, name));
      t.notOk(bytes.includes("entry number") || bytes.includes("chunk of the state"), name);
    }
  }
  t.equal((await load(dir, sealer))?.entries.length, 6);
  const wrong = new AesGcmSealer({ dek: Buffer.alloc(32, 4) });
  await t.rejects(load(dir, wrong), { code: "data_loss", message: /does not open/ });
});

/** Copies the sample, damages one file in it and loads: what was stored, or a refusal. */
async function afterDamage(
  sample: string,
  file: string,
  { damage, sealer }: { damage: (path: string) => void; sealer?: Sealer },
): Promise<string> {
  const copy = `${sample}-copy`;
  cpSync(sample, copy, { recursive: true, force: true });
  damage(join(copy, file));
  try {
    return readable(await load(copy, sealer));
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return ["data_loss", "failed_precondition"].includes(code) && message !== "" ? "refused" : code;
  }
}

/** Small files are flipped at each byte, larger ones at about so many, evenly spread. */
const FLIPS = 80;
/** Each flip opens a database anew, with its syncs. */
const FLIPS_TIMEOUT_MS = 300_000;

/**
 * As it is when the process is killed (entries in LevelDB's log), and after a start (in a table,
 * sorted, with index and filter of LevelDB's): every kind of file there is.
 */
for (const form of ["killed", "started again"]) {
  t.test(`a flipped byte anywhere is refused or harmless: ${form}`, async t => {
    t.setTimeout(FLIPS_TIMEOUT_MS);
    const sample = join(t.testdir(), "raft");
    const sealer = new AesGcmSealer({ dek: Buffer.alloc(32, 6) });
    await writeSample(sample, sealer);
    const reference = `${sample}-reference`;
    cpSync(sample, reference, { recursive: true });
    const expected = readable(await load(reference, sealer));
    if (form === "started again") await load(sample, sealer);
    const files = readdirSync(sample, { recursive: true })
      .map(name => String(name))
      .filter(name => statSync(join(sample, name)).isFile() && !/^LOG|^LOCK/.test(basename(name)));
    const kinds = new Set(files.map(name => basename(name).replace(/[0-9-]+/g, "#")));
    const data = form === "killed" ? "#.log" : "#.ldb";
    for (const kind of [data, "CURRENT", "MANIFEST#", "#.snap", "watermark"]) {
      t.ok(kinds.has(kind), `${kind} is among ${[...kinds].join(" ")}`);
    }
    const refusals = new Map<string, number>();
    for (const file of files) {
      const { size } = statSync(join(sample, file));
      const step = Math.max(1, Math.floor(size / FLIPS));
      for (let at = 0; at < size; at += step) {
        const damage = (path: string): void => {
          const bytes = readFileSync(path);
          bytes.writeUInt8((bytes[at] ?? 0) ^ 0x41, at);
          writeFileSync(path, bytes);
        };
        const outcome = await afterDamage(sample, file, { damage, sealer });
        if (outcome === "refused") refusals.set(file, (refusals.get(file) ?? 0) + 1);
        else if (outcome !== expected) t.equal(outcome, expected, `${file} byte ${at}`);
      }
    }
    for (const name of files.filter(file => /\.(snap|log|ldb)$/.test(file))) {
      if (statSync(join(sample, name)).size === 0) continue;
      t.ok((refusals.get(name) ?? 0) > 20, `${name}: ${refusals.get(name)} flips were refused`);
    }
  });
}

t.test("a table that a crash left half written does not matter", async t => {
  const dir = join(t.testdir(), "raft");
  await writeSample(dir);
  const expected = readable(await load(dir));
  const table = readdirSync(join(dir, "log")).find(name => name.endsWith(".ldb")) ?? "";
  const half = readFileSync(join(dir, "log", table)).subarray(0, 100);
  writeFileSync(join(dir, "log", "000999.ldb"), half);
  t.equal(readable(await load(dir)), expected);
  t.notOk(
    readdirSync(join(dir, "log")).some(name => name.startsWith("000999")),
    "it is removed",
  );
  truncateSync(join(dir, "log", table), 100);
  await t.rejects(load(dir), { code: "data_loss", message: new RegExp(`${table}: its .*join it`) });
  t.ok(readdirSync(join(dir, "log")).includes(table), "what is damaged stays for who looks at it");
});

t.test("the tables in use are found, and are whole", async t => {
  const dir = join(t.testdir(), "db");
  const db = new ClassicLevel<string, Uint8Array>(dir, {
    valueEncoding: "view",
    compression: false,
    writeBufferSize: 256 << 10,
  });
  for (let round = 0; round < 6; round += 1) {
    for (let i = 0; i < 40; i += 1) await db.put(`key ${i}`, Buffer.alloc(20_000, round + i));
    await db.compactRange("key", "kez");
  }
  await db.close();
  const manifest = readdirSync(dir).find(name => name.startsWith("MANIFEST")) ?? "";
  const live = liveTables(readFileSync(join(dir, manifest))) ?? [];
  const tables = readdirSync(dir).filter(name => name.endsWith(".ldb"));
  t.same(
    live.map(number => `${String(number).padStart(6, "0")}.ldb`).sort(),
    tables.sort(),
    "after deletions too",
  );
  t.equal(await findDamagedTable(dir, nodeFiles), null);
  const [table = ""] = tables;
  const bytes = readFileSync(join(dir, table));
  bytes.writeUInt8((bytes[5_000] ?? 0) ^ 1, 5_000);
  writeFileSync(join(dir, table), bytes);
  t.match(await findDamagedTable(dir, nodeFiles), { path: join(dir, table), why: /checksum/ });
  const unknownField = Buffer.from([0, 0, 0, 0, 1, 0, 1, 8]);
  t.equal(liveTables(unknownField), null, "what is not understood is left to LevelDB");
});

t.test("a log that lost its end after it was synced is refused", async t => {
  const sample = join(t.testdir(), "raft");
  await writeSample(sample);
  const log = readdirSync(join(sample, "log")).find(name => name.endsWith(".log")) ?? "";
  const { size } = statSync(join(sample, "log", log));
  for (const cut of [1, 50, 120, size]) {
    const damage = (path: string): void => truncateSync(path, size - cut);
    const outcome = await afterDamage(sample, join("log", log), { damage });
    t.equal(outcome, "refused", `${cut} bytes cut`);
  }
});

t.test("the message names the place and the way out", async t => {
  const dir = join(t.testdir(), "raft");
  await writeSample(dir);
  const name = readdirSync(join(dir, "snap"))[0] ?? "";
  truncateSync(join(dir, "snap", name), 100);
  await t.rejects(load(dir), { code: "data_loss", message: new RegExp(`${name}.*join it again`) });
});

t.test("a torn last write that was never acknowledged is dropped", async t => {
  const dir = join(t.testdir(), "raft");
  await writeSample(dir);
  const before = readable(await load(dir));
  const storage = storageIn(dir);
  await storage.open(IDENTITY);
  await storage.append({ ...EMPTY_BATCH, entries: [entry(10)] });
  await storage.close();
  const log = readdirSync(join(dir, "log")).find(name => name.endsWith(".log")) ?? "";
  truncateSync(join(dir, "log", log), statSync(join(dir, "log", log)).size - 3);
  await t.rejects(load(dir), { code: "data_loss" }, "the watermark knows that it was synced");
  writeFileSync(join(dir, "watermark"), "");
  t.equal(readable(await load(dir)), before);
});

/** An entry as version 1 of the storage wrote it. */
function recordOfVersion1(index: number, previousChain: number, sealer: Sealer): Buffer {
  const place = Buffer.alloc(16);
  place.writeBigUInt64LE(BigInt(index), 0);
  place.writeBigUInt64LE(1n, 8);
  const payload = sealer.seal(entry(index).data, place);
  const record = Buffer.alloc(32 + payload.length);
  record.writeUInt8(1, 0);
  record.writeUInt32LE(previousChain, 8);
  record.writeUInt32LE(payload.length, 12);
  record.writeBigUInt64LE(BigInt(index), 16);
  record.writeBigUInt64LE(1n, 24);
  record.set(payload, 32);
  record.writeUInt32LE(crc32c(record.subarray(8), crc32c(record.subarray(0, 4))), 4);
  return record;
}

t.test("a log of version 1 is read, and is of version 2 after the first write", async t => {
  const dir = join(t.testdir(), "raft");
  const sealer = new AesGcmSealer({ dek: Buffer.alloc(32, 5) });
  mkdirSync(dir);
  const db = new ClassicLevel<Uint8Array, Uint8Array>(join(dir, "log"), {
    keyEncoding: "view",
    valueEncoding: "view",
  });
  let chain = 0;
  const chains = [chain];
  for (let index = 1; index <= 6; index += 1) {
    const record = recordOfVersion1(index, chain, sealer);
    chain = record.readUInt32LE(4);
    chains.push(chain);
    await db.put(entryKey(index), record);
  }
  const hardState = { term: 1, vote: 1, commit: 4 };
  await db.put(VERSION_KEY, encodeMeta(1));
  await db.put(IDENTITY_KEY, encodeMeta(IDENTITY));
  await db.put(SNAPSHOT_KEY, encodeMeta({ meta: META, chain: chains[META.index] }));
  await db.put(TAIL_KEY, encodeMeta({ sequence: 6, hardState, lastIndex: 6, chain }));
  await db.close();
  const storage = storageIn(dir, sealer);
  const state = await storage.open(IDENTITY);
  t.same(
    state?.entries.map(one => Buffer.from(one.data).toString()),
    ["entry number 4", "entry number 5", "entry number 6"],
  );
  await storage.append({ ...EMPTY_BATCH, entries: [entry(6), entry(7)] });
  await storage.close();
  const again = storageIn(dir, sealer);
  t.same(
    (await again.open(IDENTITY))?.entries.map(one => one.index),
    [4, 5, 6, 7],
  );
  await again.close();
  await db.open();
  t.same(await db.get(VERSION_KEY), encodeMeta(2), "an older program refuses it from now on");
  await db.put(VERSION_KEY, encodeMeta(3));
  await db.close();
  await t.rejects(storageIn(dir, sealer).open(IDENTITY), { message: /it is 3, .* reads up to 2/ });
});

t.test("after a failed write every later one is refused", async t => {
  const dir = join(t.testdir(), "raft");
  const storage = storageIn(dir);
  await storage.open(IDENTITY);
  await storage.create(IDENTITY, EMPTY_BATCH);
  const broken: Sealer = {
    seal: () => {
      throw Object.assign(new Error("ENOSPC: no space left on device"), { code: "ENOSPC" });
    },
    open: bytes => bytes,
  };
  await storage.close();
  const failing = storageIn(dir, broken);
  await failing.open(IDENTITY);
  const expected = { code: "resource_exhausted", message: /Free space and start swarmd again/ };
  await t.rejects(failing.append({ ...EMPTY_BATCH, entries: [entry(1)] }), expected);
  await t.rejects(failing.append(EMPTY_BATCH), expected);
  await failing.close();
});
