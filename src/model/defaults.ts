import type { SwarmSpec } from "./rows.ts";

/** Nanoseconds in a second: the unit of durations in specs. */
export const NS_PER_S = 1_000_000_000;
export const NS_PER_MS = 1_000_000;

/** Swarm mode's defaults (SwarmKit api/defaults/service.go), durations in nanoseconds. */
export const SERVICE_DEFAULTS = {
  stopGracePeriodNs: 10 * NS_PER_S,
  restart: { condition: "any", delayNs: 5 * NS_PER_S, maxAttempts: 0, windowNs: 0 },
  update: {
    parallelism: 1,
    delayNs: 0,
    monitorNs: 5 * NS_PER_S,
    failureAction: "pause",
    maxFailureRatio: 0,
    order: "stop-first",
  },
  replicas: 1,
} as const;

/** The default SwarmSpec of `init` (Docker's defaults; Raft ticks are ours, ADR 0002). */
export const DEFAULT_SWARM_SPEC: SwarmSpec = {
  Name: "default",
  Labels: {},
  Orchestration: { TaskHistoryRetentionLimit: 5 },
  Raft: {
    SnapshotInterval: 10_000,
    KeepOldSnapshots: 0,
    LogEntriesForSlowFollowers: 500,
    ElectionTick: 10,
    HeartbeatTick: 1,
  },
  Dispatcher: { HeartbeatPeriod: 5 * NS_PER_S },
  CAConfig: { NodeCertExpiry: 7_776_000 * NS_PER_S },
  EncryptionConfig: { AutoLockManagers: false },
  TaskDefaults: {},
};

export const DEFAULT_ADDR_POOL: readonly string[] = ["10.0.0.0/8"];
export const DEFAULT_SUBNET_SIZE = 24;
export const DEFAULT_DATA_PATH_PORT = 4789;
export const DEFAULT_CLUSTER_PORT = 2377;
