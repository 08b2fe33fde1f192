import { setMaxListeners } from "node:events";
import { errorMessage } from "../../src/base/errors.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import type { Logger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { ForwardingClient } from "../../src/control/client.ts";
import type { LeaderTransport } from "../../src/control/ports.ts";
import { ControlService } from "../../src/control/service.ts";
import { LeaderDuties } from "../../src/daemon/leader.ts";
import { newPlanners } from "../../src/daemon/planners.ts";
import { leadTerm } from "../../src/daemon/term.ts";
import type { Dispatcher } from "../../src/dispatcher/dispatcher.ts";
import { RaftCore } from "../../src/raft/core/raft-core.ts";
import {
  DRIVER_DEFAULTS,
  type DriverDeps,
  type DriverOptions,
  RaftDriver,
} from "../../src/raft/driver.ts";
import type { RaftNode } from "../../src/raft/ports.ts";
import { LevelRaftStorage } from "../../src/raft/storage/level-storage.ts";
import type { RaftStorage } from "../../src/raft/storage/raft-storage.ts";
import { plainSealer } from "../../src/raft/storage/sealer.ts";
import { ReplicatedStore } from "../../src/state/store.ts";
import type { SimDisk } from "./disk.ts";
import type { SimProcess } from "./process.ts";
import type { SimTransport } from "./transport.ts";
import { WatchedCore, WatchedMachine, WatchedStorage } from "./watched.ts";
import type { Witness } from "./witness.ts";
import type { World } from "./world.ts";

const DATA_DIR = "/data";

export type RaftTuning = Pick<
  DriverOptions,
  "tickMs" | "electionTicks" | "heartbeatTicks" | "snapshotEntries" | "logEntriesForSlowFollowers"
>;

export interface ManagerOptions {
  readonly self: DriverOptions["self"];
  readonly clusterId: string;
  readonly start: DriverOptions["start"];
  readonly tuning: RaftTuning;
  readonly seed: number;
}

export interface ManagerDeps {
  readonly world: World;
  readonly process: SimProcess;
  readonly disk: SimDisk;
  readonly transport: SimTransport;
  readonly forward: LeaderTransport;
  readonly witness: Witness;
  readonly logger: Logger;
}

/**
 * A manager as `daemon/manager.ts` puts it together, with the simulated disk, network and clock in
 * place of the real ones, and without certificates and sockets.
 */
export class SimManager {
  readonly raftId: number;
  readonly raft: RaftNode;
  readonly store: ReplicatedStore;
  readonly service: ControlService;
  readonly control: ForwardingClient;
  readonly process: SimProcess;
  readonly #options: ManagerOptions;
  readonly #deps: ManagerDeps;
  readonly #ids: RngIdSource;
  #duties: LeaderDuties | null = null;
  #dutiesTerm = 0;
  #dutiesEnd: Promise<void> = Promise.resolve();

  private constructor(
    options: ManagerOptions,
    deps: ManagerDeps,
    parts: { readonly raft: RaftNode; readonly store: ReplicatedStore },
  ) {
    const { raft, store } = parts;
    this.#options = options;
    this.#deps = deps;
    this.raftId = options.self.raftId;
    this.process = deps.process;
    this.raft = raft;
    this.store = store;
    this.#ids = new RngIdSource(new SeededRng(options.seed + 1));
    const { nodeId } = options.self;
    const { clock } = deps.process;
    this.service = new ControlService(
      { nodeId },
      {
        store,
        raft,
        tokens: {
          newJoinToken: role => `token-${role}`,
          newUnlockKey: () => "unlock-key",
          newMeshKey: () => "mesh-key",
          nextRoot: async present => ({ ...present, crossSignedPem: "" }),
          checkRoot: () => undefined,
          reachesCa: async () => false,
        },
        logs: () => this.dispatcher?.logs ?? null,
        asker: () => this.dispatcher ?? null,
        clock,
      },
    );
    this.control = new ForwardingClient(
      { nodeId },
      {
        service: this.service,
        raft,
        peers: () => store.members(),
        transport: deps.forward,
        clock,
        logger: deps.logger,
      },
    );
  }

  /** Null before the leader's duties have begun, and on all others. */
  get dispatcher(): Dispatcher | null {
    return this.#duties?.dispatcher ?? null;
  }

  get leaderAddr(): string {
    const { leaderId } = this.raft.status();
    return this.store.members().find(peer => peer.raftId === leaderId)?.addr ?? "";
  }

  static async open(options: ManagerOptions, deps: ManagerDeps): Promise<SimManager> {
    const { process, logger } = deps;
    const store = new ReplicatedStore({}, { clock: process.clock, logger });
    const { clusterId, self, start, tuning } = options;
    const raft = await RaftDriver.open(
      { ...DRIVER_DEFAULTS, ...tuning, clusterId, self, start, knownPeers: [] },
      driverDeps(options, deps, store),
    );
    store.attach(raft);
    return new SimManager(options, deps, { raft, store });
  }

  /** As `Manager.run`: the log, and the leader's duties while this manager leads. */
  async run(signal: AbortSignal): Promise<void> {
    setMaxListeners(0, signal);
    let term = new AbortController();
    const stopListening = this.raft.onLeadership(event => {
      if (event.role === "leader" && event.term !== this.#dutiesTerm) {
        this.#dutiesTerm = event.term;
        term.abort();
        term = new AbortController();
        this.#startDuties(AbortSignal.any([term.signal, signal]));
      } else if (event.role !== "leader") term.abort();
    });
    try {
      await this.raft.run(signal);
    } finally {
      stopListening();
      term.abort();
      await this.#dutiesEnd;
    }
  }

  #startDuties(signal: AbortSignal): void {
    const { process, logger, witness } = this.#deps;
    const before = this.#dutiesEnd;
    this.#dutiesEnd = before.then(async () => {
      const work = (inner: AbortSignal): Promise<void> => this.#runDuties(inner);
      const handOver = (inner: AbortSignal): Promise<void> => this.raft.transferLeadership(inner);
      try {
        await leadTerm(signal, { work, handOver, clock: process.clock, logger });
      } catch (error) {
        witness.fail("no-broken-invariant", `leader ${this.raftId}: ${errorMessage(error)}`);
      }
    });
  }

  async #runDuties(signal: AbortSignal): Promise<void> {
    setMaxListeners(0, signal);
    const { process, logger } = this.#deps;
    this.#duties = new LeaderDuties(
      { nodeId: this.#options.self.nodeId },
      {
        store: this.store,
        raft: this.raft,
        planners: newPlanners,
        clock: process.clock,
        ids: this.#ids,
        logger,
      },
    );
    await this.#duties.run(signal).finally(() => {
      this.#duties = null;
    });
  }
}

function driverDeps(
  options: ManagerOptions,
  deps: ManagerDeps,
  store: ReplicatedStore,
): DriverDeps {
  const { process, disk, transport, logger, witness, world } = deps;
  const watch = { raftId: options.self.raftId, witness, world };
  const level: RaftStorage = new LevelRaftStorage(
    { dir: DATA_DIR, keepOldSnapshots: 0 },
    { sealer: plainSealer, clock: process.clock, ...disk.mount(process) },
  );
  const storage = new WatchedStorage(level, watch);
  return {
    storage,
    transport,
    stateMachine: new WatchedMachine(store, { ...watch, store, storage }),
    clock: process.clock,
    rng: new SeededRng(options.seed),
    log: logger,
    createCore: (config, coreDeps) => {
      return new WatchedCore(new RaftCore(config, coreDeps), watch);
    },
    nextTurn: () => process.sleep(0),
  };
}
