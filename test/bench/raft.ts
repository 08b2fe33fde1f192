/**
 * Three Raft members in this process, with real level storage (fsync) and real gRPC on loopback:
 * join time, commit latency, throughput, read latency, failover.
 *
 *   npx tsx test/bench/raft.ts
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { eventually } from "../support/eventually.ts";
import { GrpcNode } from "../support/raft-grpc-node.ts";

const MEMBERS = 3;
const SERIAL_WRITES = 300;
const PARALLEL_WRITES = 20_000;
const PARALLEL = 256;
const READS = 300;
const FAILOVERS = 5;
const ENTRY_BYTES = 512;

const never = new AbortController().signal;

function quantile(samples: readonly number[], q: number): string {
  const sorted = [...samples].sort((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
  return value.toFixed(2);
}

function report(what: string, samples: readonly number[]): void {
  const [p50, p99, max] = [0.5, 0.99, 1].map(q => quantile(samples, q));
  console.log(`${what}: p50 ${p50} ms, p99 ${p99} ms, max ${max} ms (n=${samples.length})`);
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await run();
  return performance.now() - startMs;
}

async function startGroup(dir: string): Promise<GrpcNode[]> {
  const first = await GrpcNode.start({ raftId: 1, start: "bootstrap", dir: `${dir}/1` });
  await eventually(() => first.leads, { what: "leads", everyMs: 1 });
  const nodes = [first];
  const joins: number[] = [];
  for (let raftId = 2; raftId <= MEMBERS; raftId += 1) {
    const node = await GrpcNode.start({ raftId, start: "join", dir: `${dir}/${raftId}` });
    nodes.push(node);
    joins.push(
      await timed(async () => {
        await first.driver.addMember(node.self, never);
        await eventually(() => first.driver.status().conf.voters.includes(raftId), {
          what: "votes",
          everyMs: 1,
        });
      }),
    );
  }
  report("join until voting", joins);
  return nodes;
}

async function benchWrites(leader: GrpcNode): Promise<void> {
  const data = Buffer.alloc(ENTRY_BYTES, 7);
  const latencies: number[] = [];
  for (let i = 0; i < SERIAL_WRITES; i += 1) {
    latencies.push(await timed(() => leader.driver.propose(data, never)));
  }
  report("serial commit", latencies);
  const parallel: number[] = [];
  const before = leader.driver.stats().storage.appends;
  const tookMs = await timed(() =>
    Promise.all(
      Array.from({ length: PARALLEL }, async () => {
        for (let i = 0; i < PARALLEL_WRITES / PARALLEL; i += 1) {
          parallel.push(await timed(() => leader.driver.propose(data, never)));
        }
      }),
    ),
  );
  report(`parallel commit, ${PARALLEL} callers`, parallel);
  const syncs = leader.driver.stats().storage.appends - before;
  const perSecond = Math.round((parallel.length / tookMs) * 1000);
  console.log(`throughput: ${perSecond} commits/s, ${syncs} syncs of the leader`);
}

async function benchReads(node: GrpcNode, what: string): Promise<void> {
  const latencies: number[] = [];
  for (let i = 0; i < READS; i += 1) {
    latencies.push(await timed(() => node.driver.readBarrier(never)));
  }
  report(what, latencies);
}

async function benchFailover(nodes: GrpcNode[], dir: string): Promise<void> {
  const latencies: number[] = [];
  for (let round = 0; round < FAILOVERS; round += 1) {
    const leader = nodes.find(node => node.leads);
    if (leader === undefined) throw new Error("no leader");
    const startMs = performance.now();
    const killed = leader.kill();
    const rest = nodes.filter(node => node !== leader);
    const next = await eventually(() => rest.find(node => node.leads), {
      what: "a new leader",
      everyMs: 1,
    });
    await next.driver.propose(Buffer.from("next"), never);
    latencies.push(performance.now() - startMs);
    await killed;
    const { raftId, addr } = leader.self;
    const back = await GrpcNode.start({ raftId, start: "restart", dir: `${dir}/${raftId}`, addr });
    nodes.splice(nodes.indexOf(leader), 1, back);
    await eventually(() => back.machine.texts.length === next.machine.texts.length, {
      what: "it catches up",
    });
  }
  report("leader killed until the next commit", latencies);
}

async function main(): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "swarmd-raft-bench-"));
  try {
    const nodes = await startGroup(dir);
    const leader = nodes[0];
    const follower = nodes[1];
    if (leader === undefined || follower === undefined) throw new Error("no nodes");
    await benchWrites(leader);
    await benchReads(leader, "read barrier on the leader");
    await benchReads(follower, "read barrier on a follower");
    await benchFailover(nodes, dir);
    await Promise.all(nodes.map(node => node.stop()));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

await main();
