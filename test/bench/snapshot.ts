/**
 * What a snapshot of a large state does to a group: three members as processes with fsync and gRPC
 * on loopback. Is the event loop held, does anybody call an election, do writes wait?
 *
 *   npm run bench -- snapshot [MEGABYTES]
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { NODE_FLAGS } from "../../scripts/node-flags.ts";
import type { PeerInfo } from "../../src/raft/ports.ts";
import { eventually } from "../support/eventually.ts";
import type { Order, Report } from "./snapshot-member.ts";

const MEGABYTES = Number(process.argv[3] ?? 200);
const ROW_BYTES = 1_500;
/** Base64 and the row around it. */
const STORED_ROW_BYTES = 2_150;
const WRITE_MS = 10_000;
const TIMEOUT_MS = 300_000;
const MAX_ROUNDS = 5;
const MEMBER = join(import.meta.dirname, "snapshot-member.ts");

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

class Member {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #orders = 0;

  constructor() {
    const execArgv = ["--import=tsx", ...NODE_FLAGS];
    this.#child = fork(MEMBER, [], { execArgv, serialization: "json" });
    this.#child.once("exit", code => {
      for (const [id, tell] of this.#waiting) tell({ id, error: `a member ended with ${code}` });
    });
    this.#child.on("message", (answer: Answer) => this.#waiting.get(answer.id)?.(answer));
  }

  async ask<T>(order: Order): Promise<T> {
    this.#orders += 1;
    const id = this.#orders;
    const answer = await new Promise<Answer>(resolve => {
      this.#waiting.set(id, resolve);
      this.#child.send({ id, order });
    });
    this.#waiting.delete(id);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.result as T;
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

function quantile(samples: readonly number[], q: number): string {
  const sorted = [...samples].sort((a, b) => a - b);
  return (sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0).toFixed(1);
}

function tell(what: string, latencies: readonly number[]): void {
  const [p50, p99, max] = [0.5, 0.99, 1].map(q => quantile(latencies, q));
  console.log(`${what}: p50 ${p50} ms, p99 ${p99} ms, max ${max} ms (n=${latencies.length})`);
}

async function tellMembers(members: readonly Member[], term: number): Promise<void> {
  for (const [i, member] of members.entries()) {
    const { role, held, rssMb, events, term: now } = await member.ask<Report>({ do: "report" });
    console.log(
      `  member ${i + 1} (${role}): longest turn ${held.workMs.toFixed(0)} ms of work ` +
        `(${held.over50} above 50), ${held.wallMs.toFixed(0)} ms by the clock; ` +
        `${now - term} elections; RSS ${rssMb} MB; ${events.join("; ") || "no snapshot"}`,
    );
  }
}

/** Members of a busy machine lose the leadership now and then. */
async function leaderOf(members: readonly Member[]): Promise<Member> {
  return eventually(
    async () => {
      for (const member of members) {
        if ((await member.ask<Report>({ do: "report" })).role === "leader") return member;
      }
      return null;
    },
    { what: "a leader", timeoutMs: TIMEOUT_MS },
  );
}

/** Does it at the leader, again and again while the leadership moves. */
async function atLeader<T>(members: readonly Member[], order: Order): Promise<T> {
  return eventually(async () => ({ result: await (await leaderOf(members)).ask<T>(order) }), {
    what: order.do,
    timeoutMs: TIMEOUT_MS,
  }).then(({ result }) => result);
}

async function joinAs(raftId: number, dir: string, others: readonly Member[]): Promise<Member> {
  const member = new Member();
  const order = { do: "start", raftId, dir: `${dir}/${raftId}`, join: true } as const;
  const peer = await member.ask<PeerInfo>(order);
  await atLeader(others, { do: "add", peer });
  await eventually(async () => (await member.ask<Report>({ do: "report" })).voters === raftId, {
    what: `member ${raftId} votes`,
    timeoutMs: TIMEOUT_MS,
    everyMs: 50,
  });
  return member;
}

async function begin(members: readonly Member[]): Promise<number> {
  for (const member of members) await member.ask({ do: "measure" });
  return (await (await leaderOf(members)).ask<Report>({ do: "report" })).term;
}

async function measured(what: string, members: readonly Member[]): Promise<void> {
  const term = await begin(members);
  tell(what, await atLeader<number[]>(members, { do: "write", ms: WRITE_MS }));
  await tellMembers(members, term);
}

async function tookSnapshot(member: Member): Promise<boolean> {
  const { events } = await member.ask<Report>({ do: "report" });
  return events.some(event => event.startsWith("took"));
}

async function main(): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "swarmd-snapshot-bench-"));
  const first = new Member();
  const members = [first];
  try {
    await first.ask({ do: "start", raftId: 1, dir: `${dir}/1`, join: false });
    await leaderOf(members);
    for (const raftId of [2, 3]) members.push(await joinAs(raftId, dir, members));
    await measured("small state", members);
    const rows = Math.ceil((MEGABYTES * 1e6) / STORED_ROW_BYTES);
    const startMs = performance.now();
    await atLeader(members, { do: "load", rows, rowBytes: ROW_BYTES });
    const took = ((performance.now() - startMs) / 1_000).toFixed(1);
    console.log(`loaded ${rows} rows, ${MEGABYTES} MB, in ${took} s`);
    await measured(`${MEGABYTES} MB, no snapshot`, members);
    // Enough writes that each takes one in the middle of them.
    for (let round = 0; round < MAX_ROUNDS && !(await tookSnapshot(first)); round += 1) {
      const term = await begin(members);
      await atLeader(members, { do: "fill" });
      tell(`${MEGABYTES} MB, snapshot`, await atLeader(members, { do: "write", ms: WRITE_MS }));
      await tellMembers(members, term);
    }
    const term = await begin(members);
    const joinMs = performance.now();
    members.push(await joinAs(4, dir, members));
    const seconds = ((performance.now() - joinMs) / 1_000).toFixed(1);
    console.log(`a fourth member joined by snapshot in ${seconds} s`);
    await tellMembers(members, term);
  } finally {
    for (const member of members) member.kill();
    await rm(dir, { recursive: true, force: true });
  }
}

await main();
