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
  readonly #programs: Programs;
  readonly #ca: TestCa;
  readonly #addrs: readonly string[];
  #managers: readonly Child[];
  readonly #workers: Child[] = [];
  /** Those of nodes that come together. */
  readonly #portions: (readonly Identity[])[] = [];

  private constructor(programs: Programs, ca: TestCa, managers: Started) {
    this.#programs = programs;
    this.#ca = ca;
    this.#addrs = managers.addrs;
    this.#managers = managers.children;
  }

  /** Resolves when the managers are there; nodes come with `admit`. */
  static async start(programs: Programs, dir: string): Promise<Quorum> {
    const ca = await TestCa.create();
    const managers = await startManagers(programs.manager, dir, ca);
    return new Quorum(programs, ca, managers);
  }

  /**
   * Starts the processes of the simulated workers and makes their keys and certificates, which
   * real nodes do on hosts of their own: it is no part of what is measured.
   */
  async prepare(nodes: number): Promise<void> {
    for (let at = 0; at < nodes; at += ADMITTED_AT_ONCE) {
      const count = Math.min(ADMITTED_AT_ONCE, nodes - at);
      this.#portions.push(
        await Promise.all(Array.from({ length: count }, () => this.#ca.identity("worker"))),
      );
    }
    for (let at = 0; at < nodes; at += WORKERS_A_PROCESS) {
      const child = forkChild(this.#programs.workers, WORKERS_FLAGS);
      await child.ask(SESSIONS);
      this.#workers.push(child);
    }
  }

  /** Lets the nodes prepared come in portions; resolves when every one is ready. */
  async admit(): Promise<Crowd> {
    const crowd = await this.#crowd();
    let count = 0;
    for (const identities of this.#portions) {
      const child = this.#workers[Math.floor(count / WORKERS_A_PROCESS)];
      count += identities.length;
      await (await this.leader()).ask(order({ do: "admit", workers: identities }));
      const start: WorkersOrder = { do: "start", identities, managers: this.#addrs };
      await child?.ask(start);
      await this.#allReady(count);
    }
    return crowd(true);
  }

  /** What a crowd of nodes costs from now until the function returned is called. */
  async #crowd(): Promise<(isComplete: boolean) => Promise<Crowd>> {
    await this.probeAll(() => ({ do: "watch" }));
    const sessions = await this.sessions();
    const cpu = this.cpu();
    const startMs = performance.now();
    return async isComplete => {
      const allMs = isComplete ? performance.now() - startMs : null;
      const after = this.cpu();
      const told = await this.sessions();
      const { leader } = await this.leadership();
      const used = after.managersS.map((value, i) => value - (cpu.managersS[i] ?? 0));
      return {
        allMs,
        opened: told.opened - sessions.opened,
        dialled: told.dialled - sessions.dialled,
        managersS: leaderFirst(used, leader),
        workersS: after.workersS - cpu.workersS,
        watched: (await this.watched()).managers,
      };
    };
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
    const count = this.#managers.length;
    return { managers: all.slice(0, count), workers: all.slice(count) };
  }

  /** Of all workers since they were started. */
  async sessions(): Promise<Sessions> {
    const ended: Record<string, number> = {};
    let opened = 0;
    let dialled = 0;
    for (const child of this.#workers) {
      const told = await child.ask<Sessions>(SESSIONS);
      opened += told.opened;
      dialled += told.dialled;
      for (const [why, count] of Object.entries(told.ended)) ended[why] = (ended[why] ?? 0) + count;
    }
    return { opened, dialled, ended };
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

  /** Kills the leader. Resolves when all nodes have a session with the next one, or too late. */
  async loseLeader(nodes: number): Promise<Failover> {
    const before = (await this.sessions()).opened;
    const leader = await this.leader();
    this.#managers = this.#managers.filter(child => child !== leader);
    const crowd = await this.#crowd();
    const startMs = performance.now();
    leader.process.kill("SIGKILL");
    const backMs: number[] = [];
    const allBack = eventually(
      async () => {
        const count = (await this.sessions()).opened - before;
        while (backMs.length < Math.min(count, nodes)) backMs.push(performance.now() - startMs);
        return count >= nodes;
      },
      { what: "every node is back", timeoutMs: TIMEOUT_MS, everyMs: READY_POLL_MS },
    );
    const isAllBack = await allBack.then(
      () => true,
      () => false,
    );
    const report = await (await this.leader()).ask<ManagerReport>(REPORT);
    const { ended } = await this.sessions();
    return { ...(await crowd(isAllBack)), backMs, calledDown: report.calledDown, ended };
  }

  stop(): void {
    for (const child of [...this.#workers, ...this.#managers]) child.process.kill("SIGKILL");
  }
}

/** Many nodes that come at about the same time. */
export interface Crowd {
  /** Null: not all came in time. */
  readonly allMs: number | null;
  readonly opened: number;
  /** Connections begun for the sessions opened; beyond one each they were in vain or to a follower. */
  readonly dialled: number;
  /** Processor seconds, the leader first. */
  readonly managersS: readonly number[];
  /** Of all simulated nodes together: on real hosts none of it is the managers'. */
  readonly workersS: number;
  readonly watched: readonly Watched[];
}

export interface Failover extends Crowd {
  /** Of each session opened, in order. */
  readonly backMs: readonly number[];
  /** Nodes that the next leader took for lost. */
  readonly calledDown: number;
  /** Of all sessions since the start. */
  readonly ended: Sessions["ended"];
}

export interface Cpu {
  /** In the order of their start. */
  readonly managersS: readonly number[];
  readonly workersS: number;
}

const REPORT = order({ do: "report" });
const SESSIONS: WorkersOrder = { do: "sessions" };

export function leaderFirst<T>(all: readonly T[], leader: number): readonly T[] {
  return [...all.slice(leader, leader + 1), ...all.filter((_, i) => i !== leader)];
}

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
