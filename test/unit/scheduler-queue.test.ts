import fc from "fast-check";
import t from "tap";
import type { Task } from "../../src/model/rows.ts";
import type { StateView } from "../../src/model/view.ts";
import { ServiceQueue } from "../../src/scheduler/core/service-queue.ts";
import {
  aWorld,
  nodeArb,
  nodeChanges,
  planOnce,
  put,
  type ServiceSketch,
  serviceArb,
  serviceChanges,
  stepArb,
  stepChanges,
} from "../support/scheduler-world.ts";

function portrait(queue: ServiceQueue): string {
  const names = (tasks: Iterable<Task>): string[] =>
    [...tasks].map(({ id, version }) => `${id}@${version}`);
  const versions = queue
    .versions()
    .map(({ specVersion, free, bound }) => [specVersion, names(free), names(bound)]);
  return JSON.stringify([versions, names(queue.failed()).sort(), queue.waiting]);
}

function readAnew(view: StateView): ServiceQueue {
  const queue = new ServiceQueue();
  while (!queue.complete) queue.read(view, "s0", 1_000);
  return queue;
}

t.test("a queue that follows the changes is as one that is read anew", async t => {
  let [compared, waiting, failed] = [0, 0, 0];
  const sketchArb: fc.Arbitrary<ServiceSketch> = serviceArb.filter(({ replicas }) => replicas > 3);
  const nodesArb = fc.array(nodeArb, { maxLength: 4 });
  const readArb = fc.tuple(stepArb, fc.nat({ max: 3 }));
  fc.assert(
    fc.property(
      nodesArb,
      sketchArb,
      fc.array(readArb, { maxLength: 40 }),
      (nodes, sketch, steps) => {
        const world = aWorld();
        const { store } = world;
        const { view } = store;
        const queue = new ServiceQueue();
        store.onCommit(({ events }) => {
          for (const { table, id, before, after } of events) {
            if (table === "tasks") queue.observe(id, before, after);
          }
        });
        put(store, [...nodes.flatMap(nodeChanges), ...serviceChanges(sketch, 0)]);
        for (const [step, tasksMax] of steps) {
          if (step.kind === "plan") planOnce(world);
          else put(store, stepChanges(view, step));
          queue.read(view, "s0", tasksMax);
          if (!queue.complete) continue;
          compared += 1;
          waiting += queue.waiting;
          failed += [...queue.failed()].length;
          if (portrait(queue) !== portrait(readAnew(view))) return false;
        }
        return true;
      },
    ),
    { numRuns: 300 },
  );
  t.ok(compared > 200 && waiting > 200 && failed > 0, `${compared}, ${waiting}, ${failed}`);
});

t.test("the first waiting tasks are those of the lowest slots", async t => {
  const world = aWorld();
  const [sketch] = fc.sample(serviceArb, { seed: 1, numRuns: 1 });
  if (sketch === undefined) throw new Error("no sketch");
  put(world.store, serviceChanges({ ...sketch, replicas: 600 }, 0));
  const [version] = readAnew(world.store.view).versions();
  const slots = [...(version?.free ?? [])].map(({ slot }) => slot);
  t.same(
    slots,
    Array.from({ length: 600 }, (_, i) => i + 1),
  );
});
