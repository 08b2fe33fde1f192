import { rm } from "node:fs/promises";
import { hostname, uptime } from "node:os";
import { join } from "node:path";
import type { ServiceError } from "@grpc/grpc-js";
import { TaskGroup } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { type SwarmError, toSwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { NodeRole } from "../model/rows.ts";
import type { RpcClients } from "../rpc/clients.ts";
import { DispatcherClient } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import { fromGrpcError } from "../rpc/status.ts";
import { Agent } from "../worker/agent.ts";
import { DockerEngine } from "../worker/docker/engine.ts";
import { DockerExecutor } from "../worker/docker/executor.ts";
import { ensureGatewayBridge } from "../worker/docker/gateway-bridge.ts";
import { TaskFileStore } from "../worker/docker/task-files.ts";
import { LevelLocalStore } from "../worker/local-store.ts";
import { SessionClient } from "../worker/session.ts";
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
}

export interface WorkerSideDeps {
  readonly clients: RpcClients;
  readonly managers: () => readonly string[];
  readonly onManagers: (addrs: readonly string[], role: NodeRole | null, renew: boolean) => void;
  readonly onRemoved: () => void;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** The worker's half of a node: the agent over the local Engine, and its session with the leader. */
export class WorkerSide {
  readonly #agent: Agent;
  readonly #session: SessionClient;
  readonly #makeBridge: (signal: AbortSignal) => Promise<void>;

  private constructor(options: WorkerSideOptions, deps: WorkerSideDeps, store: LevelLocalStore) {
    const { clock, rng, logger } = deps;
    const { nodeId, clusterId } = options;
    const outbox = new StatusOutbox();
    const engine = new DockerEngine({ socketPath: options.engineSocket }, { clock });
    const files = new TaskFileStore({ dir: join(options.runDir, "tasks") });
    const executor = new DockerExecutor({ clusterId }, { engine, files, clock, logger });
    const bootedAtMs = clock.nowMs() - uptime() * MS_PER_S;
    this.#agent = new Agent(
      { nodeId, clusterId, hostname: hostname(), bootedAtMs },
      { executor, store, reporter: outbox, clock, rng, logger },
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
        dial: addr => deps.clients.client(DispatcherClient, addr),
        toError: error => toSessionError(error),
        managers: deps.managers,
        onManagers: deps.onManagers,
        onRemoved: deps.onRemoved,
        clock,
        rng,
        logger,
      },
    );
  }

  static async open(options: WorkerSideOptions, deps: WorkerSideDeps): Promise<WorkerSide> {
    const store = await LevelLocalStore.open(workerDirOf(options.dataDir));
    return new WorkerSide(options, deps, store);
  }

  /** The manager that serves this node's session; empty when none does. */
  get manager(): string {
    return this.#session.manager;
  }

  /** Until the signal aborts; containers go on without it. */
  async run(signal: AbortSignal): Promise<void> {
    const group = new TaskGroup(signal);
    group.start("agent", inner => this.#agent.run(inner));
    group.start("gateway bridge", inner => this.#makeBridge(inner));
    group.start("session", inner => this.#session.run(inner));
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
  }

  /** Ends every task of this node: it was removed from the cluster. */
  async stopTasks(signal: AbortSignal): Promise<void> {
    await this.#agent.shutdownAll(signal);
  }
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
