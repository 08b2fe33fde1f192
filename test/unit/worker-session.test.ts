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

class Rig {
  readonly clock = new VirtualClock();
  readonly outbox = new StatusOutbox();
  readonly streams: Stream[] = [];
  readonly dialled: string[] = [];
  readonly session: SessionClient;

  constructor(managers: readonly string[] = ["m1:2377"]) {
    const agent: AgentPort = {
      describe: async () => ({ hostname: "w1" }) as NodeDescription,
      applyAssignments: async () => undefined,
      programmed: async () => undefined,
      readLogs: () => readLogs(),
    };
    const dial = (addr: string): DispatcherClient => {
      this.dialled.push(addr);
      const client: Pick<DispatcherClient, "session"> = {
        session: (() => {
          const stream = new Stream();
          this.streams.push(stream);
          return stream;
        }) as unknown as DispatcherClient["session"],
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
        rng: new SeededRng(1),
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
    this.stream.say({ $case: "welcome", value: { sessionId: "s", heartbeatMs: 1_000 } });
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
  rig.stream.say({ $case: "welcome", value: { sessionId: "s2", heartbeatMs: 1_000 } });
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
  rig.stream.say({ $case: "welcome", value: { sessionId: "s", heartbeatMs: 1_000 } });
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
  rig.stream.say({ $case: "welcome", value: { sessionId: "s2", heartbeatMs: 1_000 } });
  t.equal(rig.session.manager, "m1:2377");
});

t.test("a second welcome changes only how often the node beats", async t => {
  const rig = await opened(t);
  const beats = () => rig.stream.written.filter(({ body }) => body?.$case === "heartbeat").length;
  await rig.elapse(1_000);
  t.equal(beats(), 1);
  rig.stream.say({ $case: "welcome", value: { sessionId: "s", heartbeatMs: 200 } });
  for (let i = 0; i < 5; i += 1) {
    await rig.elapse(200);
    rig.stream.say({ $case: "heartbeat", value: {} });
  }
  t.equal(beats(), 6);
  t.equal(rig.streams.length, 1);
});
