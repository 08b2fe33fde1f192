import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/logger.ts";
import type { Rng } from "../../base/rng.ts";
import type { RaftDeps } from "../core/state.ts";
import type { RaftConfig, RaftCoreApi } from "../core/types.ts";
import type { LeadershipEvent, PeerInfo, StateMachine } from "../ports.ts";
import type { RaftStorage } from "../storage/raft-storage.ts";
import type { RaftTransport } from "../transport/raft-transport.ts";

/**
 * How a member starts:
 * `bootstrap`: an empty storage becomes the first and only voter of a new cluster;
 * `join`: an empty storage waits for the leader's log or snapshot; one that already belongs to this
 * member goes on;
 * `restart`: the storage must hold this member's log. A member that has lost it must not come
 * back under its old id: it could vote twice in a term, and has forgotten what it acknowledged.
 */
export type StartMode = "bootstrap" | "join" | "restart";

export interface DriverOptions {
  readonly clusterId: string;
  readonly self: PeerInfo;
  readonly start: StartMode;
  /** For a joiner: managers it can answer before the log has told it who they are. */
  readonly knownPeers: readonly PeerInfo[];
  readonly tickMs: number;
  readonly electionTicks: number;
  readonly heartbeatTicks: number;
  /** Entries applied since the last snapshot that make a new one due. */
  readonly snapshotEntries: number;
  /** Bytes of entries applied since the last snapshot that make a new one due. */
  readonly snapshotBytes: number;
  /** Entries kept in memory behind a snapshot, so that a slow follower needs none. */
  readonly logEntriesForSlowFollowers: number;
}

/** When the log is cut, and how much of it stays. */
export type LogLimits = Pick<DriverOptions, "snapshotEntries" | "logEntriesForSlowFollowers">;

/** Ticks as etcd's defaults; log bounds as swarm mode's. */
export const DRIVER_DEFAULTS = {
  knownPeers: [],
  tickMs: 100,
  electionTicks: 10,
  heartbeatTicks: 1,
  snapshotEntries: 10_000,
  snapshotBytes: 64 << 20,
  logEntriesForSlowFollowers: 500,
} as const satisfies Partial<DriverOptions>;

/** A single proposal; below gRPC's message limit of 4 MiB with room for a batch around it. */
export const MAX_ENTRY_BYTES = 3 << 20;
const MAX_MESSAGE_BYTES = 512 << 10;
const MAX_INFLIGHT_MESSAGES = 256;
const MAX_INFLIGHT_BYTES = 16 << 20;
const MAX_UNCOMMITTED_BYTES = 64 << 20;
const MAX_COMMITTED_BYTES = 4 << 20;

export interface DriverDeps {
  readonly storage: RaftStorage;
  readonly transport: RaftTransport;
  readonly stateMachine: StateMachine;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Logger;
  readonly createCore: (config: RaftConfig, deps: RaftDeps) => RaftCoreApi;
  /** Resolves in a later turn of the event loop, after I/O had its chance. */
  readonly nextTurn: () => Promise<void>;
  /** What the cluster wants at present; the options count when it is null or not given. */
  readonly logLimits?: () => LogLimits | null;
  /** Told how long each snapshot took from its image until it was on disk. */
  readonly onSnapshot?: (tookMs: number) => void;
}

/** What the parts of a driver share. */
export interface DriverContext extends DriverDeps {
  readonly options: DriverOptions;
  readonly core: RaftCoreApi;
  /** As of the last Ready. */
  leadership(): LeadershipEvent;
  /** The core may have something to do. */
  wake(): void;
  /** Ends `run` with this error. */
  fatal(error: unknown): void;
}

export function coreConfig(options: DriverOptions): RaftConfig {
  return {
    id: options.self.raftId,
    electionTicks: options.electionTicks,
    heartbeatTicks: options.heartbeatTicks,
    preVote: true,
    checkQuorum: true,
    maxMessageBytes: MAX_MESSAGE_BYTES,
    maxInflightMessages: MAX_INFLIGHT_MESSAGES,
    maxInflightBytes: MAX_INFLIGHT_BYTES,
    maxUncommittedBytes: MAX_UNCOMMITTED_BYTES,
    maxCommittedBytes: MAX_COMMITTED_BYTES,
    maxEntryBytes: MAX_ENTRY_BYTES,
  };
}

export function electionMs(options: DriverOptions): number {
  return options.electionTicks * options.tickMs;
}
