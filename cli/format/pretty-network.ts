import type { NetworkReport } from "../../src/model/data-path.ts";
import type { NetworkStatus, NodeOnNetwork } from "../../src/model/data-path-status.ts";
import { formatTable } from "./table.ts";

export interface ApiNetwork {
  readonly Id: string;
  readonly Name: string;
  readonly Driver: string;
  readonly Scope: string;
  readonly Internal: boolean;
  readonly Labels: Readonly<Record<string, string>> | null;
  /** swarmd's own: what every node has of it; for networks of the cluster. */
  readonly DataPath?: NetworkStatus;
}

/** A network as a person reads it. */
export function prettyNetwork(network: ApiNetwork, nowMs: number): string {
  const { Id, Name, Driver, Scope, DataPath: status } = network;
  const head = `ID:\t${Id}\nName:\t${Name}\nDriver:\t${Driver}\nScope:\t${Scope}\n`;
  if (status === undefined) return head;
  return [
    head +
      `Subnets:\t${status.subnets.join(" ")}\nEncrypted:\t${status.encrypted}\n` +
      `In step:\t${status.inStep ? "yes" : "NO"}\n`,
    services(status),
    endpoints(status),
    nodes(status, nowMs),
    troubles(status, nowMs),
  ]
    .filter(part => part !== "")
    .join("\n");
}

function services({ services: list }: NetworkStatus): string {
  if (list.length === 0) return "";
  const rows = list.map(({ name, vip, ports, serving }) => [
    name,
    vip || "-",
    ports.join(",") || "-",
    String(serving),
  ]);
  return formatTable(["SERVICE", "VIRTUAL IP", "PORTS", "SERVING"], rows);
}

function endpoints({ nodes: list }: NetworkStatus): string {
  const rows = list.flatMap(({ hostname, endpoints: own }) =>
    own.map(({ name, addresses, state, serving }) => [
      hostname,
      name,
      addresses.join(",") || "-",
      state,
      serving ? "yes" : "no",
    ]),
  );
  return rows.length === 0
    ? ""
    : formatTable(["NODE", "ENDPOINT", "ADDRESS", "STATE", "SERVING"], rows);
}

function nodes({ nodes: list }: NetworkStatus, nowMs: number): string {
  const titles = ["NODE", "SEQUENCE", "TOLD", "PROGRAMMED", "REPAIRS", "AUDITED", "STATUS"];
  const rows = list.map(node => [
    node.hostname,
    node.sequence === null ? "-" : `${node.sequence.programmed}/${node.sequence.sent}`,
    told(node.report),
    programmed(node.report),
    String(node.report?.repairs ?? "-"),
    audited(node, nowMs),
    node.problems.length === 0 ? "in step" : "NOT IN STEP",
  ]);
  return formatTable(titles, rows);
}

function told(report: NetworkReport | null): string {
  if (report === null || report.told === null) return "-";
  return `${report.told.services} services, ${report.told.endpoints} endpoints`;
}

/** Of what is there and of what should be, where these differ. */
function programmed(report: NetworkReport | null): string {
  if (report === null || report.wanted === null) return "-";
  const { wanted, programmed: is } = report;
  const one = (what: "routes" | "locals" | "vips" | "ports" | "backends"): string => {
    const [has, should] = [is?.[what] ?? 0, wanted[what]];
    return `${has === should ? has : `${has}/${should}`} ${what}`;
  };
  const shown = wanted.ports > 0 ? (["ports"] as const) : (["vips"] as const);
  return [...(["locals", "routes"] as const), ...shown, "backends" as const].map(one).join(", ");
}

function audited({ report }: NodeOnNetwork, nowMs: number): string {
  if (report === null || report.auditedAtMs === 0) return "-";
  return ago(report.auditedAtMs, nowMs);
}

function ago(atMs: number, nowMs: number): string {
  return `${Math.max(0, Math.round((nowMs - atMs) / 1_000))} s ago`;
}

function troubles({ nodes: list }: NetworkStatus, nowMs: number): string {
  const lines = list.flatMap(({ hostname, problems, report }) => [
    ...problems.map(problem => `${hostname}: ${problem}\n`),
    ...(report?.findings ?? []).map(
      ({ atMs, what }) => `${hostname}: repaired ${ago(atMs, nowMs)}: ${what}\n`,
    ),
  ]);
  return lines.join("");
}
