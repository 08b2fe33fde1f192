import { type Clock, sleep } from "../base/clock.ts";
import { isSwarmError, SwarmError } from "../base/errors.ts";
import type { LogMessage } from "../model/assignment.ts";
import type { Change } from "../model/change.ts";
import type { RaftNode } from "../raft/ports.ts";
import type { StateStore } from "../state/ports.ts";
import type { OperationContext } from "./context.ts";
import { outOfSequence, rpcError } from "./core/errors.ts";
import { KeyedLocks } from "./locks.ts";
import { MembershipView } from "./membership.ts";
import {
  OPERATION_TRAITS,
  type OperationArgs,
  type OperationName,
  type OperationResult,
  type RaftView,
} from "./operations.ts";
import { OPERATION_HANDLERS } from "./ops/table.ts";
import type { LogRequest, LogSource, NodeAsker, TokenSource } from "./ports.ts";

/** Long work gives the event loop to others after this long. */
const MAX_SLICE_MS = 20;

export interface ControlServiceDeps {
  readonly store: StateStore;
  readonly raft: RaftNode;
  readonly tokens: TokenSource;
  /** The log broker of the present term; null while this manager does not lead. */
  readonly logs: () => LogSource | null;
  /** Whom the leader asks about nodes; null while this manager does not lead. */
  readonly asker: () => NodeAsker | null;
  readonly clock: Clock;
}

/**
 * The operations on the state of this manager. Reads are of the state as it is here and now: the
 * caller has passed a read barrier. Writes work on the leader only.
 */
export class ControlService {
  readonly #nodeId: string;
  readonly #deps: ControlServiceDeps;
  readonly #members: MembershipView;
  readonly #locks = new KeyedLocks();
  /** The term whose start this leader has applied, so that its checks see all earlier writes. */
  #caughtUpTerm = 0;

  constructor(options: { readonly nodeId: string }, deps: ControlServiceDeps) {
    this.#nodeId = options.nodeId;
    this.#deps = deps;
    this.#members = new MembershipView(deps.raft, deps.store);
  }

  get isLeader(): boolean {
    return this.#deps.raft.status().role === "leader";
  }

  /** Runs an operation here. Writes and leader reads reject with not_leader elsewhere. */
  async run<K extends OperationName>(
    op: K,
    args: OperationArgs<K>,
    signal: AbortSignal,
  ): Promise<OperationResult<K>> {
    const { kind } = OPERATION_TRAITS[op];
    if (kind === "leader" || kind === "write") await this.#catchUp(signal);
    return OPERATION_HANDLERS[op](this.#context(signal), args);
  }

  logs(request: LogRequest, signal: AbortSignal): AsyncIterable<LogMessage> {
    const source = this.#deps.logs();
    if (source === null) throw notLeader();
    return source.subscribe(request, signal);
  }

  status(): RaftView {
    const status = this.#deps.raft.status();
    const managers = this.#members.managers();
    return {
      nodeId: this.#nodeId,
      role: status.role,
      term: status.term,
      commit: status.commit,
      applied: status.applied,
      leaderNodeId: managers.find(manager => manager.leader)?.nodeId ?? "",
      managers,
    };
  }

  async #catchUp(signal: AbortSignal): Promise<void> {
    const { role, term } = this.#deps.raft.status();
    if (role !== "leader") throw notLeader();
    if (term === this.#caughtUpTerm) return;
    await this.#deps.raft.readBarrier(signal);
    this.#caughtUpTerm = term;
  }

  #context(signal: AbortSignal): OperationContext {
    const { store, tokens, clock } = this.#deps;
    return {
      view: store.view,
      nowMs: clock.nowMs(),
      members: this.#members,
      tokens,
      signal,
      asker: this.#deps.asker(),
      pause: pauseOf(clock, signal),
      status: () => this.status(),
      submit: changes => this.#submit(changes, signal),
      exclusive: (keys, work) => this.#locks.run(keys, work),
    };
  }

  async #submit(changes: readonly Change[], signal: AbortSignal): Promise<void> {
    try {
      await this.#deps.store.submit(changes, signal);
    } catch (error) {
      // Between the check and the commit somebody else wrote the row, or took the name.
      if (isSwarmError(error, "out_of_sequence")) throw outOfSequence();
      if (isSwarmError(error, "already_exists")) throw rpcError(error.code, error.message);
      throw error;
    }
  }
}

function pauseOf(clock: Clock, signal: AbortSignal): () => Promise<void> {
  let sinceMs = clock.monoMs();
  return async () => {
    signal.throwIfAborted();
    if (clock.monoMs() - sinceMs < MAX_SLICE_MS) return;
    await sleep(clock, 0, signal);
    sinceMs = clock.monoMs();
  };
}

function notLeader(): SwarmError {
  return new SwarmError("not_leader", "this manager is not the leader");
}
