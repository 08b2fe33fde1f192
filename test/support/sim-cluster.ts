import { newAllocators } from "../../src/allocator/core/allocator.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { type Rng, randomInt, SeededRng } from "../../src/base/rng.ts";
import type { Planner } from "../../src/model/planner.ts";
import { specRowId, type Task } from "../../src/model/rows.ts";
import type { ServiceSpec } from "../../src/model/service-spec.ts";
import { compareTaskStates, isTerminal, isWanted } from "../../src/model/task-state.ts";
import { specOfTask } from "../../src/model/view.ts";
import { constraintEnforcer } from "../../src/orchestrator/core/constraint-enforcer.ts";
import { nodeHealthPlanner } from "../../src/orchestrator/core/node-health.ts";
import { checkPlan } from "../../src/orchestrator/core/plan-check.ts";
import { reaperPlanner } from "../../src/orchestrator/core/reaper.ts";
import { servicePlanner } from "../../src/orchestrator/core/service-planner.ts";
import { demandOf } from "../../src/scheduler/core/demand.ts";
import { occupiesNode } from "../../src/scheduler/core/node-info.ts";
import { MemoryStore } from "./memory-store.ts";
import { aNode, aService, aStatus, createService } from "./rows.ts";
import { VirtualClock } from "./virtual-clock.ts";

const ALLOCATORS = newAllocators();

/** The leader's planners but the scheduler, in the loop's order. */
export const SIM_PLANNERS: readonly Planner[] = [
  servicePlanner,
  ALLOCATORS.services,
  ALLOCATORS.tasks,
  nodeHealthPlanner,
  constraintEnforcer,
  reaperPlanner,
];

const MAX_ROUNDS = 50;

/**
 * Planners, a scheduler that takes any ready node and agents that do as told, one step at a time
 * and in random order. Every plan is checked: it keeps the rules, and planning again is idle.
 */
export class SimCluster {
  readonly clock = new VirtualClock();
  readonly store = new MemoryStore(this.clock);
  readonly rng: Rng;
  readonly #ids: RngIdSource;

  constructor(seed: number) {
    this.rng = new SeededRng(seed);
    this.#ids = new RngIdSource(new SeededRng(seed + 1));
  }

  addNodes(count: number): void {
    for (let i = 1; i <= count; i++) {
      this.store.put({ op: "create", table: "nodes", row: aNode({ id: `n${i}` }) });
    }
  }

  addService(id: string, spec: ServiceSpec): void {
    this.store.put(...createService(aService({ id, spec, allocated: false })));
  }

  /** As the control service does. */
  updateService(serviceId: string, spec: ServiceSpec): void {
    const old = this.store.view.table("services").get(serviceId);
    if (old === undefined) throw new Error(`no service ${serviceId}`);
    const specVersion = old.specVersion + 1;
    const id = specRowId(serviceId, specVersion);
    this.store.put(
      { op: "create", table: "serviceSpecs", row: { id, serviceId, specVersion, spec } },
      {
        op: "patch",
        table: "services",
        id: serviceId,
        fields: {
          spec,
          specVersion,
          previousSpec: old.spec,
          previousSpecVersion: old.specVersion,
          updateStatus: null,
        },
      },
    );
  }

  /** Plans until nothing changes. */
  settle(): void {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      let changes = 0;
      for (const planner of SIM_PLANNERS) changes += this.#planAll(planner);
      if (changes === 0) return;
    }
    throw new Error(`the planners do not come to rest in ${MAX_ROUNDS} rounds`);
  }

  #planAll(planner: Planner): number {
    let changes = 0;
    const ctx = { nowMs: this.clock.nowMs(), ids: this.#ids };
    for (const key of planner.allKeys(this.store.view)) {
      const plan = planner.plan(this.store.view, key, ctx);
      const faults = checkPlan(this.store.view, plan.changes);
      if (faults.length > 0) throw new Error(`${planner.name} ${key}: ${faults.join("; ")}`);
      if (plan.changes.length === 0) continue;
      changes += plan.changes.length;
      this.store.put(...plan.changes);
      const again = planner.plan(this.store.view, key, ctx);
      if (again.changes.length > 0) {
        throw new Error(`${planner.name} ${key} is not idle: ${JSON.stringify(again.changes[0])}`);
      }
    }
    return changes;
  }

  /** Takes random tasks one step on; `share` of them, 0 to 1. */
  step(share: number): void {
    for (const task of [...this.store.view.table("tasks").all()]) {
      if (this.rng.uint32() / 2 ** 32 < share) this.#stepTask(task);
    }
  }

  #stepTask(task: Task): void {
    const { id, desiredState, status } = task;
    if (isTerminal(status.state)) return;
    if (task.nodeId === "" || compareTaskStates(status.state, "assigned") < 0) {
      if (isWanted(desiredState) && status.state === "pending") this.#place(task);
      return;
    }
    const node = this.store.view.table("nodes").get(task.nodeId);
    if (node === undefined || node.status.state === "down") return;
    const to = desiredState === "ready" ? "ready" : isWanted(desiredState) ? "running" : "shutdown";
    this.store.put({ op: "taskStatus", id, status: aStatus(to) });
  }

  #place(task: Task): void {
    const ports = this.#hostPorts(task);
    const ready = [...this.store.view.table("nodes").all()].filter(
      node =>
        node.status.state === "ready" &&
        node.spec.Availability === "active" &&
        !this.#portsUsed(node.id).some(port => ports.includes(port)),
    );
    if (task.nodeId !== "" && !ready.some(({ id }) => id === task.nodeId) && ports.length > 0) {
      return;
    }
    const node = ready[randomInt(this.rng, Math.max(1, ready.length))];
    const nodeId = task.nodeId === "" ? node?.id : task.nodeId;
    if (nodeId === undefined) return;
    const status = { ...task.status, state: "assigned" } as const;
    this.store.put({ op: "patch", table: "tasks", id: task.id, fields: { nodeId, status } });
  }

  #hostPorts(task: Task): readonly string[] {
    return demandOf(specOfTask(this.store.view, task)?.spec ?? {}).hostPorts;
  }

  #portsUsed(nodeId: string): readonly string[] {
    const { view } = this.store;
    return view.tasksOfNode(nodeId).flatMap(task => {
      return occupiesNode(task) ? this.#hostPorts(task) : [];
    });
  }

  /** A random running task ends with an error. */
  failOne(): void {
    const running = [...this.store.view.table("tasks").all()].filter(
      task => task.status.state === "running" && isWanted(task.desiredState),
    );
    const task = running[randomInt(this.rng, Math.max(1, running.length))];
    if (task === undefined) return;
    this.store.put({ op: "taskStatus", id: task.id, status: aStatus("failed") });
  }

  /** Every running task of the image ends with an error. */
  failAll(image: string): void {
    for (const task of [...this.store.view.table("tasks").all()]) {
      const spec = specOfTask(this.store.view, task)?.spec.TaskTemplate?.ContainerSpec;
      if (task.status.state !== "running" || spec?.Image !== image) continue;
      this.store.put({ op: "taskStatus", id: task.id, status: aStatus("failed") });
    }
  }

  setNode(id: string, state: "ready" | "down", availability: "active" | "drain" | "pause"): void {
    const node = this.store.view.table("nodes").get(id);
    if (node === undefined) return;
    const fields = {
      status: { ...node.status, state },
      spec: { ...node.spec, Availability: availability },
    };
    this.store.put({ op: "patch", table: "nodes", id, fields });
  }

  /** Live tasks that run, of the service's present image. */
  running(serviceId: string): Task[] {
    return this.store.view
      .tasksOfService(serviceId)
      .filter(task => task.status.state === "running" && isWanted(task.desiredState));
  }
}
