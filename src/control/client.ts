import { type Clock, sleep } from "../base/clock.ts";
import { isSwarmError, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { LogMessage } from "../model/assignment.ts";
import type { PeerInfo, RaftNode } from "../raft/ports.ts";
import { NO_LEADER_TEXT, noLeader } from "./core/errors.ts";
import { type Deadline, startDeadline } from "./deadline.ts";
import {
  OPERATION_TRAITS,
  type OperationArgs,
  type OperationName,
  type OperationResult,
} from "./operations.ts";
import type { ControlClient, LeaderTransport, LogRequest } from "./ports.ts";
import type { ControlService } from "./service.ts";

/** A leader change shorter than this is waited out; a longer lack of one is an error. */
export const LEADER_WAIT_MS = 5_000;
const LEADER_POLL_MS = 25;
/** A read barrier takes one round trip to a quorum; without a quorum the caller is told so. */
export const READ_TIMEOUT_MS = 5_000;
/** From the first try of a write to its answer. */
export const WRITE_TIMEOUT_MS = 15_000;

export interface ForwardingClientDeps {
  readonly service: ControlService;
  readonly raft: RaftNode;
  /** The members that the state knows, by which the leader is found. */
  readonly peers: () => readonly PeerInfo[];
  readonly transport: LeaderTransport;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The cluster from any manager: reads here after a barrier, the rest at the leader, wherever it is
 * now. While there is none, waits for the next one for a while. A write is never sent twice unless
 * the first was surely not made or the operation is repeatable.
 */
export class ForwardingClient implements ControlClient {
  readonly #caller: string;
  readonly #deps: ForwardingClientDeps;
  #closed = false;

  constructor(options: { readonly nodeId: string }, deps: ForwardingClientDeps) {
    this.#caller = options.nodeId;
    this.#deps = deps;
  }

  async call<K extends OperationName>(
    op: K,
    args: OperationArgs<K>,
    signal: AbortSignal,
  ): Promise<OperationResult<K>> {
    const { kind, timeoutMs: ownMs } = OPERATION_TRAITS[op];
    const { service, clock } = this.#deps;
    if (kind === "local") return service.run(op, args, signal);
    const timeoutMs = ownMs ?? (kind === "write" ? WRITE_TIMEOUT_MS : READ_TIMEOUT_MS);
    const deadline = startDeadline(clock, `control ${op}`, timeoutMs, signal);
    try {
      if (kind !== "read") return await this.#atLeader(op, args, deadline);
      await this.#barrier(deadline);
      return await service.run(op, args, deadline.signal);
    } catch (error) {
      throw explain(error, deadline, signal);
    } finally {
      deadline.done();
    }
  }

  /** This node's manager has ended: nobody waits for a leader here any more. */
  close(): void {
    this.#closed = true;
  }

  async *logs(request: LogRequest, signal: AbortSignal): AsyncIterable<LogMessage> {
    const { service, transport, clock } = this.#deps;
    const deadline = startDeadline(clock, "control logs", LEADER_WAIT_MS, signal);
    let leader: PeerInfo | "self";
    try {
      leader = await this.#waitForLeader(deadline, clock.monoMs() + LEADER_WAIT_MS);
    } catch (error) {
      throw explain(error, deadline, signal);
    } finally {
      deadline.done();
    }
    if (leader === "self") yield* service.logs(request, signal);
    else yield* transport.logs(leader, request, signal);
  }

  /** Makes a read of the state here linearizable; tries again while the leader changes. */
  async #barrier(deadline: Deadline): Promise<void> {
    const { raft, clock } = this.#deps;
    for (;;) {
      try {
        return await raft.readBarrier(deadline.signal);
      } catch (error) {
        const passing = isSwarmError(error, "unavailable") || isSwarmError(error, "not_leader");
        if (!passing || this.#closed || deadline.signal.aborted) throw error;
        await sleep(clock, LEADER_POLL_MS, deadline.signal);
      }
    }
  }

  async #atLeader<K extends OperationName>(
    op: K,
    args: OperationArgs<K>,
    deadline: Deadline,
  ): Promise<OperationResult<K>> {
    const { clock, logger } = this.#deps;
    const { kind, repeatable } = OPERATION_TRAITS[op];
    // Time without any leader is limited; a leader that answers slowly is not "no leader".
    let giveUpAtMs = clock.monoMs() + LEADER_WAIT_MS;
    let uncertain = false;
    const inDoubt = (error: unknown): unknown =>
      uncertain && !isFinal(error) ? unknownOutcome(error) : error;
    for (;;) {
      let sent = false;
      try {
        const leader = await this.#waitForLeader(deadline, giveUpAtMs);
        sent = kind === "write";
        return await this.#send(leader, op, args, deadline.signal);
      } catch (error) {
        const unknown = isSwarmError(error, "unknown_outcome");
        uncertain ||= sent && (unknown || deadline.expired);
        const over = this.#closed || (clock.monoMs() >= giveUpAtMs && !unknown);
        if (over || deadline.signal.aborted || !mayRetry(error, repeatable)) throw inDoubt(error);
        if (unknown) giveUpAtMs = clock.monoMs() + LEADER_WAIT_MS;
      }
      logger.debug("operation goes to the next leader", { op });
      // The time may run out here too, and what was sent before is still in doubt.
      await sleep(clock, LEADER_POLL_MS, deadline.signal).catch((error: unknown) => {
        throw inDoubt(error);
      });
    }
  }

  async #send<K extends OperationName>(
    leader: PeerInfo | "self",
    op: K,
    args: OperationArgs<K>,
    signal: AbortSignal,
  ): Promise<OperationResult<K>> {
    if (leader === "self") return this.#deps.service.run(op, args, signal);
    const { timeoutMs } = OPERATION_TRAITS[op];
    const request = {
      ...{ op, argsJson: JSON.stringify(args), caller: this.#caller },
      ...(timeoutMs !== undefined && { timeoutMs }),
    };
    const json = await this.#deps.transport.call(leader, request, signal);
    return JSON.parse(json) as OperationResult<K>;
  }

  async #waitForLeader(deadline: Deadline, giveUpAtMs: number): Promise<PeerInfo | "self"> {
    const { clock } = this.#deps;
    for (;;) {
      const leader = this.#leader();
      if (leader !== null) return leader;
      if (this.#closed || clock.monoMs() >= giveUpAtMs) throw noLeader();
      await sleep(clock, LEADER_POLL_MS, deadline.signal);
    }
  }

  #leader(): PeerInfo | "self" | null {
    const { raft, peers } = this.#deps;
    const { leaderId } = raft.status();
    if (leaderId === 0) return null;
    if (leaderId === raft.raftId) return "self";
    return peers().find(peer => peer.raftId === leaderId) ?? null;
  }
}

/** A deadline of ours means that no quorum answered; the rest is as it was said. */
function explain(error: unknown, deadline: Deadline, caller: AbortSignal): unknown {
  if (isSwarmError(error, "unknown_outcome")) return error;
  if (caller.aborted) return caller.reason;
  if (isSwarmError(error, "not_leader")) return noLeader(error);
  return deadline.expired && !isSwarmError(error, "unavailable") ? noLeader(error) : error;
}

/** Whether an attempt that failed so may be followed by another. */
function mayRetry(error: unknown, repeatable: boolean): boolean {
  if (isSwarmError(error, "not_leader")) return true;
  // Without Docker's word for it, `unavailable` comes from the way there: nothing was sent.
  if (isSwarmError(error, "unavailable")) return error.details["rpc"] === undefined;
  return repeatable && isSwarmError(error, "unknown_outcome");
}

/** The leader has decided: what came before does not matter. */
function isFinal(error: unknown): boolean {
  const open = ["not_leader", "unavailable", "unknown_outcome", "deadline_exceeded", "canceled"];
  return isSwarmError(error) && !open.includes(error.code);
}

const UNKNOWN_OUTCOME_TEXT =
  "The leader was lost before it answered, so whether the change was made is not known. " +
  "Look before repeating it.";

/** Names the lost quorum where that is why. */
function unknownOutcome(cause: unknown): SwarmError {
  const why = isSwarmError(cause, "unavailable") ? `${NO_LEADER_TEXT} ` : "";
  return new SwarmError("unknown_outcome", why + UNKNOWN_OUTCOME_TEXT, {}, cause);
}
