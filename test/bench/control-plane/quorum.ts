import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { build } from "esbuild";
import type { PeerInfo } from "../../../src/raft/ports.ts";
import type { Identity } from "../../../src/rpc/ports.ts";
import { eventually } from "../../support/eventually.ts";
import { TestCa } from "../../support/test-ca.ts";
import type { Child } from "../raft/orders.ts";
import { forkChild } from "../raft/swarmd-system.ts";
import { cpuSeconds, freePorts, MEMBERS } from "../raft/system.ts";
import type { ManagerOrder, ManagerReport, Sessions, WorkersOrder } from "./orders.ts";
import type { ProbeOrder, Watched } from "./probe.ts";

/** Inside node_modules, so that packages are found from there. */
const BUILT = resolve(import.meta.dirname, "../../../node_modules/.cache/swarmd-bench");
const TIMEOUT_MS = 120_000;
/** Looking is work for the managers. */
const READY_POLL_MS = 50;
const KIB_PER_MIB = 1_024;
/** More than a few hundred workers in one process would wait for each other. */
const WORKERS_A_PROCESS = 500;
/** The daemon's flags save memory of one node: hundreds of them would do little else but collect it. */
const WORKERS_FLAGS = ["--max-semi-space-size=64", "--use-openssl-ca", "--"];
/** Their handshakes come in portions: a thousand at once is another benchmark. */
const ADMITTED_AT_ONCE = 50;

export interface Programs {
  readonly manager: string;
  readonly workers: string;
}

export async function buildPrograms(): Promise<Programs> {
  const entry = (name: string): string => join(import.meta.dirname, `${name}.ts`);
  await build({
    entryPoints: { "cp-manager": entry("manager"), "cp-workers": entry("workers") },
    outdir: BUILT,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    packages: "external",
    minifySyntax: true,
    logLevel: "error",
  });
  return { manager: join(BUILT, "cp-manager.js"), workers: join(BUILT, "cp-workers.js") };
}

/** Memory of a process in MiB, now and at most so far. */
export interface Rss {
  readonly nowMib: number;
  readonly peakMib: number;
}

function rssOf(pid: number): Rss {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) / KIB_PER_MIB;
  return { nowMib: field("VmRSS"), peakMib: field("VmHWM") };
}

/** Three managers and their simulated workers, as processes. */
export class Quorum {
  #managers: readonly Child[];
  readonly #workers: readonly Child[];

  private constructor(managers: readonly Child[], workers: readonly Child[]) {
    this.#managers = managers;
    this.#workers = workers;
  }

  /** Resolves when every node is ready. */
  static async start(programs: Programs, dir: string, nodes: number): Promise<Quorum> {
    const ca = await TestCa.create();
    const managers = await startManagers(programs.manager, dir, ca);
    const workers: Child[] = [];
    const quorum = new Quorum(managers.children, workers);
    try {
      for (let at = 0; at < nodes; at += ADMITTED_AT_ONCE) {
        const count = Math.min(ADMITTED_AT_ONCE, nodes - at);
        if (at % WORKERS_A_PROCESS === 0) workers.push(forkChild(programs.workers, WORKERS_FLAGS));
        const identities = await Promise.all(
          Array.from({ length: count }, () => ca.identity("worker")),
        );
        await quorum
          .leader()
          .then(leader => leader.ask(order({ do: "admit", workers: identities })));
        const start: WorkersOrder = { do: "start", identities, managers: managers.addrs };
        await workers.at(-1)?.ask(start);
        await quorum.#allReady(at + count);
      }
      return quorum;
    } catch (error) {
      quorum.stop();
      throw error;
    }
  }

  async #allReady(count: number): Promise<void> {
    await eventually(
      async () => (await (await this.leader()).ask<ManagerReport>(REPORT)).readyNodes >= count,
      { what: `${count} nodes ready`, timeoutMs: TIMEOUT_MS, everyMs: READY_POLL_MS },
    );
  }

  async leader(): Promise<Child> {
    return leaderOf(this.#managers);
  }

  /** Every process does the same; managers in the order of their start, then workers. */
  async probeAll<T>(orderOf: (name: string) => ProbeOrder): Promise<readonly T[]> {
    const named = [
      ...this.#managers.map((child, i) => [`manager-${i + 1}`, child] as const),
      ...this.#workers.map((child, i) => [`workers-${i + 1}`, child] as const),
    ];
    return Promise.all(named.map(([name, child]) => child.ask<T>(orderOf(name))));
  }

  async watched(): Promise<{
    readonly managers: readonly Watched[];
    readonly workers: readonly Watched[];
  }> {
    const all = await this.probeAll<Watched>(() => ({ do: "watched" }));
    return { managers: all.slice(0, MEMBERS), workers: all.slice(MEMBERS) };
  }

  /** Of all workers since they were started. */
  async sessions(): Promise<Sessions> {
    const ask: WorkersOrder = { do: "sessions" };
    const ended: Record<string, number> = {};
    let opened = 0;
    for (const child of this.#workers) {
      const told = await child.ask<Sessions>(ask);
      opened += told.opened;
      for (const [why, count] of Object.entries(told.ended)) ended[why] = (ended[why] ?? 0) + count;
    }
    return { opened, ended };
  }

  /** In the order of their start. */
  memory(): readonly Rss[] {
    return this.#managers.map(child => rssOf(pidOf(child)));
  }

  /** Which of the managers leads, and in which term. */
  async leadership(): Promise<{ readonly leader: number; readonly term: number }> {
    const leader = this.#managers.indexOf(await this.leader());
    const report = await this.#managers[leader]?.ask<ManagerReport>(REPORT);
    return { leader, term: report?.term ?? 0 };
  }

  /** CPU seconds so far. */
  cpu(): Cpu {
    return {
      managersS: this.#managers.map(child => cpuSeconds([pidOf(child)])),
      workersS: cpuSeconds(this.#workers.map(pidOf)),
    };
  }

  /**
   * Kills the leader. Resolves when all nodes have a session with the next one, or too late for
   * that, and says how many were opened for it: one a node, if none was lost on the way.
   */
  async loseLeader(nodes: number): Promise<Failover> {
    const before = (await this.sessions()).opened;
    const leader = await this.leader();
    const startMs = performance.now();
    leader.process.kill("SIGKILL");
    this.#managers = this.#managers.filter(child => child !== leader);
    let last = await this.sessions();
    const allBack = eventually(
      async () => {
        last = await this.sessions();
        return last.opened - before >= nodes;
      },
      { what: "every node is back", timeoutMs: TIMEOUT_MS, everyMs: READY_POLL_MS },
    );
    const backMs = await allBack.then(
      () => performance.now() - startMs,
      () => null,
    );
    return { backMs, opened: last.opened - before, ended: last.ended };
  }

  stop(): void {
    for (const child of [...this.#workers, ...this.#managers]) child.process.kill("SIGKILL");
  }
}

export interface Failover {
  /** Null: not all nodes came back in time. */
  readonly backMs: number | null;
  readonly opened: number;
  /** Of all sessions since the start. */
  readonly ended: Sessions["ended"];
}

export interface Cpu {
  /** In the order of their start. */
  readonly managersS: readonly number[];
  readonly workersS: number;
}

const REPORT = order({ do: "report" });

function order(value: ManagerOrder): ManagerOrder {
  return value;
}

function pidOf({ process }: Child): number {
  return process.pid ?? 0;
}

async function leaderOf(managers: readonly Child[]): Promise<Child> {
  return eventually(
    async () => {
      const reports = await Promise.all(managers.map(one => one.ask<ManagerReport>(REPORT)));
      return managers[reports.findIndex(({ leads }) => leads)];
    },
    { what: "one leader", timeoutMs: TIMEOUT_MS },
  );
}

interface Started {
  readonly children: readonly Child[];
  readonly addrs: readonly string[];
}

async function startManagers(program: string, dir: string, ca: TestCa): Promise<Started> {
  const ports = await freePorts(MEMBERS);
  const identities: Identity[] = [];
  for (let i = 0; i < MEMBERS; i += 1) identities.push(await ca.identity("manager"));
  const peers = identities.map(({ nodeId }, i): PeerInfo => {
    return { raftId: i + 1, nodeId, addr: `127.0.0.1:${ports[i]}` };
  });
  const children: Child[] = [];
  for (const [i, self] of peers.entries()) {
    const child = forkChild(program);
    children.push(child);
    const identity = identities[i];
    if (identity === undefined) throw new Error("no identity");
    const start = i === 0 ? "bootstrap" : "join";
    const knownPeers = peers.slice(0, i === 0 ? 0 : 1);
    const place = join(dir, `manager-${self.raftId}`);
    await child.ask(order({ do: "start", self, dir: place, start, knownPeers, identity }));
    if (i === 0) {
      await leaderOf(children);
      await child.ask(order({ do: "found", root: ca.root, managers: identities }));
      continue;
    }
    await children[0]?.ask(order({ do: "add", peer: self }));
    await eventually(async () => (await child.ask<ManagerReport>(REPORT)).voters.length === i + 1, {
      what: `manager ${self.raftId} votes`,
      timeoutMs: TIMEOUT_MS,
    });
  }
  return { children, addrs: peers.map(({ addr }) => addr) };
}
