import fc from "fast-check";
import t from "tap";
import { newAllocators } from "../../src/allocator/core/allocator.ts";
import { nodeIndexPlanner } from "../../src/allocator/core/node-index.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { Dispatcher } from "../../src/dispatcher/dispatcher.ts";
import { decodeDescription } from "../../src/dispatcher/messages.ts";
import { DRAIN_TIMEOUT_MS } from "../../src/dispatcher/task-ends.ts";
import type { AssignmentChange } from "../../src/model/assignment.ts";
import type { Change } from "../../src/model/change.ts";
import { isOverlayChange } from "../../src/model/overlay.ts";
import type { NodeDescription } from "../../src/model/rows.ts";
import { type DesiredState, type TaskState, UNHEALTHY_TEXT } from "../../src/model/task-state.ts";
import { OverlayTable } from "../../src/overlay/core/table.ts";
import { eventually } from "../support/eventually.ts";
import { MemoryStore } from "../support/memory-store.ts";
import {
  aCluster,
  aNetwork,
  aNode,
  aService,
  aStatus,
  aTask,
  createService,
} from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** What nodes are told of overlay networks, and when a task's own node hears of its end. */

function description(addr: string): NodeDescription {
  const plain = aNode({ id: "x" }).description;
  if (plain === null) throw new Error("a node has a description");
  return { ...plain, overlay: { addr, publicKey: "", problem: "" } };
}

function nodeRow(id: string, index: number): Change {
  const row = {
    ...aNode({ id }),
    overlayIndex: index,
    description: description(`10.77.0.${index}`),
  };
  return { op: "create", table: "nodes", row };
}

function serviceRows(id: string, networkId: string): Change[] {
  const spec = {
    Name: id,
    TaskTemplate: { Networks: [{ Target: networkId, Aliases: ["alias"] }] },
  };
  const ports = [{ Protocol: "tcp", TargetPort: 80, PublishedPort: 8_080 } as const];
  const virtualIps = [{ networkId, addr: "10.0.1.2/24" }];
  return createService(aService({ id, spec, endpoint: { spec: {}, ports, virtualIps } }));
}

function taskRow(id: string, nodeId: string, networkId: string, state: TaskState): Change {
  const networks = [{ networkId, addresses: [`10.0.1.${id.slice(1)}/24`], aliases: [] }];
  const fields = { id, nodeId, serviceId: "web", serviceName: "web", status: aStatus(state) };
  return { op: "create", table: "tasks", row: { ...aTask(fields), networks } };
}

class World {
  readonly clock = new VirtualClock();
  readonly store = new MemoryStore(this.clock);
  readonly dispatcher: Dispatcher;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(...extra: Change[]) {
    this.store.put(
      { op: "create", table: "cluster", row: aCluster() },
      { op: "create", table: "networks", row: aNetwork({ id: "net1" }) },
      { op: "create", table: "networks", row: aNetwork({ id: "net2", vni: 4_098 }) },
      nodeRow("n1", 1),
      nodeRow("n2", 2),
      ...serviceRows("web", "net1"),
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

  async connect(nodeId: string, addr: string): Promise<Peer> {
    const peer = new Peer(this.dispatcher, nodeId, addr);
    await eventually(() => peer.sequence > 0, { what: "the first assignments" });
    return peer;
  }
}

/** A node's end: keeps its tables as the agent would. */
class Peer {
  readonly table = new OverlayTable();
  readonly desired = new Map<string, DesiredState>();
  sequence = 0;
  readonly #session: ReturnType<Dispatcher["open"]>;

  constructor(dispatcher: Dispatcher, nodeId: string, addr: string) {
    this.#session = dispatcher.open({
      nodeId,
      send: message => {
        const { body } = message;
        if (body?.$case !== "assignments") return;
        const changes = body.value.changesJson.map(json => JSON.parse(json) as AssignmentChange);
        this.#take(changes, body.value.complete);
        this.sequence = body.value.resultsIn;
      },
      backlog: 0,
      close: () => undefined,
    });
    const descriptionJson = JSON.stringify(description(addr));
    this.#session.onMessage({ body: { $case: "hello", value: { descriptionJson, addr } } });
  }

  #take(changes: readonly AssignmentChange[], complete: boolean): void {
    this.table.apply(changes.filter(isOverlayChange), complete);
    for (const change of changes) {
      if (change.kind !== "task") continue;
      if (change.action === "remove") this.desired.delete(change.id);
      else this.desired.set(change.item.task.id, change.item.task.desiredState);
    }
  }

  servers(networkId: string): string[] {
    const endpoints = [...(this.table.network(networkId)?.endpoints.values() ?? [])];
    return endpoints.filter(({ serving }) => serving).map(({ addr }) => addr);
  }

  programmed(sequence = this.sequence): void {
    this.#session.onMessage({ body: { $case: "programmed", value: { sequence } } });
  }

  leave(): void {
    this.#session.onClose();
  }
}

t.test("a node is told of the networks of its tasks, and of no other", async t => {
  const world = new World(taskRow("t5", "n1", "net1", "running"));
  const n1 = await world.connect("n1", "10.77.0.1");
  const n2 = await world.connect("n2", "10.77.0.2");
  t.same(n1.table.networkIds(), ["net1"]);
  t.same(n2.table.networkIds(), [], "it has no task there");
  t.same(
    [...n2.table.hosts.values()].map(({ addr }) => addr),
    ["10.77.0.1", "10.77.0.2"],
  );
  const rows = n1.table.network("net1");
  t.match(
    [...(rows?.services.values() ?? [])],
    [{ serviceId: "web", vip: "10.0.1.2", aliases: ["alias"], ports: [] }],
  );
  t.same(n1.servers("net1"), ["10.0.1.5"]);

  world.store.put(taskRow("t6", "n2", "net1", "assigned"));
  t.same(n2.table.networkIds(), ["net1"], "with its first task");
  t.match(n2.table.network("net1")?.endpoints.get("net1/t5"), { nodeId: "n1", serving: true });
  t.match(n1.table.network("net1")?.endpoints.get("net1/t6"), { nodeId: "n2", serving: false });
  t.same(n2.desired.get("t6"), "running");

  const failed = { op: "taskStatus", id: "t6", status: aStatus("failed") } as const;
  world.store.put(failed);
  t.same(n2.table.networkIds(), [], "and no longer after its last");
  t.equal(n1.table.network("net1")?.endpoints.size, 1);
  world.store.put({ op: "patch", table: "services", id: "web", fields: { pendingDelete: true } });
  t.equal(n1.table.network("net1")?.services.size, 0, "a removed service has no name");
  await world.end();
});

t.test("every node has the ingress network, with its ports", async t => {
  const ingress = aNetwork({ id: "ing", vni: 4_096, spec: { Name: "ingress", Ingress: true } });
  const world = new World({ op: "create", table: "networks", row: ingress });
  const n2 = await world.connect("n2", "10.77.0.2");
  t.same(n2.table.networkIds(), ["ing"]);
  t.match(n2.table.network("ing")?.services.get("ing/web"), {
    vip: "",
    ports: [{ protocol: "tcp", published: 8_080, target: 80 }],
  });
  const waits = { allocated: false, specVersion: 2 };
  world.store.put({ op: "patch", table: "services", id: "web", fields: waits });
  t.equal(n2.table.network("ing")?.services.size, 1, "also while an update waits to be allocated");
  world.store.put({ op: "delete", table: "networks", id: "ing" });
  t.same(n2.table.networkIds(), []);
  await world.end();
});

t.test("incremental tables equal complete ones after any history", async t => {
  const networkIds = ["net1", "net2"];
  const step = fc.record({
    task: fc.integer({ min: 0, max: 3 }),
    node: fc.constantFrom("n1", "n2"),
    network: fc.constantFrom(...networkIds),
    act: fc.constantFrom("create", "run", "stop", "fail", "delete", "net"),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async steps => {
      const world = new World();
      const peers = [
        await world.connect("n1", "10.77.0.1"),
        await world.connect("n2", "10.77.0.2"),
      ];
      for (const { task, node, network, act } of steps) {
        const id = `t${task}`;
        const known = world.store.view.table("tasks").get(id) !== undefined;
        const changes: Readonly<Record<string, Change[]>> = {
          create: known ? [] : [taskRow(id, node, network, "assigned")],
          run: known ? [{ op: "taskStatus", id, status: aStatus("running") }] : [],
          stop: [{ op: "patch", table: "tasks", id, fields: { desiredState: "shutdown" } }],
          fail: known ? [{ op: "taskStatus", id, status: aStatus("failed") }] : [],
          delete: [{ op: "delete", table: "tasks", id }],
          net: world.store.view.table("networks").get("net2")
            ? [{ op: "delete", table: "networks", id: "net2" }]
            : [{ op: "create", table: "networks", row: aNetwork({ id: "net2", vni: 5_000 }) }],
        };
        const list = changes[act] ?? [];
        if (list.length > 0) world.store.put(...list);
        for (const peer of peers) peer.programmed();
      }
      for (const [i, peer] of peers.entries()) {
        const fresh = await world.connect(`n${i + 1}`, `10.77.0.${i + 1}`);
        t.same(sorted(peer.table), sorted(fresh.table));
      }
      await world.end();
    }),
    { numRuns: 30 },
  );
});

function sorted(table: OverlayTable): object {
  const { hosts, networks, services, endpoints } = table.snapshot();
  const byId = (items: readonly { readonly id: string }[]): object[] =>
    [...items].sort((a, b) => (a.id < b.id ? -1 : 1));
  return [byId(hosts), byId(networks), byId(services), byId(endpoints)];
}

const END = {
  op: "patch",
  table: "tasks",
  id: "t5",
  fields: { desiredState: "shutdown" },
} as const;

t.test("a task ends when no node sends it connections any more", async t => {
  const world = new World(
    taskRow("t5", "n1", "net1", "running"),
    taskRow("t6", "n2", "net1", "running"),
  );
  const n1 = await world.connect("n1", "10.77.0.1");
  const n2 = await world.connect("n2", "10.77.0.2");
  const [old1, old2] = [n1.sequence, n2.sequence];
  world.store.put(END);
  t.same(n2.servers("net1"), ["10.0.1.6"], "it is out of the tables at once");
  t.same(n1.servers("net1"), ["10.0.1.6"]);
  t.equal(n1.desired.get("t5"), "running", "its node has not been told of its end");
  n1.programmed(old1);
  n2.programmed(old2);
  t.equal(n1.desired.get("t5"), "running", "what was programmed before says nothing");
  n1.programmed();
  t.equal(n1.desired.get("t5"), "running", "one node is left");
  n2.programmed();
  t.equal(n1.desired.get("t5"), "shutdown");
  await world.end();
});

t.test("a node that hangs, or goes, keeps no task alive", async t => {
  const tasks = [taskRow("t5", "n1", "net1", "running"), taskRow("t6", "n2", "net1", "running")];
  for (const goes of [true, false]) {
    const world = new World(...tasks);
    const n1 = await world.connect("n1", "10.77.0.1");
    const n2 = await world.connect("n2", "10.77.0.2");
    world.store.put(END);
    n1.programmed();
    t.equal(n1.desired.get("t5"), "running");
    if (goes) n2.leave();
    else await world.clock.advance(DRAIN_TIMEOUT_MS);
    t.equal(n1.desired.get("t5"), "shutdown", goes ? "its session ended" : "after the time limit");
    await world.end();
  }
});

t.test("a new leader waits, for it cannot know which nodes have followed", async t => {
  const row = taskRow("t5", "n1", "net1", "running");
  const world = new World(row, END);
  const n1 = await world.connect("n1", "10.77.0.1");
  t.equal(n1.desired.get("t5"), "running", "also in the complete set");
  n1.programmed();
  t.equal(n1.desired.get("t5"), "running");
  await world.clock.advance(DRAIN_TIMEOUT_MS);
  t.equal(n1.desired.get("t5"), "shutdown");
  await world.end();
});

t.test("each node has an index of its own, and the smallest free one", async t => {
  const store = new MemoryStore();
  const ids = new RngIdSource(new SeededRng(1));
  for (const id of ["a", "b", "c"]) {
    store.put({ op: "create", table: "nodes", row: aNode({ id }) });
  }
  const settle = (): void => {
    for (const key of nodeIndexPlanner.allKeys(store.view)) {
      const { changes } = nodeIndexPlanner.plan(store.view, key, { nowMs: 0, ids });
      if (changes.length > 0) store.put(...changes);
    }
  };
  const indexes = (): (number | undefined)[] =>
    [...store.view.table("nodes").all()].map(node => node.overlayIndex);
  settle();
  t.same(indexes(), [1, 2, 3]);
  store.put({ op: "delete", table: "nodes", id: "b" });
  store.put({ op: "create", table: "nodes", row: aNode({ id: "d" }) });
  settle();
  t.same(indexes(), [1, 3, 2]);
  t.same([...nodeIndexPlanner.allKeys(store.view)], [], "planning again does nothing");
});

t.test("what a node says of its data path is not trusted", async t => {
  const said = (overlay: unknown): NodeDescription["overlay"] =>
    decodeDescription(JSON.stringify({ ...description("10.0.0.1"), overlay })).overlay;
  const key = `${"A".repeat(43)}=`;
  t.same(said({ addr: "10.0.0.1", publicKey: key, problem: "x" }), {
    addr: "10.0.0.1",
    publicKey: key,
    problem: "x",
  });
  t.same(said({ addr: "10.0.0.1 dev lo", publicKey: "$(reboot)" }), {
    addr: "",
    publicKey: "",
    problem: "",
  });
  t.equal(said(undefined), undefined);
});

t.test("a plain container has an address of the cluster's, and a place in the tables", async t => {
  const attachable = aNetwork({
    id: "att",
    vni: 4_100,
    spec: { Name: "att", Attachable: true },
    subnets: [{ subnet: "10.0.9.0/29", gateway: "10.0.9.1" }],
  });
  const world = new World({ op: "create", table: "networks", row: attachable });
  const [n1, n2] = [await world.connect("n1", "10.77.0.1"), await world.connect("n2", "10.77.0.2")];
  const { attachments, services } = newAllocators();
  for (const _ of services.allKeys(world.store.view));
  const ctx = { nowMs: 0, ids: new RngIdSource(new SeededRng(2)) };
  // What the planner loop does on the leader.
  let isPlanning = true;
  world.store.onCommit(commit => {
    if (!isPlanning) return;
    const { view } = world.store;
    for (const event of commit.events) {
      for (const _ of services.keysOf(event, view));
      for (const key of attachments.keysOf(event, view)) {
        const { changes } = attachments.plan(view, key, ctx);
        if (changes.length > 0) queueMicrotask(() => world.store.put(...changes));
      }
    }
  });
  const { signal } = new AbortController();
  const { leases } = world.dispatcher;
  const settled = async <T>(work: Promise<T>): Promise<T> => {
    let done = false;
    const watched = work.finally(() => {
      done = true;
    });
    watched.catch(() => undefined);
    while (!done) await world.clock.advance(20);
    return watched;
  };
  const first = await settled(leases.take("n1", "att", { family: "ipv4" }, signal));
  t.equal(first.address, "10.0.9.2/29");
  t.same(n1.table.networkIds(), ["att"], "its node has the network");
  t.match(n1.table.network("att")?.endpoints.get(`att/${first.taskId}`), { addr: "10.0.9.2" });
  const second = await settled(leases.take("n2", "att", { family: "ipv4" }, signal));
  t.not(second.address, first.address);
  t.equal(n1.table.network("att")?.endpoints.size, 2, "and so do the others see it");
  await t.rejects(leases.release("n2", first.taskId, signal), { code: "permission_denied" });
  await leases.release("n1", first.taskId, signal);
  t.same(n1.table.networkIds(), [], "nothing is left of it");
  t.equal(n2.table.network("att")?.endpoints.size, 1);
  const rows = (): number => world.store.view.tasksOfNode("n2").length;
  const before = rows();
  const gone = new AbortController();
  isPlanning = false;
  const asked = leases.take("n2", "att", { family: "ipv4" }, gone.signal);
  asked.catch(() => undefined);
  await eventually(() => rows() > before, { what: "the row" });
  gone.abort(new Error("gone"));
  await t.rejects(settled(asked), /gone/);
  t.equal(rows(), before, "nothing is held for a node that went away while it waited");
  isPlanning = true;
  for (let i = 0; i < 4; i += 1)
    await settled(leases.take("n1", "att", { family: "ipv4" }, signal));
  await t.rejects(settled(leases.take("n1", "att", { family: "ipv4" }, signal)), {
    code: "resource_exhausted",
    message: "no free IPv4 address on network att: 5 are in use",
  });
  await t.rejects(leases.take("n1", "net1", { family: "ipv4" }, signal), {
    code: "permission_denied",
  });
  await t.rejects(leases.take("n1", "none", { family: "ipv4" }, signal), { code: "not_found" });
  await world.end();
});

t.test("keys of the encrypted mesh go to the nodes that need them, and no other", async t => {
  const plain = aNetwork({ id: "net2", vni: 4_098 });
  const spec = { ...plain.spec, Name: "secret", Options: { encrypted: "" } };
  const secret = { ...plain, id: "net3", spec };
  const world = new World({ op: "create", table: "networks", row: { ...secret, vni: 4_099 } });
  const mesh = { generation: 4, psk: "k4", previousPsk: "k3", settled: true, startedAtMs: 0 };
  const [cluster] = world.store.view.table("cluster").all();
  const id = cluster?.id ?? "";
  world.store.put({ op: "patch", table: "cluster", id, fields: { mesh } });
  world.store.put(taskRow("t1", "n1", "net1", "running"), taskRow("t2", "n2", "net3", "running"));
  const [n1, n2] = [await world.connect("n1", "10.77.0.1"), await world.connect("n2", "10.77.0.2")];
  t.equal(n1.table.mesh, null);
  t.match(n2.table.mesh, { generation: 4, psk: "k4", previousPsk: "k3", settled: true });
  const next = { ...mesh, generation: 5, psk: "k5", previousPsk: "k4", settled: false };
  world.store.put({ op: "patch", table: "cluster", id, fields: { mesh: next } });
  await eventually(() => n2.table.mesh?.generation === 5, { what: "the next generation" });
  t.equal(n1.table.mesh, null);
  world.store.put(taskRow("t3", "n1", "net3", "assigned"));
  await eventually(() => n1.table.mesh?.generation === 5, { what: "n1 needs it too" });
  const status = aStatus("complete");
  world.store.put({ op: "patch", table: "tasks", id: "t3", fields: { status } });
  await eventually(() => n1.table.mesh === null, { what: "n1 needs it no more" });
  t.same(n2.table.mesh?.psk, "k5");
  await world.end();
});

t.test("a task that runs and is unhealthy gets no new connections", async t => {
  const world = new World(taskRow("t1", "n1", "net1", "running"));
  const peer = await world.connect("n1", "10.77.0.1");
  const serving = (): boolean | undefined =>
    peer.table.network("net1")?.endpoints.get("net1/t1")?.serving;
  t.equal(serving(), true);
  const status = { ...aStatus("running"), err: UNHEALTHY_TEXT };
  world.store.put({ op: "patch", table: "tasks", id: "t1", fields: { status } });
  await eventually(() => serving() === false, { what: "the news" });
  await world.end();
});
