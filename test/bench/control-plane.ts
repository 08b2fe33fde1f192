import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadNow, readMachine } from "./cluster/machine.ts";
import type { Deployed, ManagerOrder, Sessions } from "./control-plane/orders.ts";
import type { Watched } from "./control-plane/probe.ts";
import {
  buildPrograms,
  type Cpu,
  type Crowd,
  type Failover,
  leaderFirst,
  type Programs,
  Quorum,
  type Rss,
} from "./control-plane/quorum.ts";

const HELP = `usage: npm run bench -- control-plane [flags]

Three managers as processes on loopback (Raft with fsync, TLS, planners, dispatcher: the daemon's manager
half and its flags) and simulated workers (the real agent and session over a TLS connection each, on an
Engine of which every step takes 1 ms). Services are created through the control interface; a task counts as
running when the leader's state says so, that is when a quorum has it on disk.

  --only LIST     1k,10k,100k (all): 1k tasks on 100 nodes, 10k and 100k tasks on 1k nodes
  --shape NxSxR   instead of them S services of R tasks each on N nodes
  --trials N      how often the 1k tasks are deployed (5)
  --idle N        seconds of rest over which CPU is taken afterwards (20)
  --dir DIR       where the managers' data is put (${tmpdir()})
  --json FILE     write every figure there
  --failover      kill the leader at the end, and see all nodes come to the next
  --profile DIR   write CPU profiles of every process there: of nodes coming, the last trial, the failover
  --heap DIR      write a heap snapshot of every process there, after everything
`;

interface Scenario {
  readonly id: string;
  readonly name: string;
  readonly nodes: number;
  readonly services: number;
  readonly replicas: number;
  readonly aimMs?: number;
  readonly aimRssMib?: number;
}

const K = 1_000;
const SCENARIOS: readonly Scenario[] = [
  { id: "1k", name: "1k tasks, 100 nodes", nodes: 100, services: 1, replicas: K, aimMs: K },
  {
    id: "10k",
    name: "10k tasks, 1k nodes",
    nodes: K,
    services: 10,
    replicas: K,
    aimRssMib: 250,
  },
  { id: "100k", name: "100k tasks, 1k nodes", nodes: K, services: 100, replicas: K },
];

interface Options {
  readonly scenarios: readonly Scenario[];
  readonly trials: number;
  readonly idleS: number;
  readonly dir: string;
  readonly failover: boolean;
  readonly json: string | null;
  readonly profile: string | null;
  readonly heap: string | null;
}

/** Of a stretch of time: CPU seconds, or shares of one core. */
interface Usage {
  readonly leader: number;
  readonly managers: number;
  readonly workers: number;
}

interface Result {
  readonly name: string;
  readonly arrival: Crowd;
  readonly trials: readonly Deployed[];
  readonly cpuS: Usage;
  /** Leader first; after the last trial. */
  readonly memory: readonly Rss[];
  readonly watched: readonly Watched[];
  readonly workersWatched: readonly Watched[];
  /** Share of one core, over the rest afterwards. */
  readonly idle: Usage;
  readonly clearedMs: number | null;
  /** Before the failover. */
  readonly sessions: Sessions;
  readonly leaderChanges: number;
  readonly failover: Failover | null;
}

function readOptions(argv: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: "string", default: SCENARIOS.map(({ id }) => id).join(",") },
      shape: { type: "string" },
      trials: { type: "string", default: "5" },
      idle: { type: "string", default: "20" },
      dir: { type: "string", default: tmpdir() },
      failover: { type: "boolean", default: false },
      json: { type: "string" },
      profile: { type: "string" },
      heap: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return null;
  const only = new Set(values.only.split(","));
  return {
    scenarios:
      values.shape === undefined
        ? SCENARIOS.filter(({ id }) => only.has(id))
        : [shapeOf(values.shape)],
    trials: whole("--trials", values.trials),
    idleS: whole("--idle", values.idle),
    dir: values.dir,
    failover: values.failover,
    json: values.json ?? null,
    profile: values.profile ?? null,
    heap: values.heap ?? null,
  };
}

function shapeOf(text: string): Scenario {
  const [nodes = 0, services = 0, replicas = 0] = text
    .split("x")
    .map(part => whole("--shape", part));
  return {
    id: text,
    name: `${services * replicas} tasks, ${nodes} nodes`,
    nodes,
    services,
    replicas,
  };
}

function whole(flag: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new Error(`${flag} takes whole numbers from 1, not "${text}"`);
}

async function measure(
  quorum: Quorum,
  scenario: Scenario,
  options: Options,
): Promise<Omit<Result, "arrival">> {
  const { name, services, replicas } = scenario;
  const trials: Deployed[] = [];
  let clearedMs: number | null = null;
  await quorum.probeAll(() => ({ do: "watch" }));
  const { leader: first, term } = await quorum.leadership();
  const count = scenario.id === "1k" ? options.trials : 1;
  let before = quorum.cpu();
  for (let trial = 0; trial < count; trial += 1) {
    if (trial > 0) {
      clearedMs = await (await quorum.leader()).ask<number>(CLEAR);
      before = quorum.cpu();
    }
    await startProfiles(quorum, options);
    const deploy: ManagerOrder = { do: "deploy", services, replicas };
    const deployed = await (await quorum.leader()).ask<Deployed>(deploy);
    await writeProfiles(quorum, options, scenario.id);
    console.log(`${name}: all running after ${deployed.allMs.toFixed(0)} ms`);
    trials.push(deployed);
  }
  const after = quorum.cpu();
  const now = await quorum.leadership();
  const order = <T>(of: readonly T[]): readonly T[] => leaderFirst(of, now.leader);
  const memory = order(quorum.memory());
  const { managers, workers } = await quorum.watched();
  const idle = await idleOf(quorum, now.leader, options.idleS);
  const { heap } = options;
  if (heap !== null) {
    const fileOf = (who: string): string => join(heap, `${scenario.id}-${who}.heapsnapshot`);
    await quorum.probeAll(who => ({ do: "heap", file: fileOf(who) }));
  }
  const sessions = await quorum.sessions();
  return {
    name,
    trials,
    cpuS: usage(before, after, now.leader),
    memory,
    watched: order(managers),
    workersWatched: workers,
    idle,
    clearedMs,
    sessions,
    leaderChanges: Math.max(now.term - term, Number(now.leader !== first)),
    failover: options.failover ? await loseLeader(quorum, scenario, options) : null,
  };
}

async function loseLeader(
  quorum: Quorum,
  { id, nodes }: Scenario,
  options: Options,
): Promise<Failover> {
  await startProfiles(quorum, options);
  const failover = await quorum.loseLeader(nodes);
  await writeProfiles(quorum, options, `${id}-failover`);
  return failover;
}

async function startProfiles(quorum: Quorum, { profile }: Options): Promise<void> {
  if (profile !== null) await quorum.probeAll(() => ({ do: "profile" }));
}

async function writeProfiles(quorum: Quorum, { profile }: Options, of: string): Promise<void> {
  if (profile === null) return;
  const fileOf = (who: string): string => join(profile, `${of}-${who}.cpuprofile`);
  await quorum.probeAll(who => ({ do: "profiled", file: fileOf(who) }));
}

const CLEAR: ManagerOrder = { do: "clear" };

function usage(before: Cpu, after: Cpu, leader: number): Usage {
  const each = after.managersS.map((value, i) => value - (before.managersS[i] ?? 0));
  return {
    leader: each[leader] ?? 0,
    managers: each.reduce((sum, value) => sum + value, 0),
    workers: after.workersS - before.workersS,
  };
}

/** Statuses and snapshots of the work itself are over after this. */
const SETTLE_MS = 3_000;

async function idleOf(quorum: Quorum, leader: number, seconds: number): Promise<Usage> {
  await pause(SETTLE_MS);
  const before = quorum.cpu();
  const startMs = performance.now();
  await pause(seconds * K);
  const used = usage(before, quorum.cpu(), leader);
  const tookS = (performance.now() - startMs) / K;
  return {
    leader: used.leader / tookS,
    managers: used.managers / tookS,
    workers: used.workers / tookS,
  };
}

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms));
}

function middle(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}

function seconds(ms: number): string {
  return `${(ms / K).toFixed(2)} s`;
}

function mib(values: readonly number[]): string {
  return `${values.map(value => value.toFixed(0)).join(" / ")} MiB`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}

function tell(scenario: Scenario, result: Result): void {
  const all = result.trials.map(({ allMs }) => allMs);
  const half = middle(result.trials.map(({ halfMs }) => halfMs));
  const worst = all.length > 1 ? ` (worst of ${all.length}: ${seconds(Math.max(...all))})` : "";
  const { aimMs, aimRssMib } = scenario;
  const leaderMib = result.memory[0]?.nowMib ?? 0;
  const verdict = (met: boolean): string => (met ? "met" : "MISSED");
  const time =
    aimMs === undefined ? "" : `  aim ${seconds(aimMs)}: ${verdict(middle(all) <= aimMs)}`;
  const rss =
    aimRssMib === undefined ? "" : `  aim ${aimRssMib} MiB: ${verdict(leaderMib <= aimRssMib)}`;
  const { cpuS, idle, sessions } = result;
  const most = (of: readonly Watched[], pick: (one: Watched) => number): string =>
    Math.max(0, ...of.map(pick)).toFixed(0);
  const turn = (of: readonly Watched[]): string => most(of, one => one.longestTurnMs);
  const turnCpu = (of: readonly Watched[]): string => most(of, one => one.longestTurnCpuMs);
  const gc = (of: readonly Watched[]): string => most(of, one => one.longestGcMs);
  const heap = result.watched.map(one => one.heapMib);
  const external = result.watched.map(one => one.externalMib);
  const reasons = Object.entries(sessions.ended).map(([why, count]) => `${count} ${why}`);
  console.log(`
${result.name}
${crowdLines("all nodes ready", result.arrival)}
  all running              ${seconds(middle(all))}${worst}, half ${seconds(half)}${time}
  RSS, leader and others   ${mib(result.memory.map(({ nowMib }) => nowMib))}${rss}
  RSS, most so far         ${mib(result.memory.map(({ peakMib }) => peakMib))}
  JS heap, outside it      ${mib(heap)}, ${mib(external)}
  longest turn of a loop   ${turn(result.watched)} ms managers (${turnCpu(result.watched)} ms of processor time, gc ${gc(result.watched)} ms), ${turn(result.workersWatched)} ms workers
  processor time           ${cpuS.leader.toFixed(2)} s leader, ${cpuS.managers.toFixed(2)} s managers, ${cpuS.workers.toFixed(2)} s workers
  at rest, of one core     ${percent(idle.leader)} leader, ${percent(idle.managers)} managers, ${percent(idle.workers)} workers
  changes of leader        ${result.leaderChanges}
  sessions opened          ${sessions.opened}${reasons.length > 0 ? `; ended: ${reasons.join(", ")}` : ""}`);
  const { failover } = result;
  if (failover !== null) {
    const { backMs, calledDown } = failover;
    console.log(crowdLines("leader killed, all back", failover));
    console.log(
      `    half and 99 % of them  ${seconds(share(backMs, 0.5))}, ${seconds(share(backMs, 0.99))}`,
    );
    console.log(`    called down meanwhile  ${calledDown}`);
    for (const [why, count] of Object.entries(failover.ended)) console.log(`    ${count} ${why}`);
  }
  if (result.clearedMs !== null) {
    console.log(`  all removed              ${seconds(result.clearedMs)}`);
  }
}

function share(sorted: readonly number[], of: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * of))] ?? 0;
}

function crowdLines(title: string, crowd: Crowd): string {
  const { allMs, opened, dialled, managersS, workersS, watched } = crowd;
  const [leader = 0, ...others] = managersS;
  const each = (s: number): string => `${((s * K) / Math.max(1, opened)).toFixed(1)} ms`;
  const longest = (pick: (one: Watched) => number): string =>
    Math.max(0, ...watched.map(pick)).toFixed(0);
  return `  ${title.padEnd(24)} ${allMs === null ? "NOT ALL in time" : seconds(allMs)}
    sessions, connections  ${opened}, ${dialled}
    processor time a node  ${each(leader)} leader, ${others.map(each).join(" / ")} others, ${each(workersS)} its own
    longest turn           ${longest(one => one.longestTurnMs)} ms managers, of processor time ${longest(one => one.longestTurnCpuMs)} ms`;
}

async function runOne(programs: Programs, scenario: Scenario, options: Options): Promise<Result> {
  const dir = await mkdtemp(join(options.dir, "swarmd-control-plane-"));
  const quorum = await Quorum.start(programs, dir);
  try {
    await quorum.prepare(scenario.nodes);
    await startProfiles(quorum, options);
    const arrival = await quorum.admit();
    await writeProfiles(quorum, options, `${scenario.id}-arrival`);
    console.log(
      `${scenario.name}: ${scenario.nodes} nodes ready after ${seconds(arrival.allMs ?? 0)}`,
    );
    return { arrival, ...(await measure(quorum, scenario, options)) };
  } finally {
    quorum.stop();
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Runs the benchmark; returns the exit code. */
export async function benchControlPlane(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  if (options === null) {
    console.log(HELP);
    return 0;
  }
  const programs = await buildPrograms();
  const machine = await readMachine("none");
  const before = loadNow();
  const results: Result[] = [];
  for (const scenario of options.scenarios) {
    const result = await runOne(programs, scenario, options);
    results.push(result);
    tell(scenario, result);
  }
  const { date, commit, cpu, memory, kernel, node } = machine;
  console.log(`\n${date}, commit ${commit}. ${cpu}; ${memory}; Linux ${kernel}; Node.js ${node}.`);
  console.log(`Machine: ${before} before, ${loadNow()} after.`);
  if (options.json !== null) {
    await writeFile(options.json, `${JSON.stringify({ machine, results }, null, 2)}\n`);
  }
  return 0;
}
