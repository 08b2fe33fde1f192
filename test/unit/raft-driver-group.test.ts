import t from "tap";
import { newDeferred } from "../../src/base/async.ts";
import type { Clock } from "../../src/base/clock.ts";
import { randomInt, SeededRng } from "../../src/base/rng.ts";
import { MAX_ENTRY_BYTES } from "../../src/raft/driver/options.ts";
import { nextTurn } from "../../src/raft/driver/turns.ts";
import { HeldClock } from "../support/held-clock.ts";
import { ListMachine } from "../support/list-machine.ts";
import { outcomeOf, peerOf, RaftGroup } from "../support/raft-group.ts";

t.test("one member leads at once, answers and comes back", async t => {
  const group = new RaftGroup();
  await t.rejects(group.start(1, "restart"), { code: "data_loss", message: /join it again/ });
  const { driver } = await group.start(1, "bootstrap");
  t.ok((await group.until(() => group.leader === 1, "leads")) <= 20, "no election timeout");
  t.match(await group.propose("first"), { text: "first" });
  await group.settle(driver.readBarrier(group.never));
  t.match(driver.stats(), { proposed: 1, readsServed: 1, appliedIndex: 3 });
  t.equal(await group.stop(1), null);
  await t.rejects(group.start(1, "bootstrap"), { code: "failed_precondition" });
  const again = await group.start(1, "restart");
  await group.until(() => group.leader === 1, "leads again");
  await group.propose("second");
  t.same(again.machine.texts, ["first", "second"]);
  t.same(again.machine.members(), [peerOf(1)]);
  await group.stopAll();
});

t.test("members join as learners and are promoted when they have caught up", async t => {
  const group = new RaftGroup();
  await group.start(1, "bootstrap");
  await group.until(() => group.leader === 1, "leads");
  const { driver } = group.member(1);
  await group.settle(driver.addMember(peerOf(2), group.never));
  await group.pass(3000);
  t.match(driver.status().conf, { voters: [1], learners: [2] }, "who is silent stays a learner");
  await group.propose("alone");
  await group.start(2, "join");
  await group.until(() => driver.status().conf.voters.length === 2, "promotion");
  await group.settle(driver.addMember(peerOf(2), group.never));
  const impostor = { ...peerOf(3), nodeId: "node-2" };
  await t.rejects(driver.addMember(impostor, group.never), { code: "already_exists" });
  await group.propose("together");
  await group.until(() => group.agreed, "agreement");
  t.same(group.member(2).machine.texts, ["alone", "together"]);
  t.same(group.member(2).machine.members(), [peerOf(1), peerOf(2)]);
  await group.stopAll();
});

t.test("a learner that somebody else answers for is not promoted", async t => {
  const group = new RaftGroup();
  await group.start(1, "bootstrap");
  await group.until(() => group.leader === 1, "leads");
  const { driver } = group.member(1);
  await group.start(2, "join");
  await group.settle(driver.addMember({ ...peerOf(2), addr: peerOf(1).addr }, group.never));
  await group.pass(3000);
  t.match(driver.status().conf, { voters: [1], learners: [2] });
  await group.settle(driver.addMember(peerOf(2), group.never));
  await group.until(() => driver.status().conf.voters.length === 2, "promotion at its address");
  await group.stopAll();
});

t.test("a leader that stood still for an election timeout does not go on leading", async t => {
  for (const [heldMs, leads] of [
    [900, true],
    [1_300, false],
  ] as const) {
    const group = new RaftGroup({ electionTicks: 10 });
    group.held.set(1, new HeldClock(group.clock));
    await group.startVoters(3);
    // Cut off, the others have no way to replace it meanwhile.
    for (const raftId of [2, 3]) group.network.isolate(raftId);
    const { term } = group.member(1).driver.status();
    group.held.get(1)?.hold();
    await group.pass(heldMs);
    t.match(group.member(1).driver.status(), { role: "leader", term });
    group.held.get(1)?.release();
    t.equal(group.member(1).driver.status().role === "leader", leads, `${heldMs} ms`);
    group.network.heal();
    await group.until(() => group.leader !== 0, "one leads");
    await group.propose("after");
    await group.stopAll();
  }
});

t.test(
  "a leader that cannot get on with applying steps down, though its heartbeats flow",
  async t => {
    for (const transferWorks of [true, false]) {
      const group = new RaftGroup();
      let lateMs = 0;
      let stuck = false;
      class SlowMachine extends ListMachine {
        override apply(entry: { readonly index: number; readonly data: Uint8Array }): unknown {
          // Longer than one slice: the rest waits for the next turn.
          if (stuck) lateMs += 20;
          return super.apply(entry);
        }
      }
      const { clock } = group;
      const late: Clock = {
        nowMs: () => clock.nowMs(),
        monoMs: () => clock.monoMs() + lateMs,
        setTimer: (name, delayMs, fn) => clock.setTimer(name, delayMs, fn),
      };
      const hung = newDeferred<void>();
      const wait = (): Promise<void> => (stuck ? hung.promise : nextTurn());
      group.parts.set(1, { clock: late, machine: new SlowMachine(), nextTurn: wait });
      await group.startVoters(3);
      const { driver } = group.member(1);
      if (!transferWorks) group.network.drop = message => message.kind === "timeout-now";
      stuck = true;
      const write = outcomeOf(driver.propose(Buffer.from("stuck"), group.never));
      await group.until(() => driver.status().role !== "leader", "it steps down");
      await group.until(() => group.leader > 1, "another leads");
      await group.propose("after");
      stuck = false;
      hung.resolve();
      t.match(await group.settle(write), /ok|unknown_outcome/);
      await group.until(() => group.agreed, "it gets on again");
      await group.stopAll();
    }
  },
);

for (const size of [3, 5]) {
  t.test(`of ${size}, a killed leader is replaced in a fraction of a second`, async t => {
    const group = new RaftGroup({}, size);
    await group.startVoters(size);
    await group.propose("before");
    await group.pass(500);
    group.kill(1);
    const tookMs = await group.until(() => group.leader !== 0, "a new leader");
    t.ok(tookMs <= 200, `${tookMs} ms`);
    await group.propose("after");
    const back = await group.start(1, "restart");
    await group.until(() => back.machine.texts.length === 2 && group.agreed, "it catches up");
    t.same(back.machine.texts, ["before", "after"]);
    await group.stopAll();
  });
}

t.test("a leader that is cut off stops, and its requests get an answer", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { driver } = group.member(1);
  group.network.isolate(1);
  const write = driver.propose(Buffer.from("in the minority"), group.never);
  const read = driver.readBarrier(group.never);
  const outcomes = Promise.all([outcomeOf(write), outcomeOf(read)]);
  const tookMs = await group.until(() => group.leader > 1, "the majority elects");
  t.ok(tookMs <= 2500, `${tookMs} ms`);
  t.same(await group.settle(outcomes), ["unknown_outcome", "unavailable"]);
  await t.rejects(driver.propose(Buffer.from("later"), group.never), { code: "not_leader" });
  await group.propose("in the majority");
  group.network.heal();
  await group.until(() => driver.status().leaderId === group.leader && group.agreed, "heals");
  await t.rejects(driver.propose(Buffer.from("later"), group.never), {
    code: "not_leader",
    message: new RegExp(`leader is at ${peerOf(group.leader).addr}`),
  });
  t.same(group.member(1).machine.texts, ["in the majority"]);
  await group.stopAll();
});

t.test("a follower that is cut off does not disturb when it comes back", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { term } = group.member(1).driver.status();
  group.network.isolate(3);
  await group.pass(10_000);
  group.network.heal();
  await group.propose("one");
  await group.until(() => group.agreed, "agreement");
  t.match(group.member(1).driver.status(), { role: "leader", term });
  await group.stopAll();
});

t.test("followers serve linearizable reads", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  await group.propose("written");
  const { driver, machine } = group.member(3);
  await group.settle(driver.readBarrier(group.never));
  t.same(machine.texts, ["written"]);
  await group.stopAll();
});

t.test("a clean stop hands leadership over and answers what is in flight", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { driver, stop, ended } = group.member(1);
  const events: string[] = [];
  group.member(2).driver.onLeadership(event => void events.push(event.role));
  const writes = Array.from({ length: 50 }, (_, i) =>
    outcomeOf(driver.propose(Buffer.from(`write ${i}`), group.never)),
  );
  stop.abort();
  const tookMs = await group.until(() => group.leader > 1, "a successor");
  t.ok(tookMs <= 300, `${tookMs} ms`);
  t.equal(await group.settle(ended), null);
  group.members.delete(1);
  const outcomes = await Promise.all(writes);
  const written = group.member(2).machine.texts;
  for (const [i, outcome] of outcomes.entries()) {
    t.equal(written.includes(`write ${i}`), outcome === "ok", outcome);
  }
  t.equal(events[0], "follower", "the state at subscription comes first");
  await group.stopAll();
});

t.test("leadership goes where it is sent", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { driver } = group.member(1);
  await group.settle(driver.transferLeadership(group.never, 3));
  await group.until(() => group.leader === 3, "3 leads");
  await t.rejects(driver.transferLeadership(group.never), { code: "not_leader" });
  const third = group.member(3).driver;
  await t.rejects(third.transferLeadership(group.never, 9), { code: "failed_precondition" });
  group.network.isolate(2);
  group.network.cut(1, 3);
  await t.rejects(third.transferLeadership(group.never), { code: "failed_precondition" });
  group.network.heal();
  group.network.cut(2, 3);
  await t.rejects(group.settle(third.transferLeadership(group.never, 2)), { code: "unavailable" });
  await group.stopAll();
});

t.test("a late joiner starts from a snapshot, even one older than itself", async t => {
  const group = new RaftGroup({ snapshotEntries: 20, logEntriesForSlowFollowers: 5 });
  await group.startVoters(1);
  for (let i = 0; i < 50; i += 1) await group.propose(`write ${i}`);
  const { driver } = group.member(1);
  await group.until(() => driver.stats().snapshotsTaken >= 2, "snapshots");
  await group.start(2, "join");
  await group.settle(driver.addMember(peerOf(2), group.never));
  await group.until(() => driver.status().conf.voters.length === 2 && group.agreed, "joined");
  t.equal(group.member(2).machine.restores, 1);
  t.equal(group.member(2).driver.stats().snapshotsReceived, 1);
  await group.propose("after");
  await group.stopAll();
  const again = await group.start(1, "restart");
  await group.start(2, "restart");
  await group.until(() => group.leader !== 0, "leads again");
  await group.propose("last");
  await group.until(() => group.agreed, "agreement");
  t.equal(again.machine.texts.length, 52);
  t.equal(again.machine.restores, 1);
  await group.stopAll();
});

t.test("the bounds of the log follow the cluster's spec", async t => {
  const group = new RaftGroup({ snapshotEntries: 1_000, logEntriesForSlowFollowers: 1_000 });
  await group.startVoters(1);
  const { driver } = group.member(1);
  const write = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i += 1) await group.propose(`write ${i}`);
  };
  await write(30);
  t.equal(driver.stats().snapshotsTaken, 0, "the options count while there is no spec");
  group.logLimits = { snapshotEntries: 10, logEntriesForSlowFollowers: 2 };
  await write(12);
  await group.until(() => driver.stats().snapshotsTaken >= 2, "snapshots");
  const taken = driver.stats().snapshotsTaken;
  group.logLimits = {
    snapshotEntries: Number.POSITIVE_INFINITY,
    logEntriesForSlowFollowers: 500,
  };
  await write(30);
  t.equal(driver.stats().snapshotsTaken, taken, "none are asked for any more");
  group.logLimits = { snapshotEntries: 10, logEntriesForSlowFollowers: 500 };
  await write(12);
  await group.until(() => driver.stats().snapshotsTaken > taken, "snapshots again");
  await group.stopAll();
  await group.start(1, "restart");
  await group.until(() => group.leader !== 0, "it leads again");
  t.equal(group.member(1).machine.texts.length, 84);
  await group.stopAll();
});

t.test(
  "who is a little behind gets entries; two far behind get snapshots at the same time",
  async t => {
    const group = new RaftGroup({ snapshotEntries: 20, logEntriesForSlowFollowers: 10 });
    await group.startVoters(5);
    const { driver, storage } = group.member(1);
    const write = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 1) await group.propose(`entry ${i}`);
    };
    let open = 0;
    let most = 0;
    const read = storage.readSnapshot.bind(storage);
    storage.readSnapshot = async function* (meta) {
      open += 1;
      most = Math.max(most, open);
      for (let turn = 0; turn < 50; turn += 1) await nextTurn();
      yield* read(meta);
      open -= 1;
    };
    const taken = (): number => driver.stats().snapshotsTaken;
    for (let before = taken(); taken() === before; ) await write(1);
    await write(15);
    const before = taken();
    group.network.isolate(4);
    await write(8);
    t.equal(taken(), before + 1, "the log was cut meanwhile");
    group.network.heal();
    await group.until(() => group.agreed, "the fourth catches up");
    t.equal(driver.stats().snapshotsSent, 0, "with what the log has kept");
    for (const raftId of [4, 5]) group.network.isolate(raftId);
    await write(60);
    group.network.heal();
    await group.until(() => group.agreed, "both catch up");
    t.equal(driver.stats().snapshotsSent, 2);
    t.equal(most, 2, "side by side");
    await group.stopAll();
  },
);

t.test("a snapshot that gets lost is sent again", async t => {
  const group = new RaftGroup({ snapshotEntries: 10, logEntriesForSlowFollowers: 1 });
  await group.startVoters(3);
  group.network.isolate(3);
  for (let i = 0; i < 40; i += 1) await group.propose(`write ${i}`);
  group.network.heal();
  group.network.cutOneWay(3, 1);
  await group.pass(500);
  group.network.heal();
  await group.until(() => group.agreed, "3 catches up");
  t.ok(group.member(3).machine.restores >= 1);
  await group.stopAll();
});

t.test("removal keeps the quorum, and a removed member does no harm", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { driver } = group.member(1);
  await t.rejects(driver.removeMember(9, group.never), { code: "not_found" });
  group.kill(2);
  await group.pass(100);
  await t.rejects(driver.removeMember(3, group.never), {
    code: "failed_precondition",
    message: /1 of the 2 remaining managers can be reached and 2 are needed/,
  });
  await group.start(2, "restart");
  await group.pass(500);
  await group.settle(driver.removeMember(3, group.never));
  t.same(driver.status().conf.voters, [1, 2]);
  t.same(
    group
      .member(1)
      .machine.members()
      .map(peer => peer.raftId)
      .sort(),
    [1, 2],
  );
  await group.pass(5000);
  t.match(driver.status(), { role: "leader" }, "the removed member does not disturb");
  t.notOk(group.member(3).driver.status().conf.voters.includes(3), "and knows that it was removed");
  await t.rejects(group.settle(driver.removeMember(1, group.never)), { code: "not_leader" });
  await group.until(() => group.leader === 2, "2 takes over");
  const second = group.member(2).driver;
  await group.settle(second.removeMember(1, group.never));
  t.same(second.status().conf.voters, [2]);
  await t.rejects(second.removeMember(2, group.never), { code: "failed_precondition" });
  await group.propose("alone again");
  await group.stopAll();
});

t.test("proposals are bounded", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { driver } = group.member(1);
  await t.rejects(driver.propose(new Uint8Array(), group.never), { code: "invalid_argument" });
  const large = new Uint8Array(MAX_ENTRY_BYTES);
  await t.rejects(driver.propose(Buffer.alloc(large.length + 1), group.never), {
    code: "invalid_argument",
  });
  await t.rejects(driver.propose(large, AbortSignal.abort()), { code: "canceled" });
  group.network.isolate(1);
  const outcomes = Array.from({ length: 45 }, () => outcomeOf(driver.propose(large, group.never)));
  const abort = new AbortController();
  await group.step();
  t.equal(await outcomeOf(driver.propose(large, group.never)), "resource_exhausted");
  abort.abort();
  const counts = new Set(await group.settle(Promise.all(outcomes)));
  t.same([...counts].sort(), ["resource_exhausted", "unknown_outcome"]);
  t.equal(driver.stats().proposalsWaiting, 0);
  await group.stopAll();
});

t.test("a caller that gives up learns whether its change may be made", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { driver } = group.member(1);
  group.network.isolate(1);
  const early = new AbortController();
  const queued = outcomeOf(driver.propose(Buffer.from("queued"), early.signal));
  early.abort();
  t.equal(await queued, "canceled");
  const late = new AbortController();
  const flying = outcomeOf(driver.propose(Buffer.from("flying"), late.signal));
  await group.step();
  late.abort();
  t.equal(await flying, "unknown_outcome");
  await group.stopAll();
});

t.test("a member that cannot write ends at once", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { driver, storage, ended } = group.member(1);
  storage.fail("the disk is gone");
  const write = outcomeOf(driver.propose(Buffer.from("lost"), group.never));
  t.match(await group.settle(ended), { code: "unavailable", message: "the disk is gone" });
  t.equal(await write, "unknown_outcome");
  group.members.delete(1);
  const tookMs = await group.until(() => group.leader > 1, "the others go on");
  t.ok(tookMs <= 300, `${tookMs} ms`);
  await group.stopAll();
});

t.test("a member whose log is gone does not come back under its id", async t => {
  const group = new RaftGroup();
  await t.rejects(group.start(1, "restart"), {
    code: "data_loss",
    message: /log of member 1 is gone.*must not come back under this id.*join it again/,
  });
  await group.startVoters(1);
  await group.stopAll();
  await t.rejects(group.start(1, "bootstrap"), { message: /holds a cluster already/ });
});

t.test("a wall clock that jumps changes nothing", async t => {
  const group = new RaftGroup();
  const { clock } = group;
  let jumpMs = 0;
  const jumping: Clock = {
    nowMs: () => clock.nowMs() + jumpMs,
    monoMs: () => clock.monoMs(),
    setTimer: (name, delayMs, fn) => clock.setTimer(name, delayMs, fn),
  };
  for (const raftId of [1, 2, 3]) group.parts.set(raftId, { clock: jumping });
  await group.startVoters(3);
  const { term } = group.member(1).driver.status();
  for (const hours of [1, -2, 24 * 365, -24 * 365]) {
    jumpMs = hours * 3_600_000;
    await group.propose(`after ${hours} hours`);
    await group.pass(3_000);
    t.match(group.member(1).driver.status(), { role: "leader", term });
  }
  await group.stopAll();
});

t.test("while a write hangs the leader is replaced", async t => {
  const group = new RaftGroup();
  await group.startVoters(3);
  const { driver, storage } = group.member(1);
  let release: () => void = () => undefined;
  const hung = new Promise<void>(resolve => {
    release = resolve;
  });
  storage.beforeWrite = () => hung;
  const write = outcomeOf(driver.propose(Buffer.from("stuck"), group.never));
  await group.until(() => group.leader > 1, "a leader whose disk works");
  release();
  t.match(await group.settle(write), /ok|unknown_outcome|not_leader/);
  await group.until(() => group.agreed, "agreement");
  await group.stopAll();
});

t.test("every proposal has a definite fate through kills and partitions", async t => {
  for (const seed of [1, 2, 3]) {
    const group = new RaftGroup({ snapshotEntries: 30, logEntriesForSlowFollowers: 5 }, seed);
    await group.startVoters(3);
    const fates = new Map<string, Promise<string>>();
    const rng = new SeededRng(seed);
    group.network.drop = () => randomInt(rng, 20) === 0;
    for (let round = 0; round < 12; round += 1) {
      await group.until(() => group.leader !== 0, "a leader");
      const victim = group.leader;
      const { driver } = group.member(victim);
      const fault = round % 4;
      if (fault === 1) group.network.isolate(victim);
      if (fault === 2) for (const id of [1, 2, 3]) group.network.cutOneWay(id, victim);
      for (let i = 0; i < 10; i += 1) {
        const text = `seed ${seed} round ${round} write ${i}`;
        fates.set(text, outcomeOf(driver.propose(Buffer.from(text), group.never)));
        if (i % 3 === 2) await group.step();
      }
      if (fault === 0) {
        await nextTurn();
        group.kill(victim);
        await group.pass(randomInt(rng, 500));
        await group.start(victim, "restart");
      }
      await group.pass(randomInt(rng, 2500));
      group.network.heal();
      await group.pass(randomInt(rng, 500));
    }
    group.network.drop = () => false;
    await group.until(() => group.leader !== 0, "a leader at the end");
    await group.propose("the end");
    await group.until(() => group.agreed, "agreement");
    const texts = group.member(group.leader).machine.texts;
    t.equal(new Set(texts).size, texts.length, "nothing is applied twice");
    const seen = { ok: 0, not_leader: 0, unknown_outcome: 0 };
    for (const [text, fate] of fates) {
      const outcome = await group.settle(fate);
      if (outcome === "ok") t.ok(texts.includes(text), `${text} was acknowledged`);
      else if (outcome === "not_leader") t.notOk(texts.includes(text), `${text} was refused`);
      else t.equal(outcome, "unknown_outcome", text);
      if (outcome in seen) seen[outcome as keyof typeof seen] += 1;
    }
    t.ok(seen.ok >= 50, JSON.stringify(seen));
    await group.stopAll();
  }
});
