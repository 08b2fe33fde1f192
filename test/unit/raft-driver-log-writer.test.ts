import t from "tap";
import type { Entry, Ready } from "../../src/raft/core/types.ts";
import { LogWriter } from "../../src/raft/driver/log-writer.ts";
import type { AppendBatch } from "../../src/raft/storage/raft-storage.ts";
import { MemoryDisk, MemoryRaftStorage } from "../support/memory-raft-storage.ts";

const NOTHING: Ready = {
  softState: null,
  hardState: null,
  snapshot: null,
  entries: [],
  sendNow: [],
  sendAfterPersist: [],
  committed: [],
  readStates: [],
};
const DURABLE = { term: 3, vote: 1, commit: 7 };

class Recorder extends MemoryRaftStorage {
  readonly batches: AppendBatch[] = [];

  constructor() {
    super(new MemoryDisk(), { keepOldSnapshots: 0 });
  }

  override append(batch: AppendBatch): Promise<void> {
    this.batches.push(batch);
    return Promise.resolve();
  }
}

function entry(kind: Entry["kind"]): Entry {
  return { index: 8, term: 3, kind, data: new Uint8Array([1]) };
}

async function written(ready: Partial<Ready>): Promise<readonly AppendBatch[]> {
  const storage = new Recorder();
  await new LogWriter({ storage }, DURABLE).write({ ...NOTHING, ...ready });
  return storage.batches;
}

t.test("a commit index alone waits for the next write", async t => {
  const hardState = { ...DURABLE, commit: 8 };
  t.same(await written({ hardState, committed: [entry("normal")] }), []);
  const storage = new Recorder();
  const writer = new LogWriter({ storage }, DURABLE);
  await writer.write({ ...NOTHING, hardState });
  await writer.write({ ...NOTHING, entries: [entry("normal")] });
  t.same(storage.batches, [{ snapshot: null, entries: [entry("normal")], hardState }]);
  await writer.flush();
  t.equal(storage.batches.length, 1, "nothing waits any more");
});

t.test("a committed change of members does not wait: the next one may follow at once", async t => {
  const hardState = { ...DURABLE, commit: 8 };
  const batches = await written({ hardState, committed: [entry("conf-change")] });
  t.same(batches, [{ snapshot: null, entries: [], hardState }]);
});

t.test("neither do a term and a vote", async t => {
  for (const hardState of [
    { ...DURABLE, term: 4 },
    { ...DURABLE, vote: 2 },
  ]) {
    t.same(await written({ hardState }), [{ snapshot: null, entries: [], hardState }]);
  }
});

t.test("what waits is written in the end", async t => {
  const storage = new Recorder();
  const writer = new LogWriter({ storage }, DURABLE);
  const hardState = { ...DURABLE, commit: 9 };
  await writer.write({ ...NOTHING, hardState });
  await writer.flush();
  t.same(storage.batches, [{ snapshot: null, entries: [], hardState }]);
});
