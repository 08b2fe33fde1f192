import t from "tap";
import { Inflights } from "../../src/raft/core/inflights.ts";
import { ENTRY_OVERHEAD_BYTES, RaftLog } from "../../src/raft/core/log.ts";
import { Progress } from "../../src/raft/core/progress.ts";
import { ReadIndexQueue } from "../../src/raft/core/read-index.ts";
import { EMPTY_CONF_STATE, type Entry, type SnapshotMeta } from "../../src/raft/core/types.ts";

const UNLIMITED = Number.POSITIVE_INFINITY;
const VOTER_SET = { incoming: new Set([1, 2, 3]), outgoing: new Set<number>() };

function entry(index: number, term: number, size = 0): Entry {
  return { index, term, kind: "normal", data: new Uint8Array(size) };
}

/** A log with the given terms from index 1. */
function logOf(terms: readonly number[], committed = 0, applied = 0): RaftLog {
  const entries = terms.map((term, i) => entry(i + 1, term));
  return new RaftLog({ snapshot: null, entries, committed, applied, maxCommittedBytes: UNLIMITED });
}

function snapshot(index: number, term: number): SnapshotMeta {
  return { index, term, conf: EMPTY_CONF_STATE };
}

t.test("votes go to logs that are at least as up to date (5.4.1)", async t => {
  const log = logOf([1, 2, 2]);
  t.ok(log.isUpToDate({ term: 3, index: 1 }), "a later term wins over length");
  t.ok(log.isUpToDate({ term: 2, index: 3 }));
  t.notOk(log.isUpToDate({ term: 2, index: 2 }));
  t.notOk(log.isUpToDate({ term: 1, index: 9 }));
});

t.test("an append keeps what matches and replaces what conflicts", async t => {
  const log = logOf([1, 1, 2, 2]);
  t.notOk(log.maybeAppend({ index: 4, term: 3 }, [], 0), "another term before it");
  t.notOk(log.maybeAppend({ index: 5, term: 2 }, [], 0), "a gap");
  t.ok(log.maybeAppend({ index: 1, term: 1 }, [entry(2, 1)], 0));
  t.equal(log.lastIndex, 4, "entries that are there already cut nothing off");
  t.equal(log.hasUnpersisted, false);
  t.ok(log.maybeAppend({ index: 2, term: 1 }, [entry(3, 3)], 9));
  t.same([log.lastIndex, log.term(3), log.committed], [3, 3, 3], "commits only what it has");
  t.same(
    log.takeUnpersisted().map(({ index }) => index),
    [3],
  );
});

t.test("an entry replaced while it is written is written again", async t => {
  const log = logOf([1]);
  log.append([entry(2, 1), entry(3, 1)]);
  log.takeUnpersisted();
  log.append([entry(2, 2)]);
  t.same(
    log.takeUnpersisted().map(({ index, term }) => [index, term]),
    [[2, 2]],
  );
  t.equal(log.hasUnpersisted, false);
});

t.test("committed entries are never replaced", async t => {
  const log = logOf([1, 1], 2);
  t.throws(() => log.append([entry(2, 2)]), /invariant/);
  t.throws(() => log.maybeAppend({ index: 1, term: 1 }, [entry(2, 2)], 0), /invariant/);
});

t.test("conflicts are found a term at a time", async t => {
  const log = logOf([1, 3, 3, 3, 5, 5]);
  t.same(log.findConflictByTerm(6, 2), { index: 1, term: 1 });
  t.same(log.findConflictByTerm(6, 4), { index: 4, term: 3 });
  t.same(log.findConflictByTerm(3, 0), { index: 0, term: 0 });
});

t.test("lost entries are noticed", async t => {
  t.throws(() => logOf([1]).commitTo(2), { code: "data_loss" });
  t.throws(() => logOf([1], 2), { code: "data_loss" });
  t.throws(() => logOf([1], 1, 2), { code: "data_loss" });
  t.throws(() => logOf([2, 1]), { code: "data_loss" });
  const gap = { snapshot: snapshot(3, 1), entries: [entry(5, 1)], committed: 3, applied: 3 };
  t.throws(() => new RaftLog({ ...gap, maxCommittedBytes: UNLIMITED }), { code: "data_loss" });
});

t.test("committed entries are handed out once, as many as may be applied at a time", async t => {
  const entries = [1, 2, 3, 4].map(index => entry(index, 1, 100));
  const maxCommittedBytes = 2 * (100 + ENTRY_OVERHEAD_BYTES);
  const log = new RaftLog({ snapshot: null, entries, committed: 3, applied: 0, maxCommittedBytes });
  const indexes = (): readonly number[] => log.takeCommitted().map(({ index }) => index);
  t.same(indexes(), [1, 2]);
  t.same(indexes(), [], "the bound is on what is being applied");
  log.appliedTo(1);
  t.same(indexes(), [3]);
  log.appliedTo(3);
  t.same(indexes(), [], "4 is not committed");
  log.commitTo(4);
  t.same(indexes(), [4]);
  t.throws(() => log.appliedTo(5), /invariant/);
});

t.test(
  "compaction keeps the term before the first entry and what is not in the snapshot",
  async t => {
    const log = logOf([1, 1, 2, 2, 3], 4, 4);
    t.throws(() => log.compact(snapshot(5, 3), 5), /invariant/, "5 is not applied");
    t.throws(() => log.compact(snapshot(3, 2), 5), /invariant/, "4 is not in the snapshot");
    log.compact(snapshot(4, 2), 4);
    t.same([log.firstIndex, log.term(3), log.term(2)], [4, 2, undefined]);
    log.compact(snapshot(4, 2), 2);
    t.equal(log.firstIndex, 4, "what is gone is gone");
    t.same(
      log.slice(4, 5, UNLIMITED).map(({ index }) => index),
      [4, 5],
    );
  },
);

t.test("a snapshot replaces the log; the newest one counts", async t => {
  const log = logOf([1, 1, 1], 2);
  const [older, newer] = [snapshot(5, 2), snapshot(9, 2)];
  log.restore(older);
  t.same([log.committed, log.lastIndex, log.term(5), log.restoring], [5, 5, 2, true]);
  t.equal(log.takeUnpersistedSnapshot(), older);
  log.restore(newer);
  log.snapshotPersisted(older);
  t.ok(log.restoring, "the newer one is not durable");
  t.equal(log.takeUnpersistedSnapshot(), newer);
  log.snapshotPersisted(newer);
  t.same([log.restoring, log.applied, log.snapshot], [false, 9, newer]);
});

t.test("a slice has at least one entry and else no more bytes than asked for", async t => {
  const log = new RaftLog({
    snapshot: null,
    entries: [1, 2, 3].map(index => entry(index, 1, 50)),
    committed: 0,
    applied: 0,
    maxCommittedBytes: UNLIMITED,
  });
  t.equal(log.slice(1, 3, 1).length, 1);
  t.equal(log.slice(1, 3, 2 * (50 + ENTRY_OVERHEAD_BYTES)).length, 2);
  t.equal(log.slice(1, 3, UNLIMITED).length, 3);
});

t.test("inflights are bounded by count and by bytes", async t => {
  const byCount = new Inflights({ maxMessages: 2, maxBytes: UNLIMITED });
  byCount.add(1, 10);
  byCount.add(5, 10);
  t.ok(byCount.full);
  t.throws(() => byCount.add(6, 1), /invariant/);
  byCount.freeUpTo(4);
  t.same([byCount.count, byCount.bytes, byCount.full], [1, 10, false]);
  const byBytes = new Inflights({ maxMessages: 99, maxBytes: 15 });
  byBytes.add(1, 10);
  t.notOk(byBytes.full);
  byBytes.add(2, 10);
  t.ok(byBytes.full);
  byBytes.reset();
  t.same([byBytes.count, byBytes.bytes], [0, 0]);
});

function progress(match: number, next: number): Progress {
  return new Progress(
    { match, next, learner: false, recentlyActive: true },
    { maxInflightMessages: 2, maxInflightBytes: 100 },
  );
}

t.test("a probe waits for its answer, replication for room", async t => {
  const member = progress(3, 4);
  member.sentEntries(0, 0);
  t.notOk(member.paused, "an empty probe may be repeated");
  member.sentEntries(2, 10);
  t.same([member.paused, member.next], [true, 4]);
  t.ok(member.maybeUpdate(5));
  member.becomeReplicate();
  member.sentEntries(1, 60);
  t.same([member.paused, member.next], [false, 7]);
  member.sentEntries(1, 60);
  t.same([member.paused, member.next], [true, 8], "full by bytes");
});

t.test("stale answers move nothing", async t => {
  const member = progress(3, 6);
  t.notOk(member.maybeUpdate(3));
  t.notOk(member.maybeDecrease(4, 1), "not the probe that is under way");
  t.ok(member.maybeDecrease(5, 1));
  t.equal(member.next, 4, "never at or below what is known to match");
  member.becomeReplicate();
  t.notOk(member.maybeDecrease(3, 1));
});

t.test("after a snapshot probing starts behind it, if it was not refused", async t => {
  const sent = progress(3, 4);
  sent.becomeSnapshot(9);
  t.ok(sent.paused);
  t.throws(() => sent.sentEntries(1, 1), /invariant/);
  sent.becomeProbe();
  t.equal(sent.next, 10);
  const refused = progress(3, 4);
  refused.becomeSnapshot(9);
  refused.pendingSnapshot = 0;
  refused.becomeProbe();
  t.equal(refused.next, 4);
});

t.test("one round of heartbeats confirms all reads before it, none after it", async t => {
  const reads = new ReadIndexQueue();
  reads.add({ from: 1, context: "a" }, 5);
  reads.add({ from: 2, context: "b" }, 6);
  t.ok(reads.roundDue);
  const round = reads.startRound(1);
  t.notOk(reads.roundDue);
  reads.add({ from: 1, context: "c" }, 7);
  t.same(reads.takeConfirmed(VOTER_SET), [], "the leader alone is no quorum");
  reads.acknowledge(3, "nonsense");
  t.same(reads.takeConfirmed(VOTER_SET), []);
  reads.acknowledge(3, round);
  t.same(
    reads.takeConfirmed(VOTER_SET).map(({ request, index }) => [request.context, index]),
    [
      ["a", 5],
      ["b", 6],
    ],
  );
  reads.acknowledge(2, round);
  t.same(reads.takeConfirmed(VOTER_SET), [], "an answer to an old round confirms nothing new");
  reads.acknowledge(2, reads.startRound(1));
  t.equal(reads.takeConfirmed(VOTER_SET).length, 1);
  t.equal(reads.startRound(1), "", "nothing waits");
});
