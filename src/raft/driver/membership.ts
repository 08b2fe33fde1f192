import { withSignal } from "../../base/async.ts";
import { sleep } from "../../base/clock.ts";
import { errorMessage, SwarmError } from "../../base/errors.ts";
import type { ConfChangeOp, ProgressStatus, RaftId } from "../core/types.ts";
import type { PeerInfo } from "../ports.ts";
import { notLeader, refused, unknownOutcome } from "./errors.ts";
import type { Handover } from "./handover.ts";
import { encodePeer } from "./member-context.ts";
import type { DriverContext } from "./options.ts";
import type { PendingEntries } from "./pending.ts";

/** A learner this close to the end of the log has caught up (hashicorp/raft-autopilot: 250). */
const MAX_PROMOTION_LAG = 100;
/** After a failed dial-back the learner is tried again. */
const PROMOTION_RETRY_MS = 1000;
/** A refused change is tried again this often, until `CHANGE_TIMEOUT_MS`. */
const CHANGE_RETRY_MS = 50;
const CHANGE_TIMEOUT_MS = 10_000;

export interface MembershipDeps {
  readonly pending: PendingEntries;
  readonly handover: Handover;
  readonly signal: AbortSignal;
}

/** Adds, promotes and removes members: one change at a time (Raft dissertation 4.1). */
export class Membership {
  readonly #context: DriverContext;
  readonly #deps: MembershipDeps;
  #last: Promise<void> = Promise.resolve();
  #promoting = false;
  readonly #retryAtMs = new Map<RaftId, number>();
  promoted = 0;

  constructor(context: DriverContext, deps: MembershipDeps) {
    this.#context = context;
    this.#deps = deps;
  }

  async add(peer: PeerInfo, signal: AbortSignal): Promise<void> {
    this.#requireLeader();
    if (!Number.isSafeInteger(peer.raftId) || peer.raftId <= 0) {
      throw new SwarmError("invalid_argument", `${peer.raftId} is not a Raft id`);
    }
    await this.#exclusively(signal, () => this.#add(peer, signal));
  }

  async remove(raftId: RaftId, signal: AbortSignal): Promise<void> {
    this.#requireLeader();
    if (raftId === this.#context.core.id) {
      this.#checkRemoval(raftId);
      await this.#deps.handover.transfer(signal);
      throw notLeader(this.#context);
    }
    await this.#exclusively(signal, async () => {
      this.#requireLeader();
      this.#checkRemoval(raftId);
      await this.#change("remove", this.#peerOf(raftId), signal);
    });
  }

  /** Promotes a learner that has caught up, if there is one. */
  tick(): void {
    if (this.#promoting || this.#context.leadership().role !== "leader") return;
    const nowMs = this.#context.clock.monoMs();
    const { progress, lastIndex } = this.#context.core.status();
    const ready = progress.find(
      peer => hasCaughtUp(peer, lastIndex) && (this.#retryAtMs.get(peer.id) ?? 0) <= nowMs,
    );
    if (ready === undefined) return;
    this.#promoting = true;
    void this.#promote(ready.id).finally(() => {
      this.#promoting = false;
    });
  }

  #requireLeader(): void {
    if (this.#context.leadership().role !== "leader") throw notLeader(this.#context);
  }

  #peerOf(raftId: RaftId): PeerInfo {
    const known = this.#context.stateMachine.members().find(peer => peer.raftId === raftId);
    return known ?? { raftId, nodeId: "", addr: "" };
  }

  async #add(peer: PeerInfo, signal: AbortSignal): Promise<void> {
    this.#requireLeader();
    const members = this.#context.stateMachine.members();
    const clash = members.find(
      member => (member.raftId === peer.raftId) !== (member.nodeId === peer.nodeId),
    );
    if (clash !== undefined) {
      throw new SwarmError(
        "already_exists",
        `node ${clash.nodeId} is a manager already, as member ${clash.raftId}: remove it first`,
      );
    }
    const { conf } = this.#context.core.status();
    if (![...conf.voters, ...conf.learners].includes(peer.raftId)) {
      await this.#change("add-learner", peer, signal);
      return;
    }
    const same = members.some(member => member.raftId === peer.raftId && member.addr === peer.addr);
    if (!same) await this.#change("update", peer, signal);
  }

  /** Refused when those that would remain and can be reached are no quorum. */
  #checkRemoval(raftId: RaftId): void {
    const { conf } = this.#context.core.status();
    if (conf.learners.includes(raftId)) return;
    if (!conf.voters.includes(raftId)) {
      throw new SwarmError("not_found", `there is no manager with member id ${raftId}`);
    }
    const rest = conf.voters.filter(voter => voter !== raftId);
    if (rest.length === 0) {
      throw new SwarmError(
        "failed_precondition",
        "this is the last manager: removing it would end the cluster",
      );
    }
    const { alive, needed } = this.#health(rest);
    if (alive >= needed) return;
    throw new SwarmError(
      "failed_precondition",
      `removing this manager would cost the cluster its quorum: ${alive} of the ${rest.length} ` +
        `remaining managers can be reached and ${needed} are needed. ` +
        "Bring another manager up first",
      { alive, needed },
    );
  }

  #health(voters: readonly RaftId[]): { readonly alive: number; readonly needed: number } {
    const { core, transport } = this.#context;
    const alive = voters.filter(voter => voter === core.id || transport.reachable(voter)).length;
    return { alive, needed: Math.floor(voters.length / 2) + 1 };
  }

  async #promote(raftId: RaftId): Promise<void> {
    const { transport, log, clock, options } = this.#context;
    const peer = this.#peerOf(raftId);
    const { signal } = this.#deps;
    try {
      const { alive, needed } = this.#health([...this.#context.core.status().conf.voters, raftId]);
      if (alive < needed) throw new Error("the cluster would lose its quorum");
      const answer = await transport.probe(peer, signal);
      if (answer.raftId !== raftId || answer.clusterId !== options.clusterId) {
        throw new Error(`member ${answer.raftId} answers at ${peer.addr}`);
      }
      await this.#exclusively(signal, async () => {
        const { conf } = this.#context.core.status();
        if (conf.learners.includes(raftId)) await this.#change("add-voter", peer, signal);
      });
      this.promoted += 1;
      this.#retryAtMs.delete(raftId);
      log.info("a manager has caught up and votes from now on", { member: raftId });
    } catch (error) {
      this.#retryAtMs.set(raftId, clock.monoMs() + PROMOTION_RETRY_MS);
      log.warn("a manager cannot vote yet", { member: raftId, error: errorMessage(error) });
    }
  }

  /** Waits for the change before it. */
  async #exclusively(signal: AbortSignal, run: () => Promise<void>): Promise<void> {
    const mine = this.#last.then(() => {
      signal.throwIfAborted();
      return run();
    });
    this.#last = mine.catch(() => undefined);
    await withSignal(mine, signal);
  }

  /** Proposes until the core takes it; resolves when it is applied here. */
  async #change(op: ConfChangeOp, peer: PeerInfo, signal: AbortSignal): Promise<void> {
    const { core, clock } = this.#context;
    const deadlineMs = clock.monoMs() + CHANGE_TIMEOUT_MS;
    const change = {
      transition: "auto",
      changes: [{ op, id: peer.raftId }],
      context: encodePeer(peer),
    } as const;
    for (;;) {
      const result = core.proposeConfChange(change);
      if (result.ok) {
        const applied = this.#deps.pending.wait(result.index, result.term);
        this.#context.wake();
        await settledWithin(applied, signal);
        return;
      }
      if (result.reason !== "conf-change-pending" || clock.monoMs() >= deadlineMs) {
        throw refused(this.#context, result.reason);
      }
      await sleep(clock, CHANGE_RETRY_MS, signal);
    }
  }
}

function hasCaughtUp(peer: ProgressStatus, lastIndex: number): boolean {
  return (
    peer.learner &&
    peer.state === "replicate" &&
    peer.recentlyActive &&
    peer.match + MAX_PROMOTION_LAG >= lastIndex
  );
}

async function settledWithin(applied: Promise<unknown>, signal: AbortSignal): Promise<void> {
  try {
    await withSignal(applied, signal);
  } catch (error) {
    if (signal.aborted) throw unknownOutcome("the caller did not wait for it", error);
    throw error;
  }
}
