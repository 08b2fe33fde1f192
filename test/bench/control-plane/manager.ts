/**
 * One manager of `npm run bench -- control-plane`, in a process of its own: the daemon's manager
 * half as it is (Raft on disk, state, planners, dispatcher, cluster port with TLS) and its flags.
 */
import { setMaxListeners } from "node:events";
import { performance } from "node:perf_hooks";
import { newDeferred } from "../../../src/base/async.ts";
import { errorMessage } from "../../../src/base/errors.ts";
import { silentLogger } from "../../../src/base/logger.ts";
import { nodeRow } from "../../../src/daemon/ca-backend.ts";
import { foundingRows } from "../../../src/daemon/founding.ts";
import { Manager } from "../../../src/daemon/manager.ts";
import type { Change, Commit } from "../../../src/model/change.ts";
import { DEFAULT_SWARM_SPEC } from "../../../src/model/defaults.ts";
import type { RootCa } from "../../../src/pki/ca.ts";
import { RpcClients } from "../../../src/rpc/clients.ts";
import type { Identity } from "../../../src/rpc/ports.ts";
import { MAX_CHANGES_PER_TRANSACTION } from "../../../src/state/core/transaction-codec.ts";
import { KernelRng, newIdSource, newLogger, realClock } from "../../../src/system/real.ts";
import { TestIdentitySource } from "../../support/test-ca.ts";
import { obeyParent } from "../raft/orders.ts";
import type { Deployed, ManagerOrder, ManagerReport } from "./orders.ts";
import { isProbeOrder, Probe, type ProbeOrder } from "./probe.ts";

const RAFT_KEEPALIVE = {
  keepaliveMs: 1_000,
  keepaliveTimeoutMs: 2_000,
  connectTimeoutMs: 1_000,
  handshakeTimeoutMs: 1_000,
};
const TICK_MS = 100;
// As the daemon: each waiting call listens. It counts for signals made after it.
setMaxListeners(0);
const never = new AbortController().signal;

/** Autolock is off: the log's key is open. */
class OpenIdentity extends TestIdentitySource {
  readonly unlockKey = null;

  /** Asked once at the start: nothing is to be sealed. */
  async protect(): Promise<void> {
    return;
  }
}

let manager: Manager | null = null;
let selfId: Identity | null = null;
let calledDown = 0;
let readyNodes = 0;
const ids = newIdSource();
const probe = new Probe();

async function start(order: Extract<ManagerOrder, { do: "start" }>): Promise<void> {
  const { self, dir, identity, knownPeers } = order;
  const source = new OpenIdentity(identity);
  const logger = process.env["BENCH_LOG"] ? newLogger({ level: "info" }) : silentLogger;
  const deps = { identity: source, clock: realClock, logger };
  selfId = identity;
  const opened = await Manager.open(
    {
      dataDir: dir,
      clusterId: identity.clusterId,
      self,
      listenAddr: self.addr,
      start: order.start,
      knownPeers,
      tickMs: TICK_MS,
    },
    {
      ...deps,
      clients: new RpcClients({}, deps),
      raftClients: new RpcClients({ limits: RAFT_KEEPALIVE }, deps),
      rng: new KernelRng(),
      ids,
    },
  );
  manager = opened;
  opened.store.onCommit(countNodes);
  await opened.listen();
  void opened.run(never).catch((error: unknown) => {
    console.error(`manager ${self.raftId}: ${errorMessage(error)}`);
    process.exit(1);
  });
}

function countNodes({ events }: Commit): void {
  for (const event of events) {
    if (event.table !== "nodes") continue;
    const was = event.before?.status.state === "ready";
    const is = event.after?.status.state === "ready";
    readyNodes += Number(is) - Number(was);
    calledDown += Number(was && event.after?.status.state === "down");
  }
}

async function submit({ store }: Manager, changes: readonly Change[]): Promise<void> {
  for (let at = 0; at < changes.length; at += MAX_CHANGES_PER_TRANSACTION) {
    await store.submit(changes.slice(at, at + MAX_CHANGES_PER_TRANSACTION), never);
  }
}

function admission({ nodeId, role, certPem }: Identity): Change {
  const row = nodeRow({
    nodeId,
    role,
    // Managers have no agent here.
    availability: role === "manager" ? "drain" : "active",
    advertiseAddr: "127.0.0.1",
    remoteIp: "127.0.0.1",
    hostname: nodeId,
    certificatePem: certPem,
    rootGeneration: 0,
  });
  return { op: "create", table: "nodes", row };
}

async function found(running: Manager, root: RootCa, managers: readonly Identity[]): Promise<void> {
  const [first, ...others] = managers;
  if (first === undefined || selfId === null) throw new Error("no manager");
  const request = {
    listenAddr: "",
    advertiseAddr: "127.0.0.1:1",
    dataPathAddr: "",
    dataPathPort: 4_789,
    defaultAddrPool: ["10.0.0.0/8"],
    subnetSize: 24,
    forceNewCluster: false,
    autoLockManagers: false,
    availability: "drain",
    spec: DEFAULT_SWARM_SPEC,
  } as const;
  const founder = {
    nodeId: first.nodeId,
    clusterId: first.clusterId,
    certificatePem: first.certPem,
    advertiseAddr: request.advertiseAddr,
  };
  const rows = foundingRows(running.store.view, founder, request, root, {
    ids,
    clock: realClock,
  });
  await submit(running, [...rows, ...others.map(admission)]);
}

/** Calls `done` with every commit until it says true. */
async function until(running: Manager, done: (commit: Commit) => boolean): Promise<void> {
  const reached = newDeferred<void>();
  const stop = running.store.onCommit(commit => {
    if (done(commit)) reached.resolve();
  });
  await reached.promise;
  stop();
}

async function deploy(running: Manager, services: number, replicas: number): Promise<Deployed> {
  const startMs = performance.now();
  const wanted = services * replicas;
  let [up, halfMs] = [0, 0];
  const all = until(running, ({ events }) => {
    for (const event of events) {
      if (event.table !== "tasks") continue;
      const was = event.before?.status.state === "running";
      const is = event.after?.status.state === "running";
      up += Number(is) - Number(was);
    }
    if (halfMs === 0 && up >= wanted / 2) halfMs = performance.now() - startMs;
    return up >= wanted;
  });
  const one = async (): Promise<void> => {
    const id = ids.newId();
    const spec = {
      Name: id,
      TaskTemplate: { ContainerSpec: { Image: "sim:1" } },
      Mode: { Replicated: { Replicas: replicas } },
    };
    const args = { id, spec, fallbackName: id, registryAuth: "" };
    await running.control.call("service.create", args, never);
  };
  await Promise.all(Array.from({ length: services }, one));
  const acceptedMs = performance.now() - startMs;
  await all;
  return { acceptedMs, halfMs, allMs: performance.now() - startMs };
}

async function clear(running: Manager): Promise<number> {
  const { view } = running.store;
  const startMs = performance.now();
  const gone = until(running, () => view.table("tasks").size === 0);
  for (const { id } of [...view.table("services").all()]) {
    await running.control.call("service.remove", { ref: id }, never);
  }
  await gone;
  return performance.now() - startMs;
}

function report({ raft, store: { view } }: Manager): ManagerReport {
  const { role, term, leaderId, conf, applied } = raft.status();
  return {
    leads: role === "leader",
    leaderId,
    term,
    voters: conf.voters,
    appliedIndex: applied,
    readyNodes,
    calledDown,
    tasks: view.table("tasks").size,
  };
}

obeyParent<ManagerOrder | ProbeOrder>(async order => {
  if (isProbeOrder(order)) return probe.obey(order);
  if (order.do === "start") return start(order);
  if (manager === null) throw new Error("start first");
  switch (order.do) {
    case "add":
      return manager.raft.addMember(order.peer, never);
    case "found":
      return found(manager, order.root, order.managers);
    case "admit":
      return submit(manager, order.workers.map(admission));
    case "deploy":
      return deploy(manager, order.services, order.replicas);
    case "clear":
      return clear(manager);
    case "report":
      return report(manager);
  }
});
