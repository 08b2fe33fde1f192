import t from "tap";
import { SeededRng } from "../../src/base/rng.ts";
import { newMessage } from "../../src/raft/core/message.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import {
  type ConfChange,
  type ConfChangeSingle,
  EMPTY_CONF_STATE,
  type Message,
  type Transition,
} from "../../src/raft/core/types.ts";
import { bytes, TEST_CONFIG, TestCluster, type TestNode } from "../support/raft-cluster.ts";

function change(
  changes: readonly ConfChangeSingle[],
  transition: ConfChange["transition"] = "auto",
): ConfChange {
  return { transition, changes, context: new Uint8Array() };
}

function kinds(messages: readonly Message[]): readonly string[] {
  return messages.map(({ kind, to }) => `${kind} ${to}`);
}

function must<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new Error("there should be one");
  return value;
}

/** A settled cluster that node 1 leads. */
function ledByOne(...args: ConstructorParameters<typeof TestCluster>): {
  readonly cluster: TestCluster;
  readonly leader: TestNode;
} {
  const cluster = new TestCluster(...args);
  return { cluster, leader: cluster.elect(1) };
}

t.test("a Ready says what may be sent before the disk and what may not", async t => {
  const cluster = new TestCluster(3, { preVote: false });
  const [one, two] = [cluster.node(1).core, cluster.node(2).core];
  one.campaign();
  const campaign = must(one.ready());
  t.same(campaign.hardState, { term: 1, vote: 1, commit: 0 });
  t.same(kinds(campaign.sendNow), []);
  t.same(kinds(campaign.sendAfterPersist), ["vote 2", "vote 3"]);
  t.equal(one.ready(), null, "one at a time");
  two.step(must(campaign.sendAfterPersist[0]));
  const vote = must(two.ready());
  t.same(vote.hardState, { term: 1, vote: 1, commit: 0 });
  t.same(kinds(vote.sendAfterPersist), ["vote-resp 1"]);
  one.step(must(vote.sendAfterPersist[0]));
  t.equal(one.status().role, "candidate", "its own vote is not durable yet");
  one.advance(campaign);
  t.equal(one.status().role, "leader");
  const office = must(one.ready());
  t.same(kinds(office.sendNow), ["app 2", "app 3"], "replicates while it writes");
  t.equal(office.entries.length, 1, "the no-op of its term");
});

t.test("a leader counts its own copy only when it is durable", async t => {
  const { cluster, leader } = ledByOne(1);
  leader.core.propose([bytes("x")]);
  const before = leader.status.commit;
  const ready = must(leader.core.ready());
  t.equal(leader.status.commit, before);
  t.same(ready.committed, []);
  leader.core.advance(ready);
  t.equal(leader.status.commit, before + 1);
  cluster.settle();
  t.same(leader.values(), ["x"]);
});

t.test("proposals made while a Ready is out are in the next one", async t => {
  const { leader } = ledByOne(3);
  leader.core.propose([bytes("a")]);
  const first = must(leader.core.ready());
  leader.core.propose([bytes("b"), bytes("c")]);
  leader.core.advance(first);
  t.same(
    leader.core.ready()?.entries.map(({ index }) => index),
    [3, 4],
  );
  t.throws(() => leader.core.advance(first), /invariant/, "a Ready is advanced once");
});

t.test("proposals are refused with the reason", async t => {
  const { cluster, leader } = ledByOne(3, { maxEntryBytes: 10, maxUncommittedBytes: 15 });
  const reason = (result: ReturnType<TestNode["core"]["propose"]>): string =>
    result.ok ? "" : result.reason;
  t.equal(reason(leader.core.propose([bytes("12345678901")])), "too-large");
  t.equal(reason(leader.core.propose([bytes("1234567890")])), "");
  t.equal(reason(leader.core.propose([bytes("123456")])), "too-much-uncommitted");
  t.equal(reason(leader.core.propose([bytes("")])), "", "an empty entry takes no room");
  cluster.settle();
  t.equal(reason(leader.core.propose([bytes("123456")])), "", "committed bytes are free again");
  leader.core.transferLeadership(2);
  t.equal(reason(leader.core.propose([bytes("x")])), "transferring");
});

t.test("one conf change at a time, each applied before the next", async t => {
  const { cluster, leader } = ledByOne(3);
  const add = change([{ op: "add-learner", id: 4 }]);
  t.match(leader.core.proposeConfChange(add), { ok: true });
  const second = leader.core.proposeConfChange(change([{ op: "add-learner", id: 5 }]));
  t.match(second, { ok: false, reason: "conf-change-pending" });
  cluster.settle();
  t.same(leader.conf.learners, [4]);
  const none = leader.core.proposeConfChange(change([]));
  t.match(none, { ok: false, reason: "conf-change-invalid" }, "not joint");
  const removeAll = [1, 2, 3].map(id => ({ op: "remove", id }) as const);
  t.match(leader.core.proposeConfChange(change(removeAll)), { reason: "conf-change-invalid" });
});

t.test("no conf change before the leader's first own commit", async t => {
  const cluster = new TestCluster(3, { preVote: false });
  cluster.node(1).core.campaign();
  cluster.send(cluster.node(1).begin());
  cluster.send(cluster.node(1).persist(() => []));
  for (const message of cluster.messages.splice(0)) cluster.deliver(message);
  cluster.process(cluster.node(2));
  for (const message of cluster.messages.splice(0)) cluster.deliver(message);
  const { core } = cluster.node(1);
  t.equal(core.status().role, "leader");
  const wanted = change([{ op: "add-learner", id: 4 }]);
  t.match(core.proposeConfChange(wanted), { reason: "conf-change-pending" });
  cluster.settle();
  t.match(core.proposeConfChange(wanted), { ok: true });
});

t.test("a joint change is left by itself unless that is to be asked for", async t => {
  const { cluster, leader } = ledByOne(3);
  cluster.add(4);
  const swap = [
    { op: "remove", id: 3 },
    { op: "add-voter", id: 4 },
  ] as const;
  leader.core.proposeConfChange(change(swap));
  cluster.settle();
  t.same(leader.conf.voters, [1, 2, 4]);
  t.same(leader.conf.votersOutgoing, []);
  const back = [
    { op: "remove", id: 4 },
    { op: "add-voter", id: 3 },
  ] as const;
  leader.core.proposeConfChange(change(back, "joint-explicit"));
  cluster.settle();
  t.same(leader.conf.votersOutgoing, [1, 2, 4]);
  t.match(leader.core.proposeConfChange(change(back)), { reason: "conf-change-pending" });
  leader.core.proposeConfChange(change([]));
  cluster.settle();
  t.same([leader.conf.voters, leader.conf.votersOutgoing], [[1, 2, 3], []]);
});

t.test("a new member is brought up by a snapshot older than its addition", async t => {
  const { cluster, leader } = ledByOne(3);
  leader.core.propose([bytes("a")]);
  cluster.settle();
  leader.compact(0);
  const joiner = cluster.add(4);
  leader.core.proposeConfChange(change([{ op: "add-learner", id: 4 }]));
  cluster.settle();
  cluster.tick(2);
  t.same(joiner.values(), ["a"]);
  t.same(joiner.disk.snapshot?.conf.learners, [], "the snapshot does not name it");
  t.same(joiner.conf.learners, [4], "the log does");
  leader.core.proposeConfChange(change([{ op: "add-voter", id: 4 }]));
  cluster.settle();
  t.same(joiner.conf.voters, [1, 2, 3, 4]);
});

t.test("a node that was cut off does not unseat the leader when it returns", async t => {
  const { cluster, leader } = ledByOne(3);
  const { term } = leader.status;
  cluster.isolate(3);
  cluster.tick(100);
  t.equal(cluster.node(3).status.term, term, "pre-votes move no term");
  cluster.heal();
  cluster.tick(5);
  t.same([leader.status.role, leader.status.term], ["leader", term]);
  t.equal(cluster.node(3).status.leaderId, 1);
});

t.test("a leader without a quorum steps down; its followers ignore others until then", async t => {
  const { cluster, leader } = ledByOne(3);
  cluster.isolate(1);
  cluster.tick(20);
  t.equal(leader.status.role === "leader", false);
  t.equal(leader.status.leaderId, 0);
  cluster.heal();
  cluster.tickUntil("a leader", () => cluster.leader !== undefined);
  const { id, status } = cluster.mustLead();
  const follower = cluster.node(id === 2 ? 3 : 2);
  const { vote } = follower.status;
  const request = { from: 1, to: follower.id, term: status.term + 5, index: 99, logTerm: 99 };
  follower.core.step(newMessage("vote", request));
  t.same([follower.status.vote, follower.status.term], [vote, status.term]);
});

t.test("removed members and strangers do no harm", async t => {
  const { cluster, leader } = ledByOne(3);
  cluster.isolate(3);
  leader.core.proposeConfChange(change([{ op: "remove", id: 3 }]));
  cluster.settle();
  const { term } = leader.status;
  cluster.heal();
  cluster.tick(100);
  t.same([leader.status.role, leader.status.term], ["leader", term]);
  t.same(leader.conf.voters, [1, 2]);
  const { commit } = leader.status;
  const claim = { from: 3, to: 1, term, index: 999 };
  leader.core.step(newMessage("app-resp", claim));
  leader.core.step(newMessage("app-resp", { ...claim, from: 2, to: 7 }));
  leader.core.step(newMessage("heartbeat", { from: 9, to: 1, term: 0 }));
  leader.core.step(newMessage("hup", { from: 2, to: 1, term }));
  t.same([leader.status.commit, leader.status.term], [commit, term]);
});

t.test("leadership goes where it is sent, once the target has the log", async t => {
  const { cluster, leader } = ledByOne(3);
  leader.core.propose([bytes("x")]);
  leader.core.transferLeadership(3);
  cluster.settle();
  t.equal(cluster.node(3).status.role, "leader");
  t.equal(leader.status.leaderId, 3);
  cluster.node(3).core.transferLeadership(9);
  t.match(cluster.node(3).core.propose([bytes("y")]), { ok: true }, "not to a stranger");
});

t.test("a transfer that fails is given up after an election timeout", async t => {
  const { cluster, leader } = ledByOne(3);
  cluster.isolate(3);
  leader.core.transferLeadership(3);
  t.match(leader.core.propose([bytes("x")]), { reason: "transferring" });
  cluster.tick(10);
  t.equal(leader.status.transferTarget, 0);
  t.match(leader.core.propose([bytes("x")]), { ok: true });
});

t.test("reads are confirmed at the leader and through followers", async t => {
  const { cluster, leader } = ledByOne(3);
  leader.core.propose([bytes("x")]);
  cluster.settle();
  const { commit } = leader.status;
  leader.core.readIndex("mine");
  cluster.node(2).core.readIndex("theirs");
  cluster.settle();
  t.same(leader.reads, [{ index: commit, context: "mine" }]);
  t.same(cluster.node(2).reads, [{ index: commit, context: "theirs" }]);
  cluster.isolate(1);
  leader.core.readIndex("cut off");
  cluster.tick(30);
  t.equal(leader.reads.length, 1, "never answered");
});

t.test("flow to one follower is bounded by messages in flight", async t => {
  const { cluster, leader } = ledByOne(2, { maxInflightMessages: 3, maxMessageBytes: 1 });
  cluster.messages = [];
  for (let i = 0; i < 10; i += 1) leader.core.propose([bytes(`v${i}`)]);
  const apps = leader.begin().filter(({ kind }) => kind === "app");
  t.equal(apps.length, 3);
  const follower = leader.status.progress.find(({ id }) => id === 2);
  t.match(follower, { paused: true, inflightMessages: 3, inflightFull: true });
  cluster.send(apps);
  cluster.send(leader.persist(() => []));
  cluster.settle();
  t.equal(cluster.node(2).values().length, 10);
});

t.test("a follower that lost what it acknowledged says so instead of going on", async t => {
  const { cluster, leader } = ledByOne(3);
  leader.core.propose([bytes("x")]);
  cluster.settle();
  const { term, commit } = leader.status;
  cluster.node(2).disk.entries = [];
  cluster.node(2).disk.hardState = { term, vote: 1, commit: 0 };
  cluster.node(2).crash();
  const beat = newMessage("heartbeat", { from: 1, to: 2, term, commit });
  t.throws(() => cluster.node(2).core.step(beat), {
    code: "data_loss",
    message: /join it again as a new one/,
  });
});

t.test("a change that cannot be applied is ignored by every member alike", async t => {
  const { leader } = ledByOne(3);
  const before = leader.conf;
  t.same(leader.core.applyConfChange(change([])), before);
});

t.test("election timeouts are spread over [n, 2n) ticks", async t => {
  const ticksToCampaign = (seed: number): number => {
    const cluster = new TestCluster(1, { seed, preVote: false });
    const { core } = cluster.node(1);
    let ticks = 0;
    for (; core.status().term === 0 && ticks < 100; ticks += 1) core.tick();
    return ticks;
  };
  const seen = new Set(Array.from({ length: 200 }, (_, seed) => ticksToCampaign(seed)));
  t.equal(Math.min(...seen), 10);
  t.equal(Math.max(...seen), 19);
});

t.test("every transition is in the trace", async t => {
  const trace: Transition[] = [];
  const conf = { ...EMPTY_CONF_STATE, voters: [1, 2, 3] };
  const snapshot = { index: 5, term: 2, conf };
  const hardState = { term: 2, vote: 0, commit: 5 };
  const core = new RaftCore(
    { ...TEST_CONFIG, id: 1 },
    {
      rng: new SeededRng(1),
      initial: { hardState, conf, snapshot, entries: [], applied: 5 },
      trace: transition => trace.push(transition),
    },
  );
  const persist = (): void => {
    for (let ready = core.ready(); ready !== null; ready = core.ready()) {
      core.advance(ready);
      const last = ready.committed.at(-1);
      if (last !== undefined) core.applied(last.index);
    }
  };
  core.step(newMessage("vote", { from: 2, to: 1, term: 3, index: 5, logTerm: 2 }));
  core.step(newMessage("heartbeat", { from: 2, to: 1, term: 3 }));
  core.step(newMessage("forget-leader", {}));
  core.campaign();
  persist();
  core.step(newMessage("pre-vote-resp", { from: 3, to: 1, term: 4 }));
  persist();
  core.step(newMessage("vote-resp", { from: 3, to: 1, term: 4 }));
  persist();
  core.step(newMessage("app-resp", { from: 3, to: 1, term: 4, index: 6 }));
  persist();
  core.transferLeadership(3);
  core.applyConfChange(change([{ op: "add-learner", id: 4 }]));
  core.step(newMessage("check-quorum", {}));
  core.step(newMessage("check-quorum", {}));
  t.same(
    trace.map(({ event, term, role, peer }) => `${event} ${term} ${role} ${peer}`),
    [
      "follower 3 follower 0",
      "vote granted 3 follower 2",
      "pre-candidate 3 pre-candidate 0",
      "candidate 4 candidate 0",
      "leader 4 leader 0",
      "transfer begun 4 leader 3",
      "membership applied 4 leader 0",
      "no quorum heard 4 leader 0",
      "follower 4 follower 0",
    ],
  );
  t.match(trace.at(-1), { vote: 1, leaderId: 0, lastIndex: 6, commit: 6 });
});
