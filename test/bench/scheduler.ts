import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Change } from "../../src/model/change.ts";
import { SCHEDULER_KEY, Scheduler } from "../../src/scheduler/core/scheduler.ts";
import { MAX_CHANGES_PER_TRANSACTION } from "../../src/state/core/transaction-codec.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";

/**
 * Times the scheduler without Raft: `npx tsx test/bench/scheduler.ts`. "planning" is the plans
 * alone, "longest" the longest of them (how long the event loop is held), "total" with the plans
 * applied.
 */

interface Shape {
  readonly name: string;
  readonly nodes: number;
  readonly services: number;
  readonly tasks: number;
  /** Every node but one in ten is refused by it. */
  readonly constrained: boolean;
}

const SHAPES: readonly Shape[] = [
  { name: "1k tasks, 100 nodes", nodes: 100, services: 10, tasks: 1_000, constrained: false },
  { name: "1k services of 1", nodes: 100, services: 1_000, tasks: 1_000, constrained: false },
  { name: "10k tasks, 1k nodes", nodes: 1_000, services: 20, tasks: 10_000, constrained: false },
  { name: "constrained 10k, 1k", nodes: 1_000, services: 20, tasks: 10_000, constrained: true },
  { name: "1k tasks, 10k nodes", nodes: 10_000, services: 10, tasks: 1_000, constrained: true },
  { name: "100k tasks, 1k nodes", nodes: 1_000, services: 50, tasks: 100_000, constrained: false },
];

function put(store: MemoryStore, changes: readonly Change[]): void {
  for (let at = 0; at < changes.length; at += MAX_CHANGES_PER_TRANSACTION) {
    store.put(...changes.slice(at, at + MAX_CHANGES_PER_TRANSACTION));
  }
}

function cluster({ nodes, services, tasks, constrained }: Shape): Change[] {
  const changes: Change[] = [];
  for (let i = 0; i < nodes; i++) {
    const base = aNode({ id: `n${String(i).padStart(5, "0")}` });
    const Labels = { zone: String(i % 10) };
    changes.push({
      op: "create",
      table: "nodes",
      row: { ...base, spec: { ...base.spec, Labels } },
    });
  }
  const constraints = constrained ? ["node.labels.zone==3"] : [];
  for (let s = 0; s < services; s++) {
    const id = `s${String(s).padStart(4, "0")}`;
    const Reservations = { MemoryBytes: 4 * 2 ** 20, NanoCPUs: 1e6 };
    const spec = {
      Name: id,
      TaskTemplate: { Resources: { Reservations }, Placement: { Constraints: constraints } },
    };
    changes.push(...createService(aService({ id, spec })));
    for (let slot = 1; slot <= tasks / services; slot++) {
      const status = aStatus("pending");
      const row = aTask({ id: `${id}.${slot}`, serviceId: id, slot, status });
      changes.push({ op: "create", table: "tasks", row });
    }
  }
  return changes;
}

function run(shape: Shape): string {
  const store = new MemoryStore();
  const scheduler = new Scheduler();
  put(store, cluster(shape));
  store.onCommit(({ events }) => {
    for (const event of events) scheduler.keysOf(event, store.view);
  });
  const ctx = { nowMs: 1, ids: new RngIdSource(new SeededRng(1)) };
  let [planningMs, longestMs, plans, placed] = [0, 0, 0, 0];
  const start = performance.now();
  for (;;) {
    const before = performance.now();
    const { changes, wakeAtMs } = scheduler.plan(store.view, SCHEDULER_KEY, ctx);
    const tookMs = performance.now() - before;
    planningMs += tookMs;
    longestMs = Math.max(longestMs, tookMs);
    plans += 1;
    placed += changes.length;
    put(store, changes);
    if (changes.length === 0 && wakeAtMs === null) break;
  }
  const totalMs = performance.now() - start;
  const figures = [
    `${placed} placed in ${plans} plans`,
    `planning ${planningMs.toFixed(0)} ms`,
    `longest ${longestMs.toFixed(1)} ms`,
    `total ${totalMs.toFixed(0)} ms`,
  ];
  return `${shape.name.padEnd(22)} ${figures.join(", ")}`;
}

for (const shape of SHAPES) process.stdout.write(`${run(shape)}\n`);
