import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { LabHost } from "../lab/host.ts";
import { Lab } from "../lab/lab.ts";
import { must } from "../lab/run.ts";
import { buildSwarmd } from "../support/build.ts";
import { eventually } from "../support/eventually.ts";
import { loadNow } from "./cluster/machine.ts";
import { quantile } from "./cluster/samples.ts";
import { measureChanges } from "./overlay/changes.ts";
import { measureFollowing } from "./overlay/follow.ts";
import {
  answers,
  connections,
  IPERF_PORT,
  lookups,
  type Place,
  startServers,
  throughput,
  throughputOutside,
} from "./overlay/traffic.ts";

const PARTS = ["traffic", "follow", "changes"] as const;
const HELP = `usage: npm run bench -- overlay [--peer] [--only PARTS] [--rounds N] [--lab DIR]

Two hosts on this machine, as root: throughput and connections from container to container, by its
address, by its service's and through the mesh; look-ups of names; the cost of one change; how soon
every host's tables follow a container that becomes healthy or dies (middle / worst).

  --peer      Docker's own swarm mode in the same run
  --only P    some of ${PARTS.join(", ")}, with commas between them (all)
  --rounds N  how often each figure is taken; the middle one is shown (3)
  --lab DIR   folder of the lab it makes and removes (${join(tmpdir(), "swarmd-overlay")})
`;
const SIZES = [10, 1_000, 5_000];
const START_TIMEOUT_MS = 60_000;
/** Containers that are ended, one after the other. */
const FOLLOW_ROUNDS = 10;

/** One column of the report. */
type Figures = Map<string, string>;

interface Bench {
  readonly lab: Lab;
  readonly rounds: number;
  /** The docker command line to the cluster. */
  readonly docker: (args: readonly string[]) => Promise<string>;
}

/** Runs the benchmark; returns the exit code. */
export async function benchOverlay(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      peer: { type: "boolean", default: false },
      only: { type: "string", default: PARTS.join(",") },
      rounds: { type: "string", default: "3" },
      lab: { type: "string", default: join(tmpdir(), "swarmd-overlay") },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const rounds = Number(values.rounds);
  const parts = new Set(values.only.split(","));
  const columns: (readonly [string, Figures])[] = [];
  const systems = values.peer ? (["swarmd", "docker"] as const) : (["swarmd"] as const);
  if (parts.has("traffic") || parts.has("follow")) {
    for (const system of systems) {
      columns.push([system, await measureCluster(system, values.lab, { rounds, parts })]);
    }
    print(columns);
  }
  for (const size of parts.has("changes") ? SIZES : []) {
    const { loadMs, changesMs } = await measureChanges(size);
    const change = `${quantile(changesMs, 0.5).toFixed(1)} / ${quantile(changesMs, 0.99).toFixed(1)}`;
    console.log(
      `${size} services x 3: one endpoint ${change} ms, all at once ${loadMs.toFixed(0)} ms`,
    );
  }
  console.log(`(middle / p99; ${loadNow()})`);
  return 0;
}

async function measureCluster(
  system: "swarmd" | "docker",
  dir: string,
  { rounds, parts }: { readonly rounds: number; readonly parts: ReadonlySet<string> },
): Promise<Figures> {
  const lab = Lab.open(dir);
  await lab.down();
  try {
    const swarmdBin = await buildSwarmd();
    const mode = system === "swarmd" ? "cluster" : "engines-only";
    await lab.up({ managers: 1, workers: 1, mode, swarmdBin });
    const [m1, w1] = [lab.host("m1"), lab.host("w1")];
    if (system === "docker") await formSwarm(m1, w1);
    const docker = (args: readonly string[]): Promise<string> =>
      system === "swarmd" ? m1.swarmDocker(args) : m1.docker(args);
    const bench = { lab, rounds, docker };
    const figures: Figures = parts.has("traffic") ? await measure(bench) : new Map();
    if (system === "swarmd" && parts.has("follow")) {
      const times = await measureFollowing([m1, w1], w1, docker, FOLLOW_ROUNDS);
      figures.set("healthy to in every table", middleAndWorst(times.sinceHealthyMs));
      figures.set("  since its node knew", middleAndWorst(times.inSinceKnownMs));
      figures.set("dead to out of every table", middleAndWorst(times.sinceDeadMs));
      figures.set("  since its node knew of it", middleAndWorst(times.outSinceKnownMs));
      figures.set("dead to the Engine's word of it", middleAndWorst(times.engineSaidMs));
    }
    figures.set("load of the machine", loadNow());
    return figures;
  } finally {
    await lab.down();
  }
}

async function formSwarm(m1: LabHost, w1: LabHost): Promise<void> {
  await m1.docker(["swarm", "init", "--advertise-addr", m1.addr]);
  const token = (await m1.docker(["swarm", "join-token", "-q", "worker"])).trim();
  await w1.docker(["swarm", "join", "--token", token, `${m1.addr}:2377`]);
}

async function measure({ lab, rounds, docker }: Bench): Promise<Figures> {
  const [m1, w1] = [lab.host("m1"), lab.host("w1")];
  const create = (name: string, host: LabHost, ...args: string[]): Promise<string> =>
    docker([
      ...["service", "create", "-d", "--name", name, "--network", "bench"],
      ...["--constraint", `node.hostname==${host.name}`, ...args, "swarmd/web:1"],
    ]);
  await docker(["network", "create", "-d", "overlay", "bench"]);
  await create("server", w1, "--publish", `${IPERF_PORT}:${IPERF_PORT}`);
  await create("client", m1);
  const [server, from] = [await placeOf(w1, "server"), await placeOf(m1, "client")];
  const format = '{{(index .NetworkSettings.Networks "bench").IPAddress}}';
  const address = (await w1.docker(["inspect", "-f", format, await idOf(w1, "server")])).trim();
  const vip = await vipOf(docker);
  const servers = await startServers(server);
  const middle = async (take: () => Promise<number>): Promise<number> => {
    const taken: number[] = [];
    for (let i = 0; i < rounds; i += 1) taken.push(await take());
    return quantile(taken, 0.5);
  };
  const figures: Figures = new Map();
  const gbit = (value: number): string => `${value.toFixed(2)} Gbit/s`;
  try {
    await eventually(async () => (await answers(from, address)) || null, {
      what: "the way from container to container",
      timeoutMs: START_TIMEOUT_MS,
    });
    figures.set("container to container", gbit(await middle(() => throughput(from, address))));
    const direct = await middle(() => connections(from, address));
    figures.set("connections to a container", `${direct.toFixed(0)} /s`);
    // Docker's own needs IPVS in the kernel for both.
    if (await answers(from, vip)) {
      figures.set("through the VIP", gbit(await middle(() => throughput(from, vip))));
      const perS = await middle(() => connections(from, vip));
      figures.set("connections through the VIP", `${perS.toFixed(0)} /s`);
      const mesh = (): Promise<number> => throughputOutside(lab, m1.addr);
      figures.set("through the mesh", gbit(await middle(mesh)));
    } else figures.set("through the VIP", "does not work here");
    const speeds = [await lookups(from, "server"), await lookups(from, "server")];
    const best = speeds[1] ?? { perS: 0, p99Ms: 0 };
    figures.set(
      "look-ups of a name",
      `${best.perS.toFixed(0)} /s, p99 ${best.p99Ms.toFixed(2)} ms`,
    );
  } finally {
    for (const child of servers) child.kill("SIGKILL");
  }
  return figures;
}

function middleAndWorst(timesMs: readonly number[]): string {
  return `${quantile(timesMs, 0.5).toFixed(0)} / ${Math.max(...timesMs).toFixed(0)} ms`;
}

async function idOf(host: LabHost, service: string): Promise<string> {
  return eventually(
    async () => (await host.docker(["ps", "-q", "--filter", `name=${service}`])).trim(),
    { what: `a container of ${service}`, timeoutMs: START_TIMEOUT_MS },
  );
}

async function placeOf(host: LabHost, service: string): Promise<Place> {
  const id = await idOf(host, service);
  const pid = Number(
    await must(host.name, [
      ...["docker", "-H", `unix://${host.dockerSocketPath}`, "inspect"],
      ...["-f", "{{.State.Pid}}", id],
    ]),
  );
  return { host, pid };
}

/** On the network that is not the ingress one, which is the last. */
async function vipOf(docker: Bench["docker"]): Promise<string> {
  const id = (await docker(["network", "inspect", "-f", "{{.Id}}", "bench"])).trim();
  const text = await docker([
    "service",
    "inspect",
    "-f",
    "{{json .Endpoint.VirtualIPs}}",
    "server",
  ]);
  const vips = JSON.parse(text) as readonly { readonly NetworkID: string; readonly Addr: string }[];
  return vips.find(({ NetworkID }) => NetworkID === id)?.Addr.split("/")[0] ?? "";
}

function print(columns: readonly (readonly [string, Figures])[]): void {
  const width = 34;
  console.log(`\n${"".padEnd(width)}${columns.map(([name]) => name.padEnd(width)).join("")}`);
  for (const row of columns[0]?.[1].keys() ?? []) {
    const cells = columns.map(([, figures]) => (figures.get(row) ?? "-").padEnd(width));
    console.log(`${row.padEnd(width)}${cells.join("")}`);
  }
  console.log("");
}
