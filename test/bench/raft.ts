import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadNow, readMachine } from "./cluster/machine.ts";
import { EtcdSystem, etcdVersion, findEtcd } from "./raft/etcd-system.ts";
import { type FailoverResult, measureFailover } from "./raft/failover.ts";
import type { Child, Load, MemberOrder, MemberReport, Rates } from "./raft/orders.ts";
import { aimsOf, failoverLine, type Row, rateOf, tableOf } from "./raft/report.ts";
import { buildChildren, forkChild, SwarmdSystem } from "./raft/swarmd-system.ts";
import { cpuSeconds, type System } from "./raft/system.ts";

const HELP = `usage: npm run bench -- raft [flags]

Three members as processes on loopback: the daemon's Raft, disk with fsync, TLS between them.

  --peer etcd     measure Debian's etcd-server the same way, in turns, in the same run
  --seconds N     of each measurement (8)
  --clients LIST  calls in flight (1,16,256,1000)
  --value BYTES   of each write (1024)
  --trials N      how often the leader is killed (100)
  --only LIST     write,read,inside,failover (all)
  --dir DIR       where the members' data is put (${tmpdir()})
  --json FILE     write every figure there

One client process, the same for both systems, makes unary gRPC calls of etcd's KV service to the leader,
over 4 connections without TLS. It writes HTTP/2 frames itself, for a library would cost more than what is
measured; swarmd's members, which have no such service, serve the two calls on an endpoint just as bare.
"inside" are proposals and read barriers made in the leader's own process. Failover is measured through
grpc-js.
`;
const PARTS = ["write", "read", "inside", "failover"] as const;
const WARM_UP_SECONDS = 1;
const MAX_AGAIN = 4;
const OWN = "swarmd";
const PEER = "etcd";

interface Options {
  readonly peer: boolean;
  readonly seconds: number;
  readonly clients: readonly number[];
  readonly valueBytes: number;
  readonly trials: number;
  readonly parts: ReadonlySet<string>;
  readonly dir: string;
  readonly json: string | null;
}

function readOptions(argv: readonly string[]): Options | null {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      peer: { type: "string" },
      seconds: { type: "string", default: "8" },
      clients: { type: "string", default: "1,16,256,1000" },
      value: { type: "string", default: "1024" },
      trials: { type: "string", default: "100" },
      only: { type: "string", default: PARTS.join(",") },
      dir: { type: "string", default: tmpdir() },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return null;
  if (values.peer !== undefined && values.peer !== PEER) {
    throw new Error(`--peer takes ${PEER}, not "${values.peer}"`);
  }
  return {
    peer: values.peer !== undefined,
    seconds: number("--seconds", values.seconds),
    clients: values.clients.split(",").map(text => number("--clients", text)),
    valueBytes: number("--value", values.value),
    trials: number("--trials", values.trials),
    parts: new Set(values.only.split(",")),
    dir: values.dir,
    json: values.json ?? null,
  };
}

function number(flag: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new Error(`${flag} takes whole numbers from 1, not "${text}"`);
}

/** The load process and the systems it drives. */
class Bench {
  readonly #options: Options;
  readonly #client: Child;
  readonly rows: Row[] = [];
  /** How often a measurement was repeated because calls failed: the leader had changed. */
  readonly repeated = new Map<string, number>();

  constructor(options: Options, deps: { readonly client: Child }) {
    this.#options = options;
    this.#client = deps.client;
  }

  /** One load on one system's leader, through the client. */
  async load(system: System, what: Load["what"], inFlight: number): Promise<void> {
    const { seconds, valueBytes } = this.#options;
    const row = `${what}, ${inFlight} in flight`;
    await this.#measured(row, system, async over => {
      const addr = system.loadAddrs[await system.leader()] ?? "";
      const load: Load = { addr, what, inFlight, seconds, valueBytes, ...over };
      return this.#client.ask<Rates>(load);
    });
  }

  /** The same from within the leader. */
  async inside(system: SwarmdSystem, what: Load["what"], inFlight: number): Promise<void> {
    const { seconds, valueBytes } = this.#options;
    const row = `inside: ${what}, ${inFlight} in flight`;
    await this.#measured(row, system, async over => {
      const member = system.child(await system.leader());
      const order: MemberOrder = { do: "direct", what, inFlight, seconds, valueBytes };
      return member.ask<Rates>({ ...order, ...over });
    });
  }

  async #measured(
    what: string,
    system: System,
    run: (over: Partial<Load>) => Promise<Rates>,
  ): Promise<void> {
    for (let again = 0; again < MAX_AGAIN; again += 1) {
      const row = await this.#once(what, system, run);
      if (row.rates.failed === 0 || again === MAX_AGAIN - 1) {
        this.rows.push(row);
        return;
      }
      console.log(`${system.title}: ${what}: the leader changed; measured again`);
      this.repeated.set(system.title, (this.repeated.get(system.title) ?? 0) + 1);
    }
  }

  async #once(
    what: string,
    system: System,
    run: (over: Partial<Load>) => Promise<Rates>,
  ): Promise<Row> {
    await run({ seconds: WARM_UP_SECONDS });
    const clientPids = [this.#client.process.pid ?? 0];
    const before = [cpuSeconds(system.pids()), cpuSeconds(clientPids)] as const;
    const rates = await run({});
    const memberCpuS = cpuSeconds(system.pids()) - before[0];
    const clientCpuS = cpuSeconds(clientPids) - before[1];
    console.log(
      `${system.title}: ${what}: ${rateOf(rates).toFixed(0)}/s, p99 ${rates.p99Ms.toFixed(1)} ms`,
    );
    return { what, system: system.title, rates, memberCpuS, clientCpuS };
  }
}

async function measureAll(options: Options, bench: Bench, systems: readonly System[]) {
  const { parts, clients } = options;
  for (const what of ["write", "read"] as const) {
    if (!parts.has(what)) continue;
    for (const inFlight of clients) {
      for (const system of systems) await bench.load(system, what, inFlight);
    }
  }
  for (const system of systems) {
    if (!(system instanceof SwarmdSystem) || !parts.has("inside")) continue;
    for (const inFlight of clients) {
      for (const what of ["write", "read"] as const) await bench.inside(system, what, inFlight);
    }
  }
  const failovers = new Map<string, FailoverResult>();
  for (const system of parts.has("failover") ? systems : []) {
    const tell = (line: string): void => console.log(`${system.title}: ${line}`);
    failovers.set(system.title, await measureFailover(system, options.trials, tell));
  }
  return failovers;
}

function tellMembers(reports: readonly MemberReport[]): void {
  for (const [i, { leads, rssMb, snapshots, syncs, term }] of reports.entries()) {
    const role = leads ? "leader" : "follower";
    console.log(
      `member ${i + 1} (${role}): RSS ${rssMb} MB, ${syncs} syncs, ${snapshots} snapshots, term ${term}`,
    );
  }
}

/** Runs the benchmark; returns the exit code. */
export async function benchRaft(argv: readonly string[]): Promise<number> {
  const options = readOptions(argv);
  if (options === null) {
    console.log(HELP);
    return 0;
  }
  const dir = await mkdtemp(join(options.dir, "swarmd-raft-bench-"));
  const bin = options.peer ? await findEtcd(dir) : null;
  const systems: System[] = [];
  const programs = await buildChildren();
  const client = forkChild(programs.client);
  try {
    const own = await SwarmdSystem.start(programs.member, dir);
    systems.push(own);
    if (bin !== null) systems.push(await EtcdSystem.start(bin, dir));
    const machine = await readMachine(bin === null ? "none" : etcdVersion(bin));
    const before = loadNow();
    const bench = new Bench(options, { client });
    const failovers = await measureAll(options, bench, systems);
    const { date, commit, cpu, memory, kernel, node, engine } = machine;
    console.log(
      `\n${date}, commit ${commit}. ${cpu}; ${memory}; Linux ${kernel}; Node.js ${node}.`,
    );
    console.log(`Peer: ${engine}. Machine: ${before} before, ${loadNow()} after.\n`);
    console.log(tableOf(bench.rows));
    console.log("CPU: of the three members together, and of the client, for each call.");
    for (const [title, count] of bench.repeated) {
      console.log(
        `${title}: the leader changed during ${count} measurements, which were repeated.`,
      );
    }
    for (const [title, result] of failovers) console.log(failoverLine(title, result));
    tellMembers(await Promise.all(systems[0] === own ? [0, 1, 2].map(i => own.report(i)) : []));
    const names = { own: OWN, peer: PEER };
    console.log(`\n${aimsOf(bench.rows, failovers.get(OWN) ?? null, names)}`);
    if (options.json !== null) {
      const all = { machine, rows: bench.rows, failovers: Object.fromEntries(failovers) };
      await writeFile(options.json, `${JSON.stringify(all, null, 2)}\n`);
    }
    return 0;
  } finally {
    client.process.kill();
    await Promise.all(systems.map(system => system.stop()));
    await rm(dir, { recursive: true, force: true });
  }
}
