import fc from "fast-check";
import t from "tap";
import type { Clock, Timer } from "../../src/base/clock.ts";
import { newMessage } from "../../src/raft/core/message.ts";
import { MESSAGE_KINDS, type Message } from "../../src/raft/core/types.ts";
import { decodePeer, encodePeer } from "../../src/raft/driver/member-context.ts";
import { PendingEntries } from "../../src/raft/driver/pending.ts";
import { Ticker } from "../../src/raft/driver/ticker.ts";
import { decodeMessage, encodeMessage } from "../../src/raft/transport/codec.ts";
import { SendQueue } from "../../src/raft/transport/send-queue.ts";
import { RaftBatch } from "../../src/rpc/gen/swarmd/v1/raft.ts";
import { outcomeOf } from "../support/raft-group.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** A process that is not run: timers fire only when told, whatever the time. */
class PausableClock implements Clock {
  timeMs = 0;
  #timers: (() => void)[] = [];

  nowMs(): number {
    return this.timeMs;
  }

  monoMs(): number {
    return this.timeMs;
  }

  setTimer(_name: string, _delayMs: number, fn: () => void): Timer {
    this.#timers.push(fn);
    const cancel = (): void => {
      this.#timers = this.#timers.filter(other => other !== fn);
    };
    return { cancel };
  }

  fireAt(timeMs: number): void {
    this.timeMs = timeMs;
    const timers = this.#timers;
    this.#timers = [];
    for (const fn of timers) fn();
  }
}

t.test("late ticks are not made up for, and a pause leaves one out", async t => {
  const clock = new PausableClock();
  let ticks = 0;
  const pauses: number[] = [];
  const ticker = new Ticker(
    { tickMs: 100, pausedAfterMs: 1000 },
    {
      clock,
      onTick: () => {
        ticks += 1;
      },
      onPause: pausedMs => pauses.push(pausedMs),
    },
  );
  ticker.start();
  clock.fireAt(100);
  clock.fireAt(205);
  t.equal(ticks, 2);
  clock.fireAt(750);
  t.equal(ticks, 3, "one tick after 450 ms");
  clock.fireAt(850);
  t.equal(ticks, 4);
  clock.fireAt(60_000);
  t.equal(ticks, 4, "after a pause the messages that wait come first");
  clock.fireAt(60_100);
  t.equal(ticks, 5);
  t.match(ticker, { ticks: 6, lateTicks: 2, pauses: 1 });
  t.same(pauses, [59_050]);
  ticker.stop();
  clock.fireAt(70_000);
  t.equal(ticks, 5);
});

const arbId = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const arbEntry = fc.record({
  index: arbId,
  term: arbId,
  kind: fc.constantFrom("normal" as const, "conf-change" as const),
  data: fc.uint8Array({ maxLength: 40 }),
});
const arbConf = fc.record({
  voters: fc.array(arbId),
  learners: fc.array(arbId),
  votersOutgoing: fc.array(arbId),
  learnersNext: fc.array(arbId),
  autoLeave: fc.boolean(),
});
/** Entries follow the message's index. */
function following(message: Message): Message {
  const { index } = message;
  const entries = message.entries.map((entry, i) => ({ ...entry, index: index + 1 + i }));
  return { ...message, entries };
}

const arbMessage: fc.Arbitrary<Message> = fc
  .record({
    kind: fc.constantFrom(...MESSAGE_KINDS),
    from: arbId,
    to: arbId,
    term: arbId,
    logTerm: arbId,
    index: fc.nat({ max: Number.MAX_SAFE_INTEGER - 4 }),
    entries: fc.array(arbEntry, { maxLength: 3 }),
    commit: arbId,
    reject: fc.boolean(),
    rejectHint: arbId,
    snapshot: fc.option(fc.record({ index: arbId, term: arbId, conf: arbConf })),
    context: fc.string({ maxLength: 10 }),
  })
  .map(following);

const LOCAL = [
  "hup",
  "beat",
  "prop",
  "unreachable",
  "snap-status",
  "check-quorum",
  "forget-leader",
];

t.test("messages survive the wire; local ones do not travel", async t => {
  fc.assert(
    fc.property(arbMessage, message => {
      const wire = encodeMessage(message);
      if (LOCAL.includes(message.kind)) return wire === null;
      if (wire === null) return false;
      const bytes = RaftBatch.encode({ hello: undefined, messages: [wire] }).finish();
      const [received] = RaftBatch.decode(bytes).messages;
      const back = received === undefined ? null : decodeMessage(received);
      const readable = (m: Message | null): string =>
        JSON.stringify({
          ...m,
          entries: m?.entries.map(e => ({ ...e, data: Buffer.from(e.data).toString("hex") })),
        });
      return readable(back) === readable(message);
    }),
  );
  t.equal(decodeMessage({ ...blankWire(), kind: 99 }), null, "a kind of a later version");
});

function blankWire(): NonNullable<ReturnType<typeof encodeMessage>> {
  const wire = encodeMessage(newMessage("heartbeat", {}));
  if (wire === null) throw new Error("a heartbeat travels");
  return wire;
}

t.test("what is urgent overtakes appends, which keep their order", async t => {
  const queue = new SendQueue();
  const append = (index: number): Message =>
    newMessage("app", {
      index,
      entries: [{ index, term: 1, kind: "normal", data: new Uint8Array(100_000) }],
    });
  for (let index = 1; index <= 6; index += 1) t.ok(queue.push(append(index)));
  t.ok(queue.push(newMessage("heartbeat", {})));
  const batches: string[] = [];
  while (queue.size > 0) {
    batches.push(
      queue
        .take()
        .map(m => (m.kind === "app" ? m.index : m.kind))
        .join(" "),
    );
  }
  t.same(batches, ["heartbeat 1 2", "3 4", "5 6"]);
  t.same(queue.take(), []);
  for (let i = 0; i < 4096; i += 1) queue.push(newMessage("heartbeat", {}));
  t.notOk(queue.push(newMessage("heartbeat", {})), "bounded by number");
  t.equal(queue.clear(), 4096);
  const huge = newMessage("app", {
    entries: [{ index: 1, term: 1, kind: "normal", data: new Uint8Array(40 << 20) }],
  });
  t.ok(queue.push(huge));
  t.notOk(queue.push(huge), "bounded by bytes");
});

t.test("the news of a commit goes with the next append", async t => {
  const queue = new SendQueue();
  const data = new Uint8Array(10);
  const news = (commit: number, term = 1): Message =>
    newMessage("app", { index: 7, term, logTerm: 1, commit });
  const append = (commit: number): Message =>
    newMessage("app", { ...news(commit), entries: [{ index: 8, term: 1, kind: "normal", data }] });
  t.notOk(queue.canWait, "nothing waits");
  queue.push(news(5));
  queue.push(news(6));
  t.ok(queue.canWait);
  t.equal(queue.size, 1, "the later news says more");
  queue.push(append(7));
  t.notOk(queue.canWait);
  t.same(
    queue.take().map(m => [m.commit, m.entries.length]),
    [[7, 1]],
  );
  queue.push(news(9));
  queue.push(append(8));
  queue.push(news(9));
  queue.push(news(9, 2));
  t.notOk(queue.canWait);
  t.same(
    queue.take().map(m => [m.term, m.commit, m.entries.length]),
    [
      [1, 9, 0],
      [1, 8, 1],
      [1, 9, 0],
      [2, 9, 0],
    ],
    "what says less replaces nothing",
  );
  queue.push(news(9));
  queue.push(newMessage("heartbeat", {}));
  t.notOk(queue.canWait, "and it goes with anything");
});

t.test("an entry's fate is told by its index and term", async t => {
  const clock = new VirtualClock();
  const pending = new PendingEntries({ clock });
  const [mine, replaced, covered, lost] = [5, 6, 7, 20].map(index => pending.wait(index, 2));
  pending.applied(5, 2, "done");
  pending.applied(6, 3, "somebody else's");
  t.equal(await mine, "done");
  t.equal(await outcomeOf(replaced ?? Promise.resolve()), "not_leader");
  pending.coveredBySnapshot(10);
  t.equal(await outcomeOf(covered ?? Promise.resolve()), "unknown_outcome");
  pending.leadershipLost(2);
  const next = pending.wait(21, 4);
  clock.advance(1000);
  t.equal(await outcomeOf(lost ?? Promise.resolve()), "unknown_outcome");
  t.equal(pending.size, 1, "a later term's entry still waits");
  const drained = pending.drained();
  pending.applied(21, 4, "later");
  await drained;
  t.equal(await next, "later");
});

t.test("a membership change names its member", async t => {
  const peer = { raftId: 3, nodeId: "n3", addr: "h:1" };
  t.same(decodePeer(encodePeer(peer)), peer);
  t.equal(decodePeer(new Uint8Array()), null);
  t.throws(() => decodePeer(Buffer.from('{"raftId":"3"}')), { code: "data_loss" });
});
