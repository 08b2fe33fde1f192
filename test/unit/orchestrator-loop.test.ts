import t from "tap";
import { newAllocators } from "../../src/allocator/core/allocator.ts";
import { SwarmError } from "../../src/base/errors.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { type Logger, silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Change } from "../../src/model/change.ts";
import { EMPTY_PLAN, type Planner } from "../../src/model/planner.ts";
import type { TaskState } from "../../src/model/task-state.ts";
import { reaperPlanner } from "../../src/orchestrator/core/reaper.ts";
import { servicePlanner } from "../../src/orchestrator/core/service-planner.ts";
import { PlannerLoop } from "../../src/orchestrator/loop.ts";
import { Scheduler } from "../../src/scheduler/core/scheduler.ts";
import type { StateStore } from "../../src/state/ports.ts";
import { eventually } from "../support/eventually.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

/** A store that keeps what was submitted, and can refuse it. */
class Recorder implements StateStore {
  readonly inner: MemoryStore;
  readonly batches: (readonly Change[])[] = [];
  readonly refusals: SwarmError[] = [];

  constructor(inner: MemoryStore) {
    this.inner = inner;
  }

  get view() {
    return this.inner.view;
  }

  async submit(changes: readonly Change[], signal: AbortSignal) {
    const refusal = this.refusals.shift();
    if (refusal !== undefined) throw refusal;
    this.batches.push(changes);
    return this.inner.submit(changes, signal);
  }

  watch(options: { readonly maxCommits: number }) {
    return this.inner.watch(options);
  }

  onCommit(listener: Parameters<StateStore["onCommit"]>[0]) {
    return this.inner.onCommit(listener);
  }

  onRestore(listener: () => void) {
    return this.inner.onRestore(listener);
  }
}

class Harness {
  readonly clock = new VirtualClock();
  readonly memory = new MemoryStore(this.clock);
  readonly store = new Recorder(this.memory);
  readonly errors: string[] = [];
  #abort: AbortController | null = null;
  #running: Promise<void> = Promise.resolve();

  start(
    planners: readonly Planner[] = [servicePlanner, newAllocators().tasks, reaperPlanner],
  ): void {
    const logger: Logger = { ...silentLogger, error: message => void this.errors.push(message) };
    const { clock, store } = this;
    const ids = new RngIdSource(new SeededRng(1));
    const loop = new PlannerLoop({}, { store, clock, ids, logger, planners });
    this.#abort = new AbortController();
    this.#running = loop.run(this.#abort.signal);
  }

  async stop(): Promise<void> {
    this.#abort?.abort();
    await this.#running;
  }

  /** Lets time pass, from timer to timer, until it holds. */
  async until(what: string, probe: () => boolean): Promise<void> {
    await eventually(
      () => {
        if (probe()) return true;
        const nextMs = this.clock.nextAtMs() ?? 0;
        this.clock.advance(Math.max(1, nextMs - this.clock.monoMs()));
        return false;
      },
      { what, everyMs: 0 },
    );
  }

  /** Lets the loop do all it wants to do at this time. */
  async rest(): Promise<void> {
    let idle = 0;
    let seen = this.store.batches.length;
    await this.until("the loop rests", () => {
      idle = this.store.batches.length === seen ? idle + 1 : 0;
      seen = this.store.batches.length;
      return idle > 20;
    });
  }

  states(serviceId: string): string {
    const tasks = this.memory.view.tasksOfService(serviceId);
    return tasks.map(task => `${task.desiredState}/${task.status.state}`).join(" ");
  }

  runAll(serviceId: string): void {
    for (const task of this.memory.view.tasksOfService(serviceId)) {
      const state = task.desiredState === "running" ? "running" : "shutdown";
      this.memory.put(
        { op: "patch", table: "tasks", id: task.id, fields: { nodeId: "n1" } },
        { op: "taskStatus", id: task.id, status: aStatus(state) },
      );
    }
  }
}

function replicated(id: string, replicas: number) {
  return createService(
    aService({ id, spec: { Name: id, Mode: { Replicated: { Replicas: replicas } } } }),
  );
}

t.test("commits are planned, wake-ups come back", async t => {
  const h = new Harness();
  h.memory.put({ op: "create", table: "nodes", row: aNode({ id: "n1" }) });
  h.start();
  h.memory.put(...replicated("web", 1));
  await h.until("the task is pending", () => h.states("web") === "running/pending");
  h.runAll("web");
  const [task] = h.memory.view.tasksOfService("web");
  h.memory.put({ op: "taskStatus", id: task?.id ?? "", status: aStatus("failed") });
  await h.until("a replacement waits", () => h.states("web").includes("ready/"));
  const beforeMs = h.clock.nowMs();
  await h.until("it may start", () => !h.states("web").includes("ready/"));
  const waitedMs = h.clock.nowMs() - beforeMs;
  t.ok(waitedMs > 4900 && waitedMs < 5100, `restart delay: ${waitedMs} ms`);
  await h.stop();
  h.memory.put(...replicated("late", 1));
  await h.rest();
  t.equal(h.states("late"), "", "a stopped loop plans nothing");
});

t.test("a new leader has nothing to do for a healthy cluster", async t => {
  const h = new Harness();
  h.memory.put({ op: "create", table: "nodes", row: aNode({ id: "n1" }) });
  h.memory.put(...replicated("web", 7));
  h.start();
  await h.rest();
  h.runAll("web");
  await h.rest();
  await h.stop();
  const batches = h.store.batches.length;
  t.ok(batches > 0);
  h.start();
  await h.rest();
  await h.stop();
  t.equal(h.store.batches.length, batches);
});

t.test("large plans go in bounded batches", async t => {
  const h = new Harness();
  h.start();
  h.memory.put(...replicated("web", 950));
  await h.until("all are there", () => h.memory.view.tasksOfService("web").length === 950);
  await h.rest();
  await h.stop();
  t.ok(h.store.batches.every(batch => batch.length <= 200));
  t.equal(h.memory.view.tasksOfService("web").filter(x => x.status.state === "new").length, 0);
});

t.test("a plan of independent changes is submitted all at once", async t => {
  const rows = Array.from({ length: 500 }, (_, i) => aNode({ id: `x${i}` }));
  const planner: Planner = {
    name: "independent",
    changesAreIndependent: true,
    keysOf: () => [],
    allKeys: () => ["all"],
    plan: view => ({
      changes: rows
        .filter(({ id }) => view.table("nodes").get(id) === undefined)
        .map((row): Change => ({ op: "create", table: "nodes", row })),
      wakeAtMs: null,
      notes: [],
    }),
  };
  const harness = new Harness();
  const asked: number[] = [];
  const submit = harness.store.submit.bind(harness.store);
  harness.store.submit = async (changes, signal) => {
    asked.push(harness.memory.view.table("nodes").size);
    return submit(changes, signal);
  };
  harness.start([planner]);
  await harness.until("all are there", () => harness.memory.view.table("nodes").size === 500);
  t.same(asked, [0, 0, 0], "none waits for the one before");
  await harness.stop();

  const refused = new Harness();
  refused.store.refusals.push(new SwarmError("out_of_sequence", "update out of sequence"));
  refused.start([planner]);
  await refused.until("all are there", () => refused.memory.view.table("nodes").size === 500);
  t.equal(refused.store.batches.length, 3, "two at once, and what was refused once more");
  await refused.stop();
});

t.test("after a round that took long the loop waits as long", async t => {
  const harness = new Harness();
  const { clock, memory } = harness;
  const times: { readonly fromMs: number; readonly toMs: number }[] = [];
  const planner: Planner = {
    name: "slow",
    keysOf: () => ["all"],
    allKeys: () => ["all"],
    plan: () => {
      const fromMs = clock.monoMs();
      clock.advance(60);
      times.push({ fromMs, toMs: clock.monoMs() });
      return EMPTY_PLAN;
    },
  };
  harness.start([planner]);
  await harness.until("the first round", () => times.length === 1);
  memory.put({ op: "create", table: "nodes", row: aNode({ id: "x" }) });
  await harness.until("the second round", () => times.length === 2);
  const [first, second] = times;
  const pauseMs = (second?.fromMs ?? 0) - (first?.toMs ?? 0);
  t.ok(pauseMs >= 60 && pauseMs < 100, `${pauseMs} ms`);
  await harness.stop();
});

t.test("that a task runs is news where somebody waits for it", async t => {
  const { memory } = new Harness();
  const spec = { Name: "web" };
  const updateStatus = {
    state: "updating",
    startedAtMs: 1,
    completedAtMs: 0,
    message: "",
  } as const;
  memory.put(
    ...createService(aService({ id: "plain", spec })),
    ...createService(aService({ id: "updating", spec: { Name: "b" }, updateStatus })),
    ...createService(
      aService({ id: "beside", spec: { Name: "c", UpdateConfig: { Order: "start-first" } } }),
    ),
  );
  const woken = (serviceId: string, state: TaskState): readonly string[] => {
    const stamps = { version: 1, createdAtMs: 0, updatedAtMs: 0 };
    const before = { ...aTask({ id: "t", serviceId, nodeId: "n1" }), ...stamps };
    const after = { ...before, status: aStatus(state) };
    return [...servicePlanner.keysOf({ table: "tasks", id: "t", before, after }, memory.view)];
  };
  t.same(woken("plain", "running"), []);
  t.same(woken("plain", "failed"), ["plain"]);
  t.same(woken("updating", "running"), ["updating"]);
  t.same(woken("beside", "running"), ["beside"]);
  t.same(woken("gone", "running"), []);
});

t.test("small plans of many keys share a batch", async t => {
  const h = new Harness();
  for (let i = 0; i < 30; i++) h.memory.put(...replicated(`s${i}`, 2));
  h.start([servicePlanner]);
  await h.rest();
  await h.stop();
  t.equal(h.store.batches.length, 1);
  t.equal(h.store.batches[0]?.length, 60);
});

t.test("what was refused is planned anew", async t => {
  const h = new Harness();
  h.store.refusals.push(
    new SwarmError("out_of_sequence", "update out of sequence"),
    new SwarmError("unavailable", "no quorum"),
    new SwarmError("unknown_outcome", "leadership lost"),
  );
  h.memory.put(...replicated("web", 3));
  h.start();
  await h.until("three pending", () =>
    h.states("web").startsWith("running/pending running/pending running/pending"),
  );
  await h.stop();
  t.equal(h.memory.view.tasksOfService("web").length, 3);
});

t.test("a bad planner harms nobody else", async t => {
  const h = new Harness();
  const bad: Planner = {
    name: "bad",
    keysOf: () => {
      throw new Error("no keys");
    },
    allKeys: () => ["x"],
    plan: () => {
      throw new Error("no plan");
    },
  };
  const lawless: Planner = {
    name: "lawless",
    keysOf: () => [],
    allKeys: () => ["y"],
    plan: view => ({
      changes: [...view.table("tasks").all()].map(({ id }) => ({
        op: "delete" as const,
        table: "tasks" as const,
        id,
      })),
      wakeAtMs: null,
      notes: [],
    }),
  };
  h.memory.put(...replicated("web", 1));
  h.start([servicePlanner, lawless, bad]);
  await h.until("the service has its task", () => h.states("web") === "running/new");
  await h.rest();
  await h.stop();
  t.equal(h.states("web"), "running/new");
  t.ok(h.errors.includes("a planner failed"));
  t.ok(h.errors.includes("a plan breaks the rules and is dropped"));
  t.ok(h.errors.length < 40, "with growing pauses");
});

t.test("with the scheduler, a service gets onto nodes and off a drained one", async t => {
  const h = new Harness();
  const onNodes = () =>
    h.memory.view
      .tasksOfService("web")
      .filter(task => task.status.state === "assigned" && task.desiredState !== "shutdown")
      .map(task => task.nodeId)
      .sort()
      .join();
  for (const id of ["n1", "n2"]) {
    h.memory.put({ op: "create", table: "nodes", row: aNode({ id }) });
  }
  const { services, tasks } = newAllocators();
  h.start([servicePlanner, services, tasks, new Scheduler(), reaperPlanner]);
  h.memory.put(...replicated("web", 4));
  await h.until("two on each node", () => onNodes() === "n1,n1,n2,n2");
  const spec = { Role: "worker", Availability: "drain" } as const;
  h.memory.put({ op: "patch", table: "nodes", id: "n2", fields: { spec } });
  await h.until("all on the other", () => onNodes() === "n1,n1,n1,n1");
  await h.stop();
  t.same(h.errors, []);
});
