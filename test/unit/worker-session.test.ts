import { EventEmitter } from "node:events";
import t, { type Test } from "tap";
import { toSwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { AgentPort, TaskStatusUpdate } from "../../src/model/assignment.ts";
import type { NodeDescription } from "../../src/model/rows.ts";
import type { TaskState } from "../../src/model/task-state.ts";
import type {
  DispatcherClient,
  LogChunk,
  ManagerMessage,
  NodeMessage,
} from "../../src/rpc/gen/swarmd/v1/dispatcher.ts";
import { SessionClient } from "../../src/worker/session.ts";
import { StatusOutbox } from "../../src/worker/status-outbox.ts";
import { aStatus } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { settle } from "../support/virtual-run.ts";

/** The manager's end of one session, as a grpc-js stream looks from the node. */
class Stream extends EventEmitter {
  readonly written: NodeMessage[] = [];

  write(message: NodeMessage): boolean {
    this.written.push(message);
    return true;
  }

  cancel(): void {
    this.emit("end");
  }

  say(body: ManagerMessage["body"]): void {
    this.emit("data", { body });
  }

  /** What the statuses written so far say, one list a message. */
  statuses(): string[][] {
    return this.written.flatMap(({ body }) =>
      body?.$case === "statuses" ? [body.value.updatesJson.map(describe)] : [],
    );
  }
}

function describe(json: string): string {
  const { taskId, status } = JSON.parse(json) as TaskStatusUpdate;
  return `${taskId} ${status.state}`;
}

async function* readLogs(): AsyncGenerator<never> {
  // Nothing was ever logged.
}

/** The node's end of one log stream; everything is taken at once. */
class Publisher extends EventEmitter {
  last: LogChunk | null = null;

  write(chunk: LogChunk): boolean {
    this.last = chunk;
    return true;
  }

  end(): void {
    // Nobody waits for it.
  }
}

class Rig {
  readonly clock = new VirtualClock();
  readonly outbox = new StatusOutbox();
  readonly streams: Stream[] = [];
  readonly dialled: string[] = [];
  hostname = "w1";
  /** Connections given up. */
  closed = 0;
  readonly publishers: Publisher[] = [];
  readonly session: SessionClient;

  constructor(managers: readonly string[] = ["m1:2377"], seed = 1) {
    const agent: AgentPort = {
      describe: async () => ({ hostname: this.hostname }) as NodeDescription,
      applyAssignments: async () => undefined,
      programmed: async () => undefined,
      readLogs: () => readLogs(),
    };
    const dial = (addr: string): DispatcherClient => {
      this.dialled.push(addr);
      const client: Pick<DispatcherClient, "session" | "publishLogs" | "close"> = {
        close: () => {
          this.closed += 1;
        },
        session: (() => {
          const stream = new Stream();
          this.streams.push(stream);
          return stream;
        }) as unknown as DispatcherClient["session"],
        publishLogs: (() => {
          const publisher = new Publisher();
          this.publishers.push(publisher);
          return publisher;
        }) as unknown as DispatcherClient["publishLogs"],
      };
      return client as DispatcherClient;
    };
    this.session = new SessionClient(
      { nodeId: "n1", addr: "w1:2377" },
      {
        agent,
        dial,
        outbox: this.outbox,
        toError: error => toSwarmError(error, "unavailable"),
        managers: () => managers,
        onManagers: () => undefined,
        onRemoved: () => undefined,
        clock: this.clock,
        rng: new SeededRng(seed),
        logger: silentLogger,
      },
    );
  }

  get stream(): Stream {
    return this.streams.at(-1) ?? new Stream();
  }

  async open(signal: AbortSignal): Promise<void> {
    void this.session.run(signal);
    await settle();
    this.stream.say({
      $case: "welcome",
      value: { sessionId: "s", heartbeatMs: 1_000, spreadMs: 0 },
    });
    await settle();
  }

  report(taskId: string, state: TaskState): void {
    this.outbox.report({ taskId, status: aStatus(state) });
  }

  async elapse(ms: number): Promise<void> {
    this.clock.advance(ms);
    await settle();
  }
}

async function opened(t: Test): Promise<Rig> {
  const stop = new AbortController();
  t.teardown(() => stop.abort());
  const rig = new Rig();
  await rig.open(stop.signal);
  return rig;
}

t.test("states that a task only passes through are said together, and later", async t => {
  const rig = await opened(t);
  rig.report("a", "preparing");
  await rig.elapse(20);
  rig.report("b", "preparing");
  rig.report("a", "starting");
  t.same(rig.stream.statuses(), []);
  await rig.elapse(30);
  t.same(rig.stream.statuses(), [["b preparing", "a starting"]]);
});

t.test("a state that somebody waits for takes what is due along", async t => {
  const rig = await opened(t);
  rig.report("a", "preparing");
  rig.report("b", "running");
  await rig.elapse(5);
  t.same(rig.stream.statuses(), [["a preparing", "b running"]]);
  rig.report("a", "failed");
  await rig.elapse(5);
  t.same(rig.stream.statuses().at(-1), ["a failed"]);
  await rig.elapse(100);
  t.equal(rig.stream.statuses().length, 2, "nothing is said twice");
});

t.test("what was not acknowledged is said again in the next session", async t => {
  const rig = await opened(t);
  rig.report("a", "running");
  rig.report("b", "running");
  await rig.elapse(5);
  const [first] = rig.streams;
  rig.report("c", "running");
  await rig.elapse(5);
  rig.stream.say({ $case: "statusAck", value: { sequence: 1 } });
  rig.stream.emit("error", new Error("gone"));
  await settle();
  await rig.elapse(60_000);
  t.not(rig.stream, first);
  rig.stream.say({ $case: "welcome", value: { sessionId: "s2", heartbeatMs: 1_000, spreadMs: 0 } });
  t.same(rig.stream.statuses(), [["c running"]]);
});

t.test("it is told when the first session is open", async t => {
  const stop = new AbortController();
  t.teardown(() => stop.abort());
  const rig = new Rig();
  let isOpen = false;
  const whenOpen = rig.session.whenOpen(stop.signal).then(() => {
    isOpen = true;
  });
  void rig.session.run(stop.signal);
  await settle();
  t.equal(isOpen, false, "dialled, and not welcome yet");
  t.same(rig.dialled, ["m1:2377"]);
  rig.stream.say({ $case: "welcome", value: { sessionId: "s", heartbeatMs: 1_000, spreadMs: 0 } });
  await whenOpen;
  t.equal(rig.session.manager, "m1:2377");
});

t.test("a node that says goodbye opens no session, until it stays after all", async t => {
  const rig = await opened(t);
  const leaving = rig.session.sayLeaving();
  rig.stream.say({ $case: "heartbeat", value: {} });
  await leaving;
  await rig.elapse(60_000);
  t.equal(rig.streams.length, 1);
  t.equal(rig.session.manager, "");
  rig.session.stay();
  await rig.elapse(60_000);
  t.equal(rig.streams.length, 2);
  rig.stream.say({ $case: "welcome", value: { sessionId: "s2", heartbeatMs: 1_000, spreadMs: 0 } });
  t.equal(rig.session.manager, "m1:2377");
});

t.test("a second welcome changes only how often the node beats", async t => {
  const rig = await opened(t);
  const beats = () => rig.stream.written.filter(({ body }) => body?.$case === "heartbeat").length;
  await rig.elapse(1_000);
  t.equal(beats(), 1);
  rig.stream.say({ $case: "welcome", value: { sessionId: "s", heartbeatMs: 200, spreadMs: 0 } });
  for (let i = 0; i < 5; i += 1) {
    await rig.elapse(200);
    rig.stream.say({ $case: "heartbeat", value: {} });
  }
  t.equal(beats(), 6);
  t.equal(rig.streams.length, 1);
});

function followLogs(rig: Rig, id: string): void {
  const options = { stdout: true, stderr: true, follow: true, tail: -1, sinceMs: 0 };
  const subscriptionJson = JSON.stringify({ id, taskIds: [], options });
  rig.stream.say({ $case: "logSubscribe", value: { subscriptionJson } });
}

t.test("a reader of logs that has gone leaves its place to others", async t => {
  const rig = await opened(t);
  const readers = 1_000;
  for (let i = 0; i < readers; i += 1) {
    followLogs(rig, `s${i}`);
    await settle();
    rig.stream.say({ $case: "logUnsubscribe", value: { id: `s${i}` } });
  }
  t.ok(rig.publishers.every(({ last }) => last?.error === ""));
  t.equal(rig.publishers.length, readers);
});

t.test("a reader of logs too many is told so, and does not wait", async t => {
  const rig = await opened(t);
  for (let i = 0; i < 201; i += 1) followLogs(rig, `s${i}`);
  await settle();
  t.match(rig.publishers.at(-1)?.last, { done: true, error: /too many readers/ });
  t.equal(rig.publishers.filter(({ last }) => last?.error !== "").length, 1);
});

t.test("where managers have many nodes, statuses are gathered longer", async t => {
  const rig = await opened(t);
  rig.stream.say({
    $case: "welcome",
    value: { sessionId: "s", heartbeatMs: 4_000, spreadMs: 4_000 },
  });
  rig.report("a", "running");
  await rig.elapse(19);
  t.same(rig.stream.statuses(), []);
  await rig.elapse(1);
  t.same(rig.stream.statuses(), [["a running"]]);
  rig.report("a", "failed");
  rig.report("b", "preparing");
  await rig.elapse(20);
  t.same(rig.stream.statuses().at(-1), ["a failed", "b preparing"]);
  rig.report("b", "starting");
  await rig.elapse(399);
  t.equal(rig.stream.statuses().length, 2);
  await rig.elapse(1);
  t.same(rig.stream.statuses().at(-1), ["b starting"]);
});

t.test("the connection of a session ends with it", async t => {
  const rig = await opened(t);
  t.equal(rig.closed, 0);
  rig.stream.say({ $case: "redirect", value: { leaderAddr: "m2:2377" } });
  await settle();
  t.equal(rig.closed, 1);
  t.same(rig.dialled, ["m1:2377", "m2:2377"]);
});

t.test("a node describes itself again only when something has changed", async t => {
  const rig = await opened(t);
  const described = (): number =>
    rig.stream.written.filter(({ body }) => body?.$case === "description").length;
  for (let i = 0; i < 60; i += 1) {
    await rig.elapse(1_000);
    rig.stream.say({ $case: "heartbeat", value: {} });
  }
  t.equal(rig.streams.length, 1);
  t.equal(described(), 0);
  rig.hostname = "renamed";
  rig.session.describeNow();
  await settle();
  rig.session.describeNow();
  await settle();
  t.equal(described(), 1);
});

function assignments(rig: Rig, appliesTo: number, changes: readonly object[]): void {
  const changesJson = changes.map(change => JSON.stringify(change));
  const value = { complete: appliesTo === 0, appliesTo, resultsIn: appliesTo + 1, last: true };
  rig.stream.say({ $case: "assignments", value: { ...value, changesJson } });
}

t.test("that the data path has followed is said at once only where somebody waits", async t => {
  const rig = await opened(t);
  const said = (): number[] =>
    rig.stream.written.flatMap(({ body }) =>
      body?.$case === "programmed" ? [body.value.sequence] : [],
    );
  assignments(rig, 0, []);
  await settle();
  t.same(said(), [1], "the complete set");
  assignments(rig, 1, [{ action: "remove", kind: "task", id: "t1" }]);
  assignments(rig, 2, [{ action: "remove", kind: "task", id: "t2" }]);
  await settle();
  t.same(said(), [1]);
  await rig.elapse(1_000);
  t.same(said(), [1, 3], "with the next beat");
  assignments(rig, 3, [{ action: "remove", kind: "host", id: "n9" }]);
  await settle();
  t.same(said(), [1, 3, 4]);
  await rig.elapse(1_000);
  t.same(said(), [1, 3, 4]);
  assignments(rig, 7, []);
  await settle();
  t.equal(rig.closed, 1, "a gap ends the session");
});

t.test("nodes of a large cluster do not all come to the next leader at once", async t => {
  const stop = new AbortController();
  t.teardown(() => stop.abort());
  const rigs = Array.from({ length: 40 }, (_, i) => new Rig(["m1:2377", "m2:2377"], i + 1));
  for (const rig of rigs) {
    await rig.open(stop.signal);
    rig.stream.say({
      $case: "welcome",
      value: { sessionId: "s", heartbeatMs: 4_000, spreadMs: 4_000 },
    });
    rig.stream.say({ $case: "redirect", value: { leaderAddr: "m3:2377" } });
  }
  await settle();
  const back: number[] = [];
  for (let second = 0; second < 4; second += 1) {
    for (const rig of rigs) await rig.elapse(1_000);
    back.push(rigs.filter(rig => rig.streams.length > 1).length);
  }
  t.equal(back.at(-1), rigs.length);
  t.ok((back[0] ?? 0) < 20 && (back[1] ?? 0) < 32, `spread: ${back}`);
  const [rig] = rigs;
  t.equal(rig?.dialled.at(-1), "m3:2377");
  // Nobody has welcomed it there: being sent on is no reason to wait.
  rig?.stream.say({ $case: "redirect", value: { leaderAddr: "m1:2377" } });
  await settle();
  t.equal(rig?.dialled.at(-1), "m1:2377");
});

t.test("a manager's silence is borne for so many beats, or fewer where they are rare", async t => {
  for (const [heartbeatMs, borneMs] of [
    [1_000, 3_000],
    [2_500, 7_500],
    [4_000, 8_000],
    [12_000, 24_000],
  ] as const) {
    const rig = await opened(t);
    rig.stream.say({ $case: "welcome", value: { sessionId: "s", heartbeatMs, spreadMs: 0 } });
    await rig.elapse(borneMs - 1);
    t.equal(rig.closed, 0, `${heartbeatMs}`);
    await rig.elapse(1);
    t.equal(rig.closed, 1, `${heartbeatMs}`);
  }
});

/** When the rig dialled, for so long. */
async function dialTimes(rig: Rig, forMs: number, onDial: () => void): Promise<number[]> {
  const triedAtMs: number[] = [];
  for (let elapsedMs = 0; elapsedMs < forMs; elapsedMs += 500) {
    await rig.elapse(500);
    if (triedAtMs.length < rig.streams.length) onDial();
    while (triedAtMs.length < rig.streams.length) triedAtMs.push(elapsedMs);
  }
  return triedAtMs.slice(1).map((atMs, i) => atMs - (triedAtMs[i] ?? 0));
}

t.test("managers that do not welcome in time get more of it with each silence", async t => {
  const stop = new AbortController();
  t.teardown(() => stop.abort());
  const rig = new Rig(["m1:2377", "m2:2377"]);
  void rig.session.run(stop.signal);
  const gaps = await dialTimes(rig, 90_000, () => undefined);
  // Between two attempts are besides up to 2 s of the usual pause.
  for (const [i, least] of [3_000, 6_000, 12_000, 12_000, 12_000].entries()) {
    const gap = gaps[i] ?? 0;
    t.ok(gap >= least && gap <= least + 2_500, `${gaps}`);
  }
  t.ok(rig.closed >= rig.streams.length - 1, "no attempt leaves its connection behind");
});

t.test(
  "a manager that refuses at once earns no patience, nor does a session's silence",
  async t => {
    const rig = await opened(t);
    await rig.elapse(3_000);
    t.equal(rig.closed, 1, "the open session was silent");
    const refuse = (): boolean => rig.stream.emit("error", new Error("refused"));
    const refusals = await dialTimes(rig, 20_000, refuse);
    t.ok(refusals.length > 5, `${refusals}`);
    const [first = 0, second = 0] = (await dialTimes(rig, 30_000, () => undefined)).slice(-2);
    t.ok(first >= 3_000 && first <= 8_500 && second > first, `${first}, ${second}`);
  },
);

t.test("the manager that was lost is asked after all others, and those in turn", async t => {
  const firsts = new Set<string>();
  for (let seed = 1; seed <= 20; seed += 1) {
    const stop = new AbortController();
    t.teardown(() => stop.abort());
    const rig = new Rig(["m1:2377", "m2:2377", "m3:2377"], seed);
    await rig.open(stop.signal);
    const [lost] = rig.dialled;
    for (let i = 0; i < 3; i += 1) {
      rig.stream.emit("error", new Error("connection refused"));
      await settle();
      await rig.elapse(2_000);
    }
    const [first = "", second = "", third] = rig.dialled.slice(1);
    firsts.add(first);
    t.equal(new Set([lost, first, second]).size, 3, `${rig.dialled}`);
    t.equal(third, lost);
  }
  t.equal(firsts.size, 3, "nodes that lose one leader do not all turn to the same manager");
});
