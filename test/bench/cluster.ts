import { cp, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { errorMessage } from "../../src/base/errors.ts";
import { Lab } from "../lab/lab.ts";
import { call } from "./cluster/api.ts";
import { Cluster } from "./cluster/cluster.ts";
import { CUT, KILL, measureFailover, measurePowerOff, TERM } from "./cluster/failover.ts";
import { measureForming } from "./cluster/forming.ts";
import { loadNow, type Machine, readMachine } from "./cluster/machine.ts";
import { measureMemory } from "./cluster/memory.ts";
import { alignedTable, type Figures, tableOf } from "./cluster/report.ts";
import { Recorder } from "./cluster/samples.ts";
import { measureServices } from "./cluster/services.ts";
import { DOCKER, SWARMD, type System } from "./cluster/system.ts";

const HELP = `usage: npm run bench -- cluster [flags]

Measures a cluster of three managers and two workers on this machine, as root.

  --peer          measure Docker's own swarm mode the same way, in the same run
  --trials N      how often the leader is killed (10); cut off and stopped half as often
  --rounds N      how often the cluster is formed and services run (3)
  --only LIST     forming,services,failover,power,memory (all)
  --json FILE     write every figure there
  --lab DIR       folder of the lab it makes and removes (${join(tmpdir(), "swarmd-bench")})
`;
const CHECKOUT = resolve(import.meta.dirname, "../..");
const PARTS = ["forming", "services", "failover", "power", "memory"] as const;
type Part = (typeof PARTS)[number];
const MAX_TRIALS = 1_000;

interface Options {
  readonly peer: boolean;
  readonly trials: number;
  readonly rounds: number;
  readonly parts: ReadonlySet<Part>;
  readonly json: string | null;
  readonly lab: string;
}

/** Runs the benchmark; returns the exit code. */
export async function benchCluster(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  if (options === null) {
    console.log(HELP);
    return 0;
  }
  const own = await measure(SWARMD, options);
  const peer = options.peer ? await measure(DOCKER, options) : null;
  const machine = await readMachine(own.engine);
  const table = tableOf(own.figures, peer?.figures ?? null);
  console.log(`\n${describe(machine)}\n\n${alignedTable(table)}`);
  console.log("\nMiddle / p99 (number of figures); with few figures the p99 is the worst.");
  if (options.json !== null) {
    const result = { machine, swarmd: own.figures, docker: peer?.figures ?? null };
    await writeFile(options.json, `${JSON.stringify(result, null, 2)}\n`);
  }
  return 0;
}

function readOptions(argv: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      peer: { type: "boolean", default: false },
      trials: { type: "string", default: "10" },
      rounds: { type: "string", default: "3" },
      only: { type: "string", default: PARTS.join(",") },
      json: { type: "string" },
      lab: { type: "string", default: join(tmpdir(), "swarmd-bench") },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return null;
  return {
    peer: values.peer,
    trials: count("--trials", values.trials),
    rounds: count("--rounds", values.rounds),
    parts: new Set(values.only.split(",").map(part)),
    json: values.json ?? null,
    lab: values.lab,
  };
}

function count(flag: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= MAX_TRIALS) return value;
  throw new Error(`${flag} takes a whole number from 1 to ${MAX_TRIALS}, not "${text}"`);
}

function part(text: string): Part {
  const found = PARTS.find(one => one === text);
  if (found !== undefined) return found;
  throw new Error(`--only takes some of ${PARTS.join(",")}, not "${text}"`);
}

interface Measured {
  readonly engine: string;
  readonly figures: Figures;
}

/** A lab of its own, up for this system alone. */
async function measure(system: System, options: Options): Promise<Measured> {
  const lab = Lab.open(options.lab);
  const tell = (line: string): void => console.log(`${system.title}: ${line}`);
  const recorder = new Recorder({ tell });
  const since = performance.now();
  tell(`starts; ${loadNow()}`);
  await lab.down();
  const bin = await frozenBuild(options.lab);
  try {
    await lab.up({ mode: system.mode, swarmdBin: bin });
    const cluster = new Cluster(lab, system);
    const version = await call<{ readonly Version: string }>(
      cluster.first.dockerSocketPath,
      "GET",
      "/version",
    );
    await runParts(cluster, recorder, options);
    tell(`took ${((performance.now() - since) / 1_000).toFixed(0)} s; ${loadNow()}`);
    await lab.down();
    await rm(`${options.lab}.build`, { recursive: true, force: true });
    return { engine: version.Version, figures: recorder.result() };
  } catch (error) {
    tell(`failed: ${errorMessage(error)}`);
    tell(`the lab stays up: SWARMD_LAB_DIR=${options.lab} npm run lab -- status|logs HOST|down`);
    throw error;
  }
}

/** A copy of the build, which a later build would otherwise change under the running daemons. */
async function frozenBuild(labDir: string): Promise<string> {
  const dir = `${labDir}.build`;
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const dist = process.env["SWARMD_BIN"] ?? join(CHECKOUT, "dist/swarmd.js");
  await cp(resolve(dist, ".."), join(dir, "dist"), { recursive: true });
  await cp(join(CHECKOUT, "package.json"), join(dir, "package.json"));
  await symlink(join(CHECKOUT, "node_modules"), join(dir, "node_modules"));
  return join(dir, "dist/swarmd.js");
}

async function runParts(cluster: Cluster, recorder: Recorder, options: Options): Promise<void> {
  const { parts, trials, rounds } = options;
  const fewer = Math.ceil(trials / 2);
  await measureForming(cluster, recorder, parts.has("forming") ? rounds : 1);
  if (parts.has("memory")) await measureMemory(cluster, recorder, "idle");
  if (parts.has("services")) await measureServices(cluster, recorder, rounds);
  if (parts.has("memory")) await measureMemory(cluster, recorder, "after load");
  if (parts.has("failover")) {
    await measureFailover(cluster, recorder, KILL, trials);
    await measureFailover(cluster, recorder, CUT, fewer);
    await measureFailover(cluster, recorder, TERM, fewer);
  }
  if (parts.has("power")) await measurePowerOff(cluster, recorder, cluster.workers.length);
}

function describe(machine: Machine): string {
  const { cpu, memory, kernel, engine, node, commit, date } = machine;
  return `${date}, commit ${commit}. ${cpu}; ${memory}; Linux ${kernel}; Engine ${engine}; Node.js ${node}.`;
}
