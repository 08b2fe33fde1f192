import type {
  InitRequest,
  JoinRequest,
  LocalNodeInfo,
  NodeLifecycle,
  RestoreRequest,
} from "../api/ports.ts";
import { newDeferred } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { ControlClient } from "../control/ports.ts";
import type { SwarmEventFeed } from "../control/swarm-events.ts";
import type { HostProbe } from "../overlay/host-probe.ts";
import type { StartMode } from "../raft/driver/options.ts";
import { formatHostPort, parseHostPort } from "../rpc/address.ts";
import { IdentityStore } from "../tls/identity-store.ts";
import { parseUnlockKey } from "../tls/unlock-key.ts";
import { hostOf, localInterfaces, resolveAddresses } from "./addresses.ts";
import { askAdmission, takeBackAdmission } from "./admission.ts";
import { clusterOf } from "./ca-backend.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { DaemonConfig } from "./config.ts";
import { refuseEngineInSwarm } from "./engine-swarm.ts";
import { foundCluster, newFounding } from "./founding.ts";
import { removalAdvice } from "./leave-advice.ts";
import { removeLeftContainers } from "./left-containers.ts";
import { newRaftId } from "./manager-side.ts";
import { MembershipFiles } from "./membership-files.ts";
import { movedState } from "./move.ts";
import type { NodeState } from "./node-state.ts";
import { backupOf, forceNewGroup, type RegroupHost, readRestorable } from "./regroup.ts";
import { RunningNode } from "./running-node.ts";
import { timeoutSignal } from "./timeout-signal.ts";

/** Docker's words (moby daemon/cluster/errors.go). */
const ALREADY_IN =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join ' +
  "another one.";
const LOCKED_LEAVE =
  "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.";
const NOT_IN = "This node is not part of a swarm";
const JOIN_SLOW =
  "Timeout was reached before node joined. The attempt to join the swarm will continue in the " +
  'background. Use the "docker info" command to see the current swarm status of your node.';
const INIT_WAIT_MS = 20_000;
const LEAVE_WAIT_MS = 60_000;

type MembershipChange = "init" | "join" | "leave" | "unlock" | "restore";

export interface LifecycleDeps {
  readonly probe: HostProbe;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly ids: IdSource;
  readonly logger: Logger;
}

/** The daemon's life in and out of clusters; one change at a time. */
export class Lifecycle implements NodeLifecycle {
  readonly #config: DaemonConfig;
  readonly #runDir: string;
  readonly #deps: LifecycleDeps;
  readonly #identity: IdentityStore;
  readonly #files: MembershipFiles;
  readonly #fatal = newDeferred<never>();
  #running: RunningNode | null = null;
  /** A manager whose keys are sealed: it waits for the unlock key. */
  #locked: NodeState | null = null;
  #changing: MembershipChange | null = null;

  private constructor(
    options: { readonly config: DaemonConfig; readonly runDir: string },
    deps: LifecycleDeps,
    identity: IdentityStore,
  ) {
    this.#config = options.config;
    this.#runDir = options.runDir;
    this.#deps = deps;
    this.#identity = identity;
    const { dataDir } = options.config;
    this.#files = new MembershipFiles({ dataDir }, { identity, logger: deps.logger });
    this.#fatal.promise.catch(() => undefined);
  }

  /** Reads what is on disk; a node that was in a cluster is in it again. */
  static async open(
    options: { readonly config: DaemonConfig; readonly runDir: string },
    deps: LifecycleDeps,
  ): Promise<Lifecycle> {
    const { dataDir } = options.config;
    const identity = await IdentityStore.open({ dataDir }, { logger: deps.logger });
    const lifecycle = new Lifecycle(options, deps, identity);
    const state = await lifecycle.#files.load();
    if (state !== null && identity.locked) lifecycle.#locked = state;
    else if (state !== null) await lifecycle.#resume(state);
    return lifecycle;
  }

  /** As the member it was, at the address it has now. */
  async #resume(before: NodeState): Promise<void> {
    const state = movedState(before, this.#config, localInterfaces());
    if (state !== before) await this.#files.stateFile.save(state);
    if (state.advertiseAddr !== before.advertiseAddr) {
      const { advertiseAddr: to } = state;
      this.#deps.logger.info("this node has moved", { from: before.advertiseAddr, to });
    }
    this.#establish(this.#start(state, "restart"));
  }

  /** Rejects when the node can go on only after a restart of the daemon. */
  get failed(): Promise<never> {
    return this.#fatal.promise;
  }

  async close(): Promise<void> {
    await this.#running?.end("the daemon stops");
  }

  state(): LocalNodeInfo {
    const node = this.#running?.node;
    if (node === undefined) {
      const idle = this.#locked === null ? "inactive" : "locked";
      const localNodeState = this.#changing === null ? idle : "pending";
      const none = { nodeId: "", nodeAddr: "", isManager: false, error: "", remoteManagers: [] };
      return { localNodeState, ...none };
    }
    const identity = this.#identity.current();
    const members = node.manager?.store.members();
    const remoteManagers =
      members === undefined || members.length === 0
        ? node.state.managers.map(addr => ({ nodeId: "", addr }))
        : members.map(({ nodeId, addr }) => ({ nodeId, addr }));
    return {
      localNodeState: node.removed ? "error" : this.#changing === null ? "active" : "pending",
      nodeId: identity.nodeId,
      nodeAddr: hostOf(node.state.advertiseAddr),
      isManager: identity.role === "manager",
      error: node.problem,
      remoteManagers,
    };
  }

  /** What this node has done so far, for diagnosis; 0 while it is no manager. */
  counters(): Readonly<Record<string, number>> {
    const status = this.#running?.node.manager?.raft.status();
    return { applied: status?.applied ?? 0, appended: status?.lastIndex ?? 0 };
  }

  /** The node of the cluster that this daemon is; null while it is none. */
  get node(): ClusterNode | null {
    return this.#running?.node ?? null;
  }

  get clusterId(): string {
    return this.#running === null ? "" : this.#identity.current().clusterId;
  }

  async attachNetwork(
    networkId: string,
    signal: AbortSignal,
  ): Promise<{ readonly gateway: string }> {
    const node = this.#running?.node;
    if (node === undefined) {
      throw new SwarmError("failed_precondition", "this node is not part of a swarm");
    }
    return node.attachNetwork(networkId, signal);
  }

  control(): ControlClient | null {
    return this.#running?.node.manager?.control ?? null;
  }

  events(): SwarmEventFeed | null {
    return this.#running?.node.manager?.events ?? null;
  }

  init(request: InitRequest, signal: AbortSignal): Promise<string> {
    return this.#change("init", async () => {
      if (request.forceNewCluster && this.#running !== null) {
        return forceNewGroup(this.#regroupHost(), this.#running.node, request, signal);
      }
      this.#mustBeOut();
      const addresses = resolveAddresses(request, this.#config);
      // Docker begins a first cluster where there is nothing to make a new one of.
      if (request.forceNewCluster) this.#deps.logger.warn("no cluster state here: beginning anew");
      await refuseEngineInSwarm(this.#config.engineSocket, signal, this.#deps);
      return this.#allOrNothing(async () => {
        const founding = await newFounding(request, this.#deps);
        await this.#identity.replace(founding.certificate);
        const raftId = newRaftId(this.#deps.rng);
        const managers = [addresses.advertiseAddr];
        const state: NodeState = { format: 1, ...addresses, raftId, raftJoined: false, managers };
        await this.#files.stateFile.save(state);
        const running = this.#start(state, "bootstrap");
        const limit = AbortSignal.any([signal, timeoutSignal(this.#deps.clock, INIT_WAIT_MS)]);
        const { nodeId, clusterId } = this.#identity.current();
        await foundCluster(running, founding, { nodeId, clusterId }, limit, this.#deps);
        return nodeId;
      });
    });
  }

  join(request: JoinRequest, signal: AbortSignal): Promise<void> {
    return this.#change("join", async () => {
      this.#mustBeOut();
      const addresses = resolveAddresses(request, this.#config);
      const managers = request.remoteAddrs.map(addr => formatHostPort(parseHostPort(addr)));
      await refuseEngineInSwarm(this.#config.engineSocket, signal, this.#deps);
      const identity = await askAdmission(request, addresses.advertiseAddr, signal, this.#deps);
      const state: NodeState = { format: 1, ...addresses, raftId: 0, raftJoined: false, managers };
      const inTime = await this.#allOrNothing(async () => {
        try {
          await this.#identity.replace(identity);
          await this.#files.stateFile.save(state);
          const running = this.#start(state, "join");
          if (identity.role === "manager") return await running.becameManager(signal);
          await running.becameReady(signal);
          return true;
        } catch (error) {
          await this.#end();
          await takeBackAdmission(managers, identity, this.#deps);
          throw error;
        }
      });
      if (!inTime) throw new SwarmError("deadline_exceeded", JOIN_SLOW);
    });
  }

  leave(force: boolean, signal: AbortSignal): Promise<void> {
    return this.#change("leave", async () => {
      const running = this.#running;
      if (this.#locked !== null) return this.#leaveLocked(force, signal);
      if (running === null) throw new SwarmError("unavailable", NOT_IN);
      const { manager } = running.node;
      if (manager !== null && !force) {
        throw new SwarmError("failed_precondition", removalAdvice(manager.raft));
      }
      const limit = AbortSignal.any([signal, timeoutSignal(this.#deps.clock, LEAVE_WAIT_MS)]);
      try {
        await running.node.leave(limit);
      } catch (error) {
        if (!force) throw error;
        this.#deps.logger.warn("leaving by force", { error: errorMessage(error) });
      }
      await this.#forget();
    });
  }

  /** Its cluster cannot be told: no key opens the certificate that would say so. */
  async #leaveLocked(force: boolean, signal: AbortSignal): Promise<void> {
    if (!force) throw new SwarmError("unavailable", LOCKED_LEAVE);
    const node = this.#identity.lockedName;
    const { engineSocket } = this.#config;
    if (node !== null) await removeLeftContainers(node, engineSocket, signal, this.#deps);
    await this.#forget();
  }

  async backup(passphrase: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const manager = this.#running?.node.manager ?? null;
    if (manager === null) throw new SwarmError("unavailable", NOT_IN);
    return backupOf(manager, this.#regroupHost(), passphrase, signal);
  }

  restore(
    request: RestoreRequest,
    file: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<string> {
    return this.#change("restore", async () => {
      this.#mustBeOut();
      await refuseEngineInSwarm(this.#config.engineSocket, signal, this.#deps);
      const make = await readRestorable(this.#regroupHost(), request, file, signal);
      return this.#allOrNothing(make);
    });
  }

  /** Opens the keys on disk and goes on where this manager stopped. */
  unlock(key: string, signal: AbortSignal): Promise<void> {
    return this.#change("unlock", async () => {
      const state = this.#locked;
      if (state === null) throw new SwarmError("already_exists", "swarm is not locked");
      this.#identity.unlock(parseUnlockKey(key));
      this.#locked = null;
      await this.#resume(state);
      // Without a quorum it comes up later: it is unlocked all the same.
      await this.#mustBeIn().becameManager(signal);
    });
  }

  async unlockKey(signal: AbortSignal): Promise<string> {
    const manager = this.#running?.node.manager ?? null;
    if (manager === null) throw new SwarmError("unavailable", NOT_IN);
    await manager.raft.readBarrier(signal);
    return clusterOf(manager.store.view).unlockKey ?? "";
  }

  /** A node that could not be made leaves nothing behind; one that was made counts from now on. */
  async #allOrNothing<T>(make: () => Promise<T>): Promise<T> {
    try {
      await this.#files.eraseParts();
      const made = await make();
      if (this.#running !== null) this.#establish(this.#running);
      return made;
    } catch (error) {
      await this.#forget().catch((second: unknown) => {
        const told = { error: errorMessage(second) };
        this.#deps.logger.error("could not remove what the failed attempt left", told);
      });
      throw error;
    }
  }

  #regroupHost(): RegroupHost {
    return {
      ...this.#deps,
      identity: this.#identity,
      stateFile: this.#files.stateFile,
      dataDir: this.#config.dataDir,
      addresses: request => resolveAddresses(request, this.#config),
      stop: () => this.#end(),
      start: state => {
        const isKnown = this.#running !== null;
        const running = this.#start(state, "restart");
        // One that is only being made counts when it leads.
        if (isKnown) this.#establish(running);
        return running;
      },
    };
  }

  #mustBeIn(): RunningNode {
    if (this.#running === null) throw new SwarmError("unavailable", NOT_IN);
    return this.#running;
  }

  #mustBeOut(): void {
    const isIn = this.#running !== null || this.#locked !== null;
    if (isIn) throw new SwarmError("unavailable", ALREADY_IN);
  }

  #start(state: NodeState, mode: StartMode): RunningNode {
    this.#running = new RunningNode({ config: this.#config, runDir: this.#runDir, state }, mode, {
      ...this.#deps,
      identity: this.#identity,
      stateFile: this.#files.stateFile,
    });
    return this.#running;
  }

  /**
   * The node is made: nobody waits for it any more, and the daemon ends when it cannot go on. A
   * worker that is promoted later tries to be a manager until it can.
   */
  #establish(running: RunningNode): void {
    running.node.bePatient();
    running.failed.catch((error: unknown) => this.#fatal.reject(error));
  }

  async #end(): Promise<void> {
    await this.#running?.end("this node leaves the cluster");
  }

  /** Out of the cluster: nothing of it stays on disk. */
  async #forget(): Promise<void> {
    const running = this.#running;
    await this.#end();
    this.#running = null;
    const state = running?.node.state ?? this.#locked;
    this.#locked = null;
    await this.#files.forget(state);
  }

  async #change<T>(what: MembershipChange, work: () => Promise<T>): Promise<T> {
    if (this.#changing !== null) {
      throw new SwarmError(
        "unavailable",
        `a swarm ${this.#changing} is under way on this node: wait for it to end`,
      );
    }
    this.#changing = what;
    try {
      return await work();
    } finally {
      this.#changing = null;
    }
  }
}
