import { cp, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { errorMessage } from "../../src/base/errors.ts";
import { Lab } from "../lab/lab.ts";
import { buildSwarmd } from "../support/build.ts";
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
const LEGEND = "Middle / p99 (number of figures); with few figures the p99 is the worst of them.";

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
  const bin = await buildSwarmd();
  const own = await measure(SWARMD, options, bin);
  const peer = options.peer ? await measure(DOCKER, options, bin) : null;
  const measured = [own, ...(peer === null ? [] : [peer])];
  const machine = await readMachine(own.engine);
  const table = tableOf(own.figures, peer?.figures ?? null);
  console.log(`\n${describe(machine)}`);
  for (const { title, load } of measured) console.log(`${title}: ${load}.`);
  console.log(`\n${alignedTable(table)}\n\n${LEGEND}`);
  for (const { title, failure } of measured) {
    if (failure !== null) console.log(`${title} was not measured to the end: ${failure}`);
  }
  if (options.json !== null) {
    await writeFile(options.json, `${JSON.stringify({ machine, measured }, null, 2)}\n`);
  }
  return measured.every(({ failure }) => failure === null) ? 0 : 1;
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
  readonly title: string;
  readonly engine: string;
  /** How busy the machine was, with what else it did, before and after. */
  readonly load: string;
  readonly figures: Figures;
  /** Why it ended early; what was measured until then counts. */
  readonly failure: string | null;
}

/** A lab of its own, up for this system alone. */
async function measure(system: System, options: Options, bin: string): Promise<Measured> {
  const lab = Lab.open(options.lab);
  const tell = (line: string): void => console.log(`${system.title}: ${line}`);
  const recorder = new Recorder({ tell });
  const before = loadNow();
  tell(`starts; ${before}`);
  await lab.down();
  let engine = "unknown";
  let failure: string | null = null;
  try {
    await lab.up({ mode: system.mode, swarmdBin: await frozenBuild(options.lab, bin) });
    const cluster = new Cluster(lab, system);
    const socket = cluster.first.dockerSocketPath;
    engine = (await call<{ readonly Version: string }>(socket, "GET", "/version")).Version;
    await runParts(cluster, recorder, options);
  } catch (error) {
    failure = errorMessage(error);
    tell(`failed: ${failure}`);
    await saveLogs(lab, `${options.lab}.logs/${system.id}`, tell);
  }
  await lab.down();
  await rm(`${options.lab}.build`, { recursive: true, force: true });
  const load = `${before} before, ${loadNow()} after`;
  return { title: system.title, engine, load, figures: recorder.result(), failure };
}

/** Of a run that failed, for whoever wants to know why. */
async function saveLogs(lab: Lab, dir: string, tell: (line: string) => void): Promise<void> {
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  for (const host of lab.hosts()) {
    await cp(host.logPath, join(dir, `${host.name}-swarmd.log`)).catch(() => undefined);
    await cp(host.engineLogPath, join(dir, `${host.name}-dockerd.log`)).catch(() => undefined);
  }
  tell(`the hosts' logs are in ${dir}`);
}

/** A copy of the build, which a later build would otherwise change under the running daemons. */
async function frozenBuild(labDir: string, bin: string): Promise<string> {
  const dir = `${labDir}.build`;
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  await cp(dirname(bin), join(dir, "dist"), { recursive: true });
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
