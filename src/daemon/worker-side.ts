import { rm } from "node:fs/promises";
import { hostname, uptime } from "node:os";
import { join } from "node:path";
import type { ServiceError } from "@grpc/grpc-js";
import { TaskGroup } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { SwarmError, toSwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { OverlayFacts } from "../metrics/core/node-families.ts";
import type { NodeRole } from "../model/rows.ts";
import { HostCommands } from "../overlay/commands.ts";
import type { HostProbe } from "../overlay/host-probe.ts";
import { DRIVER_NAME, NETWORK_OPTION } from "../overlay/network-driver.ts";
import { Overlay } from "../overlay/overlay.ts";
import type { RpcClients } from "../rpc/clients.ts";
import { DispatcherClient } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import { fromGrpcError } from "../rpc/status.ts";
import { Agent } from "../worker/agent.ts";
import { DockerEngine } from "../worker/docker/engine.ts";
import { EngineNetworks } from "../worker/docker/engine-networks.ts";
import { DockerExecutor } from "../worker/docker/executor.ts";
import { ensureGatewayBridge } from "../worker/docker/gateway-bridge.ts";
import { TaskFileStore } from "../worker/docker/task-files.ts";
import { LevelLocalStore } from "../worker/local-store.ts";
import { NoNetworks } from "../worker/networks.ts";
import { SESSION_LIMITS, SessionClient } from "../worker/session.ts";
import { StatusOutbox } from "../worker/status-outbox.ts";

const MS_PER_S = 1_000;

export interface WorkerSideOptions {
  readonly dataDir: string;
  /** A tmpfs: secrets are written here while a task needs them. */
  readonly runDir: string;
  readonly engineSocket: string;
  readonly nodeId: string;
  readonly clusterId: string;
  /** host:port, for display. */
  readonly addr: string;
  /** This host's address in the data path of overlay networks. */
  readonly dataPathAddr: string;
  /** Where the Engine finds the network plugin; empty: overlay networks are off. */
  readonly pluginSocket: string;
}

export interface WorkerSideDeps {
  readonly clients: RpcClients;
  readonly managers: () => readonly string[];
  readonly onManagers: (addrs: readonly string[], role: NodeRole | null, renew: boolean) => void;
  readonly onRemoved: () => void;
  readonly probe: HostProbe;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

interface Parts {
  readonly store: LevelLocalStore;
  readonly engine: DockerEngine;
  readonly overlay: Overlay | null;
}

/** The worker's half of a node: the agent over the local Engine, and its session with the leader. */
export class WorkerSide {
  readonly #agent: Agent;
  readonly #session: SessionClient;
  readonly #overlay: Overlay | null;
  readonly #makeBridge: (signal: AbortSignal) => Promise<void>;

  private constructor(
    options: WorkerSideOptions,
    deps: WorkerSideDeps,
    { store, engine, overlay }: Parts,
  ) {
    const { clock, rng, logger } = deps;
    const { nodeId, clusterId } = options;
    const outbox = new StatusOutbox();
    const files = new TaskFileStore({ dir: join(options.runDir, "tasks") });
    const networks = overlay ?? new NoNetworks("the daemon was started without them");
    this.#overlay = overlay;
    const executor = new DockerExecutor({ clusterId }, { engine, files, networks, clock });
    const bootedAtMs = clock.nowMs() - uptime() * MS_PER_S;
    this.#agent = new Agent(
      { nodeId, clusterId, hostname: hostname(), bootedAtMs },
      { executor, store, reporter: outbox, networks, clock, rng, logger },
    );
    // Not before: while the Engine makes a bridge it is slow to say what the session waits for.
    this.#makeBridge = async signal => {
      await this.#session.whenOpen(signal).catch(() => undefined);
      await ensureGatewayBridge(engine, deps, signal);
    };
    this.#session = new SessionClient(
      { nodeId, addr: options.addr },
      {
        agent: this.#agent,
        outbox,
        ...(overlay !== null && {
          answer: (question, signal) => overlay.answer(question, signal),
        }),
        // The session outlives renewals of the certificate, and a pooled connection does not.
        dial: addr => deps.clients.ownClient(DispatcherClient, addr, {}, SESSION_LIMITS),
        toError: error => toSessionError(error),
        managers: deps.managers,
        onManagers: deps.onManagers,
        onRemoved: deps.onRemoved,
        clock,
        rng,
        logger,
      },
    );
    overlay?.useLeases(this.#session);
    overlay?.useCapability(() => this.#session.describeNow());
  }

  /** Brings an attachable network to this node's Engine. */
  attachNetwork(networkId: string, signal: AbortSignal): Promise<{ readonly gateway: string }> {
    if (this.#overlay !== null) return this.#overlay.attach(networkId, signal);
    throw new SwarmError("failed_precondition", "overlay networks are off on this node");
  }

  static async open(options: WorkerSideOptions, deps: WorkerSideDeps): Promise<WorkerSide> {
    const engine = new DockerEngine({ socketPath: options.engineSocket }, { clock: deps.clock });
    const overlay = await openOverlay(options, deps, engine);
    const store = await LevelLocalStore.open(workerDirOf(options.dataDir));
    return new WorkerSide(options, deps, { store, engine, overlay });
  }

  /** What keeps this node from being a full worker; empty when nothing does. */
  get problem(): string {
    const why = this.#overlay?.problem ?? "";
    return why === "" ? "" : `no overlay networks on this node: ${why}`;
  }

  /** The manager that serves this node's session; empty when none does. */
  get manager(): string {
    return this.#session.manager;
  }

  /** What this node's data path has, and has done; null when it has none. */
  get overlayFacts(): OverlayFacts | null {
    const overlay = this.#overlay;
    return overlay === null ? null : { ...overlay.sizes(), ...overlay.counters.read() };
  }

  /** Resolves when a manager serves this node: it is ready. */
  whenServed(signal: AbortSignal): Promise<void> {
    return this.#session.whenOpen(signal);
  }

  /** Until the signal aborts; containers go on without it. */
  async run(signal: AbortSignal): Promise<void> {
    const group = new TaskGroup(signal);
    const overlay = this.#overlay;
    const overlayReady = overlay?.start() ?? Promise.resolve();
    // Dials meanwhile, and says who this node is when it knows what its data path can do.
    group.start("session", inner => this.#session.run(inner));
    group.start("gateway bridge", inner => this.#makeBridge(inner));
    group.start("overlay", async inner => {
      await overlayReady;
      await overlay?.run(inner);
    });
    group.start("agent", async inner => {
      await overlayReady;
      await this.#agent.run(inner);
    });
    await new Promise<void>((resolve, reject) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
      group.done.catch(reject);
    }).finally(() => group.close());
  }

  /** Tells the leader and ends every task of this node. When that fails, the node stays. */
  async leave(signal: AbortSignal): Promise<void> {
    await this.#session.sayLeaving();
    try {
      await this.#agent.shutdownAll(signal);
    } catch (error) {
      this.#session.stay();
      throw error;
    }
    await this.#overlay?.clear(signal);
  }

  /** Ends every task of this node: it was removed from the cluster. */
  async stopTasks(signal: AbortSignal): Promise<void> {
    await this.#agent.shutdownAll(signal);
    await this.#overlay?.clear(signal);
  }
}

async function openOverlay(
  options: WorkerSideOptions,
  deps: WorkerSideDeps,
  engine: DockerEngine,
): Promise<Overlay | null> {
  const { pluginSocket, nodeId, clusterId, dataPathAddr: addr } = options;
  if (pluginSocket === "") return null;
  const { clock, rng, probe } = deps;
  const driver = { driver: DRIVER_NAME, networkOption: NETWORK_OPTION };
  const networks = new EngineNetworks({ clusterId, ...driver }, { engine, clock });
  const logger = deps.logger.child({ part: "overlay" });
  const dir = join(workerDirOf(options.dataDir), "overlay");
  return Overlay.open(
    { nodeId, dir, pluginSocket, addr },
    { engine: networks, commands: new HostCommands({ clock }), probe, clock, rng, logger },
  );
}

/** Forgets what the worker knew. No `WorkerSide` may be open. */
export async function eraseWorker(dataDir: string): Promise<void> {
  await rm(workerDirOf(dataDir), { recursive: true, force: true });
}

export function workerDirOf(dataDir: string): string {
  return join(dataDir, "worker");
}

function toSessionError(error: unknown): SwarmError {
  return isServiceError(error) ? fromGrpcError(error) : toSwarmError(error, "unavailable");
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}
