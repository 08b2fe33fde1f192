import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Lab, type LabHost } from "../lab/lab.ts";
import { run } from "../lab/run.ts";
import { buildSwarmd } from "../support/build.ts";
import { eventually } from "../support/eventually.ts";
import { ARCHIVE_IMAGE, writeArchive } from "./api/archive.ts";
import { call, filtered } from "./cluster/api.ts";
import { loadNow, readMachine } from "./cluster/machine.ts";
import { kilobytes } from "./cluster/memory.ts";
import { quantile } from "./cluster/samples.ts";

const HELP = `usage: npm run bench -- api [--services N] [--rounds N] [--load-mib N] [--lab DIR]

One host on this machine, as root: lists of many services through the docker command line and over
plain HTTP; an image loaded through swarmd's socket and through the Engine's own, in turns.

  --services N  services, of two tasks each that wait for a node (1000)
  --rounds N    times a list is asked for (30)
  --load-mib N  size of the image, a multiple of 64 (1024); 0: none
  --loads N     times it is loaded through either socket (3)
  --lab DIR     folder of the lab it makes and removes (${join(tmpdir(), "swarmd-api-bench")})
`;
const CREATORS = 8;
const MEMORY_POLL_MS = 100;
const LOAD_TIMEOUT_MS = 300_000;
const START_TIMEOUT_MS = 60_000;
/** What is aimed for. */
const LIST_AIM_MS = 300;
const LOAD_AIM = 1.1;

interface Options {
  readonly services: number;
  readonly rounds: number;
  readonly loadMib: number;
  readonly loads: number;
  readonly lab: string;
}

function readOptions(argv: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      services: { type: "string", default: "1000" },
      rounds: { type: "string", default: "30" },
      "load-mib": { type: "string", default: "1024" },
      loads: { type: "string", default: "3" },
      lab: { type: "string", default: join(tmpdir(), "swarmd-api-bench") },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return null;
  return {
    services: Number(values.services),
    rounds: Number(values.rounds),
    loadMib: Number(values["load-mib"]),
    loads: Number(values.loads),
    lab: values.lab,
  };
}

/** Runs the benchmark; returns the exit code. */
export async function benchApi(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  if (options === null) {
    console.log(HELP);
    return 0;
  }
  const lab = Lab.open(options.lab);
  await lab.down();
  try {
    await lab.up({ managers: 1, workers: 0, mode: "cluster", swarmdBin: await buildSwarmd() });
    const host = lab.host("m1");
    const version = (await host.docker(["version", "--format", "{{.Server.Version}}"])).trim();
    console.log(Object.values(await readMachine(`Engine ${version}`)).join("; "));
    console.log(`before: ${loadNow()}`);
    await measureLists(host, options);
    if (options.loadMib > 0) await measureLoads(host, options);
    console.log(`after: ${loadNow()}`);
  } finally {
    await lab.down();
  }
  return 0;
}

/** No node has what they ask for, so the lists are all that is measured. */
function specOf(i: number): object {
  return {
    Name: `service-${String(i).padStart(5, "0")}`,
    Labels: { team: `team-${i % 10}` },
    TaskTemplate: {
      ContainerSpec: { Image: "swarmd/app:1", Env: ["A=1", "B=2"] },
      Placement: { Constraints: ["node.labels.none==1"] },
    },
    Mode: { Replicated: { Replicas: 2 } },
  };
}

async function createServices(host: LabHost, count: number): Promise<void> {
  let next = 0;
  const creator = async (): Promise<void> => {
    while (next < count) {
      const spec = specOf(next);
      next += 1;
      await call(host.socketPath, "POST", "/services/create", spec);
    }
  };
  await Promise.all(Array.from({ length: CREATORS }, creator));
  const path = filtered("/tasks", { service: [`service-${String(count - 1).padStart(5, "0")}`] });
  await eventually(async () => (await call<object[]>(host.socketPath, "GET", path)).length === 2, {
    what: "the last service's tasks",
    timeoutMs: START_TIMEOUT_MS,
  });
}

async function measureLists(host: LabHost, options: Options): Promise<void> {
  await createServices(host, options.services);
  const dockerTo = (...args: string[]) =>
    run(["docker", "-H", `unix://${host.socketPath}`, ...args]);
  const one = "filters=%7B%22name%22%3A%5B%22service-00500%22%5D%7D";
  const rows: readonly (readonly [string, () => Promise<unknown>])[] = [
    ["docker version, for comparison", () => dockerTo("version")],
    ["docker service ls", () => dockerTo("service", "ls")],
    [
      "docker service ls --filter name",
      () => dockerTo("service", "ls", "-f", "name=service-00500"),
    ],
    ["GET /services?status=true", () => fetchAll(host, "/v1.41/services?status=true")],
    ["GET /services?filters=name", () => fetchAll(host, `/v1.41/services?${one}`)],
    ["GET /tasks", () => fetchAll(host, "/v1.41/tasks")],
  ];
  console.log(`\n${options.services} services, ms: middle, p99, worst of ${options.rounds}`);
  for (const [what, ask] of rows) {
    const times: number[] = [];
    for (let i = 0; i < options.rounds; i += 1) {
      const sinceMs = performance.now();
      await ask();
      times.push(performance.now() - sinceMs);
    }
    const shown = [0.5, 0.99, 1].map(q => quantile(times, q).toFixed(0).padStart(6)).join("");
    const aim = what === "docker service ls" ? verdict(quantile(times, 1) <= LIST_AIM_MS) : "";
    console.log(`${what.padEnd(34)}${shown}${aim}`);
  }
}

function verdict(isMet: boolean): string {
  return isMet ? "   met" : "   MISSED";
}

function fetchAll(host: LabHost, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    http
      .get({ socketPath: host.socketPath, path }, response => {
        let bytes = 0;
        response.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
        });
        response.on("end", () => resolve(bytes)).on("error", reject);
      })
      .on("error", reject);
  });
}

async function measureLoads(host: LabHost, options: Options): Promise<void> {
  const archive = join(options.lab, "big.tar");
  await writeArchive(archive, options.loadMib);
  const sockets = { engine: host.dockerSocketPath, swarmd: host.socketPath };
  const times: Record<keyof typeof sockets, number[]> = { engine: [], swarmd: [] };
  const before = await memoryOf(host);
  let peak = before;
  const timer = setInterval(() => {
    void memoryOf(host).then(megabytes => {
      peak = Math.max(peak, megabytes);
    });
  }, MEMORY_POLL_MS);
  try {
    for (let i = 0; i < options.loads; i += 1) {
      for (const which of ["engine", "swarmd"] as const) {
        times[which].push(await loadOnce(host, sockets[which], archive));
      }
    }
  } finally {
    clearInterval(timer);
  }
  const middle = { engine: quantile(times.engine, 0.5), swarmd: quantile(times.swarmd, 0.5) };
  const ratio = middle.swarmd / middle.engine;
  const list = (values: readonly number[]) => values.map(ms => (ms / 1_000).toFixed(2)).join(", ");
  console.log(`\ndocker load of ${options.loadMib} MiB, s`);
  console.log(`through the Engine's socket  ${list(times.engine)}`);
  console.log(`through swarmd's socket      ${list(times.swarmd)}`);
  console.log(`middle against middle        ${ratio.toFixed(2)}${verdict(ratio <= LOAD_AIM)}`);
  console.log(
    `RSS of swarmd                ${before.toFixed(0)} MB before, ${peak.toFixed(0)} at most`,
  );
}

async function memoryOf(host: LabHost): Promise<number> {
  const pid = await host.pid();
  return pid === null ? 0 : kilobytes(pid, "status", "VmRSS");
}

async function loadOnce(host: LabHost, socket: string, archive: string): Promise<number> {
  const sinceMs = performance.now();
  const docker = ["docker", "-H", `unix://${socket}`];
  const result = await run([...docker, "load", "-q", "-i", archive], {
    timeoutMs: LOAD_TIMEOUT_MS,
  });
  const tookMs = performance.now() - sinceMs;
  if (result.code !== 0) throw new Error(`docker load: ${result.stderr}`);
  await host.docker(["rmi", ARCHIVE_IMAGE]);
  return tookMs;
}
