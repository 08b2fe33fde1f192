import type { TimedFailure, TrafficTotals } from "./traffic.ts";
import type { TaskRow } from "./watcher.ts";

/** What the demonstration measured; times in ms. */
export interface Results {
  formedMs: number;
  deployedMs: number;
  scaledMs: number;
  updatedMs: number;
  failoverMs: number;
  restarts: number;
  replacedMs: number;
  lostHost: string;
  lostReplicas: number;
  /** Leader before and after the kill. */
  leaders: readonly [string, string];
}

/** When a host was without power, ms of `performance.now()`. */
export interface Outage {
  readonly host: string;
  readonly fromMs: number;
  toMs: number;
}

/** Failed tries by cause, in words: from what became of the task and its host. */
export function explainFailures(
  failures: readonly TimedFailure[],
  known: {
    readonly tasks: ReadonlyMap<string, TaskRow>;
    hostOf(task: TaskRow | undefined): string;
    readonly outages: readonly Outage[];
  },
): ReadonlyMap<string, number> {
  const causes = new Map<string, number>();
  for (const { backend, why, atMs } of failures) {
    const task = known.tasks.get(backend);
    const host = known.hostOf(task);
    const off = known.outages.some(
      outage => outage.host === host && outage.fromMs <= atMs && atMs <= outage.toMs,
    );
    const stopped = task !== undefined && task.DesiredState !== "running";
    const reason = off
      ? `${host} had no power`
      : stopped
        ? "the task was being stopped by the update"
        : "the task ran and should have answered";
    const cause = `${why}: ${reason}`;
    causes.set(cause, (causes.get(cause) ?? 0) + 1);
  }
  return causes;
}

const LABEL_COLUMNS = 44;
const MS_PER_S = 1_000;

function seconds(ms: number): string {
  return `${(ms / MS_PER_S).toFixed(ms < MS_PER_S ? 2 : 1)} s`;
}

function row(label: string, value: string): string {
  return `  ${label.padEnd(LABEL_COLUMNS)}${value}`;
}

export function summaryOf(
  results: Results,
  totals: TrafficTotals,
  causes: ReadonlyMap<string, number>,
): string[] {
  const [before, after] = results.leaders;
  const tries = [...causes].map(([cause, count]) => row(`  ${count} x ${cause}`, ""));
  return [
    row("cluster of five formed in", seconds(results.formedMs)),
    row("6 replicas answering after", seconds(results.deployedMs)),
    row("6 to 10 replicas", seconds(results.scaledMs)),
    row("update of 10 by 2, leader killed meanwhile", seconds(results.updatedMs)),
    row(
      "leader SIGKILL to next write",
      `${seconds(results.failoverMs)}  (${before}, then ${after})`,
    ),
    row("containers restarted by the leader's death", String(results.restarts)),
    row(
      "worker power-off to replacement",
      `${seconds(results.replacedMs)}  (${results.lostHost} had ${results.lostReplicas} of 10)`,
    ),
    row("requests answered", `${totals.answered}, of them ${totals.retried} at a second try`),
    row("requests failed", String(totals.failed)),
    ...(tries.length === 0 ? [] : [row("tries that got no answer", "")]),
    ...tries,
  ].map(line => line.trimEnd());
}
