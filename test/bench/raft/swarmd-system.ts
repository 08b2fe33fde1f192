import { fork } from "node:child_process";
import { join, resolve } from "node:path";
import { build } from "esbuild";
import { NODE_FLAGS } from "../../../scripts/node-flags.ts";
import type { PeerInfo } from "../../../src/raft/ports.ts";
import type { Identity } from "../../../src/rpc/ports.ts";
import { eventually } from "../../support/eventually.ts";
import { TestCa } from "../../support/test-ca.ts";
import { Child, type MemberOrder, type MemberReport } from "./orders.ts";
import { freePorts, MEMBERS, type System } from "./system.ts";

/** Inside node_modules, so that packages are found from there. */
const BUILT = resolve(import.meta.dirname, "../../../node_modules/.cache/swarmd-bench");
const TIMEOUT_MS = 60_000;

interface Place {
  readonly self: PeerInfo;
  readonly clientAddr: string;
  readonly loadPort: number;
  readonly dir: string;
  readonly identity: Identity;
}

/** Built as the daemon is, and run with its flags. */
export async function buildChildren(): Promise<{
  readonly member: string;
  readonly client: string;
}> {
  await build({
    entryPoints: [join(import.meta.dirname, "member.ts"), join(import.meta.dirname, "client.ts")],
    outdir: BUILT,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    packages: "external",
    minifySyntax: true,
    logLevel: "error",
  });
  return { member: join(BUILT, "member.js"), client: join(BUILT, "client.js") };
}

export function forkChild(path: string, flags: readonly string[] = NODE_FLAGS): Child {
  const execArgv = [...flags];
  return new Child(fork(path, [], { execArgv, serialization: "advanced" }));
}

/** Members that run the daemon's Raft. */
export class SwarmdSystem implements System {
  readonly title = "swarmd";
  readonly #program: string;
  readonly #places: readonly Place[];
  readonly #members: Child[] = [];

  private constructor(program: string, places: readonly Place[]) {
    this.#program = program;
    this.#places = places;
  }

  static async start(program: string, dir: string): Promise<SwarmdSystem> {
    const ca = await TestCa.create();
    const ports = await freePorts(3 * MEMBERS);
    const places: Place[] = [];
    for (let i = 0; i < MEMBERS; i += 1) {
      const identity = await ca.identity("manager");
      const raftId = i + 1;
      const { nodeId } = identity;
      places.push({
        self: { raftId, nodeId, addr: `127.0.0.1:${ports[3 * i]}` },
        clientAddr: `127.0.0.1:${ports[3 * i + 1]}`,
        loadPort: ports[3 * i + 2] ?? 0,
        dir: join(dir, `swarmd-${raftId}`),
        identity,
      });
    }
    const system = new SwarmdSystem(program, places);
    await system.#form();
    return system;
  }

  get clientAddrs(): readonly string[] {
    return this.#places.map(place => place.clientAddr);
  }

  get loadAddrs(): readonly string[] {
    return this.#places.map(({ loadPort }) => `127.0.0.1:${loadPort}`);
  }

  pids(): readonly number[] {
    return this.#members.map(({ process }) => process.pid ?? 0);
  }

  async leader(): Promise<number> {
    return eventually(
      async () => {
        const reports = await Promise.all(this.#members.map((_, i) => this.report(i)));
        const at = reports.findIndex(({ leads }) => leads);
        const agreed = reports.every(({ leaderId }) => leaderId === at + 1);
        return at >= 0 && agreed ? { at } : null;
      },
      { what: "one leader", timeoutMs: TIMEOUT_MS, everyMs: 20 },
    ).then(({ at }) => at);
  }

  report(member: number): Promise<MemberReport> {
    return this.child(member).ask<MemberReport>({ do: "report" } satisfies MemberOrder);
  }

  child(member: number): Child {
    const child = this.#members[member];
    if (child === undefined) throw new Error(`no member ${member}`);
    return child;
  }

  async kill(member: number): Promise<void> {
    const { process } = this.child(member);
    const gone = new Promise(resolve => process.once("exit", resolve));
    process.kill("SIGKILL");
    await gone;
  }

  async restart(member: number): Promise<void> {
    await this.#startOne(member, "restart");
    await eventually(
      async () => {
        const reports = await Promise.all(this.#members.map((_, i) => this.report(i)));
        const most = Math.max(...reports.map(({ appliedIndex }) => appliedIndex));
        return (reports[member]?.appliedIndex ?? 0) >= most;
      },
      { what: `member ${member} catches up`, timeoutMs: TIMEOUT_MS, everyMs: 20 },
    );
  }

  async stop(): Promise<void> {
    await Promise.all(this.#members.map((_, i) => this.kill(i)));
  }

  async #startOne(member: number, start: "bootstrap" | "join" | "restart"): Promise<void> {
    const child = forkChild(this.#program);
    this.#members[member] = child;
    const place = this.#places[member];
    if (place === undefined) throw new Error(`no member ${member}`);
    const first = this.#places[0];
    const knownPeers = start === "join" && first !== undefined ? [first.self] : [];
    await child.ask({ do: "start", ...place, start, knownPeers } satisfies MemberOrder);
  }

  async #form(): Promise<void> {
    await this.#startOne(0, "bootstrap");
    await this.leader();
    for (const [i, { self }] of this.#places.entries()) {
      if (i === 0) continue;
      await this.#startOne(i, "join");
      await this.child(0).ask({ do: "add", peer: self } satisfies MemberOrder);
      await eventually(async () => (await this.report(0)).voters.includes(self.raftId), {
        what: `member ${self.raftId} votes`,
        timeoutMs: TIMEOUT_MS,
        everyMs: 20,
      });
    }
  }
}
