import t from "tap";
import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Task } from "../../src/model/rows.ts";
import { servicePlanner } from "../../src/orchestrator/core/service-planner.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** What the simulator has found, each as small as it can be shown. */

const HOUR_MS = 3_600_000;
const NS_PER_S = 1_000_000_000;

t.test("a restart's delay does not grow by what an earlier leader's clock was ahead", async t => {
  const ahead = new VirtualClock();
  ahead.advance(HOUR_MS);
  const nowMs = ahead.nowMs() - HOUR_MS;
  const store = new MemoryStore(ahead);
  const TaskTemplate = { RestartPolicy: { Condition: "any", Delay: 5 * NS_PER_S } } as const;
  const spec = { Name: "web", TaskTemplate, Mode: { Replicated: { Replicas: 1 } } };
  store.put(
    { op: "create", table: "nodes", row: aNode({ id: "n1" }) },
    ...createService(aService({ id: "s1", spec })),
    {
      op: "create",
      table: "tasks",
      row: aTask({ id: "t1", serviceId: "s1", nodeId: "n1", status: aStatus("running") }),
    },
  );
  store.put({ op: "taskStatus", id: "t1", status: aStatus("failed") });

  const ids = new RngIdSource(new SeededRng(1));
  store.put(...servicePlanner.plan(store.view, "s1", { nowMs, ids }).changes);
  const next = store.view.tasksOfService("s1").find((task: Task) => task.id !== "t1");
  t.equal(next?.desiredState, "ready");
  t.equal(next?.startAfterMs, nowMs + 5_000);
});
