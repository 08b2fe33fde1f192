import { aborted, type Deferred, newDeferred, TaskGroup, withSignal } from "../base/async.ts";
import { sleep } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Rng } from "../base/rng.ts";
import type { Member, NodeRole } from "../model/rows.ts";
import type { StartMode } from "../raft/driver/options.ts";
import type { PeerInfo } from "../raft/ports.ts";
import type { AskGroupRequest } from "../rpc/gen/swarmd/v1/group.ts";
import { callLeader } from "../rpc/leader-call.ts";
import type { IdentityStore } from "../tls/identity-store.ts";
import type { DaemonConfig } from "./config.ts";
import { askBeforeStart, type GroupAsking, untilRetired } from "./group.ts";
import { eraseLog, Manager, type ManagerDeps } from "./manager.ts";
import { requestJoin } from "./membership.ts";
import { adoptNewGroup } from "./new-group.ts";
import type { NodeRecord } from "./node-record.ts";
import type { NodeState } from "./node-state.ts";

/** How long a joiner tries to be taken into the Raft group, and then to catch up. */
const JOIN_GROUP_TIMEOUT_MS = 20_000;
const CATCH_UP_POLL_MS = 20;
/** Between tries to listen, or to be taken into the group, of a node that is to be a manager. */
const MANAGER_RETRY_MS = 2_000;
/** 48 random bits, never 0: a Raft id is never used twice. */
const RAFT_ID_LOW_BITS = 0x1_0000_0000;
const RAFT_ID_HIGH_MASK = 0xffff;

export function newRaftId(rng: Rng): number {
  return (rng.uint32() & RAFT_ID_HIGH_MASK) * RAFT_ID_LOW_BITS + rng.uint32() || 1;
}

export interface ManagerSideDeps extends ManagerDeps {
  readonly identity: IdentityStore;
  readonly record: NodeRecord;
}

/** The manager's half of a node: there while the node's certificate says manager. */
export class ManagerSide {
  readonly #config: DaemonConfig;
  readonly #deps: ManagerSideDeps;
  #manager: Manager | null = null;
  #problem = "";
  #patient = true;
  readonly #opened: Deferred<Manager> = newDeferred();
  readonly #ready: Deferred<void> = newDeferred();

  constructor(config: DaemonConfig, deps: ManagerSideDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#ready.promise.catch(() => undefined);
    this.#opened.promise.catch(() => undefined);
  }

  get #state(): NodeState {
    return this.#deps.record.state;
  }

  /** The manager, while it is a member of its group. */
  get manager(): Manager | null {
    return this.#manager;
  }

  /** What keeps this node from being a manager just now; empty when nothing does. */
  get problem(): string {
    return this.#problem;
  }

  /** Resolves when it works for the first time: it has joined the group and knows the cluster. */
  whenReady(signal: AbortSignal): Promise<void> {
    return withSignal(this.#ready.promise, signal);
  }

  /** The manager as soon as it runs, before it is anybody's member. */
  whenOpen(signal: AbortSignal): Promise<Manager> {
    return withSignal(this.#opened.promise, signal);
  }

  /** Nobody waits for this node to become a manager any more. */
  bePatient(): void {
    this.#patient = true;
  }

  /** The node ends: nobody waits for its manager in vain. */
  fail(error: unknown): void {
    this.#ready.reject(error);
    this.#opened.reject(error);
  }

  /**
   * Keeps it as long as the certificate says manager, again and again, until the signal aborts. A
   * new node (`start` is not "restart") rejects when it cannot become a manager: somebody waits for
   * the answer. Later, or after `bePatient`, that is tried again until it works.
   */
  async run(signal: AbortSignal, start: StartMode): Promise<void> {
    this.#patient = start === "restart";
    let mode = start;
    while (!signal.aborted) {
      await this.#untilRole("manager", signal);
      const retiredBy = await this.#manageUntilDemoted(signal, mode);
      if (retiredBy !== null) await this.#untilWorker(retiredBy, signal);
      if (signal.aborted) return;
      this.#deps.logger.info("this node is a worker now");
      this.#problem = "";
      this.#patient = true;
      await this.#deps.record.save({ raftId: 0, raftJoined: false });
      await eraseLog(this.#config.dataDir);
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
        this.#opened.resolve(manager);
        if (!this.#state.raftJoined) {
          await this.#persist("join the managers", () => this.#joinGroup(manager, inner), inner);
          await this.#deps.record.save({ raftJoined: true });
        }
        this.#problem = "";
        this.#manager = manager;
        this.#ready.resolve();
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
    const { dataDir, raftTickMs: tickMs } = this.#config;
    const { record, logger, ...deps } = this.#deps;
    if (this.#state.raftId === 0) {
      // A log left by an earlier membership would not be this one's.
      await eraseLog(dataDir);
      await record.save({ raftId: newRaftId(deps.rng), raftJoined: false });
    }
    const { raftId, raftJoined, advertiseAddr: addr, listenAddr } = this.#state;
    await adoptNewGroup(dataDir, raftId);
    const { nodeId, clusterId } = deps.identity.current();
    const self: PeerInfo = { raftId, nodeId, addr };
    const member = raftJoined ? "restart" : "join";
    const mode = start === "bootstrap" ? start : member;
    return Manager.open(
      { dataDir, clusterId, self, listenAddr, start: mode, knownPeers: [], tickMs },
      { ...deps, logger: logger.child({ part: "manager" }) },
    );
  }

  /** Asks the leader to be taken in, and waits until this manager is a voter and knows the cluster. */
  async #joinGroup(manager: Manager, signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const { raftId, advertiseAddr, managers } = this.#state;
    const addrs = managers.filter(addr => addr !== advertiseAddr);
    const request = { raftId, addr: advertiseAddr };
    if (addrs.length > 0) {
      await callLeader(
        addr => requestJoin(this.#deps.clients, addr, request, signal),
        { addrs, signal, timeoutMs: JOIN_GROUP_TIMEOUT_MS, idempotent: true },
        this.#deps,
      );
    }
    const isMember = (): boolean =>
      manager.raft.status().conf.voters.includes(raftId) &&
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
      return raft.addMember({ raftId, nodeId: this.#deps.identity.current().nodeId, addr }, signal);
    }
    const addrs = this.#state.managers.filter(manager => manager !== addr);
    await callLeader(
      manager => requestJoin(this.#deps.clients, manager, { raftId, addr }, signal),
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
}
