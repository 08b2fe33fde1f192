import { decodeConfChange } from "../../src/raft/core/conf-change-codec.ts";
import type {
  ConfChange,
  ConfState,
  Entry,
  HardState,
  Message,
  RaftId,
  Ready,
  SnapshotMeta,
} from "../../src/raft/core/types.ts";
import type { AppendBatch, StoredState } from "../../src/raft/storage/raft-storage.ts";
import { EntryHashes, LogShadow } from "./log-shadow.ts";

/** The first property that was seen broken. */
export interface Violation {
  readonly checker: string;
  readonly text: string;
}

interface Committed {
  readonly term: number;
  readonly hash: number;
}

interface Written extends Committed {
  readonly previousTerm: number;
}

/** What is known of one member, over all its processes. */
class MemberRecord {
  /** As its core has handed it out for writing. */
  readonly log: LogShadow;
  /** As its storage has acknowledged it. */
  disk: LogShadow;
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  /** A write under way: after a crash it may or may not be there. */
  writing: AppendBatch | null = null;
  commit = 0;

  constructor(hashes: EntryHashes) {
    this.log = new LogShadow(hashes);
    this.disk = new LogShadow(hashes);
  }
}

export interface MembershipNow {
  readonly conf: ConfState;
  /** The one before, when it changed in this very event; else the same. */
  readonly before: ConfState;
}

/** Voters and learners, by the committed changes alone: changes of one member at a time. */
export interface Group {
  readonly voters: ReadonlySet<RaftId>;
  readonly learners: ReadonlySet<RaftId>;
}

const TERM_SPAN = 2 ** 32;

function entryKey(index: number, term: number): number {
  return term * TERM_SPAN + index;
}

/**
 * Sees everything that members write, send, commit and apply, and holds it against the safety
 * properties of the Raft paper (Figure 3) and what is promised about disks. It knows nothing of how
 * the code under test works.
 */
export class Witness {
  readonly #hashes = new EntryHashes();
  readonly #members = new Map<RaftId, MemberRecord>();
  readonly #leaders = new Map<number, RaftId>();
  readonly #votes = new Map<number, Map<RaftId, RaftId>>();
  readonly #written = new Map<number, Written>();
  readonly #committed: (Committed | undefined)[] = [];
  readonly #digests = new Map<number, string>();
  readonly #changes = new Map<number, ConfChange>();
  readonly #groups: Group[] = [{ voters: new Set(), learners: new Set() }];
  #ownersSeen = 0;
  violation: Violation | null = null;
  elections = 0;

  fail(checker: string, text: string): void {
    this.violation ??= { checker, text };
  }

  get lastCommitted(): number {
    return this.#committed.length - 1;
  }

  /** The durable log of a member holds all that is committed. */
  holdsAll(raftId: RaftId): boolean {
    const { disk } = this.#member(raftId);
    return disk.last >= this.lastCommitted;
  }

  /** The group before and after the last committed change of it. */
  get groups(): readonly Group[] {
    return this.#groups.slice(-2);
  }

  /** A process of the member has read its storage; with nothing in it, it may only refuse. */
  opened(raftId: RaftId, state: StoredState | null): void {
    const member = this.#member(raftId);
    if (state === null) return;
    const loaded = new LogShadow(this.#hashes);
    const { hardState } = state;
    if (state.snapshot !== null) loaded.reset(state.snapshot.index, state.snapshot.term);
    loaded.put(state.entries);
    const before = { disk: member.disk, hardState: member.hardState };
    const candidates = [before];
    if (member.writing !== null) candidates.push(after(before, member.writing));
    const known = candidates.some(
      one => one.disk.agrees(loaded) && sameVote(one.hardState, hardState),
    );
    if (!known) {
      this.fail(
        "durable-stays-durable",
        `member ${raftId} comes back with entries to ${loaded.last}, term ${hardState.term}, vote ` +
          `${hardState.vote}; synced were entries to ${before.disk.last}, ` +
          `term ${before.hardState.term}, vote ${before.hardState.vote}`,
      );
    }
    member.writing = null;
    member.disk = loaded;
    member.hardState = hardState;
    member.commit = hardState.commit;
    member.log.reset(loaded.base, loaded.term(loaded.base) ?? 0);
    member.log.put(state.entries);
  }

  writing(raftId: RaftId, batch: AppendBatch): void {
    this.#member(raftId).writing = batch;
  }

  /** The storage says that the batch is durable. */
  wrote(raftId: RaftId, batch: AppendBatch): void {
    const member = this.#member(raftId);
    member.writing = null;
    if (batch.snapshot !== null) member.disk.reset(batch.snapshot.index, batch.snapshot.term);
    member.disk.put(batch.entries);
    member.hardState = batch.hardState ?? member.hardState;
  }

  /** The storage was claimed with its first entries, committed by definition. */
  created(raftId: RaftId, batch: AppendBatch): void {
    const member = this.#member(raftId);
    if (member.disk.last > 0 || member.hardState.term > 0) {
      this.fail("durable-stays-durable", `member ${raftId} starts anew under its old id`);
    }
    this.wrote(raftId, batch);
    member.log.put(batch.entries);
    member.commit = batch.hardState?.commit ?? 0;
    for (const entry of batch.entries) {
      this.#keepChange(entry);
      const { index, term } = entry;
      this.#settle(index, { term, hash: this.#hashes.of(entry) });
    }
  }

  /** The core has handed out a Ready; `membership` is asked for only when it matters. */
  ready(raftId: RaftId, ready: Ready, term: number, membership: () => MembershipNow): void {
    const member = this.#member(raftId);
    if (ready.snapshot !== null) member.log.reset(ready.snapshot.index, ready.snapshot.term);
    this.#checkMatching(raftId, member, ready);
    member.log.put(ready.entries);
    if (ready.softState?.role === "leader") this.#elected(raftId, member, term);
    if (ready.hardState !== null) this.#advanced(raftId, member, ready.hardState, membership);
  }

  /** Log matching, as an invariant of each entry: one term and index, one content, one predecessor. */
  #checkMatching(raftId: RaftId, member: MemberRecord, { entries }: Ready): void {
    let previousTerm = entries[0] === undefined ? 0 : member.log.term(entries[0].index - 1);
    for (const entry of entries) {
      this.#keepChange(entry);
      const { index, term } = entry;
      if (previousTerm === undefined) {
        this.fail("log-matching", `member ${raftId} writes entry ${index} after a gap`);
        return;
      }
      const key = entryKey(index, term);
      const known = this.#written.get(key);
      const hash = this.#hashes.of(entry);
      if (known === undefined) this.#written.set(key, { term, hash, previousTerm });
      else if (known.hash !== hash || known.previousTerm !== previousTerm) {
        this.fail(
          "log-matching",
          `entry ${index} of term ${term} at member ${raftId} differs from another member's`,
        );
      }
      previousTerm = term;
    }
  }

  /** Election safety and leader completeness. */
  #elected(raftId: RaftId, { log }: MemberRecord, term: number): void {
    const other = this.#leaders.get(term);
    if (other === raftId) return;
    this.elections += 1;
    if (other !== undefined) {
      this.fail("election-safety", `term ${term} has two leaders, ${other} and ${raftId}`);
    }
    this.#leaders.set(term, raftId);
    for (let index = log.base + 1; index <= this.lastCommitted; index += 1) {
      const committed = this.#committed[index];
      if (committed === undefined || committed.term >= term) continue;
      if (log.term(index) === committed.term && log.hash(index) === committed.hash) continue;
      this.fail(
        "leader-completeness",
        `member ${raftId} leads term ${term} without the committed entry ${index} ` +
          `of term ${committed.term}`,
      );
      return;
    }
  }

  #advanced(
    raftId: RaftId,
    member: MemberRecord,
    { commit }: HardState,
    membership: () => MembershipNow,
  ): void {
    if (commit < member.commit) {
      this.fail("commit-is-final", `member ${raftId} takes its commit back to ${commit}`);
      return;
    }
    for (let index = Math.max(member.commit, member.log.base) + 1; index <= commit; index += 1) {
      this.#commit(raftId, member, index, membership);
    }
    member.commit = commit;
  }

  /** State machine safety, and that what is committed is on the disks of a quorum. */
  #commit(
    raftId: RaftId,
    { log }: MemberRecord,
    index: number,
    membership: () => MembershipNow,
  ): void {
    const term = log.term(index);
    const hash = log.hash(index);
    if (term === undefined || hash === undefined) {
      this.fail("state-machine-safety", `member ${raftId} commits ${index}, which it has not got`);
      return;
    }
    const known = this.#committed[index];
    if (known === undefined) {
      this.#settle(index, { term, hash });
      const { conf, before } = membership();
      if (!this.#isDurable(index, term, conf) && !this.#isDurable(index, term, before)) {
        this.fail(
          "committed-is-durable",
          `member ${raftId} commits entry ${index} of term ${term}, which is on the disks of ` +
            `${this.#holders(index, term).join(", ") || "nobody"}; voters are ${conf.voters}`,
        );
      }
    } else if (known.term !== term || known.hash !== hash) {
      this.fail(
        "state-machine-safety",
        `entry ${index} is committed as of term ${known.term} and, at member ${raftId}, ${term}`,
      );
    }
  }

  #keepChange({ index, term, kind, data }: Entry): void {
    if (kind === "conf-change") this.#changes.set(entryKey(index, term), decodeConfChange(data));
  }

  #settle(index: number, committed: Committed): void {
    this.#committed[index] = committed;
    const change = this.#changes.get(entryKey(index, committed.term));
    const last = this.#groups.at(-1);
    if (change === undefined || last === undefined) return;
    const voters = new Set(last.voters);
    const learners = new Set(last.learners);
    for (const { op, id } of change.changes) {
      if (op === "update") continue;
      voters.delete(id);
      learners.delete(id);
      if (op === "add-voter") voters.add(id);
      if (op === "add-learner") learners.add(id);
    }
    this.#groups.push({ voters, learners });
  }

  #holders(index: number, term: number): RaftId[] {
    return [...this.#members].filter(([, { disk }]) => disk.has(index, term)).map(([id]) => id);
  }

  #isDurable(index: number, term: number, conf: ConfState): boolean {
    return [conf.voters, conf.votersOutgoing].every(half => {
      const holders = half.filter(id => this.#member(id).disk.has(index, term)).length;
      return half.length === 0 || holders * 2 > half.length;
    });
  }

  /**
   * What a member promises to others must be on its disk. An acknowledgement of an earlier term may
   * be of entries that a later leader has replaced before they were written: the member is then as
   * one that wrote both in turn and whose answer was slow (the disk holds the later term already,
   * and a leader of the earlier one that could commit with it would have voters in common).
   */
  sent(raftId: RaftId, message: Message): void {
    const { disk, hardState } = this.#member(raftId);
    const { kind, index, term, reject } = message;
    if (kind === "app-resp" && !reject && term >= hardState.term && index > disk.last) {
      this.fail(
        "acknowledged-is-durable",
        `member ${raftId} acknowledges entry ${index}, on its disk are entries to ${disk.last}`,
      );
    }
    if (kind === "vote") this.#voted(raftId, raftId, term, hardState);
    if (kind === "vote-resp" && !reject) this.#voted(raftId, message.to, term, hardState);
  }

  #voted(raftId: RaftId, candidate: RaftId, term: number, durable: HardState): void {
    const votes = this.#votes.get(term) ?? new Map<RaftId, RaftId>();
    this.#votes.set(term, votes);
    const before = votes.get(raftId) ?? candidate;
    votes.set(raftId, candidate);
    if (before !== candidate) {
      this.fail(
        "one-vote-a-term",
        `member ${raftId} votes for ${before} and ${candidate} in term ${term}`,
      );
    }
    if (durable.term < term || (durable.term === term && durable.vote !== candidate)) {
      this.fail(
        "vote-is-durable",
        `member ${raftId} votes for ${candidate} in term ${term}; on its disk is a vote for ` +
          `${durable.vote} in term ${durable.term}`,
      );
    }
  }

  /** The state machine of a member is given entry `index`. */
  applied(raftId: RaftId, index: number, data: Uint8Array): void {
    const committed = this.#committed[index];
    if (committed === undefined) {
      this.fail(
        "state-machine-safety",
        `member ${raftId} applies ${index}, which is not committed`,
      );
    } else if (committed.hash !== this.#hashes.of({ index, kind: "normal", data })) {
      this.fail("state-machine-safety", `member ${raftId} applies another entry ${index}`);
    }
  }

  /** The state of a member after `index`. */
  digest(raftId: RaftId, index: number, digest: string): void {
    const known = this.#digests.get(index) ?? digest;
    this.#digests.set(index, known);
    if (known !== digest) {
      this.fail("digests-equal", `the state of member ${raftId} at ${index} differs from others'`);
    }
  }

  /** The state after `index`, looked at once: it is the same on all members. */
  owners(index: number, sharedAddress: () => string): void {
    if (index <= this.#ownersSeen) return;
    this.#ownersSeen = index;
    const clash = sharedAddress();
    if (clash !== "") this.fail("one-owner-an-address", `at ${index} ${clash}`);
  }

  /** A snapshot replaces the state of a member: it must cover committed entries only. */
  restored(raftId: RaftId, meta: SnapshotMeta): void {
    const committed = this.#committed[meta.index];
    if (committed !== undefined && committed.term !== meta.term) {
      this.fail("state-machine-safety", `the snapshot at member ${raftId} is of another history`);
    }
  }

  #member(raftId: RaftId): MemberRecord {
    let member = this.#members.get(raftId);
    if (member === undefined) {
      member = new MemberRecord(this.#hashes);
      this.#members.set(raftId, member);
    }
    return member;
  }
}

interface DiskState {
  readonly disk: LogShadow;
  readonly hardState: HardState;
}

function after(state: DiskState, batch: AppendBatch): DiskState {
  const disk = state.disk.copy();
  if (batch.snapshot !== null) disk.reset(batch.snapshot.index, batch.snapshot.term);
  disk.put(batch.entries);
  return { disk, hardState: batch.hardState ?? state.hardState };
}

function sameVote(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.vote === b.vote;
}
