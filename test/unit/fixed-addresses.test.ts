import t from "tap";
import { newAllocators } from "../../src/allocator/core/allocator.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Change } from "../../src/model/change.ts";
import { networkLabelsOf } from "../../src/model/network-labels.ts";
import type { NodeState, Task } from "../../src/model/rows.ts";
import type { Labels, ServiceSpec } from "../../src/model/service-spec.ts";
import { sameSpec, taskEssence } from "../../src/model/spec-equality.ts";
import type { TaskState } from "../../src/model/task-state.ts";
import { validateServiceSpec } from "../../src/model/validate-service.ts";
import { anId, aSpec, refusal } from "../support/control-calls.ts";
import { controlRig } from "../support/control-rig.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNetwork, aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const SUBNETS = [
  { subnet: "10.4.0.0/24", gateway: "10.4.0.1" },
  { subnet: "fd00:4::/64", gateway: "fd00:4::1" },
];

function on(labels: Labels, more: ServiceSpec = {}): ServiceSpec {
  return { Name: "web", Labels: labels, TaskTemplate: { Networks: [{ Target: "net" }] }, ...more };
}

t.test("labels that fix addresses", async t => {
  const read = networkLabelsOf({
    "swarmd.network.net.ipv6": "FD00:4:0::00a",
    "swarmd.network.net.mac": "02:AB:00:00:00:01",
    "swarmd.network.net.ipv4": "fd00::1",
    other: "1",
  });
  t.same(
    read.map(({ kind, value }) => `${kind} ${value}`),
    ["ipv6 fd00:4::a", "mac 02:ab:00:00:00:01"],
  );
  const refused = (labels: Labels, more: ServiceSpec = {}): string => {
    try {
      validateServiceSpec({ ...aSpec("web"), Labels: labels, ...more });
    } catch (error) {
      return error instanceof Error ? error.message : "";
    }
    return "";
  };
  const own = { "swarmd.network.net.ipv4": "10.4.0.9" };
  t.equal(refused(own), "");
  t.equal(refused({ "swarmd.network.net.vip": "10.4.0.9" }, two()), "");
  function two(): ServiceSpec {
    return { Mode: { Replicated: { Replicas: 2 } } };
  }
  for (const [labels, more, words] of [
    [
      { "swarmd.network.net.ip": "10.4.0.9" },
      {},
      /NETWORK with \.ipv4, \.ipv6, \.vip, \.vip6, \.mac/,
    ],
    [{ "swarmd.network.net.ipv4": "10.4.0" }, {}, /must be an IPv4 address/],
    [{ "swarmd.network.net.vip6": "10.4.0.1" }, {}, /must be an IPv6 address/],
    [{ "swarmd.network.net.mac": "01:00:00:00:00:01" }, {}, /MAC address of one device/],
    [own, two(), /one task alone can have, and the service wants 2 at once/],
    [own, { Mode: { Global: {} } }, /one on every node/],
    [own, { UpdateConfig: { Order: "start-first" } }, /start-first has two/],
    [{ ...own, "swarmd.network.net.vip": "10.4.0.9" }, {}, /ask for the same address/],
    [{ "swarmd.network.net.vip": "10.4.0.9" }, { EndpointSpec: { Mode: "dnsrr" } }, /no virtual/],
  ] as const) {
    t.match(refused(labels, more), words);
  }
  t.notOk(sameSpec(taskEssence(on(own)), taskEssence(on({}))), "tasks are made anew for it");
  const vip = { "swarmd.network.net.vip": "10.4.0.7" };
  t.ok(sameSpec(taskEssence(on(vip)), taskEssence(on({}))), "not for a virtual one");
});

/** A leader's allocator over a store. */
class World {
  readonly store = new MemoryStore(new VirtualClock());
  readonly #ids = new RngIdSource(new SeededRng(1));
  #allocators = newAllocators();

  constructor() {
    this.put({ op: "create", table: "networks", row: net() });
    this.store.onCommit(({ events }) => {
      for (const event of events) {
        for (const planner of Object.values(this.#allocators)) {
          [...planner.keysOf(event, this.store.view)];
        }
      }
    });
    this.lead();
  }

  lead(): void {
    this.#allocators = newAllocators();
    for (const planner of Object.values(this.#allocators)) [...planner.allKeys(this.store.view)];
  }

  put(...changes: Change[]): void {
    this.store.put(...changes);
  }

  service(id: string, spec: ServiceSpec): void {
    this.put(...createService(aService({ id, spec: { ...spec, Name: id }, allocated: false })));
    this.plan(id);
  }

  task(id: string, serviceId: string, nodeId = ""): Task | undefined {
    const fields = { id, serviceId, serviceName: serviceId, nodeId, slot: 1 };
    const row = aTask({ ...fields, desiredState: "running", status: aStatus("new") });
    this.put({ op: "create", table: "tasks", row });
    this.plan(serviceId);
    return this.at(id);
  }

  becomes(id: string, state: TaskState): void {
    this.put({ op: "taskStatus", id, status: aStatus(state) });
  }

  plan(key: string): void {
    const { services, tasks } = this.#allocators;
    for (const planner of [services, tasks]) {
      const plan = planner.plan(this.store.view, key, { nowMs: 0, ids: this.#ids });
      if (plan.changes.length > 0) this.put(...plan.changes);
    }
  }

  at(id: string): Task | undefined {
    return this.store.view.table("tasks").get(id);
  }

  addresses(id: string): readonly string[] {
    return this.at(id)?.networks[0]?.addresses ?? [];
  }

  vips(id: string): readonly string[] {
    const service = this.store.view.table("services").get(id);
    return service?.endpoint.virtualIps.map(({ addr }) => addr) ?? [];
  }
}

function net(): Parameters<typeof aNetwork>[0] & ReturnType<typeof aNetwork> {
  const spec = { Name: "net", Driver: "overlay" };
  return { ...aNetwork({ id: "net", spec, subnets: SUBNETS }), id: "net" };
}

const TASK = {
  "swarmd.network.net.ipv4": "10.4.0.9",
  "swarmd.network.net.ipv6": "fd00:4::9",
  "swarmd.network.net.mac": "02:00:00:00:00:09",
};

t.test("a task has what the labels say, and nobody else has it meanwhile", async t => {
  const world = new World();
  world.service("web", on(TASK));
  const first = world.task("t1", "web");
  t.match(first?.networks[0], {
    addresses: ["10.4.0.9/24", "fd00:4::9/64"],
    mac: "02:00:00:00:00:09",
  });
  t.match(world.task("t2", "web")?.status, {
    state: "new",
    err: "address 10.4.0.9 of network net is in use by task t1 of service 'web'",
  });
  world.becomes("t1", "failed");
  world.lead();
  const other = { Name: "o", TaskTemplate: { Networks: [{ Target: "net" }] } };
  world.service("other", { ...other, EndpointSpec: { Mode: "dnsrr" } });
  const given = new Set<string>();
  for (let i = 0; i < 20; i += 1) {
    world.task(`o${i}`, "other");
    for (const address of world.addresses(`o${i}`)) given.add(address);
  }
  t.equal(given.size, 40);
  t.notOk(given.has("10.4.0.9/24"), "kept for the next task");
  t.notOk(given.has("fd00:4::9/64"));
  world.plan("web");
  t.same(world.addresses("t2"), ["10.4.0.9/24", "fd00:4::9/64"]);
});

t.test("a service has the virtual addresses that its labels say", async t => {
  const world = new World();
  world.service("web", on({ "swarmd.network.net.vip": "10.4.0.200" }));
  t.same(world.vips("web"), ["10.4.0.200/24", "fd00:4::2/64"]);
  const Labels = { "swarmd.network.net.vip6": "fd00:4::beef" };
  const fields = { spec: { ...on(Labels), Name: "web" }, allocated: false };
  world.put({ op: "patch", table: "services", id: "web", fields });
  world.plan("web");
  t.same(world.vips("web"), ["10.4.0.200/24", "fd00:4::beef/64"], "what it had stays");
  world.service("late", on({ "swarmd.network.net.vip6": "fd00:4::2" }));
  t.same(world.vips("late")[1], "fd00:4::2/64", "what it gave up is free");
});

t.test("an address goes with its service from a node that does not answer", async t => {
  const world = new World();
  const node = (state: NodeState): void => {
    const status = { state, message: "", addr: "" };
    const row = aNode({ id: "n1", status });
    const known = world.store.view.table("nodes").get("n1") !== undefined;
    world.put(
      known
        ? { op: "patch", table: "nodes", id: "n1", fields: { status } }
        : { op: "create", table: "nodes", row },
    );
  };
  node("ready");
  world.service("web", on(TASK));
  world.task("t1", "web", "n1");
  world.becomes("t1", "running");
  const end = { desiredState: "shutdown" } as const;
  world.put({ op: "patch", table: "tasks", id: "t1", fields: end });
  world.task("t2", "web");
  t.same(world.addresses("t2"), [], "its node answers: it is waited for");
  node("down");
  world.plan("web");
  t.same(world.addresses("t2"), ["10.4.0.9/24", "fd00:4::9/64"]);
  t.same(world.addresses("t1"), [], "and the old one has none");
});

t.test("what labels cannot have is refused, and says whose it is", async t => {
  const rig = controlRig();
  rig.store.put({ op: "create", table: "networks", row: net() });
  rig.store.put({ op: "create", table: "networks", row: aNetwork({ id: "far" }) });
  const virtualIps = [{ networkId: "net", addr: "10.4.0.2/24" }];
  const endpoint = { spec: {}, ports: [], virtualIps };
  const db = aService({ id: "db", spec: { ...aSpec("db"), Name: "db" }, endpoint });
  rig.store.put(...createService(db));
  const networks = [{ networkId: "net", addresses: ["10.4.0.5/24"], aliases: [] }];
  const lease = { ...aTask({ id: "lease", serviceId: "", nodeId: "n9" }), networks };
  rig.store.put({ op: "create", table: "tasks", row: lease });
  const make = (labels: Labels, name = "x"): Promise<string> => {
    const { TaskTemplate } = aSpec(name);
    const Networks = [{ Target: "net" }];
    const spec = { Name: name, Labels: labels, TaskTemplate: { ...TaskTemplate, Networks } };
    const args = { id: anId(), spec, registryAuth: "", fallbackName: "" };
    return refusal(rig, "service.create", args);
  };
  const of = (address: string): Labels => ({ "swarmd.network.net.ipv4": address });
  t.match(await make(of("10.4.0.2")), /in use by service 'db'/);
  t.match(await make(of("10.4.0.5")), /in use by a container on node n9/);
  t.match(await make(of("10.4.0.1")), /not one that network net gives to tasks/);
  t.match(await make(of("10.5.0.9")), /outside its subnets/);
  t.match(await make({ "swarmd.network.far.mac": "02:00:00:00:00:01" }), /not on that network/);
  t.equal(await make(of("10.4.0.77")), "done");
  const again = await make({ "swarmd.network.net.vip": "10.4.0.77" }, "y");
  t.match(again, /in use by service 'x'/, "also before it was given");
  const mac = { "swarmd.network.net.mac": "02:00:00:00:00:01" };
  t.equal(await make(mac, "z"), "done");
  const upper = { "swarmd.network.net.mac": "02:00:00:00:00:01".toUpperCase() };
  t.match(await make(upper, "zz"), /MAC address 02:00:00:00:00:01 on network .* by service 'z'/);
  t.equal(await make({ "swarmd.network.net.mac": "02:00:00:00:00:02" }, "zzz"), "done");
});
