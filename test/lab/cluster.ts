import { eventually } from "../support/eventually.ts";
import { LabError } from "./errors.ts";
import { request } from "./http.ts";
import { CLUSTER_PORT, type HostPlan } from "./plan.ts";

/** Forming the cluster as an operator would: init, join tokens, joins. */

export interface ClusterHost extends Pick<HostPlan, "name" | "role" | "addr"> {
  readonly socketPath: string;
  /** Runs the swarmd command line on the host; stdout. */
  swarmd(args: readonly string[]): Promise<string>;
}

/** The parts of the Docker API's Node (v1.41) that the lab reads. */
export interface NodeView {
  readonly ID: string;
  readonly Description?: { readonly Hostname?: string };
  readonly Spec?: { readonly Role?: string; readonly Availability?: string };
  readonly Status?: { readonly State?: string; readonly Addr?: string };
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability?: string } | null;
}

const READY_TIMEOUT_MS = 60_000;
const LIST_TIMEOUT_MS = 2_000;

export async function formCluster(hosts: readonly ClusterHost[]): Promise<void> {
  const [first, ...others] = hosts;
  if (first === undefined) throw new LabError("a cluster needs a host");
  await first.swarmd(["init", "--advertise-addr", first.addr]);
  const target = `${first.addr}:${CLUSTER_PORT}`;
  const join = async (host: ClusterHost): Promise<void> => {
    const token = await first.swarmd(["join-token", "-q", host.role]);
    const flags = ["--token", token.trim(), "--advertise-addr", host.addr];
    await host.swarmd(["join", ...flags, target]);
  };
  const managers = others.filter(host => host.role === "manager");
  const workers = others.filter(host => host.role === "worker");
  await Promise.all([inTurn(managers, join), ...workers.map(join)]);
  await untilReady(first, hosts);
}

async function inTurn<T>(items: readonly T[], act: (item: T) => Promise<void>): Promise<void> {
  for (const item of items) await act(item);
}

/** Null, or why the node list is not yet that of a whole cluster. */
export function clusterFault(
  nodes: readonly NodeView[],
  hosts: readonly Pick<HostPlan, "name" | "role">[],
): string | null {
  for (const host of hosts) {
    const node = nodes.find(one => one.Description?.Hostname === host.name);
    if (node === undefined) return `${host.name} is not in the cluster`;
    if (node.Status?.State !== "ready") return `${host.name} is ${node.Status?.State ?? "unknown"}`;
    const reachability = node.ManagerStatus?.Reachability ?? "no manager";
    if (host.role === "manager" && reachability !== "reachable") {
      return `manager ${host.name} is ${reachability}`;
    }
  }
  return nodes.length === hosts.length ? null : `${nodes.length} nodes for ${hosts.length} hosts`;
}

async function untilReady(first: ClusterHost, hosts: readonly ClusterHost[]): Promise<void> {
  let fault: string | null = "no answer yet";
  await eventually(
    async () => {
      fault = clusterFault(await listNodes(first.socketPath), hosts);
      return fault === null;
    },
    { what: "every node is ready", timeoutMs: READY_TIMEOUT_MS, everyMs: 50 },
  ).catch((error: unknown) => {
    throw new LabError(`the cluster is not whole after ${READY_TIMEOUT_MS} ms: ${fault}`, error);
  });
}

/** The nodes as the daemon behind the socket knows them. */
export async function listNodes(
  socketPath: string,
  timeoutMs = LIST_TIMEOUT_MS,
): Promise<readonly NodeView[]> {
  const answer = await request(socketPath, "GET", "/nodes", undefined, { timeoutMs });
  if (answer.status !== 200 || !Array.isArray(answer.body)) {
    throw new LabError(`GET /nodes on ${socketPath}: ${answer.status} ${answer.text.trim()}`);
  }
  return answer.body;
}
