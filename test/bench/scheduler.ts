import { spawn } from "node:child_process";
import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { Change } from "../../src/model/change.ts";
import { SCHEDULER_KEY, Scheduler } from "../../src/scheduler/core/scheduler.ts";
import { MAX_CHANGES_PER_TRANSACTION } from "../../src/state/core/transaction-codec.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aNode, aService, aStatus, aTask, createService } from "../support/rows.ts";

/**
 * Times the scheduler without Raft, in the shapes of swarmkit's own benchmarks and beyond:
 * `npm run bench -- scheduler [N …]`, each shape in a process of its own. "planning" is the plans
 * alone, "longest" the longest of them (how long the event loop is held), "total" with the plans
 * applied, "processor" what the process had of it in that time (more than "total" with the
 * collector's threads, less on a busy machine), "RSS" the most memory the process had, state included.
 * Small shapes are run several times on new states in one process, as a daemon has been running for
 * long: "first" is the first total, the others are of the run with the middle one.
 */

interface Shape {
  readonly name: string;
  readonly nodes: number;
  readonly services: number;
  readonly tasks: number;
  /** Every node but one in ten is refused by it. */
  readonly constrained: boolean;
}

/** Tasks of one service; swarmkit's benchmarks have one service of them all. */
const TASKS_A_SERVICE = 2_000;
const K = 1_000;

function shape(nodes: number, tasks: number, constrained = false): Shape {
  const text = (count: number): string =>
    count >= K * K ? `${count / (K * K)}M` : `${count / K}k`;
  const name = `${text(tasks)} tasks, ${text(nodes)} nodes${constrained ? ", constrained" : ""}`;
  return { name, nodes, services: Math.max(1, tasks / TASKS_A_SERVICE), tasks, constrained };
}

const SHAPES: readonly Shape[] = [
  shape(K, K),
  shape(K, 10 * K),
  shape(K, 100 * K),
  shape(100 * K, K),
  shape(100 * K, 100 * K),
  shape(K, 10 * K, true),
  shape(5 * K, 100 * K, true),
  { ...shape(100, K), services: K, name: "1k services of 1 task, 0.1k nodes" },
  shape(10 * K, K * K),
];
/** Shapes with fewer nodes and tasks together are run so many times. */
const SMALL = 20 * K;
const RUNS_OF_SMALL = 7;
const KIB_PER_MIB = 1_024;
/** The state of a million tasks is larger than V8's default heap. */
const HEAP_MIB = 6_144;

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

interface Run {
  readonly placed: number;
  readonly plans: number;
  readonly planningMs: number;
  readonly longestMs: number;
  /** The most processor time that one plan had, collection of garbage by other threads included. */
  readonly longestCpuMs: number;
  readonly totalMs: number;
  readonly processorMs: number;
}

function cpuMsSince(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / K;
}

function runOnce(shape: Shape): Run {
  const store = new MemoryStore();
  const scheduler = new Scheduler();
  put(store, cluster(shape));
  store.onCommit(({ events }) => {
    for (const event of events) scheduler.keysOf(event, store.view);
  });
  const ctx = { nowMs: 1, ids: new RngIdSource(new SeededRng(1)) };
  let [planningMs, longestMs, longestCpuMs, plans, placed] = [0, 0, 0, 0, 0];
  const start = performance.now();
  const startCpu = process.cpuUsage();
  for (;;) {
    const before = performance.now();
    const beforeCpu = process.cpuUsage();
    const { changes, wakeAtMs } = scheduler.plan(store.view, SCHEDULER_KEY, ctx);
    const tookMs = performance.now() - before;
    longestCpuMs = Math.max(longestCpuMs, cpuMsSince(beforeCpu));
    planningMs += tookMs;
    longestMs = Math.max(longestMs, tookMs);
    plans += 1;
    placed += changes.length;
    put(store, changes);
    if (changes.length === 0 && wakeAtMs === null) break;
  }
  const totalMs = performance.now() - start;
  const processorMs = cpuMsSince(startCpu);
  return { placed, plans, planningMs, longestMs, longestCpuMs, totalMs, processorMs };
}

function run(shape: Shape): string {
  const count = shape.tasks + shape.nodes <= SMALL ? RUNS_OF_SMALL : 1;
  const runs = Array.from({ length: count }, () => runOnce(shape));
  const [first] = runs;
  const middle = [...runs].sort((a, b) => a.totalMs - b.totalMs)[Math.floor(count / 2)];
  if (first === undefined || middle === undefined) throw new Error("no run");
  const { placed, plans, planningMs, longestMs, longestCpuMs, totalMs, processorMs } = middle;
  const rssMib = process.resourceUsage().maxRSS / KIB_PER_MIB;
  const figures = [
    `${placed} placed in ${plans} plans`,
    `planning ${planningMs.toFixed(0)} ms`,
    `${Math.round((placed / planningMs) * K)} tasks/s`,
    `longest ${longestMs.toFixed(1)} ms (processor ${longestCpuMs.toFixed(1)} ms)`,
    `total ${totalMs.toFixed(0)} ms`,
    `processor ${processorMs.toFixed(0)} ms`,
    ...(count > 1 ? [`first ${first.totalMs.toFixed(0)} ms`] : []),
    `RSS ${rssMib.toFixed(0)} MiB`,
  ];
  return `${shape.name.padEnd(36)} ${figures.join(", ")}`;
}

/** Resolves when the shape's process has printed its line. */
function inProcess(index: number): Promise<void> {
  const args = [`--max-old-space-size=${HEAP_MIB}`, "--import=tsx", import.meta.filename];
  const child = spawn(process.execPath, [...args, CHILD, String(index)], { stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", code => {
      if (code === 0) resolve();
      else reject(new Error(`shape ${index} ended with ${code ?? "a signal"}`));
    });
  });
}

const CHILD = "--shape";
const asked = process.argv.slice(process.argv.indexOf("scheduler") + 1).map(Number);
if (process.argv[2] === CHILD) {
  const chosen = SHAPES[Number(process.argv[3])];
  if (chosen === undefined) throw new Error("no such shape");
  process.stdout.write(`${run(chosen)}\n`);
} else {
  const wanted = SHAPES.map((_, i) => i).filter(i => asked.length === 0 || asked.includes(i));
  for (const i of wanted) await inProcess(i);
}
