/**
 * Simulated workers of `npm run bench -- control-plane`, many in one process: each the real agent
 * and the real session with the dispatcher over its own TLS connection, on an Engine that only
 * takes a moment for each step.
 */
import { setMaxListeners } from "node:events";
import { errorMessage, SwarmError, toSwarmError } from "../../../src/base/errors.ts";
import { type Logger, silentLogger } from "../../../src/base/logger.ts";
import { RpcClients } from "../../../src/rpc/clients.ts";
import { DispatcherClient } from "../../../src/rpc/gen/swarmd/v1/dispatcher.ts";
import type { Identity } from "../../../src/rpc/ports.ts";
import { KernelRng, realClock } from "../../../src/system/real.ts";
import { Agent } from "../../../src/worker/agent.ts";
import { NoNetworks } from "../../../src/worker/networks.ts";
import { SESSION_LIMITS, SessionClient } from "../../../src/worker/session.ts";
import { MemoryLocalStore } from "../../../src/worker/sim/memory-store.ts";
import { SimExecutor } from "../../../src/worker/sim/sim-executor.ts";
import { StatusOutbox } from "../../../src/worker/status-outbox.ts";
import { TestIdentitySource } from "../../support/test-ca.ts";
import { obeyParent } from "../raft/orders.ts";
import type { Sessions, WorkersOrder } from "./orders.ts";
import { isProbeOrder, Probe, type ProbeOrder } from "./probe.ts";

const STEP_MS = 1;
const ENGINE = {
  pullMs: STEP_MS,
  createMs: STEP_MS,
  startMs: STEP_MS,
  stopMs: STEP_MS,
  removeMs: STEP_MS,
};
const { signal } = new AbortController();
setMaxListeners(0, signal);
const probe = new Probe();
let opened = 0;
let dialled = 0;
const ended: Record<string, number> = {};

/** Counts sessions by what their client logs. */
const sessionLogger: Logger = {
  ...silentLogger,
  info: message => {
    if (message === "session open") opened += 1;
  },
  debug: (message, fields) => {
    if (message !== "session ended") return;
    const why = String(fields?.["error"]);
    ended[why] = (ended[why] ?? 0) + 1;
  },
};

function startWorker(identity: Identity, managers: readonly string[]): void {
  const { nodeId, clusterId } = identity;
  const common = { clock: realClock, rng: new KernelRng(), logger: silentLogger };
  const clients = new RpcClients({}, { identity: new TestIdentitySource(identity), ...common });
  const description = {
    hostname: nodeId,
    architecture: "x86_64",
    os: "linux",
    resources: { nanoCpus: 16e9, memoryBytes: 64 * 2 ** 30, generic: [] },
    engineVersion: "20.10.24",
    engineLabels: {},
    plugins: [],
  };
  const executor = new SimExecutor({ description, behaviour: () => ENGINE }, common);
  const outbox = new StatusOutbox();
  const networks = new NoNetworks("a simulated host has none");
  const agent = new Agent(
    { nodeId, clusterId, hostname: nodeId, bootedAtMs: 0 },
    { executor, store: new MemoryLocalStore(), reporter: outbox, networks, ...common },
  );
  const session = new SessionClient(
    { nodeId, addr: "127.0.0.1:1" },
    {
      agent,
      outbox,
      dial: addr => {
        dialled += 1;
        return clients.ownClient(DispatcherClient, addr, {}, SESSION_LIMITS);
      },
      toError: error => toSwarmError(error, "unavailable"),
      managers: () => managers,
      onManagers: () => undefined,
      onRemoved: () => died(new SwarmError("internal", `${nodeId} was removed`)),
      ...common,
      logger: sessionLogger,
    },
  );
  agent.run(signal).catch(died);
  session.run(signal).catch(died);
}

function died(error: unknown): void {
  console.error(`workers: ${errorMessage(error)}`);
  process.exit(1);
}

obeyParent<WorkersOrder | ProbeOrder>(async order => {
  if (isProbeOrder(order)) return probe.obey(order);
  if (order.do === "sessions") return { opened, dialled, ended } satisfies Sessions;
  for (const identity of order.identities) startWorker(identity, order.managers);
  return null;
});
