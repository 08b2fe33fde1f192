import fc from "fast-check";
import t from "tap";
import type { Change } from "../../src/model/change.ts";
import { isTerminal } from "../../src/model/task-state.ts";
import { type StateView, specOfTask } from "../../src/model/view.ts";
import { ClusterTracker } from "../../src/scheduler/core/cluster-info.ts";
import { DemandCache, demandOf } from "../../src/scheduler/core/demand.ts";
import { FILTERS, filtersFor, refusedBy } from "../../src/scheduler/core/filters.ts";
import {
  CHANGES_PER_PLAN_MAX,
  EXPLAIN_REFRESH_MS,
  PLAN_LIMITS,
  SCHEDULER_KEY,
  Scheduler,
} from "../../src/scheduler/core/scheduler.ts";
import { aStatus } from "../support/rows.ts";
import {
  aWorld,
  ids,
  nodeChanges,
  placements,
  planOnce,
  put,
  serviceChanges,
  settle,
  stepArb,
  stepChanges,
  worldArb,
} from "../support/scheduler-world.ts";

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
  tracker.reset();
  tracker.read(view, PLAN_LIMITS.nodeTaskReads);
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
  tracker.read(view, PLAN_LIMITS.nodeTaskReads);
  const infos = [...tracker.nodes()];
  return infos.map(({ node, usedPorts, tasksByService, generic, place: _, ...free }) => ({
    ...free,
    id: node.id,
    version: node.version,
    ports: [...(usedPorts ?? [])].sort(),
    services: [...(tasksByService ?? [])].sort(),
    generic: [...generic],
  }));
}

t.test("accounting is exact after any history", async t => {
  let compared = 0;
  fc.assert(
    fc.property(worldArb, fc.array(stepArb, { maxLength: 25 }), ({ nodes, services }, steps) => {
      const world = aWorld();
      const { store } = world;
      const tracker = new ClusterTracker(new DemandCache());
      tracker.reset();
      store.onCommit(({ events }) => {
        for (const event of events) tracker.observe(event, store.view);
      });
      put(store, [...nodes.flatMap(nodeChanges), ...services.flatMap(serviceChanges)]);
      for (const step of steps) {
        if (step.kind === "plan") planOnce(world);
        else put(store, stepChanges(store.view, step));
        const fresh = new ClusterTracker(new DemandCache());
        fresh.reset();
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

const WARM = { ...PLAN_LIMITS, plansToWarmUp: 1 };

t.test("a large service is planned in portions", async t => {
  const world = aWorld(WARM);
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

  const full = aWorld(WARM);
  put(full.store, [
    ...nodeChanges({ ...ROOMY, usable: false }, 0),
    ...serviceChanges({ ...EASY, replicas, strategy: "spread" }, 0),
  ]);
  t.equal(settle(full), 4);
  const untold = placements(full.store.view).filter(line => !line.includes("not available"));
  t.same(untold, [], "every task is told why it waits, in portions too");
});

t.test("the first plans of a leader are small", async t => {
  const world = aWorld();
  const replicas = 2 * CHANGES_PER_PLAN_MAX;
  put(world.store, [
    ...nodeChanges(ROOMY, 0),
    ...serviceChanges({ ...EASY, replicas, strategy: "spread" }, 0),
  ]);
  const sizes = Array.from({ length: 9 }, () => planOnce(world).changes.length);
  const portion = CHANGES_PER_PLAN_MAX / PLAN_LIMITS.plansToWarmUp;
  t.ok(
    sizes.every((size, i) => size <= (i + 1) * portion),
    sizes.join(),
  );
  t.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    replicas,
  );
});

t.test("no service starves behind others that keep it busy", async t => {
  const world = aWorld(WARM);
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
