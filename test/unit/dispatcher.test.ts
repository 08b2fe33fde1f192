import fc from "fast-check";
import t from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { chunkChanges, concernsNodes } from "../../src/dispatcher/core/assignments.ts";
import { BeatPace } from "../../src/dispatcher/core/beat-pace.ts";
import { Liveness } from "../../src/dispatcher/core/liveness.ts";
import { Dispatcher } from "../../src/dispatcher/dispatcher.ts";
import { decodeDescription, decodeStatusUpdates } from "../../src/dispatcher/messages.ts";
import type { AssignmentChange } from "../../src/model/assignment.ts";
import type { Change } from "../../src/model/change.ts";
import type { Task } from "../../src/model/rows.ts";
import type { ManagerMessage, NodeMessage } from "../../src/rpc/gen/swarmd/v1/dispatcher.ts";
import { eventually } from "../support/eventually.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aCluster, aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const SECRET = { id: "sec1", spec: { Name: "s", Data: "eA==" } };
const SPEC = {
  Name: "web",
  TaskTemplate: {
    ContainerSpec: { Image: "a:1", Secrets: [{ SecretID: "sec1", SecretName: "s" }] },
  },
};

const STAMPS = { version: 1, createdAtMs: 0, updatedAtMs: 0 };

class World {
  readonly clock = new VirtualClock();
  readonly store = new MemoryStore(this.clock);
  readonly dispatcher: Dispatcher;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(...extra: Change[]) {
    this.store.put(
      { op: "create", table: "cluster", row: aCluster() },
      { op: "create", table: "nodes", row: aNode({ id: "n1" }) },
      { op: "create", table: "nodes", row: aNode({ id: "n2" }) },
      { op: "create", table: "secrets", row: SECRET },
      ...createService(aService({ id: "svc", spec: SPEC })),
      ...extra,
    );
    const ids = new RngIdSource(new SeededRng(1));
    const { store, clock } = this;
    this.dispatcher = new Dispatcher({ nodeId: "m" }, { store, clock, ids, logger: silentLogger });
    this.#running = this.dispatcher.run(this.#stop.signal);
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  connect(nodeId: string): Peer {
    return new Peer(this.dispatcher, nodeId);
  }

  state(nodeId: string): string | undefined {
    return this.store.view.table("nodes").get(nodeId)?.status.state;
  }
}

/** A node's end of a session. */
class Peer {
  readonly got: ManagerMessage[] = [];
  closed = false;
  readonly #session: ReturnType<Dispatcher["open"]>;

  constructor(dispatcher: Dispatcher, nodeId: string) {
    this.#session = dispatcher.open({
      nodeId,
      send: message => void this.got.push(message),
      backlog: 0,
      close: () => {
        this.closed = true;
      },
    });
  }

  say(body: NonNullable<NodeMessage["body"]>): void {
    this.#session.onMessage({ body });
  }

  hello(): void {
    const description = aNode({ id: "x" }).description;
    const descriptionJson = JSON.stringify(description);
    this.say({ $case: "hello", value: { descriptionJson, addr: "10.0.0.1" } });
  }

  beat(): void {
    this.say({ $case: "heartbeat", value: {} });
  }

  status(sequence: number, taskId: string, state: string): void {
    const updatesJson = [JSON.stringify({ taskId, status: { state, timestampMs: 1 } })];
    this.say({ $case: "statuses", value: { sequence, updatesJson } });
  }

  hangUp(): void {
    this.#session.onClose();
  }

  kinds(): string[] {
    return this.got.map(({ body }) => body?.$case ?? "");
  }

  changes(): AssignmentChange[] {
    return this.got.flatMap(({ body }) =>
      body?.$case === "assignments"
        ? body.value.changesJson.map(json => JSON.parse(json) as AssignmentChange)
        : [],
    );
  }
}

function assigned(id: string, nodeId: string): Change {
  const row = aTask({
    id,
    serviceId: "svc",
    serviceName: "web",
    nodeId,
    status: aStatus("assigned"),
  });
  return { op: "create", table: "tasks", row };
}

t.test("a session begins with everything and goes on with changes", async t => {
  const world = new World(assigned("t1", "n1"), assigned("t2", "n2"));
  t.teardown(() => world.end());
  const peer = world.connect("n1");
  peer.hello();
  await eventually(() => peer.kinds().includes("assignments"), { what: "COMPLETE" });
  t.same(
    peer.kinds().slice(0, 4),
    ["heartbeat", "welcome", "managers", "assignments"],
    "it is heard at once, and welcomed when that is committed",
  );
  t.same(
    peer.changes().map(change => `${change.action} ${change.kind}`),
    ["update secret", "update task"],
    "what a task depends on comes first, and only its own node's",
  );
  t.equal(world.state("n1"), "ready");

  world.store.put(assigned("t3", "n1"));
  t.equal(peer.changes().length, 3, "the secret is there already");
  world.store.put({ op: "taskStatus", id: "t3", status: aStatus("running") });
  t.equal(peer.changes().length, 3, "its own news is not sent back");
  world.store.put({ op: "patch", table: "tasks", id: "t3", fields: { desiredState: "shutdown" } });
  t.equal(peer.changes().length, 4);
  world.store.put({ op: "taskStatus", id: "t1", status: aStatus("failed") });
  world.store.put({ op: "taskStatus", id: "t3", status: aStatus("shutdown") });
  t.same(peer.changes().at(-1), { action: "remove", kind: "secret", id: "sec1" });
  world.store.put({ op: "delete", table: "tasks", id: "t1" });
  t.same(peer.changes().at(-1), { action: "remove", kind: "task", id: "t1" });
  const numbers = peer.got.flatMap(({ body }) =>
    body?.$case === "assignments" ? [[body.value.appliesTo, body.value.resultsIn]] : [],
  );
  t.same(numbers[0], [0, 1]);
  for (let i = 1; i < numbers.length; i += 1) t.equal(numbers[i]?.[0], numbers[i - 1]?.[1]);
});

t.test("a task without a log driver gets the cluster's", async t => {
  const cluster = aCluster();
  const LogDriver = { Name: "local", Options: { "max-size": "1m" } };
  const own = {
    ...SPEC,
    Name: "own",
    TaskTemplate: { ...SPEC.TaskTemplate, LogDriver: { Name: "none" } },
  };
  const world = new World(
    {
      op: "patch",
      table: "cluster",
      id: cluster.id,
      fields: { spec: { ...cluster.spec, TaskDefaults: { LogDriver } } },
    },
    ...createService(aService({ id: "own", spec: own })),
    assigned("t1", "n1"),
    {
      op: "create",
      table: "tasks",
      row: aTask({ id: "t2", serviceId: "own", nodeId: "n1", status: aStatus("assigned") }),
    },
  );
  t.teardown(() => world.end());
  const peer = world.connect("n1");
  peer.hello();
  await eventually(() => peer.kinds().includes("assignments"), { what: "COMPLETE" });
  const drivers = peer
    .changes()
    .flatMap(change =>
      change.action === "update" && change.kind === "task"
        ? [change.item.spec.TaskTemplate?.LogDriver]
        : [],
    );
  t.same(drivers, [LogDriver, { Name: "none" }]);
});

t.test("statuses are committed, acknowledged, and only for the node's own tasks", async t => {
  const world = new World(assigned("t1", "n1"), assigned("t2", "n2"));
  t.teardown(() => world.end());
  const peer = world.connect("n1");
  peer.hello();
  await eventually(() => peer.kinds().includes("welcome"), { what: "welcome" });
  peer.status(1, "t1", "running");
  peer.status(2, "t2", "failed");
  await eventually(() => peer.kinds().filter(kind => kind === "statusAck").length === 2, {
    what: "both acknowledged",
  });
  const tasks = world.store.view.table("tasks");
  t.equal(tasks.get("t1")?.status.state, "running");
  t.equal(tasks.get("t2")?.status.state, "assigned", "another node's task is not its business");
});

t.test("a message that is no message ends the session", async t => {
  const world = new World();
  t.teardown(() => world.end());
  for (const updatesJson of [["{"], ["[]"], ['{"taskId":"t1","status":{"state":"melted"}}']]) {
    const peer = world.connect("n1");
    peer.hello();
    await eventually(() => peer.kinds().includes("welcome"), { what: "welcome" });
    peer.say({ $case: "statuses", value: { sequence: 1, updatesJson } });
    await eventually(() => peer.closed, { what: `closed by ${updatesJson}` });
  }
  const stranger = world.connect("nobody");
  stranger.hello();
  await eventually(() => stranger.closed, { what: "a node that is not of the cluster" });
});

t.test("with many nodes each beats less often, but often enough", async t => {
  const pace = new BeatPace();
  const beats: number[] = [];
  for (const sessions of [1, 200, 201, 160, 149, 401, 310, 299, 100_000, 610, 590, 0]) {
    const before = pace.beatMs(5_000);
    t.equal(pace.changedBy(sessions), pace.beatMs(5_000) !== before);
    beats.push(pace.beatMs(5_000));
  }
  const [one, two, half] = [1_000, 2_000, 2_500];
  t.same(beats, [one, one, two, two, one, half, half, two, 4_000, 4_000, half, one]);
});

t.test("nodes that are there are told of another pace", async t => {
  const many = Array.from({ length: 201 }, (_, i) => `p${i}`);
  const world = new World();
  t.teardown(() => world.end());
  for (const id of many) world.store.put({ op: "create", table: "nodes", row: aNode({ id }) });
  const peers = many.map(id => world.connect(id));
  for (const peer of peers) peer.hello();
  const paces = (peer: Peer | undefined): number[][] =>
    (peer?.got ?? []).flatMap(({ body }) =>
      body?.$case === "welcome" ? [[body.value.heartbeatMs, body.value.spreadMs]] : [],
    );
  await eventually(() => peers.at(-1)?.kinds().includes("welcome"), { what: "all sessions" });
  const [few, many200] = [
    [1_000, 0],
    [2_000, 1_000],
  ];
  t.same(paces(peers[0]), [few, many200]);
  for (const peer of peers.slice(100)) peer.hangUp();
  t.same(paces(peers[0]), [few, many200, few]);
});

t.test("what a node reported itself is no news for it", async t => {
  const before = { ...aTask({ id: "t", nodeId: "n1", status: aStatus("assigned") }), ...STAMPS };
  const change = (fields: Partial<Task>): boolean =>
    concernsNodes(before, { ...before, ...fields });
  t.equal(change({ status: aStatus("preparing") }), false);
  t.equal(change({ status: aStatus("running"), runningSinceMs: 5 }), false);
  t.equal(change({ status: aStatus("failed") }), true, "it gives its secrets back");
  t.equal(change({ desiredState: "shutdown" }), true);
  t.equal(change({ networks: [] }), true);
  const pending = { ...before, nodeId: "", status: aStatus("pending") };
  t.equal(concernsNodes(pending, before), true);
  t.equal(concernsNodes(null, before), true);
  t.equal(concernsNodes(before, null), true);
});

t.test("silence makes a node down, a word makes it ready again", async t => {
  const world = new World();
  t.teardown(() => world.end());
  const peer = world.connect("n1");
  peer.hello();
  await eventually(() => peer.kinds().includes("welcome"), { what: "welcome" });
  const seconds = async (count: number, each: () => void): Promise<void> => {
    for (let i = 0; i < count * 4; i += 1) {
      world.clock.advance(250);
      if (i % 4 === 0) each();
      await Promise.resolve();
    }
  };
  await seconds(15, () => peer.beat());
  t.equal(world.state("n1"), "ready", "it beats");
  t.equal(world.state("n2"), "ready", "a new leader gives every node a double grace");
  await seconds(6, () => peer.beat());
  await eventually(() => world.state("n2") === "down", { what: "n2 down" });
  await seconds(11, () => undefined);
  await eventually(() => world.state("n1") === "down", { what: "n1 down" });
  const again = world.connect("n1");
  again.hello();
  await eventually(() => world.state("n1") === "ready", { what: "n1 back" });
});

t.test(
  "a change of the heartbeat period is told to the nodes, within what a timer holds",
  async t => {
    const world = new World();
    t.teardown(() => world.end());
    const peer = world.connect("n1");
    peer.hello();
    await eventually(() => peer.kinds().includes("welcome"), { what: "welcome" });
    const told = (): number[] =>
      peer.got.flatMap(({ body }) => (body?.$case === "welcome" ? [body.value.heartbeatMs] : []));
    const setPeriod = (periodMs: number): void => {
      const Dispatcher = { HeartbeatPeriod: periodMs * 1_000_000 };
      const spec = { ...aCluster().spec, Dispatcher };
      world.store.put({ op: "patch", table: "cluster", id: "cluster", fields: { spec } });
    };
    setPeriod(60_000);
    setPeriod(60_000);
    setPeriod(2_000);
    setPeriod(3_600_000_000);
    setPeriod(0);
    t.strictSame(told(), [1_000, 12_000, 400, 17_280_000, 200]);
  },
);

t.test("hundreds of nodes that fall silent together are all down", async t => {
  const many = Array.from({ length: 450 }, (_, i) => `p${i}`);
  const world = new World();
  for (const id of many) world.store.put({ op: "create", table: "nodes", row: aNode({ id }) });
  t.teardown(() => world.end());
  for (let i = 0; i < 100; i += 1) {
    world.clock.advance(250);
    await Promise.resolve();
  }
  await eventually(() => many.every(id => world.state(id) === "down"), { what: "all down" });
});

t.test("a node that leaves is down at once, and stays so while it still talks", async t => {
  const world = new World();
  t.teardown(() => world.end());
  const peer = world.connect("n1");
  peer.hello();
  await eventually(() => world.state("n1") === "ready", { what: "ready" });
  peer.say({ $case: "leaving", value: {} });
  peer.beat();
  await eventually(() => world.state("n1") === "down", { what: "down" });
  peer.beat();
  await eventually(() => peer.kinds().filter(kind => kind === "heartbeat").length === 3, {
    what: "its hello and its beats answered",
  });
  t.equal(world.state("n1"), "down");
});

t.test("a new session of a node replaces the old, a removed node loses its own", async t => {
  const world = new World();
  t.teardown(() => world.end());
  const [first, second] = [world.connect("n1"), world.connect("n1")];
  first.hello();
  await eventually(() => first.kinds().includes("welcome"), { what: "first" });
  second.hello();
  await eventually(() => first.closed && second.kinds().includes("welcome"), { what: "second" });
  first.hangUp();
  t.equal(world.dispatcher.sessionCount, 1, "the end of the old one is not the end of the new");
  world.store.put({ op: "delete", table: "nodes", id: "n1" });
  t.ok(second.closed);
});

t.test("logs of tasks on any node", async t => {
  const world = new World(assigned("t1", "n1"), assigned("t2", "n2"));
  t.teardown(() => world.end());
  const peer = world.connect("n1");
  peer.hello();
  await eventually(() => peer.kinds().includes("welcome"), { what: "welcome" });
  const options = { stdout: true, stderr: true, follow: false, tail: -1, sinceMs: 0 };
  const request = { serviceIds: ["svc"], taskIds: [], options };
  const lines: string[] = [];
  const reading = (async () => {
    for await (const line of world.dispatcher.logs.subscribe(
      request,
      new AbortController().signal,
    )) {
      lines.push(`${line.taskId} ${Buffer.from(line.data).toString()}`);
    }
  })();
  await eventually(() => peer.kinds().includes("logSubscribe"), { what: "asked" });
  const ask = peer.got.find(({ body }) => body?.$case === "logSubscribe")?.body;
  const id =
    ask?.$case === "logSubscribe"
      ? (JSON.parse(ask.value.subscriptionJson) as { id: string }).id
      : "";
  const chunk = {
    subscriptionId: id,
    taskId: "t1",
    stderr: false,
    timestampNs: "1",
    data: Buffer.from("hello"),
    attrs: {},
    done: false,
    error: "",
  };
  t.equal(await world.dispatcher.logs.publish("n1", chunk), true);
  t.equal(await world.dispatcher.logs.publish("n2", chunk), false, "not asked of that node");
  t.equal(
    await world.dispatcher.logs.publish("n1", { ...chunk, taskId: "t2" }),
    false,
    "not its task",
  );
  await world.dispatcher.logs.publish("n1", { ...chunk, done: true });
  await t.rejects(reading, { message: /incomplete log stream.*node n2 is not available/ });
  t.same(lines, ["t1 hello"]);
  t.equal(world.dispatcher.logs.size, 0, "nothing is left behind");
});

t.test("liveness: the time this process lost is given to every node", async t => {
  const liveness = new Liveness({ graceMs: 100, firstGraceMs: 200, maxCheckGapMs: 50 });
  liveness.heard("a", 0);
  t.same(liveness.expired(10), []);
  t.same(liveness.expired(5_000), [], "it was we who were late");
  t.same(liveness.expired(5_020), []);
  t.same(liveness.expired(5_060), []);
  t.same(liveness.expired(5_100), ["a"]);
  t.same(liveness.expired(5_140), [], "told once");
});

t.test("chunks keep order and bounds", async t => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ maxLength: 30 })),
      fc.integer({ min: 1, max: 60 }),
      (all, max) => {
        const chunks = chunkChanges(all, max);
        t.same(chunks.flat(), all);
        return (
          chunks.length > 0 &&
          chunks.every(chunk => chunk.length <= 1 || chunk.join("").length <= max)
        );
      },
    ),
    { numRuns: 200 },
  );
});

t.test("what a node sends is made safe", async t => {
  fc.assert(
    fc.property(fc.jsonValue(), value => {
      const json = JSON.stringify({ hostname: value, resources: value, plugins: [value, {}] });
      const description = decodeDescription(json);
      t.type(description.hostname, "string");
      return Number.isFinite(description.resources.memoryBytes) && description.plugins.length === 2;
    }),
    { numRuns: 300 },
  );
  t.throws(() => decodeDescription("7"), { code: "invalid_argument" });
  t.throws(() => decodeStatusUpdates(new Array<string>(2_000).fill("{}")), /at most 1000/);
});

t.test("a node is asked over its session, and only its own answer counts", async t => {
  const world = new World();
  const signal = new AbortController().signal;
  const question = { kind: "network", networkId: "net" } as const;
  const ask = (nodeId: string): Promise<unknown> =>
    world.dispatcher.ask(nodeId, question, 1_000, signal);
  await t.rejects(ask("n1"), { code: "unavailable" }, "it has no session");
  const [peer, other] = [world.connect("n1"), world.connect("n2")];
  peer.hello();
  other.hello();
  await eventually(() => peer.kinds().includes("assignments"), { what: "n1's session" });
  const asked = (): { id: string; questionJson: string }[] =>
    peer.got.flatMap(({ body }) => (body?.$case === "ask" ? [body.value] : []));
  const answered = ask("n1");
  const [first] = asked();
  if (first === undefined) throw new Error("n1 is asked");
  t.same(JSON.parse(first.questionJson), question);
  const answer = { id: first.id, answerJson: '{"told":1}', error: "" };
  other.say({ $case: "answer", value: { ...answer, answerJson: '{"told":2}' } });
  peer.say({ $case: "answer", value: answer });
  t.same(await answered, { told: 1 });
  const late = ask("n1");
  const refused = t.rejects(late, { code: "deadline_exceeded" });
  await world.clock.advance(1_000);
  await refused;
  const lost = t.rejects(ask("n1"), { code: "unavailable", message: /session ended/ });
  peer.hangUp();
  await lost;
  const failing = t.rejects(ask("n2"), { code: "failed_precondition", message: "no nft" });
  const [second] = other.got.flatMap(({ body }) => (body?.$case === "ask" ? [body.value] : []));
  other.say({ $case: "answer", value: { id: second?.id ?? "", answerJson: "", error: "no nft" } });
  await failing;
  await world.end();
});

function crowd(count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => `crowd${i}`);
}

const isWelcome = (peer: Peer): boolean => peer.kinds().includes("welcome");

t.test("many nodes that come together are few transactions", async t => {
  const names = crowd(300);
  const status = { state: "unknown", message: "", addr: "" } as const;
  const rows = names.map((id): Change => {
    return { op: "create", table: "nodes", row: aNode({ id, status }) };
  });
  const world = new World(...rows.slice(0, 150));
  t.teardown(() => world.end());
  world.store.put(...rows.slice(150));
  const before = world.store.submits;
  const peers = names.map(id => world.connect(id));
  for (const peer of peers) peer.hello();
  await eventually(() => peers.every(isWelcome), { what: "all welcome" });
  const used = world.store.submits - before;
  t.ok(used >= 2 && used <= 15, `${used} transactions`);
  t.ok(names.every(id => world.state(id) === "ready"));
});

for (const state of ["ready", "unknown"] as const) {
  t.test(`of ${state} nodes that come together one that was removed keeps nobody out`, async t => {
    const names = crowd(10);
    const status = { ...aNode({ id: "x" }).status, addr: "10.0.0.1", state };
    const world = new World(
      ...names.map((id): Change => ({ op: "create", table: "nodes", row: aNode({ id, status }) })),
    );
    t.teardown(() => world.end());
    const peers = names.map(id => world.connect(id));
    for (const peer of peers) peer.hello();
    // The first is on its way alone; the others wait, and one is gone before their turn.
    world.store.put({ op: "delete", table: "nodes", id: "crowd5" });
    await eventually(() => peers.every(peer => isWelcome(peer) || peer.closed), {
      what: "settled",
    });
    t.same(
      names.filter((_, i) => peers[i]?.closed),
      ["crowd5"],
    );
  });
}

t.test(
  "a node the state knows as it is comes without a write, and not without a quorum",
  async t => {
    const world = new World();
    t.teardown(() => world.end());
    const first = world.connect("n1");
    first.hello();
    await eventually(() => isWelcome(first), { what: "welcome" });
    const version = world.store.view.table("nodes").get("n1")?.version;
    const submits = world.store.submits;
    const again = world.connect("n1");
    again.hello();
    await eventually(() => isWelcome(again), { what: "welcome again" });
    t.equal(world.store.view.table("nodes").get("n1")?.version, version);
    t.equal(world.store.submits, submits + 1, "the log was asked all the same");
    world.store.failWith = new SwarmError("not_leader", "another one leads");
    const third = world.connect("n1");
    third.hello();
    await eventually(() => third.closed, { what: "no welcome" });
    t.notOk(isWelcome(third), "nothing old is handed out by a manager that leads no more");
  },
);

t.test("a node that leaves while its coming waits for the log is down in the end", async t => {
  const world = new World();
  t.teardown(() => world.end());
  const status = { state: "down", message: "", addr: "" } as const;
  world.store.put({ op: "patch", table: "nodes", id: "n1", fields: { status } });
  const peer = world.connect("n1");
  peer.hello();
  peer.say({ $case: "leaving", value: {} });
  await eventually(() => isWelcome(peer), { what: "welcome" });
  await eventually(() => world.state("n1") === "down", { what: "down" });
});
