import { listNodes, type NodeView } from "./cluster.ts";
import { request } from "./http.ts";
import type { Lab, LabHost } from "./lab.ts";
import { listBlocked } from "./network.ts";

/** What `status` shows of a host. */
export interface HostStatus {
  readonly host: string;
  readonly address: string;
  readonly power: "on" | "off";
  readonly link: string;
  readonly engine: string;
  readonly swarmd: string;
  readonly role: string;
}

export interface LabStatus {
  readonly hosts: readonly HostStatus[];
  /** "A B": packets from A to B are lost. */
  readonly blocked: readonly string[];
}

const PROBE_TIMEOUT_MS = 1_000;
const COLUMN_GAP = "  ";

export async function readStatus(lab: Lab): Promise<LabStatus> {
  const hosts = lab.hosts();
  if (hosts.length === 0) return { hosts: [], blocked: [] };
  const nodes = await firstNodeList(hosts);
  return {
    hosts: await Promise.all(hosts.map(host => hostStatus(host, nodes))),
    blocked: await listBlocked(lab.dir).catch(() => []),
  };
}

async function hostStatus(host: LabHost, nodes: readonly NodeView[]): Promise<HostStatus> {
  const [link, engine, pid] = await Promise.all([host.link(), host.enginePid(), host.pid()]);
  const paused = await host.isPaused();
  return {
    host: host.name,
    address: host.addr,
    power: host.isPoweredOn() ? "on" : "off",
    link: host.isCut() ? "cut" : (link ?? "-"),
    engine: engine === null ? "down" : `up (${engine})`,
    swarmd: pid === null ? "down" : `${paused ? "paused" : "up"} (${pid})`,
    role: pid === null || paused ? "-" : await roleOf(host, nodes),
  };
}

/** Managers answer with the node list; the role of a worker is in its /info. */
async function roleOf(host: LabHost, nodes: readonly NodeView[]): Promise<string> {
  const node = nodes.find(one => one.Description?.Hostname === host.name);
  if (node?.ManagerStatus?.Leader === true) return "leader";
  const info = await request(host.socketPath, "GET", "/info", undefined, {
    timeoutMs: PROBE_TIMEOUT_MS,
  }).catch(() => null);
  if (info?.status !== 200) return "no answer";
  const swarm = swarmSection(info.body);
  if (swarm.LocalNodeState !== "active") return swarm.LocalNodeState ?? "-";
  return swarm.ControlAvailable === true ? "manager" : "worker";
}

interface SwarmSection {
  readonly LocalNodeState?: string;
  readonly ControlAvailable?: boolean;
}

function swarmSection(info: unknown): SwarmSection {
  const value = (info as { readonly Swarm?: SwarmSection } | null)?.Swarm;
  return value ?? {};
}

async function firstNodeList(hosts: readonly LabHost[]): Promise<readonly NodeView[]> {
  const managers = hosts.filter(host => host.role === "manager");
  const lists = managers.map(host => listNodes(host.socketPath, PROBE_TIMEOUT_MS));
  return Promise.any(lists).catch(() => []);
}

export function formatStatus(status: LabStatus): string {
  if (status.hosts.length === 0) return "no lab is up";
  const titles = ["HOST", "ADDRESS", "POWER", "LINK", "ENGINE", "SWARMD", "ROLE"];
  const rows = status.hosts.map(one => [
    one.host,
    one.address,
    one.power,
    one.link,
    one.engine,
    one.swarmd,
    one.role,
  ]);
  const all = [titles, ...rows];
  const widths = titles.map((_, i) => Math.max(...all.map(row => row[i]?.length ?? 0)));
  const line = (row: string[]): string =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join(COLUMN_GAP)
      .trimEnd();
  const blocked = status.blocked.map(pair => `lost: packets from ${pair.replace(" ", " to ")}`);
  return [...all.map(line), ...blocked].join("\n");
}
