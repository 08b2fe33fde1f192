import t from "tap";
import type { Clock } from "../../src/base/clock.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Planner } from "../../src/model/planner.ts";
import type { Task } from "../../src/model/rows.ts";
import { servicePlanner } from "../../src/orchestrator/core/service-planner.ts";
import { PlannerLoop } from "../../src/orchestrator/loop.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { elapse } from "../support/virtual-run.ts";

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

t.test("a clock that is set back between a plan and its commit delays no restart", async t => {
  const clock = new VirtualClock();
  clock.advance(HOUR_MS);
  const store = new MemoryStore(clock);
  const TaskTemplate = { RestartPolicy: { Condition: "any", Delay: 5 * NS_PER_S } } as const;
  const spec = { Name: "web", TaskTemplate, Mode: { Replicated: { Replicas: 1 } } };
  const row = aTask({
    id: "t1",
    serviceId: "s1",
    nodeId: "n1",
    desiredState: "ready",
    status: aStatus("ready"),
    startAfterMs: clock.nowMs() + HOUR_MS,
  });
  store.put(
    { op: "create", table: "nodes", row: aNode({ id: "n1" }) },
    ...createService(aService({ id: "s1", spec })),
    { op: "create", table: "tasks", row },
  );

  const ids = new RngIdSource(new SeededRng(1));
  const now = { nowMs: clock.nowMs(), ids };
  const early = servicePlanner.plan(store.view, "s1", now);
  t.same(early.changes, [], "its delay runs");
  t.equal(early.wakeAtMs, clock.nowMs() + 5_000);
  store.put(
    ...servicePlanner.plan(store.view, "s1", { ...now, nowMs: early.wakeAtMs ?? 0 }).changes,
  );
  t.equal(store.view.table("tasks").get("t1")?.desiredState, "running");
});

t.test("what waits for a time is looked at again when the clock is set back", async t => {
  const time = new VirtualClock();
  let skewMs = 0;
  const clock: Clock = {
    nowMs: () => time.nowMs() + skewMs,
    monoMs: () => time.monoMs(),
    setTimer: (name, delayMs, fn) => time.setTimer(name, delayMs, fn),
  };
  const plannedAtMs: number[] = [];
  const planner: Planner = {
    name: "waiting",
    keysOf: () => [],
    allKeys: () => ["k"],
    plan: (_view, _key, { nowMs }) => {
      plannedAtMs.push(nowMs);
      return { changes: [], wakeAtMs: nowMs + 60_000, notes: [] };
    },
  };
  const ids = new RngIdSource(new SeededRng(1));
  const store = new MemoryStore(time);
  const deps = { store, clock, ids, logger: silentLogger, planners: [planner] };
  const stop = new AbortController();
  const running = new PlannerLoop({}, deps).run(stop.signal);
  await elapse(time, 1_000);
  t.equal(plannedAtMs.length, 1);
  skewMs = -HOUR_MS;
  await elapse(time, 20_000);
  t.equal(plannedAtMs.length, 2, "soon after, not an hour and a minute later");
  await elapse(time, 30_000);
  t.equal(plannedAtMs.length, 2);
  await elapse(time, 30_000);
  t.equal(plannedAtMs.length, 3, "and when it is due by the new time");
  stop.abort();
  await running;
});
