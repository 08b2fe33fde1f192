import type {
  HeardReport,
  NetworkReport,
  ProbeReport,
  ProgramSummary,
  TableSummary,
  WayReport,
} from "../../model/data-path.ts";

/** Nodes' answers, made safe: the sender may be compromised. */

const MAX_ROWS = 1_024;
const MAX_TEXT_CHARS = 1_024;

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function rowsOf(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.slice(0, MAX_ROWS).map(fieldsOf) : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value.slice(0, MAX_TEXT_CHARS) : "";
}

function count(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : 0;
}

function indexes(value: unknown): readonly number[] {
  return Array.isArray(value) ? value.slice(0, MAX_ROWS).map(count) : [];
}

function tableOf(value: unknown): TableSummary | null {
  if (value === null || value === undefined) return null;
  const fields = fieldsOf(value);
  return {
    services: count(fields["services"]),
    endpoints: count(fields["endpoints"]),
    serving: count(fields["serving"]),
    digest: text(fields["digest"]),
  };
}

function programOf(value: unknown): ProgramSummary | null {
  if (value === null || value === undefined) return null;
  const fields = fieldsOf(value);
  return {
    hosts: count(fields["hosts"]),
    routes: count(fields["routes"]),
    locals: count(fields["locals"]),
    vips: count(fields["vips"]),
    ports: count(fields["ports"]),
    backends: count(fields["backends"]),
  };
}

export function decodeNetworkReport(answer: unknown): NetworkReport {
  const fields = fieldsOf(answer);
  return {
    problem: text(fields["problem"]),
    told: tableOf(fields["told"]),
    wanted: programOf(fields["wanted"]),
    programmed: programOf(fields["programmed"]),
    auditedAtMs: count(fields["auditedAtMs"]),
    repairs: count(fields["repairs"]),
    findings: rowsOf(fields["findings"]).map(({ atMs, what }) => ({
      atMs: count(atMs),
      what: text(what),
    })),
  };
}

function waysOf(value: unknown): readonly WayReport[] {
  return rowsOf(value).map(({ index, reachedBytes }) => ({
    index: count(index),
    reachedBytes: count(reachedBytes),
  }));
}

export function decodeProbeReport(answer: unknown): ProbeReport {
  const fields = fieldsOf(answer);
  return {
    problem: text(fields["problem"]),
    underlayMtu: count(fields["underlayMtu"]),
    triedBytes: count(fields["triedBytes"]),
    plain: waysOf(fields["plain"]),
    sealed: fields["sealed"] === null ? null : waysOf(fields["sealed"]),
    sealedProblem: text(fields["sealedProblem"]),
    control: rowsOf(fields["control"]).map(({ nodeId, problem }) => ({
      nodeId: text(nodeId),
      problem: text(problem),
    })),
  };
}

export function decodeHeardReport(answer: unknown): HeardReport {
  const fields = fieldsOf(answer);
  return { plain: indexes(fields["plain"]), sealed: indexes(fields["sealed"]) };
}
