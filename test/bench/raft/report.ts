import { quantiles } from "./drive.ts";
import type { FailoverResult } from "./failover.ts";
import type { Rates } from "./orders.ts";

/** One measurement of one system. */
export interface Row {
  readonly what: string;
  readonly system: string;
  readonly rates: Rates;
  /** Of the three members together, and of the client. */
  readonly memberCpuS: number;
  readonly clientCpuS: number;
}

const HEAD = [
  "what",
  "system",
  "per second",
  "p50 ms",
  "p99 ms",
  "p99.9 ms",
  "CPU us",
  "client us",
  "failed",
];

export function rateOf({ count, seconds }: Rates): number {
  return count / seconds;
}

export function tableOf(rows: readonly Row[]): string {
  const lines = rows.map(({ what, system, rates, memberCpuS, clientCpuS }) => [
    what,
    system,
    rateOf(rates).toFixed(0),
    ...[rates.p50Ms, rates.p99Ms, rates.p999Ms].map(ms => ms.toFixed(2)),
    ...[memberCpuS, clientCpuS].map(s => ((s / Math.max(1, rates.count)) * 1e6).toFixed(0)),
    String(rates.failed),
  ]);
  return align([HEAD, ...lines]);
}

function align(lines: readonly (readonly string[])[]): string {
  const widths = HEAD.map((_, i) => Math.max(...lines.map(line => line[i]?.length ?? 0)));
  const pad = (cell: string, i: number): string =>
    i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0);
  return lines.map(line => line.map(pad).join("  ").trimEnd()).join("\n");
}

export function failoverLine(system: string, result: FailoverResult): string {
  const { gapsMs, acknowledged, lost } = result;
  const { p50Ms, p99Ms } = quantiles(gapsMs);
  const max = Math.max(...gapsMs);
  const [p50, p99, worst] = [p50Ms, p99Ms, max].map(ms => ms.toFixed(0));
  return (
    `${system}: ${gapsMs.length} leaders killed: next write p50 ${p50} ms, p99 ${p99} ms, ` +
    `max ${worst} ms; ${acknowledged} writes acknowledged, ${lost} lost`
  );
}

interface Aim {
  readonly what: string;
  readonly found: string;
  readonly met: boolean;
}

const MIN_RATIO_TO_PEER = 2;
const MAX_SINGLE_P50_MS = 2;
const MIN_READS_PER_WRITE = 5;
const MAX_FAILOVER_P50_MS = 400;
const MAX_FAILOVER_P99_MS = 1_000;

function best(rows: readonly Row[], system: string, prefix: string): number {
  const fit = rows.filter(row => row.system === system && row.what.startsWith(prefix));
  return Math.max(0, ...fit.map(row => rateOf(row.rates)));
}

function peerAims(rows: readonly Row[], own: string, peer: string): Aim[] {
  const ratio = best(rows, own, "write") / best(rows, peer, "write");
  const aims: Aim[] = [
    {
      what: `throughput at saturation at least ${MIN_RATIO_TO_PEER} times ${peer}'s`,
      found: `${ratio.toFixed(1)} times`,
      met: ratio >= MIN_RATIO_TO_PEER,
    },
  ];
  for (const { what, rates } of rows.filter(row => row.system === own)) {
    const other = rows.find(row => row.system === peer && row.what === what);
    if (other === undefined || !what.startsWith("write")) continue;
    aims.push({
      what: `${what}: lower p99 than ${peer}`,
      found: `${rates.p99Ms.toFixed(1)} to ${other.rates.p99Ms.toFixed(1)} ms`,
      met: rates.p99Ms < other.rates.p99Ms,
    });
  }
  return aims;
}

export function aimsOf(
  rows: readonly Row[],
  failover: FailoverResult | null,
  names: { readonly own: string; readonly peer: string },
): string {
  const { own, peer } = names;
  const aims = rows.some(row => row.system === peer) ? peerAims(rows, own, peer) : [];
  const single = rows.find(row => row.system === own && row.what === "write, 1 in flight");
  if (single !== undefined) {
    aims.push({
      what: `single client commit p50 at most ${MAX_SINGLE_P50_MS} ms`,
      found: `${single.rates.p50Ms.toFixed(2)} ms`,
      met: single.rates.p50Ms <= MAX_SINGLE_P50_MS,
    });
  }
  const writes = best(rows, own, "inside: write");
  if (writes > 0) {
    const ratio = best(rows, own, "inside: read") / writes;
    aims.push({
      what: `ReadIndex reads at least ${MIN_READS_PER_WRITE} times writes, without clients`,
      found: `${ratio.toFixed(1)} times`,
      met: ratio >= MIN_READS_PER_WRITE,
    });
  }
  if (failover !== null) aims.push(...failoverAims(failover));
  return aims
    .map(({ what, found, met }) => `${met ? "met   " : "MISSED"} ${what}: ${found}`)
    .join("\n");
}

function failoverAims({ gapsMs, lost }: FailoverResult): Aim[] {
  const { p50Ms, p99Ms } = quantiles(gapsMs);
  return [
    {
      what: `failover p50 at most ${MAX_FAILOVER_P50_MS} ms, p99 at most ${MAX_FAILOVER_P99_MS} ms`,
      found: `${p50Ms.toFixed(0)} and ${p99Ms.toFixed(0)} ms`,
      met: p50Ms <= MAX_FAILOVER_P50_MS && p99Ms <= MAX_FAILOVER_P99_MS,
    },
    { what: "no acknowledged write lost", found: `${lost} lost`, met: lost === 0 },
  ];
}
