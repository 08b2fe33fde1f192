import fc from "fast-check";
import t from "tap";
import type { Change } from "../../src/model/change.ts";
import type { Task } from "../../src/model/rows.ts";
import { type StateView, specOfTask } from "../../src/model/view.ts";
import { ClusterTracker } from "../../src/scheduler/core/cluster-info.ts";
import { DemandCache, demandOf } from "../../src/scheduler/core/demand.ts";
import { filtersFor, refusedBy } from "../../src/scheduler/core/filters.ts";
import { NodeLevels } from "../../src/scheduler/core/levels.ts";
import { serviceTasks } from "../../src/scheduler/core/node-info.ts";
import { comparatorFor, reservedShare } from "../../src/scheduler/core/rank.ts";
import { PLAN_LIMITS, type PlanLimits, SCHEDULER_KEY } from "../../src/scheduler/core/scheduler.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import {
  aWorld,
  ids,
  nodeArb,
  nodeChanges,
  placements,
  planOnce,
  put,
  serviceArb,
  serviceChanges,
  settle,
  stepArb,
  stepChanges,
  worldArb,
} from "../support/scheduler-world.ts";

/** Plans of which each does next to nothing. */
const limitsArb: fc.Arbitrary<PlanLimits> = fc.record({
  changes: fc.integer({ min: 1, max: 4 }),
  nodeLooks: fc.integer({ min: 1, max: 7 }),
  taskLooks: fc.integer({ min: 1, max: 10 }),
  nodeTaskReads: fc.integer({ min: 1, max: 10 }),
  plansToWarmUp: fc.integer({ min: 1, max: 3 }),
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
  tracker.reset();
  tracker.read(view, PLAN_LIMITS.nodeTaskReads);
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
        const world = aWorld({ ...PLAN_LIMITS, changes: 1, nodeLooks, taskLooks: 100 });
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
  t.ok(placed > 60, `${placed} placed`);
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

t.test("the nodes of a large cluster are read in portions, while they come and go", async t => {
  const id = (i: number): string => `n${String(i).padStart(5, "0")}`;
  const created = (i: number, Availability: "active" | "drain"): Change => {
    const row = aNode({ id: id(i), spec: { Role: "worker", Availability } });
    return { op: "create", table: "nodes", row };
  };
  const removed = (i: number): Change => ({ op: "delete", table: "nodes", id: id(i) });
  const world = aWorld();
  const { store } = world;
  put(
    store,
    Array.from({ length: 9_000 }, (_, i) => created(10 * i, i < 8_990 ? "drain" : "active")),
  );
  put(store, [
    ...createService(aService({ id: "s1", spec: { Name: "s1" } })),
    ...Array.from({ length: 30 }, (_, i): Change => {
      const row = aTask({ id: `t${i}`, serviceId: "s1", slot: i, status: aStatus("pending") });
      return { op: "create", table: "tasks", row };
    }),
  ]);
  world.scheduler.allKeys(store.view);
  const first = planOnce(world);
  t.match(first, { changes: [], wakeAtMs: world.clock.nowMs() }, "the first portion");
  const active = { Role: "worker", Availability: "active" } as const;
  // Before and behind what has been read.
  for (const at of [5, 89_005]) {
    const patch: Change = {
      op: "patch",
      table: "nodes",
      id: id(at + 15),
      fields: { spec: active },
    };
    put(store, [created(at, "active"), removed(at + 5), patch]);
    put(store, [created(at + 1, "active"), removed(at + 1)]);
  }
  put(store, [removed(89_990)]);
  t.ok(settle(world) >= 3);
  const used = new Set(placements(store.view).map(line => line.split(" ")[1]));
  const last = Array.from({ length: 9 }, (_, i) => 89_900 + 10 * i);
  t.same([...used].sort(), [5, 20, 89_005, 89_020, ...last].map(id));
});
