import { aborted, newDeferred, TaskGroup, withSignal } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { Member, NodeRole } from "../model/rows.ts";
import type { HostProbe } from "../overlay/host-probe.ts";
import type { StartMode } from "../raft/driver/options.ts";
import type { PeerInfo } from "../raft/ports.ts";
import { RpcClients } from "../rpc/clients.ts";
import type { AskGroupRequest } from "../rpc/gen/swarmd/v1/group.ts";
import { callLeader } from "../rpc/leader-call.ts";
import type { IdentityStore } from "../tls/identity-store.ts";
import { renewThroughManagers } from "../tls/join.ts";
import { Renewer } from "../tls/renewer.ts";
import { dataPathAddrOf, localInterfaces } from "./addresses.ts";
import { LEAVE_GROUP_TIMEOUT_MS, leaveThrough } from "./admission.ts";
import type { DaemonConfig } from "./config.ts";
import { askBeforeStart, type GroupAsking, untilRetired } from "./group.ts";
import { eraseLog, Manager } from "./manager.ts";
import { requestJoin } from "./membership.ts";
import { adoptNewGroup } from "./new-group.ts";
import type { NodeState, NodeStateFile } from "./node-state.ts";
import { timeoutSignal } from "./timeout-signal.ts";
import { WorkerSide } from "./worker-side.ts";

/** How long a joiner tries to be taken into the Raft group, and then to catch up. */
const JOIN_GROUP_TIMEOUT_MS = 20_000;
const CATCH_UP_POLL_MS = 20;
/** Between tries to listen, or to be taken into the group, of a node that is to be a manager. */
const MANAGER_RETRY_MS = 2_000;
const STOP_TASKS_TIMEOUT_MS = 60_000;
/** A silent Raft peer is pinged this often and given up after this. */
const RAFT_KEEPALIVE = { keepaliveMs: 1_000, keepaliveTimeoutMs: 2_000, connectTimeoutMs: 1_000 };
/** 48 random bits, never 0: a Raft id is never used twice. */
const RAFT_ID_LOW_BITS = 0x1_0000_0000;
const RAFT_ID_HIGH_MASK = 0xffff;

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

export function newRaftId(rng: Rng): number {
  return (rng.uint32() & RAFT_ID_HIGH_MASK) * RAFT_ID_LOW_BITS + rng.uint32() || 1;
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
  #state: NodeState;
  #worker: WorkerSide | null = null;
  #manager: Manager | null = null;
  #removed = false;
  #problem = "";
  #patient = true;
  readonly #workerOpen = newDeferred<WorkerSide>();
  readonly #managerOpen = newDeferred<Manager>();
  readonly #managerReady = newDeferred<void>();

  constructor(options: ClusterNodeOptions, deps: ClusterNodeDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#state = options.state;
    const { identity, clock, rng, logger } = deps;
    this.#clients = new RpcClients({}, { identity, clock, logger });
    this.#raftClients = new RpcClients({ limits: RAFT_KEEPALIVE }, { identity, clock, logger });
    const managerAddrs = (): readonly string[] => this.#state.managers;
    const renew = renewThroughManagers({ clients: this.#clients, managerAddrs, clock, rng });
    this.#renewer = new Renewer({ store: identity, renew, clock, rng, logger });
    this.#managerReady.promise.catch(() => undefined);
    this.#managerOpen.promise.catch(() => undefined);
  }

  get state(): NodeState {
    return this.#state;
  }

  get manager(): Manager | null {
    return this.#manager;
  }

  /** The cluster has removed this node; it only waits to leave. */
  get removed(): boolean {
    return this.#removed;
  }

  /** What is wrong just now; empty when all is well. */
  get problem(): string {
    return this.#problem;
  }

  get nodeId(): string {
    return this.#deps.identity.current().nodeId;
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
    return withSignal(this.#managerReady.promise, signal);
  }

  /** The manager's half as soon as it runs, before it is anybody's member. */
  whenOpen(signal: AbortSignal): Promise<Manager> {
    return withSignal(this.#managerOpen.promise, signal);
  }

  /**
   * Until the signal aborts. Rejects on what only a restart can mend (storage failed). A new node
   * (`start` is not "restart") also rejects when it cannot become a manager: somebody waits for the
   * answer. Later, or after `bePatient`, that is tried again until it works.
   */
  async run(signal: AbortSignal, start: StartMode): Promise<void> {
    this.#patient = start === "restart";
    const group = new TaskGroup(signal);
    group.start("worker", inner => this.#runWorker(inner));
    group.start("renewer", inner => this.#renewer.run(inner));
    group.start("manager", inner => this.#runManager(inner, start));
    try {
      await Promise.race([group.done, aborted(signal)]);
    } catch (error) {
      this.#managerReady.reject(error);
      this.#managerOpen.reject(error);
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
    this.#patient = true;
  }

  /** Says goodbye, ends the node's tasks, and gets out of the Raft group. */
  async leave(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    if (!this.#removed) await this.#worker?.leave(signal);
    const manager = this.#manager;
    if (manager === null || manager.raft.status().conf.voters.length < 2) return;
    const limit = AbortSignal.any([signal, timeoutSignal(clock, LEAVE_GROUP_TIMEOUT_MS)]);
    try {
      if (manager.raft.status().role === "leader") await manager.raft.transferLeadership(limit);
      const addrs = this.#state.managers.filter(addr => addr !== this.#state.advertiseAddr);
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
    const addr = this.#state.advertiseAddr;
    const dataPathAddr = dataPathAddrOf(this.#state, localInterfaces());
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
    const { advertiseAddr, managers } = this.#state;
    if (this.#manager === null) return managers;
    return [advertiseAddr, ...managers.filter(addr => addr !== advertiseAddr)];
  }

  #onManagers(addrs: readonly string[], role: NodeRole | null): void {
    if (role !== null) this.#renewer.roleIs(role);
    const same =
      addrs.length === this.#state.managers.length &&
      addrs.every(addr => this.#state.managers.includes(addr));
    if (addrs.length === 0 || same) return;
    void this.#save({ managers: addrs }).catch((error: unknown) => {
      this.#deps.logger.warn("could not note the managers", { error: errorMessage(error) });
    });
  }

  #onRemoved(signal: AbortSignal): void {
    this.#removed = true;
    this.#problem =
      "this node was removed from the swarm: run `swarmd leave --force`, then join it again";
    this.#deps.logger.warn("this node was removed from the cluster; its tasks end");
    const limit = AbortSignal.any([signal, timeoutSignal(this.#deps.clock, STOP_TASKS_TIMEOUT_MS)]);
    this.#worker?.stopTasks(limit).catch((error: unknown) => {
      this.#deps.logger.warn("could not end every task", { error: errorMessage(error) });
    });
  }

  /** Keeps the manager's half as long as the certificate says manager, again and again. */
  async #runManager(signal: AbortSignal, start: StartMode): Promise<void> {
    let mode = start;
    while (!signal.aborted) {
      await this.#untilRole("manager", signal);
      const retiredBy = await this.#manageUntilDemoted(signal, mode);
      if (retiredBy !== null) await this.#untilWorker(retiredBy, signal);
      if (signal.aborted) return;
      this.#deps.logger.info("this node is a worker now");
      this.#problem = "";
      this.#patient = true;
      await this.#save({ raftId: 0, raftJoined: false });
      await eraseLog(this.#options.config.dataDir);
      // Only managers are locked.
      await this.#deps.identity.protect(null);
      mode = "restart";
    }
  }

  /**
   * Resolves with null when the certificate says worker or the signal aborts, and with the address
   * of a manager that says so when this one is no member of the group any more.
   */
  async #manageUntilDemoted(signal: AbortSignal, start: StartMode): Promise<string | null> {
    const group = new TaskGroup(signal);
    const admitted = newDeferred<void>();
    try {
      const manager = await this.#openManager(start);
      const asking = this.#asking(manager);
      const retiredBy = await this.#retiredWhileAway(asking, signal);
      // Once opened, a manager runs, if only to close what it has opened.
      group.start("manager", inner =>
        manager.run(
          retiredBy === null ? inner : AbortSignal.abort(new SwarmError("canceled", "no member")),
        ),
      );
      if (retiredBy !== null) return retiredBy;
      group.start("admission", async inner => {
        await this.#persist("listen on the cluster port", () => manager.listen(), inner);
        this.#managerOpen.resolve(manager);
        if (!this.#state.raftJoined) {
          await this.#persist("join the managers", () => this.#joinGroup(manager, inner), inner);
          await this.#save({ raftJoined: true });
        }
        this.#problem = "";
        this.#manager = manager;
        this.#managerReady.resolve();
        admitted.resolve();
        await this.#persist(
          "tell the managers this address",
          () => this.#announce(manager, inner),
          inner,
        );
      });
      const demoted = this.#untilRole("worker", signal).then(() => null);
      const retired = admitted.promise.then(() => untilRetired(asking, group.signal));
      const ended = [group.done.then(() => null), aborted(signal).then(() => null)];
      return await Promise.race([...ended, demoted, retired]);
    } finally {
      // While leadership is handed over, this manager still answers.
      await group.close().finally(() => {
        this.#manager = null;
      });
    }
  }

  /** A manager that was away may have been removed meanwhile; it must not take part in anything. */
  async #retiredWhileAway(asking: GroupAsking, signal: AbortSignal): Promise<string | null> {
    if (!this.#state.raftJoined) return null;
    // Only a shutdown ends the asking with an error, and what was opened is closed by running.
    return askBeforeStart(asking, signal).catch(() => null);
  }

  /** How the other managers are asked whether this one is still a member. */
  #asking(manager: Manager): GroupAsking {
    const { identity, clock } = this.#deps;
    const own = this.#state.advertiseAddr;
    const { raftId } = manager.raft;
    const others = (): readonly string[] => {
      const members = manager.store.members().filter(member => member.raftId !== raftId);
      const addrs = new Set([...this.#state.managers, ...members.map(({ addr }) => addr)]);
      return [...addrs].filter(addr => addr !== own);
    };
    const request = (): AskGroupRequest => ({ raftId, commit: manager.raft.status().commit });
    return { identity, clock, others, request };
  }

  /** The group has gone on without this manager: its certificate follows. */
  async #untilWorker(retiredBy: string, signal: AbortSignal): Promise<void> {
    this.#problem =
      `this node is no manager any more: it was removed, or a new group was made without it (says ` +
      `the manager at ${retiredBy}). It becomes a worker as soon as the leader renews its certificate`;
    this.#deps.logger.warn("this manager was retired while it was away", { by: retiredBy });
    await this.#untilRole("worker", signal);
  }

  /** Does it again and again, saying why it does not work, unless somebody waits for the answer. */
  async #persist(what: string, work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (signal.aborted || !this.#patient) throw error;
        this.#problem = `cannot ${what}: ${errorMessage(error)}`;
        this.#deps.logger.error(`cannot ${what}`, { error: errorMessage(error) });
      }
      await sleep(this.#deps.clock, MANAGER_RETRY_MS, signal);
    }
  }

  async #openManager(start: StartMode): Promise<Manager> {
    const { config } = this.#options;
    const { identity, clock, rng, ids, logger } = this.#deps;
    if (this.#state.raftId === 0) {
      // A log left by an earlier membership would not be this one's.
      await eraseLog(config.dataDir);
      await this.#save({ raftId: newRaftId(rng), raftJoined: false });
    }
    await adoptNewGroup(config.dataDir, this.#state.raftId);
    const { nodeId, clusterId } = identity.current();
    const self: PeerInfo = {
      raftId: this.#state.raftId,
      nodeId,
      addr: this.#state.advertiseAddr,
    };
    return Manager.open(
      {
        dataDir: config.dataDir,
        clusterId,
        self,
        listenAddr: this.#state.listenAddr,
        start: start === "bootstrap" ? start : this.#state.raftJoined ? "restart" : "join",
        knownPeers: [],
        tickMs: config.raftTickMs,
      },
      {
        identity,
        clients: this.#clients,
        raftClients: this.#raftClients,
        clock,
        rng,
        ids,
        logger: logger.child({ part: "manager" }),
      },
    );
  }

  /** Asks the leader to be taken in, and waits until this manager is a voter and knows the cluster. */
  async #joinGroup(manager: Manager, signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const addrs = this.#state.managers.filter(addr => addr !== this.#state.advertiseAddr);
    const request = { raftId: this.#state.raftId, addr: this.#state.advertiseAddr };
    if (addrs.length > 0) {
      await callLeader(
        addr => requestJoin(this.#clients, addr, request, signal),
        { addrs, signal, timeoutMs: JOIN_GROUP_TIMEOUT_MS, idempotent: true },
        this.#deps,
      );
    }
    const isMember = (): boolean =>
      manager.raft.status().conf.voters.includes(this.#state.raftId) &&
      manager.store.view.table("cluster").size > 0;
    while (!isMember()) await sleep(clock, CATCH_UP_POLL_MS, signal);
  }

  /** Makes the group's record of this manager's address true, if it moved while it was away. */
  async #announce({ raft, store }: Manager, signal: AbortSignal): Promise<void> {
    const { raftId, advertiseAddr: addr } = this.#state;
    const row = (): Member | undefined => store.view.table("members").get(String(raftId));
    while (row() === undefined) await sleep(this.#deps.clock, CATCH_UP_POLL_MS, signal);
    if (row()?.addr === addr) return;
    if (raft.status().role === "leader") {
      return raft.addMember({ raftId, nodeId: this.nodeId, addr }, signal);
    }
    const addrs = this.#state.managers.filter(manager => manager !== addr);
    await callLeader(
      manager => requestJoin(this.#clients, manager, { raftId, addr }, signal),
      { addrs, signal, timeoutMs: JOIN_GROUP_TIMEOUT_MS, idempotent: true },
      this.#deps,
    );
  }

  /** Resolves when the certificate says `role`. */
  async #untilRole(role: NodeRole, signal: AbortSignal): Promise<void> {
    const { identity } = this.#deps;
    if (identity.current().role === role) return;
    const changed = newDeferred<void>();
    const stop = identity.onChange(next => {
      if (next.role === role) changed.resolve();
    });
    try {
      await withSignal(changed.promise, signal);
    } finally {
      stop();
    }
  }

  async #save(change: Partial<NodeState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    await this.#deps.stateFile.save(this.#state);
  }
}
