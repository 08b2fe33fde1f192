import { spawn } from "node:child_process";
import { NODE_FLAGS } from "../../scripts/node-flags.ts";
import { type LoopRun, type Run, runBare, runInLoop } from "./scheduler/run.ts";
import { SHAPES, type Shape } from "./scheduler/shapes.ts";

/**
 * Times the scheduler without Raft, in the shapes of swarmkit's own benchmarks and beyond:
 * `npm run bench -- scheduler [N …]`, each shape in a process of its own with the daemon's flags of
 * Node.js. Each line tells of two kinds of runs.
 *
 * Plans and their application in turn: "planning" is the plans alone, "plan" and "entry" the longest
 * plan and the longest application of one entry of the log, "total" all of it, "processor" what the
 * process had of it in that time (more than "total" with the collector's threads, less on a busy
 * machine), "RSS" the most memory the process had so far, state included.
 *
 * A term of the planner loop: "held" is the longest that the event loop was, and the most processor
 * time that the thread had in one turn.
 *
 * Small shapes are run several times on new states in one process, as a daemon has been running for
 * long: "first" is the first total, the others are of the run with the middle one. Nothing has run
 * before what is told of a large shape, nor before the first term of a leader.
 */

/** Shapes with fewer nodes and tasks together are run so many times. */
const SMALL = 20_000;
const RUNS_OF_SMALL = 31;
/** Larger ones are not run in the loop: that one shape takes long enough. */
const LARGE = 500_000;
const KIB_PER_MIB = 1_024;
/** The state of a million tasks is larger than V8's default heap. */
const HEAP_MIB = 6_144;
const MS_PER_S = 1_000;

function middleOf(runs: readonly Run[]): Run {
  const middle = [...runs].sort((a, b) => a.totalMs - b.totalMs)[Math.floor(runs.length / 2)];
  if (middle === undefined) throw new Error("no run");
  return middle;
}

function heldText({ heldMs, heldThreadMs }: LoopRun): string {
  return `held ${heldMs.toFixed(1)} ms (processor ${heldThreadMs.toFixed(1)} ms)`;
}

async function report(shape: Shape): Promise<string> {
  const size = shape.tasks + shape.nodes;
  // First, as it is a new leader's code that has never run.
  const loop = size <= LARGE ? await runInLoop(shape) : null;
  const runs = Array.from({ length: size <= SMALL ? RUNS_OF_SMALL : 1 }, () => runBare(shape));
  const run = middleOf(runs);
  const rssMib = process.resourceUsage().maxRSS / KIB_PER_MIB;
  const figures = [
    `${run.placed} placed in ${run.plans} plans`,
    `planning ${run.planningMs.toFixed(0)} ms`,
    `${Math.round((run.placed / run.planningMs) * MS_PER_S)} tasks/s`,
    `plan ${run.longestPlanMs.toFixed(1)} ms`,
    `entry ${run.longestEntryMs.toFixed(1)} ms`,
    `total ${run.totalMs.toFixed(0)} ms`,
    `processor ${run.processorMs.toFixed(0)} ms`,
    ...(runs.length > 1 ? [`first ${runs[0]?.totalMs.toFixed(0)} ms`] : []),
    ...(loop === null ? [] : [heldText(loop)]),
    `RSS ${rssMib.toFixed(0)} MiB`,
  ];
  return `${shape.name.padEnd(36)} ${figures.join(", ")}`;
}

/** Resolves when the shape's process has printed its line. */
function inProcess(index: number): Promise<void> {
  const flags = NODE_FLAGS.filter(flag => flag !== "--");
  const args = [...flags, `--max-old-space-size=${HEAP_MIB}`, "--import=tsx", import.meta.filename];
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
  process.stdout.write(`${await report(chosen)}\n`);
} else {
  const wanted = SHAPES.map((_, i) => i).filter(i => asked.length === 0 || asked.includes(i));
  for (const i of wanted) await inProcess(i);
}
