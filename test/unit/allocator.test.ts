import fc from "fast-check";
import t from "tap";
import { AddressPool } from "../../src/allocator/core/address-pool.ts";
import { newAllocators } from "../../src/allocator/core/allocator.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { createIngress } from "../../src/control/core/network-plan.ts";
import type { Change } from "../../src/model/change.ts";
import type { IpFamily } from "../../src/model/ip.ts";
import type { Planner } from "../../src/model/planner.ts";
import type { Network, Task } from "../../src/model/rows.ts";
import type { ServiceSpec } from "../../src/model/service-spec.ts";
import type { TaskState } from "../../src/model/task-state.ts";
import { isTerminal } from "../../src/model/task-state.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNetwork, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const INGRESS = { Name: "ingress", Ingress: true };

/** A store whose commits reach the allocator as they do on a leader. */
class World {
  readonly store = new MemoryStore(new VirtualClock());
  readonly #ids = new RngIdSource(new SeededRng(1));
  #allocators = newAllocators();
  readonly #dirty = new Map<Planner, Set<string>>();
  #tasks = 0;

  constructor(...networks: Parameters<typeof aNetwork>[0][]) {
    this.lead();
    this.store.onCommit(commit => {
      for (const planner of this.#planners()) {
        for (const event of commit.events) {
          for (const key of planner.keysOf(event, this.store.view)) this.#mark(planner, key);
        }
      }
    });
    for (const network of networks) {
      this.store.put({ op: "create", table: "networks", row: aNetwork(network) });
    }
  }

  /** A new leader: nothing is known but what the state says. */
  lead(): void {
    this.#allocators = newAllocators();
    this.#dirty.clear();
    for (const planner of this.#planners()) {
      for (const key of planner.allKeys(this.store.view)) this.#mark(planner, key);
    }
  }

  service(id: string, spec: ServiceSpec): void {
    const whole = { Name: id, ...spec };
    this.store.put(...createService(aService({ id, spec: whole, allocated: false })));
  }

  task(serviceId: string): string {
    this.#tasks += 1;
    const id = `${serviceId}-${this.#tasks}`;
    const slot = this.#tasks;
    const row = aTask({ id, serviceId, slot, desiredState: "running", status: aStatus("new") });
    this.store.put({ op: "create", table: "tasks", row });
    return id;
  }

  becomes(id: string, state: TaskState): void {
    this.store.put({ op: "taskStatus", id, status: aStatus(state) });
  }

  /** Plans what is dirty; `lose` drops the plans, as when they are refused. */
  plan(lose = false): void {
    for (const planner of this.#planners()) {
      const keys = [...(this.#dirty.get(planner) ?? [])];
      if (!lose) this.#dirty.delete(planner);
      for (const key of keys) {
        const plan = planner.plan(this.store.view, key, { nowMs: 0, ids: this.#ids });
        if (!lose && plan.changes.length > 0) this.store.put(...plan.changes);
      }
    }
  }

  vips(id: string): readonly string[] {
    const service = this.store.view.table("services").get(id);
    return (service?.endpoint.virtualIps ?? []).map(vip => `${vip.networkId} ${vip.addr}`);
  }

  at(id: string): Task | undefined {
    return this.store.view.table("tasks").get(id);
  }

  addresses(id: string): readonly string[] {
    return (this.at(id)?.networks ?? []).map(net => `${net.networkId} ${net.addresses.join()}`);
  }

  /** Every address in use with its owner; an address twice is a fault. */
  owners(): Map<string, string> {
    const owners = new Map<string, string>();
    const claim = (address: string, owner: string): void => {
      const other = owners.get(address);
      if (other !== undefined) throw new Error(`${address} has two owners: ${other}, ${owner}`);
      owners.set(address, owner);
    };
    for (const { id, endpoint } of this.store.view.table("services").all()) {
      for (const { networkId, addr } of endpoint.virtualIps) claim(`${networkId} ${addr}`, id);
    }
    for (const { id, networks, status } of this.store.view.table("tasks").all()) {
      if (isTerminal(status.state)) continue;
      for (const { networkId, addresses } of networks) {
        for (const address of addresses) claim(`${networkId} ${address}`, id);
      }
    }
    return owners;
  }

  #planners(): readonly Planner[] {
    return [this.#allocators.services, this.#allocators.tasks];
  }

  #mark(planner: Planner, key: string): void {
    this.#dirty.set(planner, (this.#dirty.get(planner) ?? new Set()).add(key));
  }
}

function on(...targets: readonly string[]): ServiceSpec {
  return { TaskTemplate: { Networks: targets.map(Target => ({ Target, Aliases: ["w"] })) } };
}

t.test("services get an address on each network, tasks too, ingress first", async t => {
  const world = new World({ id: "in", spec: INGRESS }, { id: "a" }, { id: "b" });
  const Ports = [{ TargetPort: 80, PublishedPort: 8080 }];
  world.service("web", { ...on("a", "host", "b"), EndpointSpec: { Ports } });
  const task = world.task("web");
  world.plan();
  t.same(world.vips("web"), ["in 10.0.1.2/24", "a 10.0.1.2/24", "b 10.0.1.2/24"]);
  t.same(world.addresses(task), ["in 10.0.1.3/24", "a 10.0.1.3/24", "b 10.0.1.3/24"]);
  t.same(world.at(task)?.networks[1]?.aliases, ["w"]);
  t.equal(world.at(task)?.status.state, "pending");

  world.service("rr", { ...on("a"), EndpointSpec: { Mode: "dnsrr" } });
  const other = world.task("rr");
  world.plan();
  t.same(world.vips("rr"), [], "its name gives its tasks");
  t.same(world.addresses(other), ["a 10.0.1.4/24"]);
});

t.test("on a network of both families each owner has an address of each", async t => {
  const subnets = [
    { subnet: "10.4.0.0/24", gateway: "10.4.0.1" },
    { subnet: "fd00:4::/64", gateway: "fd00:4::1" },
  ];
  const world = new World({ id: "in", spec: INGRESS, subnets }, { id: "a", subnets });
  const Ports = [{ TargetPort: 80, PublishedPort: 8080 }];
  world.service("web", { ...on("a"), EndpointSpec: { Ports } });
  const task = world.task("web");
  world.plan();
  t.same(world.vips("web"), ["in 10.4.0.2/24", "a 10.4.0.2/24", "a fd00:4::2/64"]);
  t.same(world.addresses(task), ["in 10.4.0.3/24,fd00:4::2/64", "a 10.4.0.3/24,fd00:4::3/64"]);
  const tiny = [subnets[0], { subnet: "fd00:5::/126", gateway: "fd00:5::1" }];
  const small = new World({ id: "a", subnets: tiny.flatMap(one => one ?? []) });
  small.service("rr", { ...on("a"), EndpointSpec: { Mode: "dnsrr" } });
  const [first, second] = [small.task("rr"), small.task("rr")];
  small.plan();
  t.same(small.addresses(first), ["a 10.4.0.2/24,fd00:5::2/126"]);
  t.equal(small.at(second)?.status.err, "no free IPv6 address on network a: 1 are in use");
  small.becomes(first, "failed");
  small.plan();
  t.same(small.addresses(second), ["a 10.4.0.3/24,fd00:5::2/126"], "what it had it keeps");
});

t.test("an update keeps what it can and gives back the rest", async t => {
  const world = new World({ id: "a" }, { id: "b" }, { id: "c" });
  world.service("web", on("a", "b"));
  world.plan();
  const [service] = [...world.store.view.table("services").all()];
  t.ok(service);
  const update = (spec: ServiceSpec): void => {
    const fields = { spec: { Name: "web", ...spec }, allocated: false };
    world.store.put({ op: "patch", table: "services", id: "web", fields });
  };
  update(on("c", "b"));
  world.plan(true);
  update(on("b"));
  world.plan();
  t.same(world.vips("web"), ["b 10.0.1.2/24"]);
  for (const id of ["x", "y"]) world.service(id, on("a", "c"));
  world.plan();
  t.same([...world.owners().keys()].length, 5);
});

t.test("addresses wait for the end of a task, and the waiting for addresses", async t => {
  const small = { subnet: "10.9.0.0/29", gateway: "10.9.0.1" };
  const world = new World({ id: "a", subnets: [small] });
  world.service("web", { ...on("a"), EndpointSpec: { Mode: "dnsrr" } });
  const tasks = [1, 2, 3, 4, 5, 6].map(() => world.task("web"));
  world.plan();
  const [first = "", last = ""] = [tasks[0], tasks[5]];
  t.same(world.addresses(first), ["a 10.9.0.2/29"]);
  t.equal(world.at(last)?.status.state, "new");
  t.equal(world.at(last)?.status.err, "no free IPv4 address on network a: 5 are in use");
  world.becomes(first, "running");
  world.plan();
  t.equal(world.at(last)?.status.state, "new", "nothing came free");
  world.becomes(first, "failed");
  world.plan();
  t.same(world.addresses(last), ["a 10.9.0.2/29"]);
  t.equal(world.at(last)?.status.err, "");
  t.same(world.addresses(first), ["a 10.9.0.2/29"], "history keeps what it had");
});

t.test("without an ingress network, published ports wait for one", async t => {
  const world = new World();
  world.service("web", { EndpointSpec: { Ports: [{ TargetPort: 80 }] } });
  const task = world.task("web");
  world.plan();
  t.equal(world.at(task)?.status.state, "new");
  const pool = { id: "c", defaultAddrPool: ["10.0.0.0/8"], subnetSize: 24 };
  world.store.put(createIngress(world.store.view, pool, "in"));
  world.plan();
  t.same(world.vips("web"), ["in 10.0.0.2/24"]);
  t.equal(world.store.view.table("networks").get("in")?.vni, 4_096);
  t.equal(world.at(task)?.status.state, "pending");
});

t.test("a pool gives every address once, in its range, never a reserved one", async t => {
  const meta = { version: 1, createdAtMs: 1, updatedAtMs: 1 };
  const all = (network: Network, family: IpFamily = "ipv4"): string[] => {
    const pool = new AddressPool(network, family);
    const found: string[] = [];
    for (let one = pool.take("a"); one !== null; one = pool.take("a")) found.push(one);
    return found;
  };
  const subnet = { subnet: "10.1.0.0/28", gateway: "10.1.0.9" };
  const ranged = {
    Name: "n",
    IPAM: { Config: [{ IPRange: "10.1.0.8/29", AuxiliaryAddresses: { x: "10.1.0.10" } }] },
  };
  const network = { ...aNetwork({ id: "n", subnets: [subnet] }), ...meta };
  t.equal(all(network).length, 13);
  t.same(all({ ...network, spec: ranged }), [
    "10.1.0.8/28",
    "10.1.0.11/28",
    "10.1.0.12/28",
    "10.1.0.13/28",
    "10.1.0.14/28",
  ]);
  const six = { subnet: "fd00:1::/125", gateway: "fd00:1::3" };
  const dual = { ...network, subnets: [subnet, six] };
  t.equal(all(dual).length, 13);
  t.same(
    all(dual, "ipv6"),
    ["1", "2", "4", "5", "6"].map(last => `fd00:1::${last}/125`),
  );
  const two = { ...network, subnets: [subnet, { subnet: "10.2.0.0/30", gateway: "10.2.0.1" }] };
  t.equal(all(two).at(-1), "10.2.0.2/30");
  t.same(all({ ...network, subnets: [{ subnet: "fd00::/64", gateway: "fd00::1" }] }), []);
  const pool = new AddressPool(network, "ipv4");
  const given = pool.take("a") ?? "";
  pool.release(given, "b");
  t.same(pool.claim(given, "b", ""), { owner: "a" }, "only its owner gives it back");
  pool.release(given, "a");
  t.not(pool.take("a"), given, "one given back is not the next one's at once");
});

t.test("no address ever has two owners and none is lost", async t => {
  const step = fc.record({ kind: fc.nat(8), pick: fc.nat(30) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const subnets = [
        { subnet: "10.3.0.0/27", gateway: "10.3.0.1" },
        { subnet: "fd00:3::/123", gateway: "fd00:3::1" },
      ];
      const world = new World({ id: "a", subnets }, { id: "b", subnets: subnets.slice(0, 1) });
      let services = 0;
      for (const { kind, pick } of steps) {
        services += act(world, kind, pick, services);
        world.owners();
      }
      for (const { id } of [...world.store.view.table("tasks").all()]) {
        if (!isTerminal(world.at(id)?.status.state ?? "new")) world.becomes(id, "shutdown");
      }
      for (const { id } of [...world.store.view.table("services").all()]) {
        world.store.put({ op: "delete", table: "services", id });
      }
      world.service("last", { ...on("a"), EndpointSpec: { Mode: "dnsrr" } });
      for (let i = 0; i < 29; i += 1) world.task("last");
      world.plan();
      t.equal(world.owners().size, 2 * 29, "every address is free again");
    }),
    { numRuns: 60 },
  );
});

/** Labels of some, which ask for the same few addresses. */
function fixed(pick: number): ServiceSpec {
  const own = { "swarmd.network.a.ipv4": "10.3.0.9", "swarmd.network.a.ipv6": "fd00:3::9" };
  const virtual = { "swarmd.network.a.vip": "10.3.0.9", "swarmd.network.b.vip": "10.3.0.3" };
  return { Labels: [own, virtual, {}, {}][pick % 4] ?? {} };
}

/** One random thing that happens; returns how many services came. */
function act(world: World, kind: number, pick: number, services: number): number {
  const tasks = [...world.store.view.table("tasks").all()];
  const task = tasks[pick % Math.max(1, tasks.length)];
  const nets = [["a"], ["b"], ["a", "b"], []][pick % 4] ?? [];
  const end = (change: Change): void => void world.store.put(change);
  if (kind === 0) world.service(`s${services}`, { ...on(...nets), ...fixed(pick) });
  else if (kind <= 2 && services > 0) world.task(`s${pick % services}`);
  else if (kind === 3 && task !== undefined) world.becomes(task.id, "failed");
  else if (kind === 4 && task !== undefined) end({ op: "delete", table: "tasks", id: task.id });
  else if (kind === 5) world.plan(true);
  else if (kind === 6) world.lead();
  else if (kind === 7 && services > 0) {
    const spec = { Name: `s${pick % services}`, ...on(...nets), ...fixed(pick + services) };
    const fields = { spec, allocated: false };
    end({ op: "patch", table: "services", id: `s${pick % services}`, fields });
  } else world.plan();
  return kind === 0 ? 1 : 0;
}
