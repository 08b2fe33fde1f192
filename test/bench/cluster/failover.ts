import type { LabHost } from "../../lab/lab.ts";
import { isRunning, signal } from "../../lab/proc.ts";
import { eventually } from "../../support/eventually.ts";
import { removeWritten, SteadyWriter } from "../../support/steady-writer.ts";
import { type Cluster, LIST_POLL_MS, POLL_MS } from "./cluster.ts";
import type { Recorder } from "./samples.ts";
import { appService } from "./services.ts";

const FAILOVER_TIMEOUT_MS = 120_000;
/** The client writes at its pace before the fault, and after it until all is calm. */
const WRITE_EVERY_MS = 25;
const WRITES_BEFORE = 10;
const WRITES_AFTER = 20;
const SPREAD = 10;

/** A fault of the leader's host and its repair. */
interface Fault {
  readonly row: string;
  /** Resolves to the moment from which the leader is no use, ms of `performance.now()`. */
  strike(cluster: Cluster, leader: LabHost): Promise<number>;
  repair(cluster: Cluster, leader: LabHost): Promise<void>;
  /** From the fault to the end of the interruption. */
  measure(faultMs: number, writer: SteadyWriter): number;
}

async function daemonPid(cluster: Cluster, host: LabHost): Promise<number> {
  const pid = await cluster.system.pid(host);
  if (pid === null) throw new Error(`${host.name}: the daemon does not run`);
  return pid;
}

async function untilGone(pid: number): Promise<void> {
  await eventually(() => !isRunning(pid), {
    what: `process ${pid} has ended`,
    timeoutMs: FAILOVER_TIMEOUT_MS,
    everyMs: POLL_MS,
  });
}

function nextWrite(faultMs: number, writer: SteadyWriter): number {
  return writer.nextAfter(faultMs) ?? Number.NaN;
}

export const KILL: Fault = {
  row: "leader SIGKILL to next write",
  strike: async (cluster, leader) => {
    const pid = await daemonPid(cluster, leader);
    const atMs = performance.now();
    signal(pid, "SIGKILL");
    return atMs;
  },
  repair: async (cluster, leader) => cluster.system.start(leader),
  measure: nextWrite,
};

export const CUT: Fault = {
  row: "leader cut off to next write",
  strike: async (_cluster, leader) => {
    await leader.cut();
    return performance.now();
  },
  repair: async (_cluster, leader) => leader.heal(),
  measure: nextWrite,
};

/** The leader still answers for a while, so what counts is the gap that a client sees. */
export const TERM: Fault = {
  row: "leader SIGTERM, longest gap",
  strike: async (cluster, leader) => {
    const pid = await daemonPid(cluster, leader);
    const atMs = performance.now();
    signal(pid, "SIGTERM");
    return atMs;
  },
  repair: async (cluster, leader) => cluster.system.start(leader),
  measure: (faultMs, writer) => writer.longestGapAfter(faultMs),
};

export async function measureFailover(
  cluster: Cluster,
  recorder: Recorder,
  fault: Fault,
  trials: number,
): Promise<void> {
  for (let trial = 1; trial <= trials; trial++) {
    await cluster.untilWhole();
    await failOnce(cluster, recorder, fault);
    await removeWritten(cluster.system.socket(cluster.first));
  }
}

async function failOnce(cluster: Cluster, recorder: Recorder, fault: Fault): Promise<void> {
  const leader = await cluster.leader();
  if (leader === null) throw new Error("a whole cluster has no leader");
  const pid = await daemonPid(cluster, leader);
  const survivors = cluster.managers.filter(host => host.name !== leader.name);
  const writer = new SteadyWriter({
    sockets: survivors.map(host => cluster.system.socket(host)),
    everyMs: WRITE_EVERY_MS,
  });
  writer.start();
  try {
    await untilWritten(writer, 0, WRITES_BEFORE);
    const faultMs = await fault.strike(cluster, leader);
    const isOver = async (): Promise<boolean> => {
      for (const host of survivors) {
        const next = await cluster.leader(host);
        if (next === null || next.name === leader.name) return false;
      }
      return true;
    };
    await eventually(isOver, {
      what: "another manager leads",
      timeoutMs: FAILOVER_TIMEOUT_MS,
      everyMs: 100,
    });
    await untilWritten(writer, performance.now(), WRITES_AFTER);
    recorder.add(fault.row, "ms", fault.measure(faultMs, writer));
  } finally {
    await writer.stop();
    if (fault !== CUT) await untilGone(pid);
    await fault.repair(cluster, leader);
  }
}

async function untilWritten(writer: SteadyWriter, sinceMs: number, count: number): Promise<void> {
  const enough = (): boolean =>
    writer.acknowledged.filter(write => write.sentMs >= sinceMs).length >= count;
  const timeoutMs = FAILOVER_TIMEOUT_MS;
  await eventually(enough, { what: `${count} writes`, timeoutMs, everyMs: POLL_MS });
}

/** A worker loses power: its replicas run elsewhere. */
export async function measurePowerOff(
  cluster: Cluster,
  recorder: Recorder,
  trials: number,
): Promise<void> {
  for (let trial = 1; trial <= trials; trial++) {
    await cluster.untilWhole();
    const host = cluster.workers[trial % cluster.workers.length];
    if (host === undefined) throw new Error("the lab has no worker");
    await powerOffOnce(cluster, recorder, host, `spread-${trial}`);
  }
}

async function powerOffOnce(
  cluster: Cluster,
  recorder: Recorder,
  host: LabHost,
  name: string,
): Promise<void> {
  const id = await cluster.createService(appService(name, SPREAD));
  await cluster.untilRunning(id, SPREAD);
  const nodes = await cluster.nodes();
  const lost = nodes.find(node => node.Description?.Hostname === host.name)?.ID;
  const before = (await cluster.running(id)).filter(task => task.NodeID === lost).length;
  if (before === 0) throw new Error(`no replica runs on ${host.name}`);
  await recorder.timed("worker power-off to replacement", async () => {
    const off = host.poweroff();
    await eventually(
      async () => {
        const tasks = await cluster.running(id);
        return tasks.filter(task => task.NodeID !== lost).length === SPREAD;
      },
      { what: "the replicas run elsewhere", timeoutMs: FAILOVER_TIMEOUT_MS, everyMs: LIST_POLL_MS },
    );
    await off;
  });
  await host.poweron();
  await cluster.untilReady(host);
  await cluster.removeService(id);
  await cluster.untilNoContainers();
}
