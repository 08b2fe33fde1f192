import type { Clock, Timer } from "../base/clock.ts";
import type { TaskState } from "../model/task-state.ts";
import type { NodeMessage } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import type { SessionTimers } from "./session-timers.ts";
import type { StatusOutbox } from "./status-outbox.ts";

/** Statuses that come within this go in one message. */
const GATHER_MS = 5;
/** A task is on its way through these and nobody waits for them: the next state will do. */
const PASSING_STATES: ReadonlySet<TaskState> = new Set(["accepted", "preparing", "starting"]);
const PASSING_GATHER_MS = 50;
/**
 * In a large cluster each message of each node costs the manager: there statuses are gathered for
 * these shares of the time over which nodes are to spread what they do.
 */
const GATHER_SHARE = 0.005;
const PASSING_GATHER_SHARE = 0.1;

export interface StatusSenderDeps {
  readonly outbox: StatusOutbox;
  readonly timers: SessionTimers;
  readonly clock: Clock;
  readonly write: (message: NodeMessage) => void;
}

/**
 * Sends what the outbox holds over one session. Every write of the log costs all managers: statuses
 * go together, those that somebody waits for soon.
 */
export class StatusSender {
  readonly #deps: StatusSenderDeps;
  #spreadMs = 0;
  #timer: Timer | null = null;
  #dueMs = 0;

  constructor(deps: StatusSenderDeps) {
    this.#deps = deps;
  }

  /** As the manager's welcome says. */
  setSpread(spreadMs: number): void {
    this.#spreadMs = spreadMs;
  }

  /** Sends what is due, and from now on what is reported. */
  start(): void {
    this.#deps.outbox.onReport(({ status }) => {
      const passing = PASSING_STATES.has(status.state);
      const leastMs = passing ? PASSING_GATHER_MS : GATHER_MS;
      const share = passing ? PASSING_GATHER_SHARE : GATHER_SHARE;
      this.#schedule(Math.max(leastMs, this.#spreadMs * share));
    });
    this.#flush();
  }

  stop(): void {
    this.#deps.outbox.onReport(() => undefined);
    this.#timer?.cancel();
  }

  #schedule(withinMs: number): void {
    const { clock, timers } = this.#deps;
    const dueMs = clock.monoMs() + withinMs;
    if (this.#timer !== null && this.#dueMs <= dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = timers.after("status-flush", withinMs, () => {
      this.#timer = null;
      this.#flush();
    });
  }

  #flush(): void {
    const { outbox, write } = this.#deps;
    for (let batch = outbox.take(); batch !== null; batch = outbox.take()) {
      const { sequence, updates } = batch;
      const updatesJson = updates.map(update => JSON.stringify(update));
      write({ body: { $case: "statuses", value: { sequence, updatesJson } } });
    }
  }
}
