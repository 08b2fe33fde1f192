import { createHash } from "node:crypto";
import fc from "fast-check";
import t, { type Test } from "tap";
import type { Entry, HardState, SnapshotMeta } from "../../src/raft/core/types.ts";
import { LevelRaftStorage } from "../../src/raft/storage/level-storage.ts";
import { EMPTY_BATCH, type RaftStorage } from "../../src/raft/storage/raft-storage.ts";
import { AesGcmSealer } from "../../src/raft/storage/sealer.ts";
import { realClock } from "../../src/system/real.ts";
import { MemoryDisk, MemoryRaftStorage } from "../support/memory-raft-storage.ts";

const IDENTITY = { raftId: 7, clusterId: "cluster" };
const DEK = createHash("sha256").update("data encryption key").digest();
const CONF = { voters: [7], learners: [8], votersOutgoing: [], learnersNext: [], autoLeave: false };
const NO_HARD_STATE: HardState = { term: 0, vote: 0, commit: 0 };

/** Each call of the inner function opens the same place anew. */
type Place = (test: Test) => () => RaftStorage;

const PLACES: Readonly<Record<string, Place>> = {
  level: test => {
    const dir = test.testdir();
    const sealer = new AesGcmSealer({ dek: DEK });
    return () =>
      new LevelRaftStorage(
        { dir: `${dir}/raft`, keepOldSnapshots: 1 },
        { sealer, clock: realClock },
      );
  },
  memory: () => {
    const disk = new MemoryDisk();
    return () => new MemoryRaftStorage(disk, { keepOldSnapshots: 1 });
  },
};

function entry(index: number, term: number, text = `entry ${index} of term ${term}`): Entry {
  return { index, term, kind: index % 5 === 0 ? "conf-change" : "normal", data: Buffer.from(text) };
}

function entries(from: number, to: number, term: number): Entry[] {
  return Array.from({ length: to - from + 1 }, (_, n) => entry(from + n, term));
}

function metaAt(index: number, term: number): SnapshotMeta {
  return { index, term, conf: CONF };
}

/** Entries with their data as text: comparable whatever array type holds the bytes. */
function readable(list: readonly Entry[]): unknown[] {
  return list.map(e => ({ ...e, data: Buffer.from(e.data).toString() }));
}

async function writeSnapshot(
  storage: RaftStorage,
  meta: SnapshotMeta,
  chunks: readonly string[],
): Promise<void> {
  const writer = await storage.newSnapshot(meta);
  for (const chunk of chunks) await writer.write(Buffer.from(chunk));
  await writer.commit();
}

async function readSnapshot(storage: RaftStorage, meta: SnapshotMeta): Promise<string[]> {
  const chunks: string[] = [];
  for await (const chunk of storage.readSnapshot(meta)) chunks.push(Buffer.from(chunk).toString());
  return chunks;
}

async function freshly(open: () => RaftStorage): Promise<RaftStorage> {
  const storage = open();
  await storage.open(IDENTITY);
  return storage;
}

for (const [name, place] of Object.entries(PLACES)) {
  t.test(`${name} storage`, async t => {
    t.test("is empty, then claimed, then refused to others", async t => {
      const open = place(t);
      const storage = open();
      t.equal(await storage.open(IDENTITY), null);
      await storage.create(IDENTITY, EMPTY_BATCH);
      await t.rejects(open().open(IDENTITY), {
        code: "failed_precondition",
        message: /another swarmd uses this data directory/,
      });
      await storage.close();
      const foreign = { raftId: 8, clusterId: "other" };
      await t.rejects(open().open(foreign), { code: "failed_precondition", message: /belongs to/ });
      const again = open();
      t.match(await again.open(IDENTITY), {
        identity: IDENTITY,
        hardState: NO_HARD_STATE,
        snapshot: null,
        entries: [],
      });
      await again.close();
    });

    t.test("keeps entries and hard state, and drops a conflicting tail", async t => {
      const open = place(t);
      const storage = await freshly(open);
      const hardState = { term: 1, vote: 7, commit: 1 };
      await storage.create(IDENTITY, { snapshot: null, hardState, entries: entries(1, 1, 1) });
      const later = { term: 3, vote: 0, commit: 3 };
      await Promise.all([
        storage.append({ ...EMPTY_BATCH, entries: entries(2, 9, 2) }),
        storage.append({ ...EMPTY_BATCH, entries: entries(4, 6, 3), hardState: later }),
        storage.append({ ...EMPTY_BATCH, entries: entries(7, 7, 3) }),
      ]);
      t.match(storage.stats(), { lastIndex: 7 });
      await storage.close();
      const again = open();
      const state = await again.open(IDENTITY);
      t.same(state?.hardState, later);
      t.same(
        readable(state?.entries ?? []),
        readable([entry(1, 1), ...entries(2, 3, 2), ...entries(4, 7, 3)]),
      );
      await again.close();
    });

    t.test("starts from its own snapshot and goes on", async t => {
      const open = place(t);
      const storage = await freshly(open);
      const hardState = { term: 2, vote: 7, commit: 16 };
      await storage.create(IDENTITY, { snapshot: null, hardState, entries: entries(1, 20, 2) });
      const meta = metaAt(15, 2);
      await writeSnapshot(storage, meta, ["one", "two"]);
      await storage.compact(meta, 10);
      await storage.append({ ...EMPTY_BATCH, entries: entries(21, 22, 2) });
      await writeSnapshot(storage, metaAt(12, 2), ["older"]);
      await storage.compact(metaAt(12, 2), 5);
      await storage.close();
      const again = open();
      const state = await again.open(IDENTITY);
      t.same(state?.snapshot, meta, "an older snapshot does not replace a newer one");
      t.same(readable(state?.entries ?? []), readable(entries(16, 22, 2)));
      t.same(await readSnapshot(again, meta), ["one", "two"]);
      await again.append({
        ...EMPTY_BATCH,
        entries: entries(18, 18, 3),
        hardState: { term: 3, vote: 7, commit: 17 },
      });
      const last = metaAt(18, 3);
      await writeSnapshot(again, last, ["all of it"]);
      await again.compact(last, 19);
      await again.close();
      const third = open();
      const end = await third.open(IDENTITY);
      t.match(end, { snapshot: last, entries: [] });
      await third.append({ ...EMPTY_BATCH, entries: entries(19, 19, 3) });
      await third.close();
    });

    t.test("lets a received snapshot replace the log", async t => {
      const open = place(t);
      const storage = await freshly(open);
      await storage.create(IDENTITY, { ...EMPTY_BATCH, entries: entries(1, 30, 1) });
      const meta = metaAt(25, 4);
      const aborted = await storage.newSnapshot(meta);
      await aborted.write(Buffer.from("half of"));
      const writer = await storage.newSnapshot(meta);
      await writer.write(Buffer.from("whole"));
      await aborted.abort();
      await aborted.abort();
      await writer.commit();
      const hardState = { term: 4, vote: 0, commit: 25 };
      await storage.append({ snapshot: meta, hardState, entries: entries(26, 27, 4) });
      await storage.close();
      const again = open();
      const state = await again.open(IDENTITY);
      t.match(state, { snapshot: meta, hardState });
      t.same(readable(state?.entries ?? []), readable(entries(26, 27, 4)));
      t.same(await readSnapshot(again, meta), ["whole"]);
      await again.close();
    });

    t.test("keeps as many old snapshots as told", async t => {
      const storage = await freshly(place(t));
      await storage.create(IDENTITY, { ...EMPTY_BATCH, entries: entries(1, 9, 1) });
      for (const index of [3, 6, 9]) {
        await writeSnapshot(storage, metaAt(index, 1), [`at ${index}`]);
        await storage.compact(metaAt(index, 1), index);
      }
      t.same(await readSnapshot(storage, metaAt(9, 1)), ["at 9"]);
      t.same(await readSnapshot(storage, metaAt(6, 1)), ["at 6"]);
      await t.rejects(readSnapshot(storage, metaAt(3, 1)), { code: "data_loss" });
      await storage.close();
    });
  });
}

t.test("level and memory agree on any history", async t => {
  const step = fc.record({
    back: fc.integer({ min: 0, max: 4 }),
    count: fc.integer({ min: 0, max: 5 }),
    compact: fc.boolean(),
    reopen: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async steps => {
      const base = t.testdir();
      const dir = `${base}/${createHash("sha1").update(JSON.stringify(steps)).digest("hex")}`;
      const sealer = new AesGcmSealer({ dek: DEK });
      const level = (): RaftStorage =>
        new LevelRaftStorage({ dir, keepOldSnapshots: 0 }, { sealer, clock: realClock });
      const disk = new MemoryDisk();
      let pair = [level(), new MemoryRaftStorage(disk, { keepOldSnapshots: 0 })];
      for (const storage of pair) {
        await storage.open(IDENTITY);
        await storage.create(IDENTITY, EMPTY_BATCH);
      }
      let last = 0;
      let floor = 0;
      for (const [term, { back, count, compact, reopen }] of steps.entries()) {
        const from = Math.max(floor, last - back) + 1;
        const batch = { ...EMPTY_BATCH, entries: entries(from, from + count - 1, term + 1) };
        const hardState = { term: term + 1, vote: 7, commit: floor };
        await Promise.all(pair.map(s => s.append({ ...batch, hardState })));
        if (count > 0) last = from + count - 1;
        if (compact && count > 0) {
          floor = last;
          const meta = metaAt(floor, term + 1);
          for (const storage of pair) await storage.compact(meta, Math.max(1, floor - 2));
        }
        if (!reopen) continue;
        await Promise.all(pair.map(storage => storage.close()));
        pair = [level(), new MemoryRaftStorage(disk, { keepOldSnapshots: 0 })];
        const [a, b] = await Promise.all(pair.map(storage => storage.open(IDENTITY)));
        t.strictSame(
          { ...a, entries: readable(a?.entries ?? []) },
          {
            ...b,
            entries: readable(b?.entries ?? []),
          },
        );
      }
      await Promise.all(pair.map(storage => storage.close()));
    }),
    { numRuns: 15 },
  );
});
