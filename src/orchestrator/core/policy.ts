import { NS_PER_MS, SERVICE_DEFAULTS } from "../../model/defaults.ts";
import type { Service } from "../../model/rows.ts";
import type { ServiceSpec, UpdateConfig } from "../../model/service-spec.ts";

/** How tasks are restarted, with swarm mode's defaults filled in. */
export interface RestartPolicyMs {
  readonly condition: "none" | "on-failure" | "any";
  readonly delayMs: number;
  /** 0 = without end. */
  readonly maxAttempts: number;
  /** 0 = attempts count for ever. */
  readonly windowMs: number;
  /** The longest delay after repeated fast failures; never below delayMs, which is no backoff. */
  readonly maxDelayMs: number;
}

/** Service label: `on`, `off`, or the longest delay as a Go duration. */
export const RESTART_BACKOFF_LABEL = "swarmd.restart.backoff";
const DEFAULT_MAX_DELAY_MS = 300_000;

export function restartPolicyOf(spec: ServiceSpec | undefined): RestartPolicyMs {
  const policy = spec?.TaskTemplate?.RestartPolicy ?? {};
  const defaults = SERVICE_DEFAULTS.restart;
  const delayMs = (policy.Delay ?? defaults.delayNs) / NS_PER_MS;
  return {
    condition: policy.Condition ?? defaults.condition,
    delayMs,
    maxAttempts: policy.MaxAttempts ?? defaults.maxAttempts,
    windowMs: (policy.Window ?? defaults.windowNs) / NS_PER_MS,
    maxDelayMs: Math.max(delayMs, backoffOf(spec)),
  };
}

function backoffOf(spec: ServiceSpec | undefined): number {
  const text = spec?.Labels?.[RESTART_BACKOFF_LABEL] ?? "on";
  if (text === "off") return 0;
  return parseGoDurationMs(text) ?? DEFAULT_MAX_DELAY_MS;
}

/** How a service is updated or rolled back, with swarm mode's defaults filled in. */
export interface UpdatePolicy {
  /** Slots in work at once; Infinity for Docker's 0. */
  readonly parallelism: number;
  readonly delayMs: number;
  readonly monitorMs: number;
  readonly failureAction: "pause" | "continue" | "rollback";
  readonly maxFailureRatio: number;
  readonly order: "stop-first" | "start-first";
  /**
   * Two tasks cannot hold the same host-mode port on one node: start-first is then for slots whose
   * new task finds another one.
   */
  readonly hostPorts: boolean;
  /** A new task that has not reached RUNNING by then counts as failed; Infinity = never. */
  readonly deadlineMs: number;
}

/** Service label: a Go duration, `0` for none. */
export const UPDATE_DEADLINE_LABEL = "swarmd.update.deadline";
const DEFAULT_UPDATE_DEADLINE_MS = 600_000;
/** What the monitor period is longer than the delay (SwarmKit updater.go). */
const MONITOR_AFTER_DELAY_MS = 1000;

/** The policy in force: that of the rollback while one runs. */
export function updatePolicyOf(service: Service): UpdatePolicy {
  const { spec, updateStatus } = service;
  const rollingBack =
    updateStatus?.state === "rollback_started" || updateStatus?.state === "rollback_paused";
  return updatePolicyFrom(spec, (rollingBack ? spec.RollbackConfig : spec.UpdateConfig) ?? {});
}

function updatePolicyFrom(spec: ServiceSpec, config: UpdateConfig): UpdatePolicy {
  const defaults = SERVICE_DEFAULTS.update;
  const parallelism = config.Parallelism ?? defaults.parallelism;
  const delayMs = (config.Delay ?? defaults.delayNs) / NS_PER_MS;
  // Zero is what clients send for "not said" (Docker's API has no null here).
  const monitorMs = (config.Monitor || defaults.monitorNs) / NS_PER_MS;
  const order = config.Order ?? defaults.order;
  return {
    parallelism: parallelism === 0 ? Number.POSITIVE_INFINITY : parallelism,
    delayMs,
    monitorMs: delayMs >= monitorMs ? delayMs + MONITOR_AFTER_DELAY_MS : monitorMs,
    failureAction: config.FailureAction ?? defaults.failureAction,
    maxFailureRatio: config.MaxFailureRatio ?? defaults.maxFailureRatio,
    order,
    hostPorts: hasHostPorts(spec),
    deadlineMs: deadlineOf(spec),
  };
}

function hasHostPorts(spec: ServiceSpec): boolean {
  return (spec.EndpointSpec?.Ports ?? []).some(port => port.PublishMode === "host");
}

function deadlineOf(spec: ServiceSpec): number {
  const text = spec.Labels?.[UPDATE_DEADLINE_LABEL];
  const deadlineMs = text === undefined ? null : parseGoDurationMs(text);
  if (deadlineMs === null) return DEFAULT_UPDATE_DEADLINE_MS;
  return deadlineMs === 0 ? Number.POSITIVE_INFINITY : deadlineMs;
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["h", 3_600_000],
]);

/** `1h30m`, `10m`, `90s`, `0`; null when it is none. (Go time.ParseDuration, whole milliseconds.) */
export function parseGoDurationMs(text: string): number | null {
  if (text === "0") return 0;
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return null;
  let totalMs = 0;
  for (const [, amount = "", , unit = ""] of text.matchAll(/(\d+(\.\d+)?)(ms|s|m|h)/g)) {
    totalMs += Number(amount) * (UNIT_MS.get(unit) ?? 0);
  }
  return Math.round(totalMs);
}
