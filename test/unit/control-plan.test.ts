import t from "tap";
import { planText } from "../../cli/commands/plan.ts";
import { REHEARSED_TASKS_MAX, rehearse } from "../../src/control/core/rehearsal.ts";
import { createServiceChanges } from "../../src/control/core/service-rows.ts";
import type { ServicePlan } from "../../src/model/service-plan.ts";
import type { ServiceSpec } from "../../src/model/service-spec.ts";
import { anId, aSpec, create, never, refused } from "../support/control-calls.ts";
import { type ControlRig, controlRig, SELF_ID } from "../support/control-rig.ts";
import { aNode, aStatus, aTask } from "../support/rows.ts";

const GIB = 2 ** 30;

/** Workers w1 to w3 with 4 CPUs and 8 GiB each. */
function rigWithWorkers(): ControlRig {
  const rig = controlRig();
  const spec = { Role: "manager", Availability: "drain" } as const;
  rig.store.put({ op: "patch", table: "nodes", id: SELF_ID, fields: { spec } });
  for (const id of ["w1", "w2", "w3"]) {
    rig.store.put({ op: "create", table: "nodes", row: aNode({ id }) });
  }
  return rig;
}

function plan(rig: ControlRig, spec: ServiceSpec, ref = ""): Promise<ServicePlan> {
  const args = { id: anId(), ref, spec, fallbackName: "quiet_lark7" };
  return rig.client.call("service.plan", args, never);
}

function replicas(count: number, fields: Partial<ServiceSpec> = {}): ServiceSpec {
  return aSpec("web", { Mode: { Replicated: { Replicas: count } }, ...fields });
}

function reserving(bytes: number, version = "1"): Partial<ServiceSpec> {
  const Resources = { Reservations: { MemoryBytes: bytes } };
  return { TaskTemplate: { ContainerSpec: { Image: `app:${version}` }, Resources } };
}

function counts(result: ServicePlan): readonly string[] {
  return result.nodes.map(
    ({ hostname, kept, added, removed }) => `${hostname} ${kept} ${added} ${removed}`,
  );
}

/** A service with running tasks on these nodes. */
async function running(
  rig: ControlRig,
  spec: ServiceSpec,
  nodes: readonly string[],
): Promise<string> {
  const serviceId = await create(rig, spec);
  const fields = { allocated: true };
  rig.store.put({ op: "patch", table: "services", id: serviceId, fields });
  for (const [i, nodeId] of nodes.entries()) {
    const status = aStatus("running");
    const row = aTask({ id: `t${i}`, serviceId, slot: i + 1, nodeId, status, runningSinceMs: 1 });
    rig.store.put({ op: "create", table: "tasks", row });
  }
  return serviceId;
}

t.test("a creation is planned, and nothing of it is done", async t => {
  const rig = rigWithWorkers();
  const submits = rig.store.submits;
  const digest = rig.store.digest();
  const result = await plan(rig, replicas(4));
  t.same(counts(result), ["w1 0 2 0", "w2 0 1 0", "w3 0 1 0"]);
  t.match(result, { service: "web", waiting: [], unfinished: false });
  t.equal(rig.store.submits, submits);
  t.equal(rig.store.digest(), digest);
});

t.test("tasks that find no node say why, as they would", async t => {
  const rig = rigWithWorkers();
  const result = await plan(rig, replicas(5, reserving(5 * GIB)));
  t.same(counts(result), ["w1 0 1 0", "w2 0 1 0", "w3 0 1 0"]);
  t.match(result.waiting, [{ tasks: 2, nodes: [] }]);
  t.match(
    result.waiting[0]?.reason,
    /^no suitable node \(insufficient resources on 3 nodes.*5 GiB memory asked, at most 3 GiB free/,
  );
  const text = planText(result);
  t.match(text, /^NODE +KEPT +NEW +REMOVED\nw1 +0 +1 +0\n/);
  t.match(text, /\n2 tasks: no suitable node/);
  t.notMatch(text, /the update/);
});

t.test("a global service names the nodes that cannot take it", async t => {
  const rig = rigWithWorkers();
  const row = rig.store.view.table("nodes").get("w2");
  const description = row?.description
    ? {
        ...row.description,
        resources: { nanoCpus: 1e9, memoryBytes: GIB, generic: [] },
      }
    : null;
  rig.store.put({ op: "patch", table: "nodes", id: "w2", fields: { description } });
  const spec = aSpec("agent", { Mode: { Global: {} }, ...reserving(2 * GIB) });
  const result = await plan(rig, spec);
  t.same(counts(result), ["w1 0 1 0", "w3 0 1 0"]);
  t.match(result.waiting, [{ tasks: 1, nodes: ["w2"], reason: /^insufficient resources/ }]);
  t.match(planText(result), /\n1 task \(w2\): insufficient resources/);
});

t.test("scaling keeps what runs", async t => {
  const rig = rigWithWorkers();
  await running(rig, replicas(2), ["w1", "w2"]);
  t.same(counts(await plan(rig, replicas(4), "web")), ["w1 1 1 0", "w2 1 0 0", "w3 0 1 0"]);
  t.same(counts(await plan(rig, replicas(1), "web")), ["w1 1 0 0", "w2 0 0 1"]);
});

t.test("an update is planned to its end, one task after the other", async t => {
  const rig = rigWithWorkers();
  const UpdateConfig = { Parallelism: 1, Delay: 10e9 };
  const spec = replicas(3, { UpdateConfig, ...reserving(5 * GIB) });
  await running(rig, spec, ["w1", "w2", "w3"]);
  const result = await plan(rig, replicas(3, { UpdateConfig, ...reserving(6 * GIB) }), "web");
  t.same(counts(result), ["w1 0 1 1", "w2 0 1 1", "w3 0 1 1"]);
  t.match(result, { waiting: [], unfinished: false });
});

t.test("an update that sticks says so, and what stays", async t => {
  const rig = rigWithWorkers();
  await running(rig, replicas(3), ["w1", "w2", "w3"]);
  const result = await plan(rig, replicas(3, reserving(64 * GIB, "2")), "web");
  t.same(counts(result), ["w1 0 0 1", "w2 1 0 0", "w3 1 0 0"]);
  t.match(result, { unfinished: true, waiting: [{ tasks: 1 }] });
  t.match(planText(result), /the update would not go on until these tasks have a node\n$/);
});

t.test("a plan is refused as the write would be", async t => {
  const rig = rigWithWorkers();
  await running(rig, replicas(1), ["w1"]);
  const mode = aSpec("web", { Mode: { Global: {} } });
  t.match(await refused(plan(rig, mode, "web")), /^501 .*service mode change is not allowed/);
  t.match(await refused(plan(rig, replicas(1), "nosuch")), /^404 service nosuch not found/);
  const bad = aSpec("web", { TaskTemplate: { Placement: { Constraints: ["nonsense"] } } });
  t.match(await refused(plan(rig, bad)), /^400 /);
});

t.test("a plan gives others their turn, ends with who asked, and has a limit", async t => {
  const rig = rigWithWorkers();
  t.match(
    await refused(plan(rig, replicas(REHEARSED_TASKS_MAX + 1))),
    /20001 tasks are too many to plan ahead: at most 20000/,
  );
  const changes = createServiceChanges("web", replicas(3), 0);
  const { view } = rig.store;
  let turns = 0;
  const pause = async (): Promise<void> => {
    turns += 1;
    if (turns === 3) throw new Error("gone");
  };
  await t.rejects(rehearse({ view, nowMs: 0, pause }, "web", changes), /gone/);
  const gone = AbortSignal.abort(new Error("gone"));
  const args = { id: anId(), ref: "", spec: replicas(1), fallbackName: "x" };
  await t.rejects(rig.client.call("service.plan", args, gone), /gone/);
});

t.test("other services' tasks that wait take the room they would take", async t => {
  const rig = rigWithWorkers();
  const id = await create(rig, aSpec("first", reserving(8 * GIB)));
  const row = aTask({ id: "f1", serviceId: id, status: aStatus("pending") });
  rig.store.put({ op: "create", table: "tasks", row });
  const result = await plan(rig, replicas(3, reserving(8 * GIB)));
  t.equal(result.nodes.length, 2);
  t.match(result.waiting, [{ tasks: 1 }]);
});
