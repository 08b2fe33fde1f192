import { type JointVoters, jointCommitted } from "./quorum.ts";
import type { RaftId } from "./types.ts";

/** Reads waiting at a leader; above this a read is dropped and its caller times out. */
export const MAX_PENDING_READS = 10_000;

export interface ReadRequest {
  /** The member that asked; our own id for a local read. */
  readonly from: RaftId;
  readonly context: string;
}

export interface ConfirmedRead {
  readonly request: ReadRequest;
  readonly index: number;
}

/**
 * Reads at the leader (Raft dissertation 6.4): each notes the commit index of its arrival and
 * waits until a quorum has answered a heartbeat sent after that, which proves that no other leader
 * had been elected. Reads are numbered; a heartbeat carries the number of the last one, so that one
 * round confirms all before it.
 */
export class ReadIndexQueue {
  #waiting: ConfirmedRead[] = [];
  #confirmed = 0;
  readonly #acked = new Map<RaftId, number>();
  /** Before the leader's first own commit its commit index may be behind (6.4, step 1). */
  #early: ReadRequest[] = [];
  #roundDue = false;

  /** A read added since the last heartbeat round waits for one to be sent. */
  get roundDue(): boolean {
    return this.#roundDue;
  }

  get #size(): number {
    return this.#waiting.length + this.#early.length;
  }

  /** Keeps a read until the leader's first own commit. */
  postpone(request: ReadRequest): void {
    if (this.#size < MAX_PENDING_READS) this.#early.push(request);
  }

  takePostponed(): readonly ReadRequest[] {
    const early = this.#early;
    this.#early = [];
    return early;
  }

  add(request: ReadRequest, index: number): void {
    if (this.#size >= MAX_PENDING_READS) return;
    this.#waiting.push({ request, index });
    this.#roundDue = true;
  }

  /** What a heartbeat sent now carries: empty when no read waits. */
  startRound(self: RaftId): string {
    this.#roundDue = false;
    if (this.#waiting.length === 0) return "";
    const last = this.#confirmed + this.#waiting.length;
    this.#acked.set(self, last);
    return String(last);
  }

  acknowledge(from: RaftId, context: string): void {
    const position = Number(context);
    if (!Number.isSafeInteger(position)) return;
    this.#acked.set(from, Math.max(this.#acked.get(from) ?? 0, position));
  }

  /** The reads that a quorum has confirmed, in order. */
  takeConfirmed(voters: JointVoters): readonly ConfirmedRead[] {
    const reached = jointCommitted(voters, id => this.#acked.get(id));
    const count = Math.min(reached - this.#confirmed, this.#waiting.length);
    if (count <= 0) return [];
    this.#confirmed += count;
    return this.#waiting.splice(0, count);
  }
}
