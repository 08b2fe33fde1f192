import type { Node, Task } from "../../model/rows.ts";
import type { GenericResourceSpec } from "../../model/service-spec.ts";
import { compareTaskStates, isTerminal, isWanted } from "../../model/task-state.ts";
import type { Demand } from "./demand.ts";
import { consumeGeneric, type GenericPool, genericPool } from "./generic.ts";

/**
 * A node as the scheduler sees it: what its description declares less what the tasks on it have
 * reserved. A task holds what it reserved from ASSIGNED until it has ended, whatever is desired of
 * it; it counts as one of its service's tasks while it is wanted.
 */
export interface NodeInfo {
  readonly node: Node;
  freeNanoCpus: number;
  freeMemoryBytes: number;
  generic: GenericPool;
  readonly usedPorts: Set<string>;
  /** Wanted tasks. */
  tasks: number;
  readonly tasksByService: Map<string, number>;
}

/** What a task takes of its node. */
export interface Claim {
  readonly serviceId: string;
  readonly demand: Demand | null;
  readonly assignedGeneric: readonly GenericResourceSpec[];
  readonly wanted: boolean;
}

/** Whether the task takes room on its node: assigned and not ended. */
export function occupiesNode(task: Task): boolean {
  return (
    task.nodeId !== "" &&
    compareTaskStates(task.status.state, "assigned") >= 0 &&
    !isTerminal(task.status.state)
  );
}

/** The node with nothing on it. */
export function emptyNodeInfo(node: Node): NodeInfo {
  const resources = node.description?.resources;
  return {
    node,
    freeNanoCpus: resources?.nanoCpus ?? 0,
    freeMemoryBytes: resources?.memoryBytes ?? 0,
    generic: genericPool(resources?.generic ?? []),
    usedPorts: new Set(),
    tasks: 0,
    tasksByService: new Map(),
  };
}

/** A copy that can be added to. */
export function copyNodeInfo(info: NodeInfo): NodeInfo {
  return {
    ...info,
    usedPorts: new Set(info.usedPorts),
    tasksByService: new Map(info.tasksByService),
  };
}

/** Takes a task's share of the node. Free amounts may go below zero on an over-reserved node. */
export function addClaim(info: NodeInfo, claim: Claim): void {
  info.freeNanoCpus -= claim.demand?.nanoCpus ?? 0;
  info.freeMemoryBytes -= claim.demand?.memoryBytes ?? 0;
  info.generic = consumeGeneric(info.generic, claim.assignedGeneric);
  for (const port of claim.demand?.hostPorts ?? []) info.usedPorts.add(port);
  if (!claim.wanted) return;
  info.tasks += 1;
  info.tasksByService.set(claim.serviceId, serviceTasks(info, claim.serviceId) + 1);
}

/** Wanted tasks of a service on the node. */
export function serviceTasks(info: NodeInfo, serviceId: string): number {
  return info.tasksByService.get(serviceId) ?? 0;
}

/** The node with the given tasks on it. */
export function nodeInfoOf(
  node: Node,
  tasks: readonly Task[],
  demandOfTask: (task: Task) => Demand | null,
): NodeInfo {
  const info = emptyNodeInfo(node);
  for (const task of tasks) {
    if (!occupiesNode(task)) continue;
    addClaim(info, {
      serviceId: task.serviceId,
      demand: demandOfTask(task),
      assignedGeneric: task.assignedGeneric,
      wanted: isWanted(task.desiredState),
    });
  }
  return info;
}
