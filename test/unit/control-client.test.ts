import t from "tap";
import { toHttpError } from "../../src/api/errors.ts";
import { type ErrorCode, SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { LEADER_WAIT_MS, READ_TIMEOUT_MS, WRITE_TIMEOUT_MS } from "../../src/control/client.ts";
import type { LeaderTransport, LogRequest } from "../../src/control/ports.ts";
import { controlHandlers, RpcLeaderTransport } from "../../src/control/rpc.ts";
import type { LogMessage } from "../../src/model/assignment.ts";
import { type ControlRig, controlRig } from "../support/control-rig.ts";
import { aNode } from "../support/rows.ts";
import { swarmEvents } from "../support/swarm-events.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const never = new AbortController().signal;
const ID = "c".repeat(25);
const CREATE = {
  id: ID,
  spec: { Name: "web", TaskTemplate: { ContainerSpec: { Image: "app:1" } } },
  fallbackName: "",
  registryAuth: "",
};
const REMOVE = { ref: "web" };
const LEADER = { raftId: 2, nodeId: "2".repeat(25), addr: "10.0.0.2:2377" };

interface Follower extends ControlRig {
  readonly clock: VirtualClock;
  /** Operations that reached the other manager. */
  readonly sent: string[];
}

type Answer = string | ErrorCode;

/** A follower whose leader gives the answers in turn, the last one for ever. */
function follower(...answers: readonly Answer[]): Follower {
  const clock = new VirtualClock();
  const sent: string[] = [];
  const transport: LeaderTransport = {
    call: async (_peer, request) => {
      const answer = answers[Math.min(sent.length, answers.length - 1)] ?? "internal";
      sent.push(request.op);
      if (answer.startsWith("{")) return answer;
      throw new SwarmError(answer as ErrorCode, "scripted");
    },
    logs: async function* () {
      yield* [];
    },
  };
  const rig = controlRig({ transport, clock });
  rig.peers.push(LEADER);
  rig.raft.leaderId = LEADER.raftId;
  return { ...rig, clock, sent };
}

/** A leader that never answers; a call that runs out of time has an unknown fate. */
function untilAborted(): LeaderTransport {
  return {
    call: (_peer, _request, signal) =>
      new Promise((_resolve, reject) => {
        const lost = (): void => reject(new SwarmError("unknown_outcome", "no answer in time"));
        signal.addEventListener("abort", lost, { once: true });
      }),
    logs: async function* () {
      yield* [];
    },
  };
}

/** Lets time pass until the call has an outcome. */
async function outcome(clock: VirtualClock, call: Promise<unknown>): Promise<string> {
  let result: string | null = null;
  call.then(
    value => {
      result = JSON.stringify(value);
    },
    (error: unknown) => {
      const { status, message } = toHttpError(error);
      result = `${status} ${message}`;
    },
  );
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i += 1) await Promise.resolve();
  };
  await settle();
  const limitMs = clock.monoMs() + 10 * WRITE_TIMEOUT_MS;
  while (result === null && clock.monoMs() < limitMs) {
    clock.advance(5);
    await settle();
  }
  return result ?? "nothing";
}

const NO_LEADER =
  "500 rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.";
const UNKNOWN =
  "The leader was lost before it answered, so whether the change was made is not known. Look before repeating it.";

/** One operation of each kind. */
const KINDS = {
  write: ({ client }: Follower) => client.call("service.remove", REMOVE, never),
  read: ({ client }: Follower) =>
    client.call("service.list", { filters: {}, status: false }, never),
  leader: ({ client }: Follower) => client.call("manager.list", {}, never),
};
const KIND_NAMES = ["write", "read", "leader"] as const;

t.test("a write goes to the leader, whoever it is", async t => {
  const rig = follower(`{"id":"${ID}"}`);
  t.equal(
    await outcome(rig.clock, rig.client.call("service.create", CREATE, never)),
    `{"id":"${ID}"}`,
  );
  t.same(rig.sent, ["service.create"]);
  rig.raft.leaderId = 1;
  await rig.client.call("service.create", CREATE, never);
  t.equal(rig.sent.length, 1, "here when it is this one");
  t.ok(rig.store.view.table("services").get(ID));
});

t.test("reads are answered here after a barrier", async t => {
  const rig = follower("internal");
  const services = await rig.client.call("service.list", { filters: {}, status: false }, never);
  t.same(services, []);
  t.equal(rig.raft.barriers, 1);
  t.same(rig.sent, []);
});

t.test("what a failed attempt leads to", async t => {
  const done = `{"id":"${ID}"}`;
  const cases: readonly (readonly [
    string,
    readonly Answer[],
    "create" | "remove",
    string,
    number,
  ])[] = [
    ["a new leader", ["not_leader", "not_leader", done], "create", done, 3],
    ["not reached", ["unavailable", done], "remove", done, 2],
    ["a creation may be repeated", ["unknown_outcome", done], "create", done, 2],
    ["a removal may not", ["unknown_outcome", done], "remove", `503 ${UNKNOWN}`, 1],
    ["a refusal is an answer", ["failed_precondition", done], "remove", "400 scripted", 1],
    [
      "after doubt a refusal is one too",
      ["unknown_outcome", "already_exists"],
      "create",
      "409 scripted",
      2,
    ],
  ];
  for (const [what, answers, op, expected, tries] of cases) {
    const rig = follower(...answers);
    const call =
      op === "create"
        ? rig.client.call("service.create", CREATE, never)
        : rig.client.call("service.remove", REMOVE, never);
    t.equal(await outcome(rig.clock, call), expected, what);
    t.equal(rig.sent.length, tries, `${what}: attempts`);
  }
});

t.test("a short lack of a leader is waited out", async t => {
  const rig = follower(`{"id":"${ID}"}`);
  rig.raft.leaderId = 0;
  const call = rig.client.call("service.create", CREATE, never);
  rig.clock.setTimer("election", LEADER_WAIT_MS / 2, () => {
    rig.raft.leaderId = LEADER.raftId;
  });
  t.equal(await outcome(rig.clock, call), `{"id":"${ID}"}`);
});

t.test("nobody waits at a manager that has ended", async t => {
  for (const op of KIND_NAMES) {
    const rig = follower("unavailable");
    rig.raft.leaderId = 0;
    rig.raft.barrierError = new SwarmError("unavailable", "the log is closed");
    const call = KINDS[op](rig);
    rig.clock.setTimer("demoted", 50, () => rig.client.close());
    t.match(await outcome(rig.clock, call), /^50[03] /, op);
    t.ok(rig.clock.monoMs() < 200, `${op}: at once`);
  }
});

t.test("a long one is an error that names it, in good time", async t => {
  for (const op of KIND_NAMES) {
    const rig = follower("unavailable");
    rig.raft.leaderId = 0;
    rig.raft.barrierError = new SwarmError("unavailable", "no quorum");
    const call = KINDS[op](rig);
    t.equal(await outcome(rig.clock, call), NO_LEADER, op);
    t.ok(rig.clock.monoMs() <= Math.max(LEADER_WAIT_MS, READ_TIMEOUT_MS) + 100, `${op}: when`);
  }
});

t.test("a creation in doubt when the quorum is lost says both", async t => {
  const rig = follower("unknown_outcome");
  const call = rig.client.call("service.create", CREATE, never);
  rig.clock.setTimer("cut", 20, () => {
    rig.raft.leaderId = 0;
  });
  const text = await outcome(rig.clock, call);
  t.equal(text, `503 ${NO_LEADER.slice(NO_LEADER.indexOf("The swarm"))} ${UNKNOWN}`);
});

t.test("a doubt outlives the deadline that ends the tries", async t => {
  const clock = new VirtualClock();
  const rig = controlRig({ clock, transport: untilAborted() });
  rig.peers.push(LEADER);
  rig.raft.leaderId = LEADER.raftId;
  const create = rig.client.call("service.create", CREATE, never);
  t.equal(await outcome(clock, create), `503 ${UNKNOWN}`, "sent, and no answer came");
  const remove = rig.client.call("service.remove", REMOVE, never);
  t.equal(await outcome(clock, remove), `503 ${UNKNOWN}`);

  const again = follower("unknown_outcome");
  const repeated = again.client.call("service.create", CREATE, never);
  t.match(await outcome(again.clock, repeated), UNKNOWN, "between two tries");
});

t.test("status is answered without anyone", async t => {
  const rig = follower("unavailable");
  rig.raft.leaderId = 0;
  rig.raft.barrierError = new SwarmError("unavailable", "no quorum");
  const status = await rig.client.call("system.status", {}, never);
  t.match(status, { role: "follower", leaderNodeId: "" });
});

t.test("a caller that gives up is not told about leaders", async t => {
  const rig = follower("not_leader");
  const controller = new AbortController();
  const call = rig.client.call("service.remove", REMOVE, controller.signal);
  controller.abort(new SwarmError("canceled", "the client went away"));
  t.equal(await outcome(rig.clock, call), "499 the client went away");
});

t.test("the leader's end does what needs a leader and nothing else", async t => {
  const rig = controlRig();
  const handlers = controlHandlers(rig.service, { logger: silentLogger });
  const context = { signal: never } as Parameters<typeof handlers.call>[1];
  const call = (op: string, args: unknown) =>
    handlers.call({ op, argsJson: JSON.stringify(args), caller: "2" }, context);
  t.same(await call("service.create", CREATE), { resultJson: `{"id":"${ID}"}` });
  for (const op of ["service.list", "toString", "nosuch"]) {
    await t.rejects(call(op, {}), { code: "unimplemented" }, op);
  }
});

t.test("log lines cross the wire whole", async t => {
  const line: LogMessage = {
    taskId: "t",
    nodeId: "n",
    stream: "stderr",
    timestampNs: "1700000000123456789",
    data: Buffer.from([0, 255, 10]),
    attrs: { a: "b" },
  };
  const asked: LogRequest[] = [];
  const rig = controlRig({
    logs: {
      subscribe: async function* (request) {
        asked.push(request);
        yield line;
      },
    },
  });
  const handlers = controlHandlers(rig.service, { logger: silentLogger });
  const clients = {
    unary: () => Promise.reject(new SwarmError("internal", "not asked")),
    serverStream: (_method: unknown, _addr: string, sent: unknown) =>
      handlers.callStream(
        sent as Parameters<typeof handlers.callStream>[0],
        { signal: never } as Parameters<typeof handlers.callStream>[1],
      ),
  } as unknown as ConstructorParameters<typeof RpcLeaderTransport>[0];
  const options = { stdout: true, stderr: true, follow: false, tail: -1, sinceMs: 0 };
  const request = { serviceIds: ["s"], taskIds: [], options };
  const got: LogMessage[] = [];
  for await (const message of new RpcLeaderTransport(clients).logs(LEADER, request, never)) {
    got.push(message);
  }
  t.same(got, [line]);
  t.same(asked, [request]);
  const follower = controlRig();
  t.throws(() => follower.service.logs(request, never), { code: "not_leader" });
});

t.test("events tell what users did, not what planners do", async t => {
  const rig = controlRig();
  const heard = swarmEvents(rig.events);
  await rig.client.call("service.create", CREATE, never);
  const { version } = await rig.client.call("service.get", { ref: "web" }, never);
  rig.store.put({ op: "patch", table: "services", id: ID, fields: { allocated: true } });
  const spec = { Name: "web", TaskTemplate: { ContainerSpec: { Image: "app:2" } } };
  const update = { ...CREATE, ref: "web", spec, registryAuthFrom: "", rollback: "" };
  t.ok(version < (await rig.client.call("service.get", { ref: "web" }, never)).version);
  const now = (await rig.client.call("service.get", { ref: "web" }, never)).version;
  await rig.client.call("service.update", { ...update, version: now }, never);
  const fields = (more: object) =>
    ({ op: "patch", table: "services", id: ID, fields: more }) as const;
  const status = { startedAtMs: 1, completedAtMs: 0, message: "" };
  rig.store.put(fields({ updateStatus: { ...status, state: "updating" } }));
  rig.store.put(fields({ updateStatus: null }));
  const ports = [{ TargetPort: 80, PublishedPort: 30_000 }];
  rig.store.put(fields({ endpoint: { spec: {}, ports, virtualIps: [] } }));
  await rig.client.call("service.remove", { ref: "web" }, never);
  rig.store.put({ op: "delete", table: "services", id: ID });
  t.same(heard(), [
    "service create web",
    "service update web image.new=app:2 image.old=app:1",
    "service update web updatestate.new=updating",
    "service update web",
    "service remove web",
  ]);
});

t.test(
  "events of nodes are Docker's: a demoted manager is a worker when it has left the group",
  t => {
    const rig = controlRig();
    const manager = { Role: "manager", Availability: "active" } as const;
    const worker = { ...manager, Role: "worker" } as const;
    const node = aNode({ id: "n7", spec: manager });
    rig.store.put({ op: "create", table: "nodes", row: node });
    const member = { id: "7", nodeId: "n7", raftId: 7, addr: "10.0.0.7:2377" };
    rig.store.put({ op: "create", table: "members", row: member });
    const heard = swarmEvents(rig.events);
    const patch = (fields: object): number =>
      rig.store.put({ op: "patch", table: "nodes", id: "n7", fields });
    patch({ spec: worker });
    rig.store.put({ op: "delete", table: "members", id: "7" });
    patch({ spec: manager });
    rig.store.put({ op: "create", table: "members", row: { ...member, id: "8", raftId: 8 } });
    patch({ status: { ...node.status, state: "down" } });
    patch({ spec: { ...manager, Availability: "drain" }, description: null });
    patch({ spec: { ...manager, Availability: "drain", Labels: { a: "b" } } });
    rig.store.put({ op: "delete", table: "members", id: "8" });
    t.same(heard(), [
      "node update n7",
      "node update n7 role.new=worker role.old=manager",
      "node update n7 role.new=manager role.old=worker",
      "node update n7 state.new=down state.old=ready",
      "node update n7 availability.new=drain availability.old=active",
      "node update n7",
    ]);
    t.end();
  },
);
