import { rm } from "node:fs/promises";
import { join } from "node:path";
import { aborted, TaskGroup } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import { ForwardingClient } from "../control/client.ts";
import type { LogSource, NodeAsker } from "../control/ports.ts";
import { CONTROL_ACCESS, controlHandlers, RpcLeaderTransport } from "../control/rpc.ts";
import { ControlService } from "../control/service.ts";
import { SwarmEventLog } from "../control/swarm-events.ts";
import type { Dispatcher } from "../dispatcher/dispatcher.ts";
import { DISPATCHER_ACCESS, dispatcherHandlers } from "../dispatcher/server.ts";
import { RaftCore } from "../raft/core/raft-core.ts";
import { DRIVER_DEFAULTS, type StartMode } from "../raft/driver/options.ts";
import { nextTurn } from "../raft/driver/turns.ts";
import { RaftDriver } from "../raft/driver.ts";
import type { PeerInfo } from "../raft/ports.ts";
import { LevelRaftStorage } from "../raft/storage/level-storage.ts";
import { AesGcmSealer } from "../raft/storage/sealer.ts";
import { GrpcRaftTransport, raftServiceHandlers } from "../raft/transport/grpc-transport.ts";
import type { RpcClients } from "../rpc/clients.ts";
import { CAService } from "../rpc/gen/swarmd/v1/ca.ts";
import { ControlService as ControlRpc } from "../rpc/gen/swarmd/v1/control.ts";
import { DispatcherService } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import { GroupService } from "../rpc/gen/swarmd/v1/group.ts";
import { MembershipService } from "../rpc/gen/swarmd/v1/membership.ts";
import { RaftClient, RaftService } from "../rpc/gen/swarmd/v1/raft.ts";
import type { IdentitySource } from "../rpc/ports.ts";
import { peerOf, RpcServer } from "../rpc/server.ts";
import { ReplicatedStore } from "../state/store.ts";
import { CA_ACCESS, caHandlers } from "../tls/ca-service.ts";
import { ExternalCa } from "../tls/external-ca.ts";
import type { IdentityStore } from "../tls/identity-store.ts";
import { KeyGuard } from "./autolock.ts";
import { effectiveRole, leaderAddrOf, StateCaBackend } from "./ca-backend.ts";
import { loadDek } from "./dek-file.ts";
import { GROUP_ACCESS, groupHandlers } from "./group.ts";
import { LeaderDuties } from "./leader.ts";
import { logLimitsOf } from "./log-limits.ts";
import { ManagerRecord } from "./manager-record.ts";
import { MEMBERSHIP_ACCESS, membershipHandlers } from "./membership.ts";
import { newPlanners } from "./planners.ts";
import { leadTerm } from "./term.ts";
import { tokenSource } from "./token-source.ts";

/** Calls in flight may end within this when the daemon stops. */
const SERVER_GRACE_MS = 1_000;
const RAFT_ACCESS = { stream: "manager", installSnapshot: "manager", probe: "manager" } as const;

export interface ManagerOptions {
  readonly dataDir: string;
  readonly clusterId: string;
  readonly self: PeerInfo;
  readonly listenAddr: string;
  readonly start: StartMode;
  /** For a joiner: the members the leader named. */
  readonly knownPeers: readonly PeerInfo[];
  readonly tickMs: number;
}

export interface ManagerDeps {
  readonly identity: IdentitySource & Pick<IdentityStore, "unlockKey" | "protect">;
  readonly clients: RpcClients;
  /** For the Raft streams: quick to notice a silent peer. */
  readonly raftClients: RpcClients;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly ids: IdSource;
  readonly logger: Logger;
}

/** The manager's half of a node: the log, the state over it, and while it leads the leader's duties. */
export class Manager {
  readonly raft: RaftDriver;
  readonly record: ManagerRecord;
  readonly store: ReplicatedStore;
  readonly control: ForwardingClient;
  readonly events: SwarmEventLog;
  readonly #server: RpcServer;
  readonly #deps: ManagerDeps;
  readonly #options: ManagerOptions;
  #duties: LeaderDuties | null = null;
  #dutiesTerm = 0;
  #dutiesEnd: Promise<void> = Promise.resolve();

  private constructor(options: ManagerOptions, deps: ManagerDeps, parts: ManagerParts) {
    const { store, raft, transport, record } = parts;
    this.record = record;
    const { clock, rng, logger } = deps;
    const { nodeId } = options.self;
    this.#options = options;
    this.#deps = deps;
    this.raft = raft;
    this.store = store;
    const external = new ExternalCa({ own: () => deps.identity.current(), clock, logger });
    const tokens = tokenSource({ ...deps, external });
    const logs = (): LogSource | null => this.#dispatcher()?.logs ?? null;
    const asker = (): NodeAsker | null => this.#dispatcher();
    const service = new ControlService({ nodeId }, { store, raft, tokens, logs, asker, clock });
    const peers = (): readonly PeerInfo[] => store.members();
    this.control = new ForwardingClient(
      { nodeId },
      { service, raft, peers, transport: new RpcLeaderTransport(deps.clients), clock, logger },
    );
    this.events = new SwarmEventLog(store);
    const view = store.view;
    const leads = (): boolean => raft.status().role === "leader";
    this.#server = new RpcServer(
      { listenAddr: options.listenAddr },
      {
        identity: deps.identity,
        clock,
        logger,
        // Only the leader's state is surely up to date; a follower could call a new node removed.
        isRemoved: id => leads() && this.#caughtUp && view.table("nodes").get(id) === undefined,
        isDemoted: id => leads() && this.#caughtUp && effectiveRole(view, id) === "worker",
      },
    );
    const server = this.#server;
    const backend = new StateCaBackend({ clusterId: options.clusterId }, { store, raft });
    const caDeps = { backend, external, clock, rng, logger };
    server.addService(CAService, caHandlers({}, caDeps), CA_ACCESS);
    server.addService(ControlRpc, controlHandlers(service, { logger }), CONTROL_ACCESS);
    server.addService(
      MembershipService,
      membershipHandlers({
        clusterId: options.clusterId,
        clients: deps.clients,
        raft,
        store,
        clock,
      }),
      MEMBERSHIP_ACCESS,
    );
    server.addService(GroupService, groupHandlers({ raft, store }), GROUP_ACCESS);
    const dispatcher = (): Dispatcher | null => this.#dispatcher();
    const leaderAddr = (): string => leaderAddrOf(raft, view);
    const sessions = dispatcherHandlers({ dispatcher, leaderAddr });
    server.addService(DispatcherService, sessions, DISPATCHER_ACCESS);
    server.addNativeService(
      RaftService,
      raftServiceHandlers(() => transport),
      RAFT_ACCESS,
    );
  }

  /** Sessions of nodes; null while this manager does not lead. */
  get sessions(): number | null {
    return this.#dispatcher()?.sessionCount ?? null;
  }

  /** Opens the log and applies what is committed. Throws data_loss or failed_precondition. */
  static async open(options: ManagerOptions, deps: ManagerDeps): Promise<Manager> {
    const { clock, rng, logger } = deps;
    const raftDir = raftDirOf(options.dataDir);
    const sealer = new AesGcmSealer({ dek: await loadDek(raftDir, deps.identity.unlockKey) });
    const storage = new LevelRaftStorage({ dir: raftDir, keepOldSnapshots: 0 }, { sealer, clock });
    const record = new ManagerRecord();
    const onSubmitted = (tookMs: number): void => record.submitted(tookMs);
    const store = new ReplicatedStore({ freezesRows: false }, { clock, logger, onSubmitted });
    const { clusterId, self } = options;
    const transport = new GrpcRaftTransport(
      { clusterId, self },
      {
        dial: peer => deps.raftClients.ownClient(RaftClient, peer.addr, { nodeId: peer.nodeId }),
        clock,
        rng,
        log: logger,
        nodeIdOf: call => peerOf(call)?.nodeId ?? "",
      },
    );
    const raft = await RaftDriver.open(
      {
        ...DRIVER_DEFAULTS,
        clusterId,
        self,
        start: options.start,
        knownPeers: options.knownPeers,
        tickMs: options.tickMs,
      },
      {
        storage,
        transport,
        stateMachine: store,
        clock,
        rng,
        log: logger,
        createCore: (config, coreDeps) => new RaftCore(config, coreDeps),
        nextTurn,
        logLimits: () => logLimitsOf(store.view),
        onSnapshot: tookMs => record.tookSnapshot(tookMs),
      },
    );
    store.attach(raft);
    return new Manager(options, deps, { store, raft, transport, record });
  }

  /** The state holds all that earlier leaders have committed. */
  get #caughtUp(): boolean {
    return this.#duties?.ready ?? false;
  }

  /**
   * Binds the cluster port: others can dial this manager from now on. Rejects when that is not
   * possible; it may be tried again.
   */
  async listen(): Promise<void> {
    await this.#server.start();
  }

  /** Serves until the signal aborts; hands leadership over on the way out. Rejects when the log fails. */
  async run(signal: AbortSignal): Promise<void> {
    const group = new TaskGroup(signal);
    let term = new AbortController();
    const stopListening = this.raft.onLeadership(event => {
      this.record.sawLeader(event);
      if (event.role === "leader" && event.term !== this.#dutiesTerm) {
        this.#dutiesTerm = event.term;
        term.abort();
        term = new AbortController();
        this.#startDuties(AbortSignal.any([term.signal, group.signal]), event.term);
      } else if (event.role !== "leader") term.abort();
    });
    const stopCommits = this.store.onCommit(commit => {
      if (this.#duties !== null) this.record.committed(commit);
      const removed = commit.events.some(({ table, after }) => table === "nodes" && after === null);
      if (removed) queueMicrotask(() => this.#server.recheck());
    });
    // Raft ends last: leadership is handed over while it still answers.
    group.start("raft", inner => this.raft.run(inner));
    const raftDir = raftDirOf(this.#options.dataDir);
    const guard = new KeyGuard({ raftDir }, { ...this.#deps, store: this.store });
    group.start("keys", inner => guard.run(inner));
    try {
      await Promise.race([group.done, aborted(signal)]);
    } finally {
      stopListening();
      stopCommits();
      term.abort();
      await this.#dutiesEnd;
      await group.close().finally(() => {
        this.control.close();
        return this.#server.close(SERVER_GRACE_MS);
      });
      this.events.close();
    }
  }

  #dispatcher(): Dispatcher | null {
    return this.#duties?.dispatcher ?? null;
  }

  #startDuties(signal: AbortSignal, term: number): void {
    const { clock, logger } = this.#deps;
    logger.info("this manager leads", { term });
    const before = this.#dutiesEnd;
    this.#dutiesEnd = before.then(async () => {
      const work = (inner: AbortSignal): Promise<void> => this.#runDuties(inner);
      const handOver = (inner: AbortSignal): Promise<void> => this.raft.transferLeadership(inner);
      await leadTerm(signal, { work, handOver, clock, logger });
      logger.info("this manager no longer leads", { term });
    });
  }

  async #runDuties(signal: AbortSignal): Promise<void> {
    const { clock, ids, logger } = this.#deps;
    const { nodeId } = this.#options.self;
    this.#duties = new LeaderDuties(
      { nodeId },
      { store: this.store, raft: this.raft, planners: newPlanners, clock, ids, logger },
    );
    await this.#duties.run(signal).finally(() => {
      this.#duties = null;
    });
  }
}

interface ManagerParts {
  readonly store: ReplicatedStore;
  readonly raft: RaftDriver;
  readonly transport: GrpcRaftTransport;
  readonly record: ManagerRecord;
}

/** Forgets the log: the node is no manager any more, or not yet. No `Manager` may be open. */
export async function eraseLog(dataDir: string): Promise<void> {
  await rm(raftDirOf(dataDir), { recursive: true, force: true });
}

export function raftDirOf(dataDir: string): string {
  return join(dataDir, "raft");
}
