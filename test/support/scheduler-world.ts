import fc from "fast-check";
import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Change } from "../../src/model/change.ts";
import type { Plan } from "../../src/model/planner.ts";
import type { TaskState } from "../../src/model/task-state.ts";
import type { StateView } from "../../src/model/view.ts";
import {
  PLAN_LIMITS,
  type PlanLimits,
  SCHEDULER_KEY,
  Scheduler,
} from "../../src/scheduler/core/scheduler.ts";
import { MAX_CHANGES_PER_TRANSACTION } from "../../src/state/core/transaction-codec.ts";
import { MemoryStore } from "./memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "./rows.ts";
import { VirtualClock } from "./virtual-clock.ts";

export const GIB = 2 ** 30;
export const ids = new RngIdSource(new SeededRng(1));

export interface World {
  readonly store: MemoryStore;
  readonly clock: VirtualClock;
  readonly scheduler: Scheduler;
}

export function aWorld(limits: PlanLimits = PLAN_LIMITS): World {
  const clock = new VirtualClock();
  const store = new MemoryStore(clock);
  const scheduler = new Scheduler(limits);
  store.onCommit(({ events }) => {
    for (const event of events) scheduler.keysOf(event, store.view);
  });
  return { store, clock, scheduler };
}

/** As the planner loop does: in transactions that are not too large. */
export function put(store: MemoryStore, changes: readonly Change[]): void {
  for (let at = 0; at < changes.length; at += MAX_CHANGES_PER_TRANSACTION) {
    store.put(...changes.slice(at, at + MAX_CHANGES_PER_TRANSACTION));
  }
}

export function planOnce({ store, clock, scheduler }: World): Plan {
  const plan = scheduler.plan(store.view, SCHEDULER_KEY, { nowMs: clock.nowMs(), ids });
  put(store, plan.changes);
  return plan;
}

/** Rounds until a plan changes nothing and asks for nothing now. */
export function settle(world: World): number {
  for (let round = 1; round < 200; round++) {
    const { changes, wakeAtMs } = planOnce(world);
    if (changes.length === 0 && (wakeAtMs === null || wakeAtMs > world.clock.nowMs())) return round;
  }
  throw new Error("planning does not settle");
}

export function placements(view: StateView): readonly string[] {
  return [...view.table("tasks").all()].map(({ id, nodeId, status }) =>
    [id, nodeId, status.state, status.err].join(" "),
  );
}

export interface NodeSketch {
  readonly cpus: number;
  readonly gib: number;
  readonly gpus: number;
  readonly zone: string;
  readonly usable: boolean;
}

export interface ServiceSketch {
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

export const nodeArb: fc.Arbitrary<NodeSketch> = fc.record({
  cpus: fc.integer({ min: 1, max: 8 }),
  gib: fc.integer({ min: 1, max: 16 }),
  gpus: fc.integer({ min: 0, max: 2 }),
  zone: fc.constantFrom("a", "b", ""),
  usable: fc.constantFrom(true, true, true, false),
});

export const serviceArb: fc.Arbitrary<ServiceSketch> = fc.record({
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

export function nodeChanges({ cpus, gib, gpus, zone, usable }: NodeSketch, i: number): Change[] {
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

export function serviceChanges(sketch: ServiceSketch, i: number): Change[] {
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

export const worldArb = fc.record({
  nodes: fc.array(nodeArb, { maxLength: 6 }),
  services: fc.array(serviceArb, { maxLength: 6 }),
  seed: fc.nat(),
});

export const stepArb = fc.record({
  kind: fc.constantFrom(
    "status",
    "status",
    "unwanted",
    "delete",
    "node",
    "node-rm",
    "node-add",
    "plan",
  ),
  pick: fc.nat(),
  state: fc.constantFrom<TaskState>("running", "complete", "failed", "orphaned"),
});

export type Step = typeof stepArb extends fc.Arbitrary<infer T> ? T : never;

export function stepChanges(view: StateView, { kind, pick, state }: Step): Change[] {
  const tasks = [...view.table("tasks").all()];
  const nodes = [...view.table("nodes").all()];
  const task = tasks[pick % Math.max(1, tasks.length)];
  const node = nodes[pick % Math.max(1, nodes.length)];
  if (kind === "node-add") {
    const known = view.table("nodes").get(`n${pick % 9}`) !== undefined;
    const sketch = { cpus: 4, gib: 4, gpus: 1, zone: "a", usable: true };
    return known ? [] : nodeChanges(sketch, pick % 9);
  }
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
