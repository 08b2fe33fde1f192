import type { Task } from "../../model/rows.ts";
import type { GenericResourceSpec } from "../../model/service-spec.ts";
import type { ClusterInfo } from "./cluster-info.ts";
import type { Demand } from "./demand.ts";
import { type Filter, filtersFor, refusedBy } from "./filters.ts";
import { claimGeneric } from "./generic.ts";
import { type NodeInfo, serviceTasks } from "./node-info.ts";
import { FAILURE_WINDOW_MS, orderFor } from "./rank.ts";
import { SpreadTree } from "./spread-tree.ts";

/** Tasks of one service and spec version: they ask the same, so one look at the nodes does. */
export interface TaskGroup {
  readonly serviceId: string;
  readonly demand: Demand;
  /** Recent failures of the group's service and spec version, by node id. */
  readonly failures: ReadonlyMap<string, number>;
}

export interface Placement {
  readonly task: Task;
  readonly nodeId: string;
  readonly assignedGeneric: readonly GenericResourceSpec[];
}

/**
 * Chooses nodes for tasks, in the order given, adding each choice to `cluster`. Ends at the first
 * task for which no node has room: none after it, asking the same, would find one.
 */
export function placeTasks(
  cluster: ClusterInfo,
  group: TaskGroup,
  tasks: readonly Task[],
): readonly Placement[] {
  const { demand, serviceId } = group;
  const filters = filtersFor(demand);
  const tree = buildTree(cluster, group, filters, tasks.length);
  const order = orderFor(demand.strategy);
  const placements: Placement[] = [];
  for (const task of tasks) {
    const choice = tree.choose(task.id, order(task.id));
    if (choice === null) break;
    const { candidate } = choice;
    const { info, ...placement } = claimNode(cluster, group, task, candidate.info);
    candidate.info = info;
    candidate.own += 1;
    const full = refusedBy(filters, info, demand, serviceId) !== null;
    SpreadTree.placed(choice, full);
    placements.push(placement);
  }
  return placements;
}

/** Places a task on a node that takes it; also gives the node as it is then. */
export function claimNode(
  cluster: ClusterInfo,
  { serviceId, demand }: TaskGroup,
  task: Task,
  { generic, node }: NodeInfo,
): Placement & { readonly info: NodeInfo } {
  const assignedGeneric = claimGeneric(generic, demand.generic);
  const info = cluster.claim(node.id, { serviceId, demand, assignedGeneric, wanted: true });
  return { task, nodeId: node.id, assignedGeneric, info };
}

function buildTree(
  cluster: ClusterInfo,
  { serviceId, demand, failures }: TaskGroup,
  filters: readonly Filter[],
  choices: number,
): SpreadTree {
  const tree = new SpreadTree({ strategy: demand.strategy, choices });
  for (const info of cluster.nodes()) {
    const { node } = info;
    const own = serviceTasks(info, serviceId);
    const fits = refusedBy(filters, info, demand, serviceId) === null;
    const candidate = fits ? { info, own, failures: failures.get(node.id) ?? 0 } : null;
    tree.add(node, own, demand.preferences, candidate);
  }
  tree.seal();
  return tree;
}

/** Tasks of the spec version that failed or were rejected within the window, by node. */
export function recentFailures(
  tasks: readonly Task[],
  specVersion: number,
  nowMs: number,
): ReadonlyMap<string, number> {
  const failures = new Map<string, number>();
  for (const { nodeId, specVersion: version, status } of tasks) {
    const failed = status.state === "failed" || status.state === "rejected";
    if (!failed || version !== specVersion || nodeId === "") continue;
    if (nowMs - status.timestampMs >= FAILURE_WINDOW_MS) continue;
    failures.set(nodeId, (failures.get(nodeId) ?? 0) + 1);
  }
  return failures;
}
