import { setMaxListeners } from "node:events";
import type { Clock } from "../../src/base/clock.ts";
import { errorMessage, toSwarmError } from "../../src/base/errors.ts";
import type { Logger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { DispatcherClient } from "../../src/rpc/gen/swarmd/v1/dispatcher.ts";
import { Agent } from "../../src/worker/agent.ts";
import { NoNetworks } from "../../src/worker/networks.ts";
import { SessionClient } from "../../src/worker/session.ts";
import { MemoryLocalStore } from "../../src/worker/sim/memory-store.ts";
import { SimExecutor } from "../../src/worker/sim/sim-executor.ts";
import { StatusOutbox } from "../../src/worker/status-outbox.ts";
import { GatedExecutor } from "./gated-executor.ts";
import type { HostId } from "./network.ts";
import { SimProcess } from "./process.ts";
import type { Witness } from "./witness.ts";
import type { World } from "./world.ts";

const CPUS = 4e9;
const MEMORY_BYTES = 8 * 2 ** 30;

export interface WorkerHostOptions {
  readonly id: HostId;
  readonly clusterId: string;
  readonly seed: number;
}

export interface WorkerHostDeps {
  readonly world: World;
  readonly witness: Witness;
  readonly logger: Logger;
  readonly managers: () => readonly string[];
  readonly dial: (worker: WorkerHost, process: SimProcess, addr: string) => DispatcherClient;
}

/** A worker's machine: an Engine that goes on when swarmd ends, and swarmd's agent on it. */
export class WorkerHost {
  readonly id: HostId;
  readonly nodeId: string;
  readonly executor: SimExecutor;
  readonly #options: WorkerHostOptions;
  readonly #deps: WorkerHostDeps;
  readonly #store = new MemoryLocalStore();
  #process: SimProcess | null = null;
  #starts = 0;

  constructor(options: WorkerHostOptions, deps: WorkerHostDeps) {
    this.id = options.id;
    this.nodeId = `worker-${options.id}`;
    this.#options = options;
    this.#deps = deps;
    const description = {
      hostname: this.nodeId,
      architecture: "x86_64",
      os: "linux",
      resources: { nanoCpus: CPUS, memoryBytes: MEMORY_BYTES, generic: [] },
      engineVersion: "20.10.24",
      engineLabels: {},
      plugins: [],
    };
    const engine = new SimProcess({ name: "engine", skewMs: 0, rate: 1 }, deps.world);
    this.executor = new SimExecutor(
      { description, behaviour: () => ({ pullMs: 200, stopMs: 100 }) },
      { clock: engine.clock },
    );
  }

  get up(): boolean {
    return this.#process !== null;
  }

  start(): void {
    if (this.#process !== null) return;
    this.#starts += 1;
    const { world, logger, managers, dial, witness } = this.#deps;
    const process = new SimProcess({ name: this.nodeId, skewMs: 0, rate: 1 }, world);
    this.#process = process;
    const { clock } = process;
    const rng = new SeededRng(this.#options.seed * 100 + this.#starts);
    const outbox = new StatusOutbox();
    const executor = new GatedExecutor(this.executor, process);
    const { nodeId } = this;
    const { clusterId } = this.#options;
    const networks = new NoNetworks("a simulated host has none");
    const agent = new Agent(
      { nodeId, clusterId, hostname: nodeId, bootedAtMs: 0 },
      { executor, store: this.#store, reporter: outbox, networks, clock, rng, logger },
    );
    const session = new SessionClient(
      { nodeId, addr: `10.0.1.${this.id}:2377` },
      {
        agent,
        outbox,
        dial: addr => dial(this, process, addr),
        toError: error => toSwarmError(error, "unavailable"),
        managers,
        onManagers: () => undefined,
        onRemoved: () => undefined,
        clock,
        rng,
        logger,
      },
    );
    const { signal } = new AbortController();
    setMaxListeners(0, signal);
    const died = (error: unknown): void => {
      witness.fail("no-broken-invariant", `${nodeId}: ${errorMessage(error)}`);
    };
    agent.run(signal).catch(died);
    session.run(signal).catch(died);
  }

  /** swarmd dies; its containers go on. */
  kill(): void {
    this.#process?.kill();
    this.#process = null;
  }

  get clock(): Clock | null {
    return this.#process?.clock ?? null;
  }
}
