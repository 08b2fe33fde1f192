import type { Task } from "../../model/rows.ts";
import type { GenericResourceSpec } from "../../model/service-spec.ts";
import type { ClusterTracker } from "./cluster-info.ts";
import { claimGeneric } from "./generic.ts";
import type { NodeInfo } from "./node-info.ts";
import { FAILURE_WINDOW_MS } from "./rank.ts";
import type { Survey, TaskGroup } from "./survey.ts";

export interface Placement {
  readonly task: Task;
  readonly nodeId: string;
  readonly assignedGeneric: readonly GenericResourceSpec[];
}

export interface Placed {
  readonly placements: readonly Placement[];
  /** Nodes looked at. */
  readonly looks: number;
}

/**
 * Chooses nodes for the first so many tasks, claiming each choice in `cluster`. Ends at the first
 * task for which no node has room: none after it, asking the same, would find one. Ends too when
 * so many nodes have been looked at; then the survey is not ready.
 */
export function placeTasks(
  cluster: ClusterTracker,
  survey: Survey,
  tasks: Iterable<Task>,
  { tasksMax, looksMax }: { readonly tasksMax: number; readonly looksMax: number },
): Placed {
  const placements: Placement[] = [];
  let looks = 0;
  for (const task of tasks) {
    if (placements.length === tasksMax) break;
    if (!survey.ready) looks += survey.advance(looksMax - looks);
    if (!survey.ready) break;
    const info = survey.choose(task.id);
    if (info === null) break;
    placements.push(claimNode(cluster, survey.group, task, info));
    survey.refresh(info.node.id);
  }
  return { placements, looks };
}

/** Places a task on a node that takes it. */
export function claimNode(
  cluster: ClusterTracker,
  { serviceId, demand }: TaskGroup,
  task: Task,
  info: NodeInfo,
): Placement {
  const nodeId = info.node.id;
  const assignedGeneric = claimGeneric(info.generic, demand.generic);
  cluster.claim(nodeId, { serviceId, demand, assignedGeneric, wanted: true });
  return { task, nodeId, assignedGeneric };
}

/** How many of the failed tasks are of the spec version and within the window, by node. */
export function recentFailures(
  failed: Iterable<Task>,
  specVersion: number,
  nowMs: number,
): ReadonlyMap<string, number> {
  const failures = new Map<string, number>();
  for (const { nodeId, specVersion: version, status } of failed) {
    if (version !== specVersion) continue;
    if (nowMs - status.timestampMs >= FAILURE_WINDOW_MS) continue;
    failures.set(nodeId, (failures.get(nodeId) ?? 0) + 1);
  }
  return failures;
}
