import { assert } from "../../base/errors.ts";
import { encodeConfChange } from "./conf-change-codec.ts";
import { startElection, tickElection } from "./election.ts";
import {
  afterMembershipChange,
  maybeAutoLeave,
  proposeEntries,
  startTransfer,
  tickLeader,
} from "./leader.ts";
import { changeMembership } from "./membership.ts";
import { LOCAL_KINDS, newMessage, RESPONSE_KINDS, TERMLESS_KINDS } from "./message.ts";
import { broadcastHeartbeat, startRead } from "./replication.ts";
import { type RaftDeps, RaftState } from "./state.ts";
import { stepMessage } from "./step.ts";
import {
  type ConfChange,
  type ConfState,
  type Entry,
  type HardState,
  type Message,
  NO_ID,
  type ProposeResult,
  type RaftConfig,
  type RaftCoreApi,
  type RaftId,
  type RaftStatus,
  type Ready,
  type SnapshotMeta,
  type SoftState,
} from "./types.ts";

/** The Ready the driver is busy with, and what to tell the node itself once it is durable. */
interface Outstanding {
  readonly ready: Ready;
  readonly toSelf: readonly Message[];
}

/** One Raft node as a synchronous state machine (Raft paper; after etcd/raft's RawNode). */
export class RaftCore implements RaftCoreApi {
  readonly #state: RaftState;
  #softState: SoftState;
  #hardState: HardState;
  #outstanding: Outstanding | null = null;

  /** Throws data_loss when the stored log contradicts itself. */
  constructor(config: RaftConfig, deps: RaftDeps) {
    this.#state = new RaftState(config, deps);
    this.#softState = this.#state.softState;
    this.#hardState = deps.initial.hardState;
  }

  get id(): RaftId {
    return this.#state.id;
  }

  tick(): void {
    if (this.#state.role === "leader") tickLeader(this.#state);
    else tickElection(this.#state);
  }

  /** Throws data_loss when a leader proves that this node lost entries it had acknowledged. */
  step(message: Message): void {
    if (this.#isForeign(message)) return;
    stepMessage(this.#state, message);
  }

  /** Whether a message is malformed, for somebody else, or an answer of a non-member. */
  #isForeign({ kind, from, to, term }: Message): boolean {
    if (TERMLESS_KINDS.has(kind) !== (term === 0)) return true;
    if (LOCAL_KINDS.has(kind)) return false;
    if (to !== this.id || from === this.id || from === NO_ID) return true;
    return RESPONSE_KINDS.has(kind) && this.#state.tracker.progress(from) === undefined;
  }

  propose(data: readonly Uint8Array[]): ProposeResult {
    return this.#propose(data.map(bytes => ({ kind: "normal", data: bytes })));
  }

  proposeConfChange(change: ConfChange): ProposeResult {
    return this.#propose([{ kind: "conf-change", data: encodeConfChange(change) }]);
  }

  #propose(bodies: readonly Pick<Entry, "kind" | "data">[]): ProposeResult {
    if (this.#state.role !== "leader") return { ok: false, reason: "not-leader" };
    return proposeEntries(this.#state, bodies);
  }

  /**
   * Total: a committed change that cannot be applied changes nothing, the same on every member.
   */
  applyConfChange(change: ConfChange): ConfState {
    const { tracker, log } = this.#state;
    const result = changeMembership(tracker.membership, change);
    if (result.ok) {
      tracker.switchTo(result.membership, result.fresh, log.lastIndex);
      this.#state.note("membership applied");
      afterMembershipChange(this.#state);
    }
    return tracker.conf;
  }

  readIndex(context: string): void {
    const state = this.#state;
    if (state.role === "leader") startRead(state, { from: state.id, context });
    else if (state.leaderId !== NO_ID) state.send("read-index", state.leaderId, { context });
  }

  transferLeadership(to: RaftId): void {
    const state = this.#state;
    if (state.role === "leader") startTransfer(state, to);
    else if (state.leaderId !== NO_ID) state.send("transfer-leader", state.leaderId, { index: to });
  }

  campaign(): void {
    startElection(this.#state);
  }

  reportUnreachable(id: RaftId): void {
    stepMessage(this.#state, newMessage("unreachable", { from: id }));
  }

  reportSnapshot(id: RaftId, ok: boolean): void {
    stepMessage(this.#state, newMessage("snap-status", { from: id, reject: !ok }));
  }

  ready(): Ready | null {
    if (this.#outstanding !== null) return null;
    const state = this.#state;
    // One heartbeat round confirms all reads that came since the last Ready.
    if (state.role === "leader" && state.reads.roundDue) broadcastHeartbeat(state);
    if (!this.#hasReady()) return null;
    const { outbox, readStates } = state;
    state.outbox = { now: [], afterPersist: [], toSelf: [] };
    state.readStates = [];
    const ready: Ready = {
      softState: this.#changedSoftState(),
      hardState: this.#changedHardState(),
      snapshot: state.log.takeUnpersistedSnapshot(),
      entries: state.log.takeUnpersisted(),
      sendNow: outbox.now,
      sendAfterPersist: outbox.afterPersist,
      committed: state.log.takeCommitted(),
      readStates,
    };
    this.#softState = state.softState;
    this.#hardState = state.hardState;
    this.#outstanding = { ready, toSelf: outbox.toSelf };
    return ready;
  }

  #hasReady(): boolean {
    const { outbox, readStates, log } = this.#state;
    return (
      outbox.now.length + outbox.afterPersist.length + outbox.toSelf.length > 0 ||
      readStates.length > 0 ||
      log.hasUnpersisted ||
      log.hasUnpersistedSnapshot ||
      log.hasCommitted ||
      this.#changedHardState() !== null ||
      this.#changedSoftState() !== null
    );
  }

  #changedSoftState(): SoftState | null {
    const now = this.#state.softState;
    const { leaderId, role } = this.#softState;
    return now.leaderId === leaderId && now.role === role ? null : now;
  }

  #changedHardState(): HardState | null {
    const now = this.#state.hardState;
    const { term, vote, commit } = this.#hardState;
    return now.term === term && now.vote === vote && now.commit === commit ? null : now;
  }

  advance(ready: Ready): void {
    assert(this.#outstanding?.ready === ready, "only the outstanding Ready can be advanced");
    const { toSelf } = this.#outstanding;
    this.#outstanding = null;
    if (ready.snapshot !== null) this.#state.log.snapshotPersisted(ready.snapshot);
    for (const message of toSelf) stepMessage(this.#state, message);
  }

  applied(index: number): void {
    this.#state.log.appliedTo(index);
    maybeAutoLeave(this.#state);
  }

  compact(meta: SnapshotMeta, keepFrom: number): void {
    this.#state.log.compact(meta, keepFrom);
  }

  status(): RaftStatus {
    const { id, term, vote, log, role, leaderId, transferTarget, tracker } = this.#state;
    return {
      id,
      term,
      vote,
      commit: log.committed,
      applied: log.applied,
      lastIndex: log.lastIndex,
      role,
      leaderId,
      transferTarget,
      conf: tracker.conf,
      progress:
        role === "leader" ? tracker.members().map(([peer, progress]) => progress.status(peer)) : [],
    };
  }
}
