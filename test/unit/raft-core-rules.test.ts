import t from "tap";
import { SeededRng } from "../../src/base/rng.ts";
import { encodeConfChange } from "../../src/raft/core/conf-change-codec.ts";
import { newMessage } from "../../src/raft/core/message.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import type {
  ConfChange,
  ConfState,
  Entry,
  Message,
  MessageKind,
  RaftConfig,
  RaftInitialState,
  SnapshotMeta,
} from "../../src/raft/core/types.ts";
import { bytes, TEST_CONFIG, TestCluster, voters } from "../support/raft-cluster.ts";

const CONF = voters(1, 2, 3);

/** Node 1 of three, alone with messages that the test makes up. */
class Lone {
  readonly core: RaftCore;

  constructor(initial: Partial<RaftInitialState> = {}, config: Partial<RaftConfig> = {}) {
    const { hardState = { term: 1, vote: 0, commit: 0 }, snapshot = null } = initial;
    this.core = new RaftCore(
      { ...TEST_CONFIG, preVote: false, ...config, id: 1 },
      {
        rng: new SeededRng(1),
        initial: { hardState, conf: CONF, snapshot, entries: [], applied: 0, ...initial },
      },
    );
  }

  step(kind: MessageKind, fields: Partial<Message>): void {
    this.core.step(newMessage(kind, { from: 2, to: 1, term: 1, ...fields }));
  }

  /** Does what the Readies ask for, except applying; returns the messages. */
  drain(): readonly Message[] {
    const sent: Message[] = [];
    for (let ready = this.core.ready(); ready !== null; ready = this.core.ready()) {
      sent.push(...ready.sendNow, ...ready.sendAfterPersist);
      this.core.advance(ready);
    }
    return sent;
  }

  /** Wins an election with node 2's vote; its log is as node 2 has it. */
  lead(): void {
    this.core.campaign();
    this.drain();
    const { term } = this.core.status();
    this.step("vote-resp", { term });
    this.drain();
    if (this.core.status().role !== "leader") throw new Error("not elected");
  }

  /** Node 2 acknowledges everything. */
  acknowledge(): void {
    const { term, lastIndex } = this.core.status();
    this.step("app-resp", { term, index: lastIndex });
    this.drain();
  }
}

function entry(index: number, term: number): Entry {
  return { index, term, kind: "normal", data: bytes("x") };
}

function learnerEntry(index: number, term: number): Entry {
  const change: ConfChange = {
    transition: "auto",
    changes: [{ op: "add-learner", id: 4 }],
    context: new Uint8Array(),
  };
  return { index, term, kind: "conf-change", data: encodeConfChange(change) };
}

const ADD_LEARNER: ConfChange = {
  transition: "auto",
  changes: [{ op: "add-learner", id: 5 }],
  context: new Uint8Array(),
};

function snapshot(index: number, term: number, conf: ConfState = CONF): SnapshotMeta {
  return { index, term, conf };
}

t.test("nobody campaigns with a committed conf change unapplied", async t => {
  const node = new Lone({
    hardState: { term: 1, vote: 0, commit: 1 },
    entries: [learnerEntry(1, 1)],
  });
  node.core.campaign();
  t.equal(node.core.status().role, "follower");
  node.drain();
  node.core.applied(1);
  node.core.campaign();
  t.equal(node.core.status().role, "candidate");
});

t.test("learners, and members that are restoring a snapshot, do not campaign", async t => {
  const learner = new Lone({ conf: { ...voters(2, 3), learners: [1] } });
  learner.core.campaign();
  t.equal(learner.core.status().role, "follower");
  const restoring = new Lone();
  restoring.step("snap", { snapshot: snapshot(5, 1) });
  restoring.core.campaign();
  t.equal(restoring.core.status().role, "follower");
  restoring.drain();
  restoring.core.campaign();
  t.equal(restoring.core.status().role, "candidate", "now it is durable");
});

t.test("a vote given restarts the election timer, a vote refused does not", async t => {
  const roleAfter = (index: number): string => {
    const node = new Lone({ entries: [entry(1, 1)] });
    for (let i = 0; i < 9; i += 1) node.core.tick();
    node.step("vote", { index, logTerm: index });
    for (let i = 0; i < 9; i += 1) node.core.tick();
    return node.core.status().role;
  };
  t.equal(roleAfter(1), "follower");
  t.equal(roleAfter(0), "candidate");
});

t.test("a member votes once a term, and again for the same candidate", async t => {
  const node = new Lone();
  const ask = (from: number): boolean | undefined => {
    node.step("vote", { from, term: 2 });
    return node.drain().find(({ kind }) => kind === "vote-resp")?.reject;
  };
  t.same([ask(2), ask(3), ask(2)], [false, true, false]);
});

t.test("the first answer of a voter counts", async t => {
  const node = new Lone();
  node.core.campaign();
  node.drain();
  node.step("vote-resp", { term: 2, reject: true });
  node.step("vote-resp", { term: 2 });
  t.equal(node.core.status().role, "candidate");
});

t.test("a conf change of an earlier term must be applied before the next", async t => {
  const node = new Lone({ entries: [learnerEntry(1, 1)] });
  node.lead();
  node.acknowledge();
  t.equal(node.core.status().commit, 2, "the no-op of the new term is committed");
  t.match(node.core.proposeConfChange(ADD_LEARNER), { reason: "conf-change-pending" });
  node.core.applied(2);
  t.match(node.core.proposeConfChange(ADD_LEARNER), { ok: true });
});

t.test("an automatic leave is proposed once, even when changes are not checked", async t => {
  const node = new Lone({}, { validateConfChanges: false });
  node.lead();
  node.acknowledge();
  node.core.applied(1);
  node.core.applyConfChange({ ...ADD_LEARNER, transition: "joint-implicit" });
  node.core.propose([bytes("a"), bytes("b")]);
  node.acknowledge();
  const { lastIndex } = node.core.status();
  node.core.applied(2);
  node.core.applied(3);
  t.equal(node.core.status().lastIndex, lastIndex + 1);
});

t.test("a transfer ends when its target is removed", async t => {
  const node = new Lone();
  node.lead();
  node.acknowledge();
  node.core.transferLeadership(3);
  t.equal(node.core.status().transferTarget, 3);
  node.core.applyConfChange({ ...ADD_LEARNER, changes: [{ op: "remove", id: 3 }] });
  t.equal(node.core.status().transferTarget, 0);
});

t.test("a silent member is not sent snapshots", async t => {
  const node = new Lone({ entries: [entry(1, 1)] });
  node.lead();
  node.step("app-resp", { from: 3, term: 2, index: 1 });
  node.acknowledge();
  node.core.applied(2);
  node.core.compact(snapshot(2, 2), 3);
  const to3 = (): readonly string[] =>
    node
      .drain()
      .filter(({ to, kind }) => to === 3 && kind !== "heartbeat")
      .map(({ kind }) => kind);
  to3();
  for (let i = 0; i < 10; i += 1) {
    node.core.tick();
    node.step("heartbeat-resp", { term: 2 });
  }
  node.core.reportUnreachable(3);
  node.core.propose([bytes("x")]);
  t.same(to3(), [], "it was not heard from for an election timeout");
  node.step("heartbeat-resp", { from: 3, term: 2 });
  t.same(to3(), ["snap"], "now it was");
});

t.test("an acknowledgement that the log does not reach leaves the snapshot on its way", async t => {
  const node = new Lone({ entries: [entry(1, 1), entry(2, 1), entry(3, 1)] });
  node.lead();
  node.acknowledge();
  node.core.applied(4);
  node.core.compact(snapshot(4, 2), 4);
  node.step("app-resp", { from: 3, term: 2, index: 3, reject: true });
  t.match(node.drain(), [{ kind: "snap", to: 3 }]);
  const stateOf3 = (): unknown => node.core.status().progress.find(({ id }) => id === 3)?.state;
  node.step("app-resp", { from: 3, term: 2, index: 1 });
  t.same(node.drain(), [], "no second one");
  t.equal(stateOf3(), "snapshot");
  node.step("app-resp", { from: 3, term: 2, index: 3 });
  t.equal(stateOf3(), "replicate", "entry 4 is here");
});

t.test("an append from before the commit index is answered with the commit index", async t => {
  const initial = { snapshot: snapshot(5, 1), applied: 5, entries: [entry(6, 1)] };
  const node = new Lone({ ...initial, hardState: { term: 1, vote: 0, commit: 6 } });
  node.step("app", { index: 2, logTerm: 1, entries: [entry(3, 1)], commit: 3 });
  t.match(node.drain(), [{ kind: "app-resp", index: 6, reject: false }]);
});

t.test("a follower commits only what it knows to match", async t => {
  const node = new Lone({ entries: [entry(1, 1), entry(2, 1), entry(3, 1)] });
  node.step("app", { term: 2, index: 1, logTerm: 1, commit: 3 });
  t.equal(node.core.status().commit, 1, "2 and 3 may be another leader's");
});

t.test("a snapshot that the log already covers only moves the commit index", async t => {
  const node = new Lone({ entries: [entry(1, 1), entry(2, 1), entry(3, 1)] });
  node.step("snap", { snapshot: snapshot(2, 1) });
  const ready = node.core.ready();
  t.equal(ready?.snapshot, null);
  t.equal(ready?.hardState?.commit, 2);
  t.same(
    ready?.committed.map(({ index }) => index),
    [1, 2],
  );
  t.equal(node.core.status().lastIndex, 3, "what follows it is kept");
});

t.test("a pre-candidate that is behind is told of the newer term", async t => {
  const node = new Lone({ hardState: { term: 5, vote: 0, commit: 0 } });
  node.step("pre-vote", { term: 3 });
  t.match(node.drain(), [{ kind: "pre-vote-resp", term: 5, reject: true }]);
});

t.test("a read dies with the office it was asked in", async t => {
  const node = new Lone();
  node.lead();
  node.acknowledge();
  node.core.readIndex("old");
  node.drain();
  node.step("heartbeat", { term: 3 });
  node.core.campaign();
  node.drain();
  node.step("vote-resp", { term: 4 });
  node.drain();
  node.acknowledge();
  node.core.readIndex("new");
  const beat = node.drain().find(({ kind, to }) => kind === "heartbeat" && to === 2);
  node.step("heartbeat-resp", { term: 4, context: beat?.context ?? "none" });
  const reads = node.core.ready()?.readStates.map(({ context }) => context);
  t.same(reads, ["new"]);
});

t.test("a late answer to an earlier round takes nothing back", async t => {
  const cluster = new TestCluster(5);
  const { core, id } = cluster.elect(1);
  const beatTo = (to: number): Message => {
    cluster.process(cluster.node(id));
    const beat = cluster.messages.find(({ kind, to: peer }) => kind === "heartbeat" && peer === to);
    cluster.messages = [];
    if (beat === undefined) throw new Error("no heartbeat");
    return beat;
  };
  const answer = ({ to, context, term }: Message): void =>
    core.step(newMessage("heartbeat-resp", { from: to, to: id, term, context }));
  core.readIndex("a");
  const first = beatTo(2);
  core.readIndex("b");
  const second = beatTo(2);
  answer(second);
  answer(first);
  answer({ ...second, to: 3 });
  t.same(
    core.ready()?.readStates.map(({ context }) => context),
    ["a", "b"],
  );
});

t.test("a learner removed and added in one change starts over", async t => {
  const node = new Lone({ conf: { ...CONF, learners: [4] } });
  node.lead();
  node.acknowledge();
  node.step("app-resp", { from: 4, term: 2, index: 1 });
  const matchOf4 = (): unknown => node.core.status().progress.find(({ id }) => id === 4)?.match;
  t.equal(matchOf4(), 1);
  const again = [
    { op: "remove", id: 4 },
    { op: "add-voter", id: 4 },
  ] as const;
  node.core.applyConfChange({ ...ADD_LEARNER, changes: again });
  t.equal(matchOf4(), 0, "it may be another machine by now");
});

t.test("a commit index that may have been lost is sent again", async t => {
  const node = new Lone({ entries: [entry(1, 1), entry(2, 1)] });
  node.lead();
  node.acknowledge();
  node.step("app-resp", { from: 3, term: 2, index: 2 });
  t.match(node.drain(), [{ kind: "app", to: 3, index: 2, commit: 3 }]);
  node.core.reportUnreachable(3);
  node.step("app-resp", { from: 3, term: 2, index: 3 });
  t.match(node.drain(), [{ kind: "app", to: 3, index: 3, commit: 3, entries: [] }]);
});

t.test("an entry of an earlier term is not committed by counting copies (Figure 8)", async t => {
  const hardState = { term: 1, vote: 0, commit: 0 };
  const lone = new Lone({ hardState, entries: [entry(1, 1), entry(2, 1)] });
  lone.lead();
  const { term, lastIndex } = lone.core.status();
  t.equal(lastIndex, 3, "the old entries and the empty one of the new term");
  lone.step("app-resp", { term, index: 2 });
  lone.drain();
  t.equal(lone.core.status().commit, 0, "two of three have both");
  lone.step("app-resp", { term, index: 3 });
  lone.drain();
  t.equal(lone.core.status().commit, 3, "an entry of the own term takes them along");
});
