import { assert } from "../../base/errors.ts";
import { type Rng, randomInt } from "../../base/rng.ts";
import { RaftLog } from "./log.ts";
import { newMessage, PERSIST_FIRST_KINDS, TERMLESS_KINDS } from "./message.ts";
import { ReadIndexQueue } from "./read-index.ts";
import { Tracker } from "./tracker.ts";
import {
  type HardState,
  type Message,
  type MessageKind,
  NO_ID,
  type RaftConfig,
  type RaftId,
  type RaftInitialState,
  type RaftRole,
  type ReadState,
  type SoftState,
  type Transition,
  type TransitionEvent,
} from "./types.ts";

export interface RaftDeps {
  readonly rng: Rng;
  readonly initial: RaftInitialState;
  /** Called with every transition; must return at once and not call back. */
  readonly trace?: (transition: Transition) => void;
}

/** Messages waiting for the next Ready. */
interface Outbox {
  now: Message[];
  afterPersist: Message[];
  /** To this node itself, from its own disk: its vote, its acknowledgement of its own entries. */
  toSelf: Message[];
}

/**
 * What one Raft node knows, and the transitions that every role shares. The roles' behaviour is in
 * the modules named after them, as functions on this state; only they and the facade write to it.
 */
export class RaftState {
  readonly config: RaftConfig;
  readonly log: RaftLog;
  readonly tracker: Tracker;
  readonly #rng: Rng;
  term: number;
  vote: RaftId;
  role: RaftRole = "follower";
  leaderId: RaftId = NO_ID;
  /** Ticks since the election timer restarted; on a leader, since the last quorum check. */
  electionElapsed = 0;
  heartbeatElapsed = 0;
  /** On a leader, whom it hands over to; 0 when nobody. */
  transferTarget: RaftId = NO_ID;
  /** On a leader: no conf change may be proposed until this index is applied. */
  pendingConfIndex = 0;
  /** On a leader: bytes of its term's proposals that are not committed. */
  uncommittedBytes = 0;
  reads = new ReadIndexQueue();
  readStates: ReadState[] = [];
  outbox: Outbox = { now: [], afterPersist: [], toSelf: [] };
  #electionTimeout: number | null = null;

  readonly #trace: ((transition: Transition) => void) | null;

  constructor(config: RaftConfig, deps: RaftDeps) {
    const { hardState, conf, snapshot, entries, applied } = deps.initial;
    checkConfig(config);
    this.config = config;
    this.#rng = deps.rng;
    this.#trace = deps.trace ?? null;
    this.term = hardState.term;
    this.vote = hardState.vote;
    this.log = new RaftLog({
      snapshot,
      entries,
      committed: hardState.commit,
      applied,
      maxCommittedBytes: config.maxCommittedBytes,
    });
    this.tracker = new Tracker({ conf, lastIndex: this.log.lastIndex }, config);
    this.tracker.resetProgress(config.id, this.log.lastIndex);
  }

  get id(): RaftId {
    return this.config.id;
  }

  get hardState(): HardState {
    return { term: this.term, vote: this.vote, commit: this.log.committed };
  }

  get softState(): SoftState {
    return { leaderId: this.leaderId, role: this.role };
  }

  /** Whether this node may stand for election. */
  get promotable(): boolean {
    const progress = this.tracker.progress(this.id);
    return progress !== undefined && !progress.learner && !this.log.restoring;
  }

  /**
   * Whether the election timer has run out. The timeout is drawn when it first matters, uniform in
   * [n, 2n) ticks, and drawn anew after every change of state (Raft paper 5.2).
   */
  electionTimedOut(): boolean {
    const { electionTicks } = this.config;
    if (this.electionElapsed < electionTicks) return false;
    this.#electionTimeout ??= electionTicks + randomInt(this.#rng, electionTicks);
    return this.electionElapsed >= this.#electionTimeout;
  }

  /**
   * Queues a message. The term is the present one unless `fields` names another; what a follower
   * passes on to its leader carries none, as it depends on no term.
   */
  send(kind: MessageKind, to: RaftId, fields: Partial<Omit<Message, "kind">> = {}): void {
    const term = TERMLESS_KINDS.has(kind) ? 0 : this.term;
    const message = newMessage(kind, { from: this.id, to, term, ...fields });
    if (to === this.id) this.outbox.toSelf.push(message);
    else if (PERSIST_FIRST_KINDS.has(kind)) this.outbox.afterPersist.push(message);
    else this.outbox.now.push(message);
  }

  /** Enters `term` (or starts over in the same one) knowing no leader, vote or progress. */
  reset(term: number): void {
    assert(term >= this.term, "terms never go back");
    if (term !== this.term) {
      this.term = term;
      this.vote = NO_ID;
    }
    this.leaderId = NO_ID;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.#electionTimeout = null;
    this.transferTarget = NO_ID;
    this.tracker.resetVotes();
    this.tracker.resetProgress(this.id, this.log.lastIndex);
    this.pendingConfIndex = 0;
    this.uncommittedBytes = 0;
    this.reads = new ReadIndexQueue();
  }

  becomeFollower(term: number, leaderId: RaftId): void {
    this.reset(term);
    this.role = "follower";
    this.leaderId = leaderId;
    this.note("follower");
  }

  /** Tells the trace of a transition that was just made. */
  note(event: TransitionEvent, peer: RaftId = NO_ID): void {
    if (this.#trace === null) return;
    const { role, term, vote, leaderId } = this;
    const { lastIndex, committed } = this.log;
    this.#trace({ event, role, term, vote, leaderId, lastIndex, commit: committed, peer });
  }
}

function checkConfig(config: RaftConfig): void {
  assert(Number.isSafeInteger(config.id) && config.id > 0, `${config.id} is not a Raft id`);
  assert(config.heartbeatTicks >= 1, "heartbeatTicks is at least 1");
  assert(config.electionTicks > config.heartbeatTicks, "electionTicks is above heartbeatTicks");
  assert(config.maxInflightMessages >= 1, "maxInflightMessages is at least 1");
  const byteLimits = ["maxMessageBytes", "maxInflightBytes", "maxUncommittedBytes"] as const;
  for (const name of byteLimits) assert(config[name] > 0, `${name} is above 0`);
  assert(config.maxCommittedBytes > 0, "maxCommittedBytes is above 0");
  assert(config.maxEntryBytes > 0, "maxEntryBytes is above 0");
}
