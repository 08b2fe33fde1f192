import { aborted, newDeferred, TaskGroup, withSignal } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { NodeRole } from "../model/rows.ts";
import type { HostProbe } from "../overlay/host-probe.ts";
import type { StartMode } from "../raft/driver/options.ts";
import { RpcClients } from "../rpc/clients.ts";
import type { IdentityStore } from "../tls/identity-store.ts";
import { renewThroughManagers } from "../tls/join.ts";
import { Renewer } from "../tls/renewer.ts";
import { dataPathAddrOf, localInterfaces } from "./addresses.ts";
import { LEAVE_GROUP_TIMEOUT_MS, leaveThrough } from "./admission.ts";
import type { DaemonConfig } from "./config.ts";
import type { Manager } from "./manager.ts";
import { ManagerSide } from "./manager-side.ts";
import { NodeRecord } from "./node-record.ts";
import type { NodeState, NodeStateFile } from "./node-state.ts";
import { timeoutSignal } from "./timeout-signal.ts";
import { WorkerSide } from "./worker-side.ts";

const STOP_TASKS_TIMEOUT_MS = 60_000;
/** A silent Raft peer is pinged this often and given up after this. */
const RAFT_KEEPALIVE = {
  keepaliveMs: 1_000,
  keepaliveTimeoutMs: 2_000,
  connectTimeoutMs: 1_000,
  handshakeTimeoutMs: 1_000,
};
const REMOVED =
  "this node was removed from the swarm: run `swarmd leave --force`, then join it again";

export interface ClusterNodeOptions {
  readonly config: DaemonConfig;
  readonly runDir: string;
  readonly state: NodeState;
}

export interface ClusterNodeDeps {
  readonly identity: IdentityStore;
  readonly stateFile: NodeStateFile;
  readonly probe: HostProbe;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly ids: IdSource;
  readonly logger: Logger;
}

/**
 * A node as a member of its cluster: its agent always, its manager's half while its certificate
 * says manager. `run` keeps both until the signal aborts and follows changes of role.
 */
export class ClusterNode {
  readonly #options: ClusterNodeOptions;
  readonly #deps: ClusterNodeDeps;
  readonly #clients: RpcClients;
  readonly #raftClients: RpcClients;
  readonly #renewer: Renewer;
  readonly #record: NodeRecord;
  readonly #managerSide: ManagerSide;
  #worker: WorkerSide | null = null;
  #removed = false;
  readonly #workerOpen = newDeferred<WorkerSide>();

  constructor(options: ClusterNodeOptions, deps: ClusterNodeDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#record = new NodeRecord(options.state, deps.stateFile);
    const { identity, clock, rng, logger } = deps;
    this.#clients = new RpcClients({}, { identity, clock, logger });
    this.#raftClients = new RpcClients({ limits: RAFT_KEEPALIVE }, { identity, clock, logger });
    const managerAddrs = (): readonly string[] => this.state.managers;
    const renew = renewThroughManagers({ clients: this.#clients, managerAddrs, clock, rng });
    this.#renewer = new Renewer({ store: identity, renew, clock, rng, logger });
    this.#managerSide = new ManagerSide(options.config, {
      ...deps,
      record: this.#record,
      clients: this.#clients,
      raftClients: this.#raftClients,
    });
  }

  get state(): NodeState {
    return this.#record.state;
  }

  get manager(): Manager | null {
    return this.#managerSide.manager;
  }

  /** The cluster has removed this node; it only waits to leave. */
  get removed(): boolean {
    return this.#removed;
  }

  /** What is wrong just now; empty when all is well. */
  get problem(): string {
    if (this.#removed) return REMOVED;
    return this.#managerSide.problem || this.#renewer.problem;
  }

  get nodeId(): string {
    return this.#deps.identity.current().nodeId;
  }

  /** The worker's half once it is open. */
  get worker(): WorkerSide | null {
    return this.#worker;
  }

  /** Brings an attachable network to this node's Engine. */
  async attachNetwork(
    networkId: string,
    signal: AbortSignal,
  ): Promise<{ readonly gateway: string }> {
    if (this.#worker === null) throw new SwarmError("unavailable", "the worker is starting");
    return this.#worker.attachNetwork(networkId, signal);
  }

  /** Resolves when a manager serves this node's session: it is ready for tasks. */
  async whenServed(signal: AbortSignal): Promise<void> {
    await (await withSignal(this.#workerOpen.promise, signal)).whenServed(signal);
  }

  /** Resolves when the manager's half works: it has joined the group and knows the cluster. */
  whenManager(signal: AbortSignal): Promise<void> {
    return this.#managerSide.whenReady(signal);
  }

  /** The manager's half as soon as it runs, before it is anybody's member. */
  whenOpen(signal: AbortSignal): Promise<Manager> {
    return this.#managerSide.whenOpen(signal);
  }

  /**
   * Until the signal aborts. Rejects on what only a restart can mend (storage failed). A new node
   * (`start` is not "restart") also rejects when it cannot become a manager: somebody waits for the
   * answer. Later, or after `bePatient`, that is tried again until it works.
   */
  async run(signal: AbortSignal, start: StartMode): Promise<void> {
    const group = new TaskGroup(signal);
    group.start("worker", inner => this.#runWorker(inner));
    group.start("renewer", inner => this.#renewer.run(inner));
    group.start("manager", inner => this.#managerSide.run(inner, start));
    try {
      await Promise.race([group.done, aborted(signal)]);
    } catch (error) {
      this.#managerSide.fail(error);
      throw error;
    } finally {
      await group.close().finally(() => {
        this.#clients.close();
        this.#raftClients.close();
      });
    }
  }

  /** Nobody waits for this node to become a manager any more. */
  bePatient(): void {
    this.#managerSide.bePatient();
  }

  /** Says goodbye, ends the node's tasks, and gets out of the Raft group. */
  async leave(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    if (!this.#removed) await this.#worker?.leave(signal);
    const { manager } = this;
    if (manager === null || manager.raft.status().conf.voters.length < 2) return;
    const limit = AbortSignal.any([signal, timeoutSignal(clock, LEAVE_GROUP_TIMEOUT_MS)]);
    try {
      if (manager.raft.status().role === "leader") await manager.raft.transferLeadership(limit);
      const addrs = this.state.managers.filter(addr => addr !== this.state.advertiseAddr);
      await leaveThrough(this.#clients, { addrs, forget: false, signal: limit }, this.#deps);
    } catch (error) {
      this.#deps.logger.warn("left without the group's consent", { error: errorMessage(error) });
    }
  }

  async #runWorker(signal: AbortSignal): Promise<void> {
    const { config, runDir } = this.#options;
    const { identity, probe, clock, rng, logger } = this.#deps;
    const { nodeId, clusterId } = identity.current();
    const { dataDir, engineSocket, pluginSocket } = config;
    const addr = this.state.advertiseAddr;
    const dataPathAddr = dataPathAddrOf(this.state, localInterfaces());
    this.#worker = await WorkerSide.open(
      { dataDir, runDir, engineSocket, pluginSocket, nodeId, clusterId, addr, dataPathAddr },
      {
        clients: this.#clients,
        managers: () => this.#managersToTry(),
        onManagers: (addrs, role, renew) => {
          if (renew) this.#renewer.renewSoon();
          this.#onManagers(addrs, role);
        },
        onRemoved: () => this.#onRemoved(signal),
        probe,
        clock,
        rng,
        logger: logger.child({ part: "worker" }),
      },
    );
    this.#workerOpen.resolve(this.#worker);
    await this.#worker.run(signal);
  }

  /** A manager asks itself first: it knows the leader. */
  #managersToTry(): readonly string[] {
    const { advertiseAddr, managers } = this.state;
    if (this.manager === null) return managers;
    return [advertiseAddr, ...managers.filter(addr => addr !== advertiseAddr)];
  }

  #onManagers(addrs: readonly string[], role: NodeRole | null): void {
    if (role !== null) this.#renewer.roleIs(role);
    const same =
      addrs.length === this.state.managers.length &&
      addrs.every(addr => this.state.managers.includes(addr));
    if (addrs.length === 0 || same) return;
    void this.#record.save({ managers: addrs }).catch((error: unknown) => {
      this.#deps.logger.warn("could not note the managers", { error: errorMessage(error) });
    });
  }

  #onRemoved(signal: AbortSignal): void {
    this.#removed = true;
    this.#deps.logger.warn("this node was removed from the cluster; its tasks end");
    const limit = AbortSignal.any([signal, timeoutSignal(this.#deps.clock, STOP_TASKS_TIMEOUT_MS)]);
    this.#worker?.stopTasks(limit).catch((error: unknown) => {
      this.#deps.logger.warn("could not end every task", { error: errorMessage(error) });
    });
  }
}
