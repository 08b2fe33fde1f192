import { explainEnds } from "./check-containers.ts";
import { withoutQuorum } from "./disturbances.ts";
import type { ChaosHistory, FaultKind, Outcome, Violation } from "./history.ts";

/** What a run is told as. */

export interface TimelineEntry {
  readonly atMs: number;
  readonly text: string;
}

/** A gap counts for a fault that is in force, or was until this long before. */
const AFTERMATH_MS = 5_000;
const MS_PER_S = 1_000;

export interface RunFacts {
  readonly seed: number;
  readonly faultMs: number;
  readonly convergeMs: number | null;
  readonly finalServices: number;
  readonly snapshots: { readonly taken: number; readonly received: number };
}

/**
 * The longest time without an acknowledged write while, or just after, a fault of the kind. What a
 * lost quorum costs counts for that alone.
 */
export function longestGaps(history: ChaosHistory): ReadonlyMap<FaultKind, number> {
  const acks = history.requests
    .flatMap(one => (one.what === "write" && one.outcome === "acknowledged" ? [one.endMs] : []))
    .sort((a, b) => a - b);
  const gaps = new Map<FaultKind, number>();
  for (let i = 1; i < acks.length; i++) {
    const [fromMs = 0, toMs = 0] = [acks[i - 1], acks[i]];
    const during = history.faults.filter(
      ({ startMs, endMs }) => toMs >= startMs && fromMs <= endMs + AFTERMATH_MS,
    );
    const losses = during.filter(({ kind }) => kind === "quorum-loss");
    for (const { kind } of losses.length > 0 ? losses : during) {
      gaps.set(kind, Math.max(gaps.get(kind) ?? 0, toMs - fromMs));
    }
  }
  return gaps;
}

export function summary(history: ChaosHistory, facts: RunFacts): string {
  const lines = [
    `seed ${facts.seed}, ${seconds(facts.faultMs)} of faults`,
    ...faultLines(history),
    ...requestLines(history),
    ...leaderLines(history),
    ...containerLines(history),
    `snapshots: ${facts.snapshots.taken} taken, ${facts.snapshots.received} received`,
    convergence(facts),
  ];
  return `${lines.join("\n")}\n`;
}

function convergence({ convergeMs, finalServices }: RunFacts): string {
  if (convergeMs === null) return "did not come to rest";
  return `came to rest after ${seconds(convergeMs)} with ${finalServices} services`;
}

function faultLines(history: ChaosHistory): string[] {
  const gaps = longestGaps(history);
  const counts = countBy(history.faults, fault => fault.kind);
  const rows = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    `faults: ${history.faults.length}; by kind, with the longest time without a granted write:`,
    ...rows.map(([kind, count]) => {
      const gap = gaps.get(kind);
      const said = gap === undefined ? "" : seconds(gap);
      return `  ${kind.padEnd(22)} ${String(count).padStart(3)}  ${said.padStart(8)}`;
    }),
  ];
}

function requestLines({ requests }: ChaosHistory): string[] {
  const writes = requests.flatMap(one => (one.what === "write" ? [one.outcome] : []));
  const of = (outcome: Outcome): number => writes.filter(one => one === outcome).length;
  const reads = requests.filter(one => one.what === "read");
  const answered = reads.filter(one => one.value !== undefined).length;
  return [
    `writes: ${of("acknowledged")} granted, ${of("refused")} refused, ${of("unknown")} unknown`,
    `reads: ${answered} answered, ${reads.length - answered} not`,
  ];
}

/** Leaders that came while no manager was touched, nor had been for a while. */
export function idleElections({ managers, faults, leaders }: ChaosHistory): number {
  return leaders
    .slice(1)
    .filter(
      ({ atMs }) =>
        !faults.some(
          ({ blows, startMs, endMs }) =>
            blows.some(blow => managers.includes(blow.host) || blow.kind === "partition") &&
            startMs <= atMs &&
            endMs + AFTERMATH_MS >= atMs,
        ),
    ).length;
}

function leaderLines(history: ChaosHistory): string[] {
  const gaps = withoutQuorum(history.managers, history.faults);
  const slowestMs = history.requests
    .filter(one => gaps.some(gap => one.startMs >= gap.fromMs && one.endMs <= gap.toMs))
    .reduce((most, { startMs, endMs }) => Math.max(most, endMs - startMs), 0);
  return [
    `leaders: ${history.leaders.length}, ${idleElections(history)} of them without a fault`,
    `slowest answer without a quorum: ${seconds(slowestMs)}`,
    `the machine was late by up to ${seconds(Math.max(0, ...history.lags.map(l => l.lateMs)))}`,
  ];
}

function containerLines(history: ChaosHistory): string[] {
  const causes = countBy(explainEnds(history), end => end.cause ?? "UNEXPLAINED");
  const running = history.containers.filter(container => container.end === null).length;
  return [
    `containers: ${history.containers.length} started, ${running} run at the end`,
    ...[...causes].map(([cause, count]) => `  ${cause.padEnd(22)} ${String(count).padStart(3)}`),
  ];
}

function countBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, number> {
  const counts = new Map<K, number>();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1);
  return counts;
}

export function seconds(ms: number): string {
  return `${(ms / MS_PER_S).toFixed(1)} s`;
}

export function formatTimeline(entries: readonly TimelineEntry[], originMs: number): string {
  const lines = [...entries]
    .sort((a, b) => a.atMs - b.atMs)
    .map(({ atMs, text }) => `${stamp(atMs, originMs)}  ${text}`);
  return `${lines.join("\n")}\n`;
}

function stamp(atMs: number, originMs: number): string {
  const clock = new Date(atMs).toISOString().slice(11, 23);
  return `${((atMs - originMs) / MS_PER_S).toFixed(2).padStart(8)} s ${clock}`;
}

export function formatViolations(violations: readonly Violation[], originMs: number): string {
  return violations
    .map(
      ({ rule, text, atMs }) =>
        `${rule}\n  ${atMs > 0 ? `${stamp(atMs, originMs)}  ` : ""}${text}\n`,
    )
    .join("");
}
