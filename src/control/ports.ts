import type { LogMessage, LogSubscription } from "../model/assignment.ts";
import type { NodeQuestion, TableSummary } from "../model/data-path.ts";
import type { Cluster, NextRoot, NodeRole } from "../model/rows.ts";
import type { PeerInfo } from "../raft/ports.ts";
import type { ManagerInfo, OperationArgs, OperationName, OperationResult } from "./operations.ts";

/** Which task logs to read; both lists empty gives nothing. */
export interface LogRequest {
  readonly serviceIds: readonly string[];
  readonly taskIds: readonly string[];
  readonly options: LogSubscription["options"];
}

/** Brings log lines of tasks on any node together (the leader's log broker). */
export interface LogSource {
  subscribe(request: LogRequest, signal: AbortSignal): AsyncIterable<LogMessage>;
}

/**
 * The cluster as the API sees it, whichever manager it runs on. Errors are SwarmErrors; those that
 * Docker's control API words carry `details.rpc`, the gRPC code name that Docker puts before them.
 */
export interface ControlClient {
  call<K extends OperationName>(
    op: K,
    args: OperationArgs<K>,
    signal: AbortSignal,
  ): Promise<OperationResult<K>>;
  logs(request: LogRequest, signal: AbortSignal): AsyncIterable<LogMessage>;
}

/** What the leader asks nodes over their sessions, and knows of these. */
export interface NodeAsker {
  /** The answer as it came. Throws `unavailable`, `deadline_exceeded`, `failed_precondition`. */
  ask(
    nodeId: string,
    question: NodeQuestion,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<unknown>;
  /** Assignments sent, and followed by the node's kernel; null without a session. */
  progress(nodeId: string): { readonly sent: number; readonly programmed: number } | null;
  /** What a node on the network is to know of it; null when there is no such network. */
  expected(networkId: string): TableSummary | null;
}

/** The voters among the other managers: they keep a quorum while `reachable >= needed`. */
export interface RemainingManagers {
  readonly voters: number;
  readonly reachable: number;
  readonly needed: number;
}

/** The Raft group as role changes and node listings need it. */
export interface MembershipPort {
  managers(): readonly ManagerInfo[];
  /** What would remain of the group without this manager. */
  without(nodeId: string): RemainingManagers;
}

/** Makes the cluster's secrets (implemented over `tls`). */
export interface TokenSource {
  newJoinToken(role: NodeRole, rootCertPem: string): string;
  newUnlockKey(): string;
  /** Shared by the hosts of the encrypted mesh, base64. */
  newMeshKey(): string;
  /**
   * The root to replace `present`: the user's own, or a new one for null. `urls`: the external CAs
   * that have the present root's key, when the cluster has it not.
   */
  nextRoot(
    present: Cluster["rootCa"],
    given: Cluster["rootCa"] | null,
    urls: readonly string[],
    signal: AbortSignal,
  ): Promise<NextRoot>;
  /** Throws invalid_argument unless a cluster can be built on it; the key may be missing. */
  checkRoot(given: Cluster["rootCa"]): void;
  /** Whether an external CA answers at one of the URLs, with a certificate of that root. */
  reachesCa(urls: readonly string[], rootPem: string, signal: AbortSignal): Promise<boolean>;
}

export interface LeaderRequest {
  readonly op: string;
  readonly argsJson: string;
  readonly caller: string;
  /** Where the usual limit of a call is too short. */
  readonly timeoutMs?: number;
}

/** One call to the leader of another manager (implemented over gRPC). */
export interface LeaderTransport {
  /** Rejects with `unavailable` when nothing was sent, `unknown_outcome` when it may have been. */
  call(peer: PeerInfo, request: LeaderRequest, signal: AbortSignal): Promise<string>;
  logs(peer: PeerInfo, request: LogRequest, signal: AbortSignal): AsyncIterable<LogMessage>;
}
