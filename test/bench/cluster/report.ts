import { quantile, type Samples } from "./samples.ts";

/** What is aimed for besides being better than the peer; ms or MB. */
interface Aim {
  readonly p50?: number;
  readonly max?: number;
}

interface Row {
  readonly id: string;
  readonly aim?: Aim;
}

/** One line of the report each, in this order; a row nobody measured is left out. */
export const ROWS: readonly Row[] = [
  { id: "init, answered" },
  { id: "init, node ready" },
  { id: "manager join, answered" },
  { id: "manager join, node ready" },
  { id: "worker join, answered" },
  { id: "worker join, node ready" },
  { id: "20 replicas running" },
  { id: "20 to 50 replicas" },
  { id: "removal of 50" },
  { id: "update of 10 by 2" },
  { id: "leader SIGKILL to next write", aim: { p50: 500, max: 1_000 } },
  { id: "leader cut off to next write", aim: { max: 2_500 } },
  { id: "leader SIGTERM, longest gap", aim: { max: 300 } },
  { id: "worker power-off to replacement" },
  { id: "RSS of a manager, idle", aim: { max: 120 } },
  { id: "RSS of a manager, after load", aim: { max: 120 } },
  { id: "PSS of a manager, after load" },
  { id: "RSS of a worker, idle", aim: { max: 90 } },
  { id: "RSS of a worker, after load", aim: { max: 90 } },
  { id: "PSS of a worker, after load" },
];

export type Figures = Readonly<Record<string, Samples>>;

const COLUMN_GAP = "  ";
const MS_PER_S = 1_000;

function single(value: number, unit: Samples["unit"]): string {
  if (unit === "MB") return `${value.toFixed(0)} MB`;
  return value < MS_PER_S ? `${value.toFixed(0)} ms` : `${(value / MS_PER_S).toFixed(2)} s`;
}

/** The middle and the worst of what was seen; with so few samples the worst stands for the p99. */
function cell(samples: Samples | undefined): string {
  if (samples === undefined) return "-";
  const { values, unit } = samples;
  const middle = single(quantile(values, 0.5), unit);
  if (values.length === 1) return middle;
  return `${middle} / ${single(quantile(values, 0.99), unit)} (${values.length})`;
}

function aimText(aim: Aim, unit: Samples["unit"]): string {
  const parts = [
    aim.p50 === undefined ? "" : `p50 <= ${single(aim.p50, unit)}`,
    aim.max === undefined ? "" : `p99 <= ${single(aim.max, unit)}`,
  ];
  return parts.filter(part => part !== "").join(", ");
}

/** Whether every aim that can be judged is met: the row's own, and to be no worse than the peer. */
function verdict(own: Samples, peer: Samples | undefined, aim: Aim): "met" | "MISSED" | "-" {
  const p50 = quantile(own.values, 0.5);
  const checks: boolean[] = [];
  if (aim.p50 !== undefined) checks.push(p50 <= aim.p50);
  if (aim.max !== undefined) checks.push(quantile(own.values, 0.99) <= aim.max);
  if (peer !== undefined) checks.push(p50 < quantile(peer.values, 0.5));
  if (checks.length === 0) return "-";
  return checks.every(Boolean) ? "met" : "MISSED";
}

/** The table, titles first, as cells. */
export function tableOf(own: Figures, peer: Figures | null): string[][] {
  const titles = ["", "swarmd", "Docker swarm mode", "peer/swarmd", "aim", ""];
  const lines = ROWS.flatMap(({ id, aim = {} }) => {
    const mine = own[id];
    if (mine === undefined) return [];
    const theirs = peer?.[id];
    const ratio =
      theirs === undefined
        ? "-"
        : (quantile(theirs.values, 0.5) / quantile(mine.values, 0.5)).toFixed(1);
    const less = theirs === undefined ? "" : "below peer";
    const aims = [aimText(aim, mine.unit), less].filter(part => part !== "").join(", ");
    return [[id, cell(mine), cell(theirs), ratio, aims, verdict(mine, theirs, aim)]];
  });
  return [titles, ...lines];
}

export function alignedTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map(row => row[i]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((text, i) => text.padEnd(widths[i] ?? 0))
      .join(COLUMN_GAP)
      .trimEnd();
  return rows.map(line).join("\n");
}
