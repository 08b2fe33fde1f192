import type { Timer } from "../../base/clock.ts";
import { randomInt } from "../../base/rng.ts";
import { newMessage } from "../core/message.ts";
import { NO_ID, type RaftId } from "../core/types.ts";
import type { DriverContext } from "./options.ts";

/** Time for the other followers to notice it too: until then they reject a pre-vote. */
const NOTICE_MS = 10;
/** Each voter waits its turn, so that pre-votes do not split. */
const TURN_MS = 40;
const JITTER_MS = 20;
const RETRY_MS = 150;
const MAX_TRIES = 5;

/**
 * A leader whose stream closes has most likely died. Pre-vote makes it safe to stand for election
 * at once instead of after an election timeout: as long as a majority still hears the leader,
 * nobody is elected and nothing changes (Raft dissertation 9.6).
 */
export class Failover {
  readonly #context: DriverContext;
  #timer: Timer | null = null;
  started = 0;

  constructor(context: DriverContext) {
    this.#context = context;
  }

  peerLost(raftId: RaftId): void {
    const { core } = this.#context;
    const { leaderId, role } = core.status();
    if (raftId !== leaderId || role === "leader") return;
    this.started += 1;
    this.#context.log.info("the leader's connection closed", { leader: raftId });
    core.step(newMessage("forget-leader", {}));
    this.#context.wake();
    this.#arm(NOTICE_MS + this.#turn(raftId) * TURN_MS, 1);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** Place of this member among the voters that remain. */
  #turn(lost: RaftId): number {
    const { id, conf } = this.#context.core.status();
    const voters = conf.voters.filter(voter => voter !== lost).sort((a, b) => a - b);
    return Math.max(0, voters.indexOf(id));
  }

  #arm(delayMs: number, attempt: number): void {
    this.stop();
    const { clock, rng } = this.#context;
    const jitterMs = randomInt(rng, JITTER_MS);
    this.#timer = clock.setTimer("raft failover", delayMs + jitterMs, () => {
      this.#timer = null;
      this.#campaign(attempt);
    });
  }

  #campaign(attempt: number): void {
    const { core } = this.#context;
    const { leaderId, role } = core.status();
    if (leaderId !== NO_ID || role === "leader") return;
    core.campaign();
    this.#context.wake();
    if (attempt < MAX_TRIES) this.#arm(RETRY_MS + this.#turn(NO_ID) * TURN_MS, attempt + 1);
  }
}
