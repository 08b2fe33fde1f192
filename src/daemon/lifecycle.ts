import { createPublicKey } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type {
  InitRequest,
  JoinRequest,
  LocalNodeInfo,
  NodeLifecycle,
  RestoreRequest,
} from "../api/ports.ts";
import { newDeferred } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError, toSwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { ControlClient } from "../control/ports.ts";
import type { SwarmEventFeed } from "../control/swarm-events.ts";
import { NS_PER_MS } from "../model/defaults.ts";
import type { StartMode } from "../raft/driver/options.ts";
import { formatHostPort, parseHostPort } from "../rpc/address.ts";
import type { Identity } from "../rpc/ports.ts";
import { createRootCa, type RootCa, signNodeCertificate } from "../tls/ca.ts";
import { IdentityStore } from "../tls/identity-store.ts";
import { joinRequest } from "../tls/join.ts";
import { newKeyPair } from "../tls/keys.ts";
import { parseUnlockKey } from "../tls/unlock-key.ts";
import {
  hostOf,
  localInterfaces,
  resolveAdvertiseAddr,
  resolveDataPathAddr,
  resolveListenAddr,
} from "./addresses.ts";
import { clusterOf } from "./ca-backend.ts";
import {
  ClusterNode,
  eraseMembership,
  newRaftId,
  takeBackAdmission,
  timeoutSignal,
} from "./cluster-node.ts";
import type { DaemonConfig } from "./config.ts";
import { refuseEngineInSwarm } from "./engine-swarm.ts";
import { founderReady, foundingRows } from "./founding.ts";
import { removalAdvice } from "./leave-advice.ts";
import { raftDirOf } from "./manager.ts";
import { movedState } from "./move.ts";
import { type NodeState, NodeStateFile } from "./node-state.ts";
import {
  type AskedAddresses,
  backupOf,
  forceNewGroup,
  type NodeAddresses,
  type RegroupHost,
  type RunningNode,
  readRestorable,
} from "./regroup.ts";

/** Docker's words (moby daemon/cluster/errors.go). */
const ALREADY_IN =
  'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join ' +
  "another one.";
const NOT_IN = "This node is not part of a swarm";
const JOIN_SLOW =
  "Timeout was reached before node joined. The attempt to join the swarm will continue in the " +
  'background. Use the "docker info" command to see the current swarm status of your node.';
const JOIN_WAIT_MS = 20_000;
const INIT_WAIT_MS = 20_000;
const LEAVE_WAIT_MS = 60_000;

type MembershipChange = "init" | "join" | "leave" | "unlock" | "restore";

export interface LifecycleDeps {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly ids: IdSource;
  readonly logger: Logger;
}

interface Running extends RunningNode {
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

/** The daemon's life in and out of clusters; one change at a time. */
export class Lifecycle implements NodeLifecycle {
  readonly #config: DaemonConfig;
  readonly #runDir: string;
  readonly #deps: LifecycleDeps;
  readonly #identity: IdentityStore;
  readonly #stateFile: NodeStateFile;
  readonly #fatal = newDeferred<never>();
  #running: Running | null = null;
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
    this.#stateFile = new NodeStateFile(join(options.config.dataDir, "node.json"));
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
    const state = await lifecycle.#stateFile.load();
    if (state === null || state.leaving === true) await lifecycle.#clearRemains(state);
    else if (identity.locked) lifecycle.#locked = state;
    else if (identity.present) await lifecycle.#resume(state);
    else throw await halfMembership(dataDir);
    return lifecycle;
  }

  /** As the member it was, at the address it has now. */
  async #resume(before: NodeState): Promise<void> {
    const state = movedState(before, this.#config, localInterfaces());
    if (state !== before) await this.#stateFile.save(state);
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
    const running = this.#running;
    running?.stop.abort(new SwarmError("canceled", "the daemon stops"));
    await running?.ended;
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
      const addresses = this.#addresses(request);
      if (request.forceNewCluster) {
        throw new SwarmError(
          "failed_precondition",
          "there is no cluster state on this node to make a new cluster of",
        );
      }
      await refuseEngineInSwarm(this.#config.engineSocket, signal, this.#deps);
      return this.#allOrNothing(async () => {
        const root = await createRootCa({ nowMs: this.#deps.clock.nowMs(), rng: this.#deps.rng });
        const certificatePem = await this.#ownCertificate(root, request);
        const raftId = newRaftId(this.#deps.rng);
        const managers = [addresses.advertiseAddr];
        const state: NodeState = { format: 1, ...addresses, raftId, raftJoined: false, managers };
        await this.#stateFile.save(state);
        const running = this.#start(state, "bootstrap");
        const limit = AbortSignal.any([signal, timeoutSignal(this.#deps.clock, INIT_WAIT_MS)]);
        await this.#foundCluster(running, request, root, certificatePem, limit);
        return this.#identity.current().nodeId;
      });
    });
  }

  join(request: JoinRequest, signal: AbortSignal): Promise<void> {
    return this.#change("join", async () => {
      this.#mustBeOut();
      const addresses = this.#addresses(request);
      const managers = request.remoteAddrs.map(addr => formatHostPort(parseHostPort(addr)));
      await refuseEngineInSwarm(this.#config.engineSocket, signal, this.#deps);
      const identity = await this.#admission(request, addresses.advertiseAddr, signal);
      const state: NodeState = { format: 1, ...addresses, raftId: 0, raftJoined: false, managers };
      const inTime = await this.#allOrNothing(async () => {
        try {
          await this.#identity.replace(identity);
          await this.#stateFile.save(state);
          const running = this.#start(state, "join");
          return identity.role === "worker" || (await this.#becameManager(running, signal));
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
      if (this.#locked !== null && force) return this.#forget();
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
      const running = this.#mustBeIn();
      const limit = timeoutSignal(this.#deps.clock, INIT_WAIT_MS);
      const ready = running.node.whenManager(AbortSignal.any([signal, limit]));
      await Promise.race([ready, running.failed]).catch((error: unknown) => {
        // Without a quorum it comes up later: it is unlocked all the same.
        if (!limit.aborted) throw error;
      });
    });
  }

  async unlockKey(signal: AbortSignal): Promise<string> {
    const manager = this.#running?.node.manager ?? null;
    if (manager === null) throw new SwarmError("unavailable", NOT_IN);
    await manager.raft.readBarrier(signal);
    return clusterOf(manager.store.view).unlockKey ?? "";
  }

  /** False when it takes so long that it goes on in the background. */
  async #becameManager({ node, failed }: Running, signal: AbortSignal): Promise<boolean> {
    const limit = timeoutSignal(this.#deps.clock, JOIN_WAIT_MS);
    try {
      await Promise.race([node.whenManager(AbortSignal.any([signal, limit])), failed]);
      return true;
    } catch (error) {
      if (!limit.aborted) throw error;
      return false;
    }
  }

  /** A node that could not be made leaves nothing behind; one that was made counts from now on. */
  async #allOrNothing<T>(make: () => Promise<T>): Promise<T> {
    try {
      await eraseMembership(this.#config.dataDir);
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
      stateFile: this.#stateFile,
      dataDir: this.#config.dataDir,
      addresses: request => this.#addresses(request),
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

  #mustBeIn(): Running {
    if (this.#running === null) throw new SwarmError("unavailable", NOT_IN);
    return this.#running;
  }

  #mustBeOut(): void {
    const isIn = this.#running !== null || this.#locked !== null;
    if (isIn) throw new SwarmError("unavailable", ALREADY_IN);
  }

  #addresses(request: AskedAddresses): NodeAddresses {
    const interfaces = localInterfaces();
    const listenAddr = resolveListenAddr(
      request.listenAddr === "" ? this.#config.listenAddr : request.listenAddr,
      interfaces,
    );
    const wanted =
      request.advertiseAddr === "" ? this.#config.advertiseAddr : request.advertiseAddr;
    const advertiseAddr = resolveAdvertiseAddr(wanted, listenAddr, interfaces);
    const asked = request.advertiseAddr !== "";
    const advertised = { setting: this.#config.advertiseAddr, asked };
    const dataPathAddr = resolveDataPathAddr(request.dataPathAddr, interfaces);
    return { listenAddr, advertiseAddr, dataPathAddr, advertised };
  }

  /** The first manager signs its own certificate; the others come with the token's. */
  async #ownCertificate(root: RootCa, request: InitRequest): Promise<string> {
    const { ids, rng, clock } = this.#deps;
    const pair = await newKeyPair();
    const name = { nodeId: ids.newId(), clusterId: ids.newId(), role: "manager" as const };
    const expiryMs = request.spec.CAConfig.NodeCertExpiry / NS_PER_MS;
    const nowMs = clock.nowMs();
    const publicKey = createPublicKey(pair.privateKey);
    const certPem = signNodeCertificate({ publicKey, name, expiryMs, nowMs }, root, rng);
    await this.#identity.replace({ certPem, keyPem: pair.keyPem, caPem: root.certPem });
    return certPem;
  }

  /** Waits for leadership of the group of one and writes the cluster's first rows. */
  async #foundCluster(
    running: Running,
    request: InitRequest,
    root: RootCa,
    certificatePem: string,
    signal: AbortSignal,
  ): Promise<void> {
    const manager = await Promise.race([running.node.whenOpen(signal), running.failed]);
    await manager.raft.readBarrier(signal);
    const { advertiseAddr } = running.node.state;
    const founder = { ...this.#identity.current(), certificatePem, advertiseAddr };
    const changes = foundingRows(manager.store.view, founder, request, root, this.#deps.ids);
    await manager.store.submit(changes, signal);
    await running.node.whenManager(signal);
    await founderReady(manager.store, founder.nodeId, this.#deps.clock, signal);
  }

  /** Through the first of the addresses that answers. */
  async #admission(
    request: JoinRequest,
    advertiseAddr: string,
    signal: AbortSignal,
  ): Promise<Identity> {
    let failure = new SwarmError("invalid_argument", "at least 1 RemoteAddr is required to join");
    for (const addr of request.remoteAddrs) {
      try {
        const joined = await joinRequest(
          {
            addr,
            token: request.joinToken,
            availability: request.availability,
            advertiseAddr,
            hostname: hostname(),
            signal,
          },
          this.#deps,
        );
        return joined.identity;
      } catch (error) {
        failure = toSwarmError(error);
        if (failure.code !== "unavailable") break;
      }
    }
    throw failure;
  }

  #start(state: NodeState, mode: StartMode): Running {
    const node = new ClusterNode(
      { config: this.#config, runDir: this.#runDir, state },
      { ...this.#deps, identity: this.#identity, stateFile: this.#stateFile },
    );
    const stop = new AbortController();
    const failure = newDeferred<never>();
    failure.promise.catch(() => undefined);
    const ended = node.run(stop.signal, mode).catch((error: unknown) => {
      this.#deps.logger.error("the node cannot go on", { error: errorMessage(error) });
      failure.reject(error);
    });
    this.#running = { node, stop, ended, failed: failure.promise };
    return this.#running;
  }

  /**
   * The node is made: nobody waits for it any more, and the daemon ends when it cannot go on. A
   * worker that is promoted later tries to be a manager until it can.
   */
  #establish(running: Running): void {
    running.node.bePatient();
    running.failed.catch((error: unknown) => this.#fatal.reject(error));
  }

  async #end(): Promise<void> {
    this.#running?.stop.abort(new SwarmError("canceled", "this node leaves the cluster"));
    await this.#running?.ended;
  }

  /** Out of the cluster: nothing of it stays on disk. */
  async #forget(): Promise<void> {
    const running = this.#running;
    await this.#end();
    this.#running = null;
    const state = running?.node.state ?? this.#locked;
    this.#locked = null;
    if (state !== null) await this.#markLeaving(state);
    await this.#erase();
  }

  /** A full disk must not keep a node in its cluster. */
  async #markLeaving(state: NodeState): Promise<void> {
    try {
      await this.#stateFile.save({ ...state, leaving: true });
    } catch (error) {
      this.#deps.logger.warn("could not note the leave", { error: errorMessage(error) });
    }
  }

  async #erase(): Promise<void> {
    await eraseMembership(this.#config.dataDir);
    await this.#identity.clear();
    await this.#stateFile.remove();
  }

  /** What an init, join or leave left that was cut short; anything else is damage. */
  async #clearRemains(state: NodeState | null): Promise<void> {
    const { dataDir } = this.#config;
    if (state === null && !this.#identity.present) return;
    if (state === null && existsSync(raftDirOf(dataDir))) throw await halfMembership(dataDir);
    this.#deps.logger.warn("removing what an interrupted change of membership has left");
    await this.#erase();
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

/** A file of the membership is gone that no interrupted change takes away. */
async function halfMembership(dataDir: string): Promise<SwarmError> {
  const files = await readdir(dataDir);
  return new SwarmError(
    "data_loss",
    `${dataDir} holds half of a membership (${files.join(", ")}): restore it, or remove the ` +
      "directory and join the cluster again",
  );
}
