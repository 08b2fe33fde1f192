import { aborted, type Deferred, newDeferred } from "../base/async.ts";
import { sleep } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import { newMessage } from "./core/message.ts";
import type { ConfState, Message, RaftCoreApi, RaftId, RaftStatus, Ready } from "./core/types.ts";
import { type AppliedBatch, Applier } from "./driver/applier.ts";
import { unknownOutcome } from "./driver/errors.ts";
import { Failover } from "./driver/failover.ts";
import { Handover } from "./driver/handover.ts";
import { LogWriter } from "./driver/log-writer.ts";
import { Membership } from "./driver/membership.ts";
import {
  type DriverContext,
  type DriverDeps,
  type DriverOptions,
  electionMs,
} from "./driver/options.ts";
import { PendingEntries } from "./driver/pending.ts";
import { Proposals } from "./driver/proposals.ts";
import { Reads } from "./driver/reads.ts";
import { Snapshots } from "./driver/snapshots.ts";
import { type LoadedMember, loadMember } from "./driver/start.ts";
import { type DriverStats, driverStats } from "./driver/stats.ts";
import { Ticker } from "./driver/ticker.ts";
import type { LeadershipEvent, PeerInfo, RaftNode } from "./ports.ts";

export { DRIVER_DEFAULTS, type DriverDeps, type DriverOptions } from "./driver/options.ts";

/** At shutdown: for proposals in flight, and for the successor to take over. */
const SHUTDOWN_DRAIN_MS = 500;
const SHUTDOWN_TRANSFER_MS = 1500;
/** A leader that does not get on with applying hands over at most this often. */
const WATCHDOG_EVERY_MS = 60_000;
/**
 * While a write hangs, the core's ticks beyond this many election timeouts are left out: what they
 * produce would only pile up.
 */
const MAX_STUCK_ELECTIONS = 2;

/**
 * One member of the Raft group: runs the pure core against a disk, a network, a clock and a state
 * machine. One loop takes a Ready, sends, writes, sends, advances; applying runs beside it.
 */
export class RaftDriver implements RaftNode {
  readonly #options: DriverOptions;
  readonly #deps: DriverDeps;
  readonly #core: RaftCoreApi;
  readonly #pending: PendingEntries;
  readonly #proposals: Proposals;
  readonly #reads: Reads;
  readonly #applier: Applier;
  readonly #snapshots: Snapshots;
  readonly #handover: Handover;
  readonly #membership: Membership;
  readonly #failover: Failover;
  readonly #ticker: Ticker;
  readonly #writer: LogWriter;
  readonly #stopping = new AbortController();
  readonly #failed = newDeferred<never>();
  readonly #listeners = new Set<(event: LeadershipEvent) => void>();
  readonly #initialCommit: number;
  #leadership: LeadershipEvent;
  #wakeup: Deferred<void> | null = null;
  #woken = false;
  #startedAlone = false;
  #handling = false;
  #ticksStuck = 0;
  #watchdogAtMs = Number.NEGATIVE_INFINITY;
  #readies = 0;

  private constructor(options: DriverOptions, deps: DriverDeps, loaded: LoadedMember) {
    const { core, initial } = loaded;
    this.#options = options;
    this.#deps = deps;
    this.#core = core;
    this.#failed.promise.catch(() => undefined);
    const { role, term, leaderId } = core.status();
    this.#leadership = { role, term, leaderId };
    this.#initialCommit = initial.hardState.commit;
    const context: DriverContext = {
      ...deps,
      options,
      core,
      leadership: () => this.#leadership,
      wake: () => this.#wake(),
      fatal: error => this.#failed.reject(error),
    };
    const { signal } = this.#stopping;
    const pending = new PendingEntries(deps);
    this.#pending = pending;
    this.#proposals = new Proposals(context, { pending });
    this.#applier = new Applier(
      context,
      {
        pending,
        onApplied: batch => this.#onApplied(batch),
        onMembers: () => this.#setPeers(),
      },
      initial.snapshot,
    );
    this.#reads = new Reads(context, { appliedIndex: () => this.#applier.index });
    this.#snapshots = new Snapshots(context, { applier: this.#applier, signal }, initial.snapshot);
    this.#handover = new Handover(context);
    this.#membership = new Membership(context, { pending, handover: this.#handover, signal });
    this.#failover = new Failover(context);
    this.#writer = new LogWriter(deps, initial.hardState);
    this.#ticker = new Ticker(
      { tickMs: options.tickMs, pausedAfterMs: electionMs(options) },
      {
        clock: deps.clock,
        onTick: () => this.#onTick(),
        onPause: pausedMs => this.#onPause(pausedMs),
      },
    );
  }

  /**
   * Opens the storage and restores the state machine from the snapshot. Throws SwarmError:
   * data_loss (damaged, or gone), failed_precondition (in use, of another member or cluster).
   */
  static async open(options: DriverOptions, deps: DriverDeps): Promise<RaftDriver> {
    return new RaftDriver(options, deps, await loadMember(options, deps));
  }

  get raftId(): RaftId {
    return this.#core.id;
  }

  propose(data: Uint8Array, signal: AbortSignal): Promise<unknown> {
    return this.#proposals.propose(data, signal);
  }

  readBarrier(signal: AbortSignal): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.reject(shuttingDown());
    return this.#reads.barrier(signal);
  }

  addMember(peer: PeerInfo, signal: AbortSignal): Promise<void> {
    return this.#membership.add(peer, signal);
  }

  removeMember(raftId: RaftId, signal: AbortSignal): Promise<void> {
    return this.#membership.remove(raftId, signal);
  }

  transferLeadership(signal: AbortSignal, to?: RaftId): Promise<void> {
    return this.#handover.transfer(signal, to);
  }

  status(): RaftStatus & { readonly conf: ConfState } {
    return this.#core.status();
  }

  reachable(raftId: RaftId): boolean {
    return raftId === this.raftId || this.#deps.transport.reachable(raftId);
  }

  onLeadership(listener: (event: LeadershipEvent) => void): () => void {
    this.#listeners.add(listener);
    listener(this.#leadership);
    return () => this.#listeners.delete(listener);
  }

  /** Counters for diagnostics and metrics. */
  stats(): DriverStats {
    return driverStats({
      readies: this.#readies,
      appliedIndex: this.#applier.index,
      pending: this.#pending,
      proposals: this.#proposals,
      reads: this.#reads,
      snapshots: this.#snapshots,
      membership: this.#membership,
      failover: this.#failover,
      ticker: this.#ticker,
      storage: this.#deps.storage,
      transport: this.#deps.transport,
    });
  }

  async run(signal: AbortSignal): Promise<void> {
    const { transport } = this.#deps;
    transport.start({
      onMessage: message => this.#guarded(() => this.#core.step(message)),
      onPeerLost: raftId => this.#guarded(() => this.#failover.peerLost(raftId)),
      onUnreachable: raftId => this.#core.reportUnreachable(raftId),
      openSnapshot: message => this.#snapshots.open(message),
      lastIndex: () => this.#core.status().lastIndex,
    });
    this.#setPeers();
    this.#ticker.start();
    const pump = this.#pump();
    this.#wake();
    try {
      await Promise.race([aborted(signal), this.#failed.promise]);
      await Promise.race([this.#leaveOffice(), this.#failed.promise]);
    } finally {
      await this.#stop(pump);
    }
  }

  /** In-flight proposals get a definite answer and a successor is found before the process ends. */
  async #leaveOffice(): Promise<void> {
    const { clock, log } = this.#deps;
    this.#proposals.close();
    if (this.#leadership.role !== "leader") return;
    const timeout = new AbortController();
    const drain = sleep(clock, SHUTDOWN_DRAIN_MS, timeout.signal).catch(() => undefined);
    await Promise.race([this.#pending.drained(), drain]);
    timeout.abort();
    if (this.#handover.bestSuccessor() === null) return;
    const limit = new AbortController();
    const timer = clock.setTimer("raft shutdown", SHUTDOWN_TRANSFER_MS, () => limit.abort());
    try {
      await this.#handover.transfer(limit.signal);
    } catch (error) {
      log.warn("leadership was not handed over", { error: errorMessage(error) });
    } finally {
      timer.cancel();
    }
  }

  async #stop(pump: Promise<void>): Promise<void> {
    const { storage, transport } = this.#deps;
    this.#proposals.close();
    this.#ticker.stop();
    this.#failover.stop();
    this.#stopping.abort(shuttingDown());
    this.#wake();
    await pump;
    this.#pending.rejectAll(unknownOutcome("this manager stopped before a quorum confirmed it"));
    this.#reads.rejectAll(shuttingDown());
    await transport.close();
    await this.#applier.settle();
    await this.#snapshots.settle();
    await storage.close();
  }

  /** A message that proves the log here wrong, or a broken invariant, ends the process. */
  #guarded(step: () => void): void {
    if (this.#stopping.signal.aborted) return;
    try {
      step();
      this.#wake();
    } catch (error) {
      this.#failed.reject(error);
    }
  }

  #wake(): void {
    this.#woken = true;
    this.#wakeup?.resolve();
    this.#wakeup = null;
  }

  async #pump(): Promise<void> {
    try {
      while (!this.#stopping.signal.aborted) {
        this.#woken = false;
        this.#proposals.flush();
        this.#reads.flush();
        const ready = this.#core.ready();
        if (ready !== null) await this.#handle(ready);
        else if (!this.#woken) await this.#asleep();
      }
      await this.#writer.flush();
    } catch (error) {
      this.#failed.reject(error);
    }
  }

  async #asleep(): Promise<void> {
    this.#wakeup = newDeferred();
    await this.#wakeup.promise;
  }

  /** In the order that `Ready` demands. */
  async #handle(ready: Ready): Promise<void> {
    this.#readies += 1;
    this.#handling = true;
    this.#observe();
    this.#send(ready.sendNow);
    await this.#writer.write(ready);
    this.#send(ready.sendAfterPersist);
    if (ready.snapshot !== null) {
      this.#snapshots.installed(ready.snapshot);
      this.#applier.snapshot(ready.snapshot);
    }
    this.#core.advance(ready);
    this.#handling = false;
    this.#applier.entries(ready.committed);
    this.#reads.confirmed(ready.readStates);
    this.#campaignAlone();
  }

  #send(messages: readonly Message[]): void {
    for (const message of messages) {
      if (message.kind === "snap") this.#snapshots.send(message);
      else this.#deps.transport.send(message);
    }
  }

  /** Notices a change of role, term or leader. */
  #observe(): void {
    const before = this.#leadership;
    const { role, term, leaderId } = this.#core.status();
    if (role === before.role && term === before.term && leaderId === before.leaderId) return;
    this.#leadership = { role, term, leaderId };
    const wasLeader = before.role === "leader";
    if (wasLeader && (role !== "leader" || term !== before.term)) {
      this.#pending.leadershipLost(before.term);
      this.#handover.leadershipLost();
    }
    if (leaderId !== before.leaderId) this.#reads.leaderChanged();
    this.#deps.log.info("raft role", { role, term, leader: leaderId });
    for (const listener of [...this.#listeners]) listener(this.#leadership);
  }

  #onApplied(batch: AppliedBatch): void {
    this.#reads.applied();
    this.#snapshots.applied(batch);
    this.#campaignAlone();
  }

  /** The only voter need not wait for a leader's silence. */
  #campaignAlone(): void {
    if (this.#startedAlone || this.#applier.index < this.#initialCommit) return;
    this.#startedAlone = true;
    const { voters, votersOutgoing } = this.#core.status().conf;
    const alone = voters.length === 1 && votersOutgoing.length === 0 && voters[0] === this.raftId;
    if (!alone) return;
    this.#core.campaign();
    this.#wake();
  }

  #onTick(): void {
    this.#ticksStuck = this.#handling ? this.#ticksStuck + 1 : 0;
    const stuck = this.#ticksStuck > MAX_STUCK_ELECTIONS * this.#options.electionTicks;
    this.#guarded(() => {
      if (!stuck) this.#core.tick();
      this.#reads.tick();
      this.#handover.tick();
      this.#membership.tick();
      this.#watch();
    });
  }

  /**
   * A leader whose event loop stood still for an election timeout may have been replaced, and if
   * not, is too slow to lead: it gives up the office and stands for it like anybody else. Those who
   * were paused with it, and know no other leader, elect it again at once.
   */
  #onPause(pausedMs: number): void {
    if (this.#core.status().role !== "leader") return;
    this.#deps.log.warn("this manager stood still and gives up leading", {
      pausedMs: Math.round(pausedMs),
    });
    this.#guarded(() => {
      this.#stepDown();
      this.#core.campaign();
    });
  }

  /** The first check forgets who was heard, the second finds nobody. */
  #stepDown(): void {
    this.#core.step(newMessage("check-quorum", {}));
    this.#core.step(newMessage("check-quorum", {}));
  }

  /** A leader that sends heartbeats but gets nothing done is worse than none (swarmkit#1658). */
  #watch(): void {
    if (this.#leadership.role !== "leader") return;
    const nowMs = this.#deps.clock.monoMs();
    if (this.#applier.stalledMs(nowMs) < electionMs(this.#options)) return;
    if (nowMs - this.#watchdogAtMs < WATCHDOG_EVERY_MS) return;
    this.#watchdogAtMs = nowMs;
    this.#deps.log.error("applying has stalled: handing leadership over", {});
    this.#handover.transfer(this.#stopping.signal).catch((error: unknown) => {
      this.#deps.log.warn("leadership was not handed over: stepping down", {
        error: errorMessage(error),
      });
      this.#guarded(() => this.#stepDown());
    });
  }

  #setPeers(): void {
    const members = this.#deps.stateMachine.members();
    this.#deps.transport.setPeers(members.length > 0 ? members : this.#options.knownPeers);
  }
}

function shuttingDown(): SwarmError {
  return new SwarmError("unavailable", "this manager is shutting down");
}
