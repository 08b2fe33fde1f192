import fc from "fast-check";
import t from "tap";
import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Change } from "../../src/model/change.ts";
import type { Task } from "../../src/model/rows.ts";
import { isTerminal, type TaskState } from "../../src/model/task-state.ts";
import { type StateView, specOfTask } from "../../src/model/view.ts";
import type { Plan } from "../../src/orchestrator/core/planner.ts";
import { ClusterTracker } from "../../src/scheduler/core/cluster-info.ts";
import { DemandCache, demandOf } from "../../src/scheduler/core/demand.ts";
import { FILTERS, filtersFor, refusedBy } from "../../src/scheduler/core/filters.ts";
import { NodeLevels } from "../../src/scheduler/core/levels.ts";
import { serviceTasks } from "../../src/scheduler/core/node-info.ts";
import { comparatorFor, reservedShare } from "../../src/scheduler/core/rank.ts";
import {
  CHANGES_PER_PLAN_MAX,
  EXPLAIN_REFRESH_MS,
  PLAN_LIMITS,
  type PlanLimits,
  SCHEDULER_KEY,
  Scheduler,
} from "../../src/scheduler/core/scheduler.ts";
import { MAX_CHANGES_PER_TRANSACTION } from "../../src/state/core/transaction-codec.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const GIB = 2 ** 30;
const ids = new RngIdSource(new SeededRng(1));

interface World {
  readonly store: MemoryStore;
  readonly clock: VirtualClock;
  readonly scheduler: Scheduler;
}

function aWorld(limits: PlanLimits = PLAN_LIMITS): World {
  const clock = new VirtualClock();
  const store = new MemoryStore(clock);
  const scheduler = new Scheduler(limits);
  store.onCommit(({ events }) => {
    for (const event of events) scheduler.keysOf(event, store.view);
  });
  return { store, clock, scheduler };
}

/** As the planner loop does: in transactions that are not too large. */
function put(store: MemoryStore, changes: readonly Change[]): void {
  for (let at = 0; at < changes.length; at += MAX_CHANGES_PER_TRANSACTION) {
    store.put(...changes.slice(at, at + MAX_CHANGES_PER_TRANSACTION));
  }
}

function planOnce({ store, clock, scheduler }: World): Plan {
  const plan = scheduler.plan(store.view, SCHEDULER_KEY, { nowMs: clock.nowMs(), ids });
  put(store, plan.changes);
  return plan;
}

/** Rounds until a plan changes nothing and asks for nothing now. */
function settle(world: World): number {
  for (let round = 1; round < 200; round++) {
    const { changes, wakeAtMs } = planOnce(world);
    if (changes.length === 0 && (wakeAtMs === null || wakeAtMs > world.clock.nowMs())) return round;
  }
  throw new Error("planning does not settle");
}

function placements(view: StateView): readonly string[] {
  return [...view.table("tasks").all()].map(({ id, nodeId, status }) =>
    [id, nodeId, status.state, status.err].join(" "),
  );
}

interface NodeSketch {
  readonly cpus: number;
  readonly gib: number;
  readonly gpus: number;
  readonly zone: string;
  readonly usable: boolean;
}

interface ServiceSketch {
  readonly replicas: number;
  readonly cpus: number;
  readonly gib: number;
  readonly gpus: number;
  /** Replicas a node; 0 = no limit. */
  readonly max: number;
  /** Published in host mode; 0 = none. */
  readonly port: number;
  readonly constraint: string;
  readonly spread: boolean;
  readonly strategy: string;
}

const nodeArb: fc.Arbitrary<NodeSketch> = fc.record({
  cpus: fc.integer({ min: 1, max: 8 }),
  gib: fc.integer({ min: 1, max: 16 }),
  gpus: fc.integer({ min: 0, max: 2 }),
  zone: fc.constantFrom("a", "b", ""),
  usable: fc.constantFrom(true, true, true, false),
});

const serviceArb: fc.Arbitrary<ServiceSketch> = fc.record({
  replicas: fc.integer({ min: 0, max: 12 }),
  cpus: fc.constantFrom(0, 0, 1, 2),
  gib: fc.constantFrom(0, 0, 1, 3),
  gpus: fc.constantFrom(0, 0, 0, 1),
  max: fc.constantFrom(0, 0, 1, 2),
  port: fc.constantFrom(0, 0, 8080),
  constraint: fc.constantFrom("", "", "node.labels.zone==a", "node.labels.zone!=b"),
  spread: fc.boolean(),
  strategy: fc.constantFrom("spread", "spread", "binpack", "random"),
});

function nodeChanges({ cpus, gib, gpus, zone, usable }: NodeSketch, i: number): Change[] {
  const base = aNode({ id: `n${i}` });
  const row = {
    ...base,
    spec: {
      Role: "worker" as const,
      Availability: usable ? ("active" as const) : ("drain" as const),
      Labels: zone === "" ? {} : { zone },
    },
    description: base.description && {
      ...base.description,
      resources: {
        nanoCpus: cpus * 1e9,
        memoryBytes: gib * GIB,
        generic: Array.from({ length: gpus }, (_, gpu) => ({
          NamedResourceSpec: { Kind: "gpu", Value: `${gpu}` },
        })),
      },
    },
  };
  return [{ op: "create", table: "nodes", row }];
}

function serviceChanges(sketch: ServiceSketch, i: number): Change[] {
  const { replicas, cpus, gib, gpus, max, port, constraint, spread, strategy } = sketch;
  const id = `s${i}`;
  const generic = gpus === 0 ? [] : [{ DiscreteResourceSpec: { Kind: "gpu", Value: gpus } }];
  const spec = {
    Name: id,
    Labels: { "swarmd.placement.strategy": strategy },
    EndpointSpec: {
      Ports:
        port === 0
          ? []
          : [{ PublishedPort: port, Protocol: "tcp" as const, PublishMode: "host" as const }],
    },
    TaskTemplate: {
      Resources: {
        Reservations: {
          NanoCPUs: cpus * 1e9,
          MemoryBytes: gib * GIB,
          GenericResources: generic,
        },
      },
      Placement: {
        Constraints: constraint === "" ? [] : [constraint],
        Preferences: spread ? [{ Spread: { SpreadDescriptor: "node.labels.zone" } }] : [],
        MaxReplicas: max,
      },
    },
  };
  const tasks = Array.from({ length: replicas }, (_, slot): Change => {
    const row = aTask({
      id: `${id}.${slot + 1}`,
      serviceId: id,
      slot: slot + 1,
      status: aStatus("pending"),
    });
    return { op: "create", table: "tasks", row };
  });
  return [...createService(aService({ id, spec })), ...tasks];
}

const worldArb = fc.record({
  nodes: fc.array(nodeArb, { maxLength: 6 }),
  services: fc.array(serviceArb, { maxLength: 6 }),
  seed: fc.nat(),
});

/** Every rule that placed tasks must keep, checked from the rows alone. */
function violations(view: StateView): string[] {
  const found: string[] = [];
  for (const node of view.table("nodes").all()) {
    const tasks = view.tasksOfNode(node.id).filter(({ status }) => !isTerminal(status.state));
    const demands = tasks.map(task => demandOf(specOfTask(view, task)?.spec ?? {}));
    const total = node.description?.resources ?? { nanoCpus: 0, memoryBytes: 0, generic: [] };
    const sum = (of: (demand: (typeof demands)[number]) => number) =>
      demands.reduce((all, demand) => all + of(demand), 0);
    const ports = demands.flatMap(({ hostPorts }) => hostPorts);
    const gpus = tasks.flatMap(({ assignedGeneric }) =>
      assignedGeneric.map(({ NamedResourceSpec }) => NamedResourceSpec?.Value),
    );
    if (tasks.length > 0 && node.spec.Availability !== "active") found.push(`${node.id} drained`);
    if (sum(demand => demand.nanoCpus) > total.nanoCpus) found.push(`${node.id} CPUs`);
    if (sum(demand => demand.memoryBytes) > total.memoryBytes) found.push(`${node.id} memory`);
    if (new Set(ports).size !== ports.length) found.push(`${node.id} ports`);
    if (new Set(gpus).size !== gpus.length) found.push(`${node.id} gpus twice`);
    if (gpus.length !== sum(demand => demand.generic.get("gpu")?.count ?? 0))
      found.push("gpus missing");
    tasks.forEach(({ id, serviceId }, i) => {
      const demand = demands[i];
      const [constraint] = demand?.constraints ?? [];
      const zone = node.spec.Labels?.["zone"] ?? "";
      const meets =
        constraint === undefined || (constraint.operator === "==") === (zone === constraint.value);
      if (!meets) found.push(`${id} on ${node.id} against its constraint`);
      const same = tasks.filter(other => other.serviceId === serviceId).length;
      const max = demand?.maxReplicas ?? 0;
      if (max > 0 && same > max) found.push(`${id} beyond max replicas`);
    });
  }
  return found;
}

/** Tasks left waiting although a node would take them. */
function overlooked(view: StateView): string[] {
  const demands = new DemandCache();
  const tracker = new ClusterTracker(demands);
  tracker.reset(view);
  tracker.read(view);
  return [...view.table("tasks").all()]
    .filter(({ status }) => status.state === "pending")
    .filter(task => {
      const demand = demandOf(specOfTask(view, task)?.spec ?? {});
      const filters = filtersFor(demand);
      return [...tracker.nodes()].some(
        info => refusedBy(filters, info, demand, task.serviceId) === null,
      );
    })
    .map(({ id }) => id);
}

t.test("placements keep every rule, and no room is overlooked", async t => {
  let placed = 0;
  let waiting = 0;
  fc.assert(
    fc.property(worldArb, ({ nodes, services }) => {
      const world = aWorld();
      const { view } = world.store;
      const changes = [...nodes.flatMap(nodeChanges), ...services.flatMap(serviceChanges)];
      put(world.store, changes);
      settle(world);
      for (const { status } of view.table("tasks").all()) {
        if (status.state === "assigned") placed += 1;
        else waiting += 1;
        if (status.state === "pending" && !status.err.startsWith("no suitable node")) return false;
      }
      return violations(view).length === 0 && overlooked(view).length === 0;
    }),
    { numRuns: 120 },
  );
  t.ok(placed > 20 && waiting > 20, `${placed} placed, ${waiting} waiting`);
});

t.test("the order in which rows came does not matter, and planning again is idle", async t => {
  let compared = 0;
  fc.assert(
    fc.property(worldArb, ({ nodes, services, seed }) => {
      const changes = [...nodes.flatMap(nodeChanges), ...services.flatMap(serviceChanges)];
      if (changes.length === 0) return true;
      const shuffled = changes
        .map((change, i) => ({ change, at: (Math.imul(i + 1, 2654435761) ^ seed) >>> 0 }))
        .sort((a, b) => a.at - b.at)
        .map(({ change }) => change);
      const [one, other] = [aWorld(), aWorld()];
      put(one.store, changes);
      put(other.store, shuffled);
      settle(one);
      settle(other);
      const same =
        placements(one.store.view).join("\n") === placements(other.store.view).join("\n");
      // Another leader, which has seen nothing of it, finds nothing to do either.
      const fresh = { ...one, scheduler: new Scheduler() };
      const idle = planOnce(fresh).changes.length === 0 && planOnce(one).changes.length === 0;
      compared += 1;
      return same && idle;
    }),
    { numRuns: 100 },
  );
  t.ok(compared > 20, `${compared} worlds`);
});

/** What the scheduler thinks of every node, comparable. */
function portrait(tracker: ClusterTracker, view: StateView): unknown {
  tracker.read(view);
  const infos = [...tracker.nodes()];
  return infos.map(({ node, usedPorts, tasksByService, generic, place: _, ...free }) => ({
    ...free,
    id: node.id,
    version: node.version,
    ports: [...usedPorts].sort(),
    services: [...tasksByService].sort(),
    generic: [...generic],
  }));
}

const stepArb = fc.record({
  kind: fc.constantFrom("status", "status", "unwanted", "delete", "node", "node-rm", "plan"),
  pick: fc.nat(),
  state: fc.constantFrom<TaskState>("running", "complete", "failed", "orphaned"),
});

type Step = typeof stepArb extends fc.Arbitrary<infer T> ? T : never;

function stepChanges(view: StateView, { kind, pick, state }: Step): Change[] {
  const tasks = [...view.table("tasks").all()];
  const nodes = [...view.table("nodes").all()];
  const task = tasks[pick % Math.max(1, tasks.length)];
  const node = nodes[pick % Math.max(1, nodes.length)];
  if (task !== undefined) {
    const { id } = task;
    if (kind === "status") return [{ op: "taskStatus", id, status: aStatus(state) }];
    const fields = { desiredState: "shutdown" as const };
    if (kind === "unwanted") return [{ op: "patch", table: "tasks", id, fields }];
    if (kind === "delete") return [{ op: "delete", table: "tasks", id }];
  }
  if (node === undefined) return [];
  if (kind === "node-rm") return [{ op: "delete", table: "nodes", id: node.id }];
  if (kind !== "node") return [];
  const description = node.description && {
    ...node.description,
    resources: { ...node.description.resources, nanoCpus: (pick % 5) * 1e9 },
  };
  return [{ op: "patch", table: "nodes", id: node.id, fields: { description } }];
}

t.test("accounting is exact after any history", async t => {
  let compared = 0;
  fc.assert(
    fc.property(worldArb, fc.array(stepArb, { maxLength: 25 }), ({ nodes, services }, steps) => {
      const world = aWorld();
      const { store } = world;
      const tracker = new ClusterTracker(new DemandCache());
      tracker.reset(store.view);
      store.onCommit(({ events }) => {
        for (const event of events) tracker.observe(event, store.view);
      });
      put(store, [...nodes.flatMap(nodeChanges), ...services.flatMap(serviceChanges)]);
      for (const step of steps) {
        if (step.kind === "plan") planOnce(world);
        else put(store, stepChanges(store.view, step));
        const fresh = new ClusterTracker(new DemandCache());
        fresh.reset(store.view);
        compared += 1;
        const [kept, read] = [tracker, fresh].map(one => portrait(one, store.view));
        if (JSON.stringify(kept) !== JSON.stringify(read)) return false;
      }
      return true;
    }),
    { numRuns: 100 },
  );
  t.ok(compared > 100, `${compared} states`);
});

t.test("spread is level within one, by node and by zone", async t => {
  let placed = 0;
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 0, max: 40 }),
      fc.boolean(),
      (zones, replicas, spread) => {
        const plain = { cpus: 0, gib: 0, gpus: 0, max: 0, port: 0, constraint: "" };
        const world = aWorld();
        const nodes = zones.map(zone => ({ cpus: 1, gib: 1, gpus: 0, zone, usable: true }));
        put(world.store, [
          ...nodes.flatMap((node, i) => nodeChanges(node, i)),
          ...serviceChanges({ ...plain, replicas, spread, strategy: "spread" }, 0),
        ]);
        settle(world);
        const { view } = world.store;
        const perNode = zones.map((_, i) => view.tasksOfNode(`n${i}`).length);
        const groups = spread ? [...new Set(zones)] : zones.map((_, i) => String(i));
        const counts = groups.map(group =>
          perNode.reduce((sum, count, i) => {
            const own = spread ? zones[i] === group : String(i) === group;
            return sum + (own ? count : 0);
          }, 0),
        );
        const total = counts.reduce((sum, count) => sum + count, 0);
        placed += total;
        return total === replicas && Math.max(...counts) - Math.min(...counts) <= 1;
      },
    ),
    { numRuns: 100 },
  );
  t.ok(placed > 20, `${placed} placed`);
});

const EASY = { cpus: 0, gib: 0, gpus: 0, max: 0, port: 0, constraint: "", spread: false };
const ROOMY = { cpus: 8, gib: 16, gpus: 0, zone: "a", usable: true };

/** Plans of which each does next to nothing. */
const limitsArb: fc.Arbitrary<PlanLimits> = fc.record({
  changes: fc.integer({ min: 1, max: 4 }),
  nodeLooks: fc.integer({ min: 1, max: 7 }),
  taskLooks: fc.integer({ min: 1, max: 10 }),
});

t.test("portions of a plan come to the same as the whole of it", async t => {
  let [placed, plans] = [0, 0];
  fc.assert(
    fc.property(worldArb, limitsArb, ({ nodes, services }, limits) => {
      // More plans in a row than a service may have would let the next one in between.
      const few = services.map(sketch => ({ ...sketch, replicas: Math.min(9, sketch.replicas) }));
      const changes = [...nodes.flatMap(nodeChanges), ...few.flatMap(serviceChanges)];
      const [whole, portioned] = [aWorld(), aWorld(limits)];
      for (const { store } of [whole, portioned]) put(store, changes);
      settle(whole);
      plans += settle(portioned);
      // Why a task waits is told as of the time of its plan, so the words may differ.
      const [one, other] = [whole, portioned].map(({ store: { view } }) =>
        [...view.table("tasks").all()].map(({ id, nodeId }) => `${id} ${nodeId}`),
      );
      placed += one?.filter(line => !line.endsWith(" ")).length ?? 0;
      return one?.join("\n") === other?.join("\n");
    }),
    { numRuns: 150 },
  );
  t.ok(placed > 50 && plans > 500, `${placed} placed in ${plans} plans`);
});

/** The node that looking at all of them finds best for a task, by the rules alone. */
function bestNode(view: StateView, task: Task): string {
  const tracker = new ClusterTracker(new DemandCache());
  tracker.reset(view);
  tracker.read(view);
  const demand = demandOf(specOfTask(view, task)?.spec ?? {});
  const filters = filtersFor(demand);
  const { serviceId } = task;
  const candidates = [...tracker.nodes()]
    .filter(info => refusedBy(filters, info, demand, serviceId) === null)
    .map(info => ({
      nodeId: info.node.id,
      own: serviceTasks(info, serviceId),
      tasks: info.tasks,
      reserved: reservedShare(info),
      failures: 0,
    }));
  return candidates.sort(comparatorFor(demand.strategy))[0]?.nodeId ?? "";
}

t.test("each task goes to the best node, whatever happens in between", async t => {
  let placed = 0;
  const plainArb = serviceArb
    .filter(({ strategy }) => strategy !== "random")
    .map(sketch => ({ ...sketch, spread: false }));
  fc.assert(
    fc.property(
      fc.array(nodeArb, { minLength: 1, maxLength: 7 }),
      fc.array(plainArb, { minLength: 1, maxLength: 4 }),
      fc.array(stepArb, { maxLength: 30 }),
      fc.integer({ min: 1, max: 5 }),
      (nodes, services, steps, nodeLooks) => {
        const world = aWorld({ changes: 1, nodeLooks, taskLooks: 100 });
        const { view } = world.store;
        put(world.store, [...nodes.flatMap(nodeChanges), ...services.flatMap(serviceChanges)]);
        for (const step of steps) {
          if (step.kind === "status" && step.state === "failed") continue;
          if (step.kind !== "plan") put(world.store, stepChanges(view, step));
          const ctx = { nowMs: world.clock.nowMs(), ids };
          const { changes } = world.scheduler.plan(view, SCHEDULER_KEY, ctx);
          for (const change of changes) {
            if (change.op !== "patch" || change.table !== "tasks") return false;
            const task = view.table("tasks").get(change.id);
            const { nodeId } = change.fields;
            if (task === undefined || nodeId === undefined) continue;
            placed += 1;
            if (nodeId !== bestNode(view, task)) return false;
          }
          put(world.store, changes);
        }
        return true;
      },
    ),
    { numRuns: 150 },
  );
  t.ok(placed > 200, `${placed} placed`);
});

t.test("nodes are found in order of level and place", async t => {
  const moveArb = fc.tuple(fc.nat({ max: 99 }), fc.nat({ max: 4 }));
  fc.assert(
    fc.property(fc.array(moveArb, { maxLength: 200 }), moveArb, (moves, [from, level]) => {
      const levels = new NodeLevels(100);
      const levelOf = new Map<number, number>();
      for (const [place, to] of moves) {
        levels.move(place, to);
        levelOf.set(place, to);
      }
      const expected = [...levelOf]
        .filter(([place, at]) => at > level || (at === level && place >= from))
        .sort(([placeA, a], [placeB, b]) => a - b || placeA - placeB)[0];
      t.same(
        levels.next(level, from),
        expected === undefined ? null : { level: expected[1], place: expected[0] },
      );
    }),
  );
});

t.test("a large service is planned in portions", async t => {
  const world = aWorld();
  const replicas = 2 * CHANGES_PER_PLAN_MAX + 1;
  put(world.store, [
    ...nodeChanges(ROOMY, 0),
    ...serviceChanges({ ...EASY, replicas, strategy: "spread" }, 0),
  ]);
  const first = planOnce(world);
  t.equal(first.changes.length, CHANGES_PER_PLAN_MAX);
  t.equal(first.wakeAtMs, world.clock.nowMs(), "the rest is asked for at once");
  t.equal(settle(world), 3);
  t.equal(world.store.view.tasksOfNode("n0").length, replicas);

  const full = aWorld();
  put(full.store, [
    ...nodeChanges({ ...ROOMY, usable: false }, 0),
    ...serviceChanges({ ...EASY, replicas, strategy: "spread" }, 0),
  ]);
  t.equal(settle(full), 4);
  const untold = placements(full.store.view).filter(line => !line.includes("not available"));
  t.same(untold, [], "every task is told why it waits, in portions too");
});

t.test("no service starves behind others that keep it busy", async t => {
  const world = aWorld();
  world.store.put(...nodeChanges(ROOMY, 0));
  const { view } = world.store;
  const easy = { ...EASY, strategy: "spread" } as const;
  put(world.store, serviceChanges({ ...easy, replicas: CHANGES_PER_PLAN_MAX + 500 }, 0));
  put(world.store, serviceChanges({ ...easy, replicas: 1 }, 1));
  planOnce(world);
  planOnce(world);
  t.equal(view.table("tasks").get("s1.1")?.nodeId, "n0");
});

t.test("only what can change a placement wakes the scheduler", async t => {
  const { store, scheduler, clock } = aWorld();
  const world = { store, scheduler, clock };
  const woken: boolean[] = [];
  store.onCommit(({ events }) => {
    woken.push(events.some(event => [...scheduler.keysOf(event, store.view)].length > 0));
  });
  const woke = (...changes: Change[]) => {
    store.put(...changes);
    return woken.at(-1);
  };
  const status = (id: string, state: "running" | "failed"): Change => ({
    op: "taskStatus",
    id,
    status: aStatus(state, { timestampMs: 1 }),
  });
  const busy = { ...EASY, replicas: 2, max: 1, strategy: "spread" } as const;
  t.equal(woke(...nodeChanges(ROOMY, 0)), false, "a node, and nothing waits");
  t.equal(woke(...serviceChanges(busy, 0)), true, "a task that waits");
  settle(world);
  t.equal(store.view.table("tasks").get("s0.2")?.status.state, "pending");
  t.equal(woke(status("s0.1", "running")), false, "it runs: no room comes of that");
  t.equal(woke(...nodeChanges({ ...ROOMY, usable: false }, 1)), true, "a node, and a task waits");
  settle(world);
  t.equal(woke(status("s0.1", "failed")), true, "room is free again");
  settle(world);
  t.equal(store.view.table("tasks").get("s0.2")?.nodeId, "n0");
  t.equal(woke(status("s0.2", "failed")), false, "nothing waits any more");
});

t.test("a plan that was not applied is made again", async t => {
  const { store, scheduler, clock } = aWorld();
  store.put(...nodeChanges(ROOMY, 0));
  store.put(...serviceChanges({ ...EASY, replicas: 3, strategy: "spread" }, 0));
  const ctx = { nowMs: clock.nowMs(), ids };
  const first = scheduler.plan(store.view, SCHEDULER_KEY, ctx);
  t.equal(first.changes.length, 3);
  t.same(scheduler.plan(store.view, SCHEDULER_KEY, ctx).changes, first.changes);
  t.same(scheduler.plan(store.view, "other", ctx).changes, []);
  t.ok(first.changes.every(change => change.op === "patch" && change.ifVersion !== undefined));
});

t.test("an explanation is not written again and again", async t => {
  const world = aWorld();
  const { store, clock } = world;
  store.put(...nodeChanges({ ...ROOMY, gib: 1 }, 0));
  store.put(...serviceChanges({ ...EASY, replicas: 1, gib: 3, strategy: "spread" }, 0));
  settle(world);
  const errOf = () => store.view.table("tasks").get("s0.1")?.status.err ?? "";
  t.match(errOf(), /at most 1 GiB free on n0$/);
  store.put(...nodeChanges({ ...ROOMY, gib: 2 }, 1));
  const held = planOnce(world);
  t.same(held.changes, [], "only numbers moved");
  t.equal(held.wakeAtMs, clock.nowMs() + EXPLAIN_REFRESH_MS);
  clock.advance(EXPLAIN_REFRESH_MS);
  t.equal(planOnce(world).changes.length, 1);
  t.match(errOf(), /\(insufficient resources on 2 nodes\): .* at most 2 GiB free on n1$/);
  t.equal(planOnce(world).wakeAtMs, null);
});

t.test("every filter has a phrase for one and for many", async t => {
  for (const { name, phrase } of FILTERS) {
    t.match(phrase(2), name === "max replicas" ? /limit exceed$/ : /2 nodes/, name);
    t.notMatch(phrase(1), /nodes/, name);
  }
});
