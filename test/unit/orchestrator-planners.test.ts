import { performance } from "node:perf_hooks";
import fc from "fast-check";
import t from "tap";
import { deepEqual } from "../../src/base/deep-equal.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { NS_PER_S } from "../../src/model/defaults.ts";
import type { ServiceSpec, UpdateConfig } from "../../src/model/service-spec.ts";
import { isTerminal, isWanted } from "../../src/model/task-state.ts";
import { specOfTask } from "../../src/model/view.ts";
import { checkPlan } from "../../src/orchestrator/core/plan-check.ts";
import { parseGoDurationMs } from "../../src/orchestrator/core/policy.ts";
import { reaperPlanner } from "../../src/orchestrator/core/reaper.ts";
import { servicePlanner } from "../../src/orchestrator/core/service-planner.ts";
import { MAX_CHANGES_PER_TRANSACTION } from "../../src/state/core/transaction-codec.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNetwork, aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";
import { SimCluster } from "../support/sim-cluster.ts";

function spec(image: string, replicas: number, update: UpdateConfig = {}): ServiceSpec {
  return {
    Name: "web",
    TaskTemplate: { ContainerSpec: { Image: image } },
    Mode: { Replicated: { Replicas: replicas } },
    UpdateConfig: update,
    RollbackConfig: update,
  };
}

function global(image: string, update: UpdateConfig = {}): ServiceSpec {
  return {
    Name: "agent",
    TaskTemplate: { ContainerSpec: { Image: image } },
    Mode: { Global: {} },
    UpdateConfig: update,
  };
}

/** Agents and planners work until the cluster is at rest. */
function rest(sim: SimCluster, turns = 60): void {
  for (let i = 0; i < turns; i++) {
    sim.settle();
    sim.step(1);
    sim.clock.advance(2000);
  }
  sim.settle();
}

function imagesOf(sim: SimCluster, serviceId: string): string[] {
  return sim
    .running(serviceId)
    .map(task => specOfTask(sim.store.view, task)?.spec.TaskTemplate?.ContainerSpec?.Image ?? "?");
}

const updateConfig = fc.record({
  Parallelism: fc.integer({ min: 0, max: 3 }),
  Delay: fc.constantFrom(0, 3 * NS_PER_S),
  Monitor: fc.constantFrom(NS_PER_S, 5 * NS_PER_S),
  Order: fc.constantFrom("stop-first" as const, "start-first" as const),
  FailureAction: fc.constantFrom("pause" as const, "continue" as const, "rollback" as const),
});

t.test("an update leaves at most `parallelism` slots without a running task", t => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 1, max: 6 }),
      updateConfig,
      (seed, replicas, update) => {
        const sim = new SimCluster(seed);
        sim.addNodes(3);
        sim.addService("web", spec("a", replicas, update));
        rest(sim, 8);
        sim.updateService("web", spec("b", replicas, update));
        const allowed = update.Parallelism === 0 ? replicas : update.Parallelism;
        for (let turn = 0; turn < 300; turn++) {
          sim.settle();
          const up = new Set(sim.running("web").map(task => task.slot)).size;
          const least = update.Order === "start-first" ? replicas : replicas - allowed;
          if (up < least) t.fail(`only ${up} slots of ${replicas} run`);
          sim.step(0.4);
          sim.clock.advance(250);
        }
        rest(sim, 20);
        t.same(new Set(imagesOf(sim, "web")), new Set(["b"]));
        t.equal(sim.running("web").length, replicas);
        const status = sim.store.view.table("services").get("web")?.updateStatus;
        t.match(status, { state: "completed", message: "update completed" });
      },
    ),
    { numRuns: 15 },
  );
  t.end();
});

t.test("with host-mode ports start-first needs a free node, and only its lack stops first", t => {
  let [kept, stopped] = [0, 0];
  fc.assert(
    fc.property(
      fc.nat(),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 0, max: 2 }),
      fc.integer({ min: 1, max: 3 }),
      (seed, replicas, spare, Parallelism) => {
        const sim = new SimCluster(seed);
        sim.addNodes(replicas + spare);
        const update = { Parallelism, Monitor: NS_PER_S, Order: "start-first" as const };
        const Ports = [{ TargetPort: 80, PublishedPort: 80, PublishMode: "host" as const }];
        const withPort = (image: string): ServiceSpec => {
          return { ...spec(image, replicas, update), EndpointSpec: { Ports } };
        };
        sim.addService("web", withPort("a"));
        rest(sim, 8);
        sim.updateService("web", withPort("b"));
        const least = replicas - Math.max(0, Math.min(Parallelism, replicas) - spare);
        let fewest = replicas;
        for (let turn = 0; turn < 400; turn++) {
          sim.settle();
          const up = new Set(sim.running("web").map(task => task.slot)).size;
          fewest = Math.min(fewest, up);
          sim.step(0.4);
          sim.clock.advance(250);
        }
        if (fewest < least) t.fail(`only ${fewest} slots of ${replicas} run, ${spare} spare`);
        if (fewest === replicas) kept += 1;
        else stopped += 1;
        rest(sim, 20);
        t.same(new Set(imagesOf(sim, "web")), new Set(["b"]));
        t.equal(sim.running("web").length, replicas);
      },
    ),
    {
      numRuns: 15,
      // A place that another slot had just left was not seen.
      examples: [
        [548117924, 3, 2, 2],
        [594486755, 5, 2, 2],
      ],
    },
  );
  t.ok(kept > 0 && stopped > 0, `${kept} kept all, ${stopped} stopped some first`);
  t.end();
});

const action = fc.oneof(
  { weight: 6, arbitrary: fc.constant("step" as const) },
  { weight: 3, arbitrary: fc.constant("advance" as const) },
  fc.constantFrom(
    "fail" as const,
    "update" as const,
    "scale" as const,
    "node-down" as const,
    "node-up" as const,
    "drain" as const,
    "pause" as const,
  ),
);

t.test("whatever happens, plans keep the rules, are idempotent, and the cluster converges", t => {
  fc.assert(
    fc.property(
      fc.nat(),
      fc.array(action, { minLength: 10, maxLength: 40 }),
      updateConfig,
      (seed, actions, update) => {
        const sim = new SimCluster(seed);
        const config = { ...update, FailureAction: "continue" as const };
        sim.addNodes(3);
        let image = 1;
        let replicas = 3;
        sim.addService("web", spec("v1", replicas, config));
        sim.addService("agent", global("v1", config));
        for (const what of actions) {
          const node = `n${1 + (sim.rng.uint32() % 3)}`;
          if (what === "step") sim.step(0.5);
          else if (what === "advance") sim.clock.advance(sim.rng.uint32() % 8000);
          else if (what === "fail") sim.failOne();
          else if (what === "node-down") sim.setNode(node, "down", "active");
          else if (what === "node-up") sim.setNode(node, "ready", "active");
          else if (what === "drain") sim.setNode(node, "ready", "drain");
          else if (what === "pause") sim.setNode(node, "ready", "pause");
          else {
            if (what === "scale") replicas = sim.rng.uint32() % 6;
            else image += 1;
            sim.updateService("web", spec(`v${image}`, replicas, config));
            sim.updateService("agent", global(`v${image}`, config));
          }
          sim.settle();
        }
        for (const node of ["n1", "n2", "n3"]) sim.setNode(node, "ready", "active");
        rest(sim);
        t.same(imagesOf(sim, "web"), Array(replicas).fill(`v${image}`));
        t.same(imagesOf(sim, "agent"), Array(3).fill(`v${image}`));
        t.same(
          sim
            .running("agent")
            .map(task => task.nodeId)
            .sort(),
          ["n1", "n2", "n3"],
        );
        const left = [...sim.store.view.table("tasks").all()].filter(
          task => !isWanted(task.desiredState) && !isTerminal(task.status.state) && task.nodeId,
        );
        t.same(left, [], "everything that was to stop has stopped");
      },
    ),
    { numRuns: 40 },
  );
  t.end();
});

const limitedRestart = fc.oneof(
  fc.constant({ Condition: "none" as const }),
  fc.record({
    Condition: fc.constantFrom("any" as const, "on-failure" as const),
    MaxAttempts: fc.integer({ min: 1, max: 2 }),
    Delay: fc.constantFrom(0, NS_PER_S),
  }),
);

t.test(
  "an update tries a slot as often as the restart policy says, and leaves one task in it",
  t => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.record({
          Parallelism: fc.integer({ min: 0, max: 2 }),
          Monitor: fc.constant(NS_PER_S),
          Order: fc.constantFrom("stop-first" as const, "start-first" as const),
          FailureAction: fc.constantFrom(
            "pause" as const,
            "continue" as const,
            "rollback" as const,
          ),
          MaxFailureRatio: fc.constantFrom(0, 0.5, 1),
        }),
        limitedRestart,
        fc.boolean(),
        (seed, update, RestartPolicy, isGlobal) => {
          const sim = new SimCluster(seed);
          sim.addNodes(2);
          const of = (Image: string, label: string): ServiceSpec => ({
            ...(isGlobal ? global(Image, update) : spec(Image, 2, update)),
            TaskTemplate: { ContainerSpec: { Image }, RestartPolicy },
            Labels: { label },
          });
          sim.addService("web", of("good", ""));
          rest(sim, 5);
          for (const label of ["a", "b"]) {
            sim.updateService("web", of("bad", label));
            for (let turn = 0; turn < 60; turn++) {
              sim.settle();
              sim.step(0.5);
              sim.failAll("bad");
              sim.clock.advance(500);
            }
            sim.settle();
            const allowed = 1 + ("MaxAttempts" in RestartPolicy ? RestartPolicy.MaxAttempts : 0);
            const tasks = sim.store.view.tasksOfService("web");
            for (const { slot, nodeId, specVersion } of tasks) {
              const inSlot = tasks.filter(
                task => task.slot === slot && (!isGlobal || task.nodeId === nodeId),
              );
              const live = inSlot.filter(task => isWanted(task.desiredState)).length;
              if (live > 1) t.fail(`${live} live tasks in a slot`);
              const tries = inSlot.filter(task => task.specVersion === specVersion).length;
              if (tries > allowed) t.fail(`${tries} tries in a slot, ${allowed} allowed`);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
    t.end();
  },
);

t.test("a rollback gives the service the virtual address that its label asks for", t => {
  const sim = new SimCluster(11);
  sim.addNodes(1);
  const subnets = [{ subnet: "10.4.0.0/24", gateway: "10.4.0.1" }];
  const network = aNetwork({ id: "net", spec: { Name: "net", Driver: "overlay" }, subnets });
  sim.store.put({ op: "create", table: "networks", row: network });
  const on = (image: string, vip: string): ServiceSpec => ({
    ...spec(image, 1, { FailureAction: "rollback", Monitor: 60 * NS_PER_S }),
    TaskTemplate: { ContainerSpec: { Image: image }, Networks: [{ Target: "net" }] },
    Labels: { "swarmd.network.net.vip": vip },
  });
  const vips = (): readonly string[] =>
    sim.store.view
      .table("services")
      .get("web")
      ?.endpoint.virtualIps.map(({ addr }) => addr) ?? [];
  sim.addService("web", on("v1", "10.4.0.7"));
  rest(sim, 5);
  sim.updateService("web", on("v2", "10.4.0.8"));
  const fields = { allocated: false };
  sim.store.put({ op: "patch", table: "services", id: "web", fields });
  rest(sim, 5);
  t.same([imagesOf(sim, "web"), vips()], [["v2"], ["10.4.0.8/24"]]);
  sim.failOne();
  rest(sim, 10);
  t.same([imagesOf(sim, "web"), vips()], [["v1"], ["10.4.0.7/24"]]);
  t.end();
});

t.test("history is bounded and unused specs go", t => {
  const sim = new SimCluster(7);
  sim.addNodes(2);
  sim.addService("web", spec("v0", 2, { Parallelism: 0 }));
  for (let i = 1; i <= 12; i++) {
    sim.updateService("web", spec(`v${i}`, 2, { Parallelism: 0, Monitor: NS_PER_S }));
    rest(sim, 6);
  }
  t.equal(sim.store.view.tasksOfService("web").length, 10, "5 a slot");
  t.ok(sim.store.view.specsOfService("web").length <= 6);
  t.end();
});

t.test("a service that is removed leaves nothing", t => {
  const sim = new SimCluster(8);
  sim.addNodes(2);
  sim.addService("web", spec("v0", 4));
  rest(sim, 5);
  sim.store.put({ op: "patch", table: "services", id: "web", fields: { pendingDelete: true } });
  rest(sim, 5);
  for (const table of ["services", "serviceSpecs", "tasks"] as const) {
    t.equal(sim.store.view.table(table).size, 0, table);
  }
  t.end();
});

t.test("the plan checker knows bad plans", t => {
  const store = new MemoryStore();
  store.put(...createService(aService({ id: "web", spec: spec("a", 1) })));
  const task = aTask({ id: "t1", serviceId: "web", nodeId: "n1", status: aStatus("running") });
  store.put({ op: "create", table: "tasks", row: task });
  const faults = (...changes: Parameters<typeof checkPlan>[1]) =>
    checkPlan(store.view, changes).join("; ");
  const another = aTask({ id: "t2", serviceId: "web" });
  t.match(faults({ op: "create", table: "tasks", row: another }), /slot 1 .* 2 live tasks/);
  t.match(
    faults({ op: "create", table: "tasks", row: { ...another, slot: 2 } }),
    /2 live slots, 1 are wanted/,
  );
  t.match(faults({ op: "create", table: "tasks", row: task }), /created twice/);
  t.match(
    faults({ op: "create", table: "tasks", row: { ...another, serviceId: "x" } }),
    /for no service/,
  );
  t.match(faults({ op: "delete", table: "tasks", id: "t1" }), /deleted alive/);
  t.match(
    faults({ op: "patch", table: "tasks", id: "t1", fields: { desiredState: "ready" } }),
    /desired state goes back/,
  );
  t.match(faults({ op: "taskStatus", id: "t1", status: aStatus("pending") }), /state goes back/);
  t.match(
    faults({ op: "patch", table: "tasks", id: "t1", fields: { nodeId: "n2" } }),
    /moves to another node/,
  );
  t.equal(
    faults(
      { op: "patch", table: "tasks", id: "t1", fields: { desiredState: "shutdown" } },
      { op: "create", table: "tasks", row: another },
    ),
    "",
  );
  t.end();
});

t.test("small words", t => {
  t.equal(parseGoDurationMs("1h30m"), 5_400_000);
  t.equal(parseGoDurationMs("1.5s"), 1500);
  t.equal(parseGoDurationMs("0"), 0);
  t.equal(parseGoDurationMs("soon"), null);
  t.ok(deepEqual({ a: [1, { b: 2 }], c: undefined }, { a: [1, { b: 2 }] }));
  t.notOk(deepEqual({ a: 1 }, { a: 1, b: 2 }));
  t.notOk(deepEqual([1, 2], [2, 1]));
  t.notOk(deepEqual({ 0: 1 }, [1]));
  t.end();
});

t.test("ten thousand tasks are planned, and how long that takes is said", t => {
  const store = new MemoryStore();
  const ids = new RngIdSource(new SeededRng(1));
  for (let i = 0; i < 100; i++) {
    store.put({ op: "create", table: "nodes", row: aNode({ id: `n${i}` }) });
  }
  store.put(...createService(aService({ id: "web", spec: spec("a", 10_000) })));
  const apply = (): number => {
    const plan = servicePlanner.plan(store.view, "web", { nowMs: store.clock.nowMs(), ids });
    for (let i = 0; i < plan.changes.length; i += MAX_CHANGES_PER_TRANSACTION) {
      store.put(...plan.changes.slice(i, i + MAX_CHANGES_PER_TRANSACTION));
    }
    return plan.changes.length;
  };
  const startMs = performance.now();
  while (apply() > 0);
  const createdMs = performance.now() - startMs;
  t.equal(store.view.tasksOfService("web").length, 10_000);
  let turn = 0;
  for (const task of store.view.tasksOfService("web")) {
    const fields = { nodeId: `n${turn++ % 100}`, status: aStatus("running") };
    store.put({ op: "patch", table: "tasks", id: task.id, fields });
  }
  const time = (plan: () => unknown): number => {
    const beforeMs = performance.now();
    for (let i = 0; i < 5; i++) plan();
    return (performance.now() - beforeMs) / 5;
  };
  const ctx = { nowMs: store.clock.nowMs(), ids };
  const idleMs = time(() => servicePlanner.plan(store.view, "web", ctx));
  const reapMs = time(() => reaperPlanner.plan(store.view, "web", ctx));
  t.comment(
    `10,000 tasks: created in ${createdMs.toFixed(0)} ms, an idle plan ${idleMs.toFixed(1)} ms, ` +
      `reaping ${reapMs.toFixed(1)} ms`,
  );
  t.end();
});
