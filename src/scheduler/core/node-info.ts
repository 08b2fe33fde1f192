import type { Node, Task } from "../../model/rows.ts";
import type { GenericResourceSpec } from "../../model/service-spec.ts";
import { compareTaskStates, isTerminal, isWanted } from "../../model/task-state.ts";
import type { Demand } from "./demand.ts";
import { consumeGeneric, type GenericPool, genericPool } from "./generic.ts";

/** How many there are of each; null = none, as on most nodes, for maps are large. */
export type Counts = Map<string, number> | null;

/**
 * A node as the scheduler sees it: what its description declares less what the tasks on it have
 * reserved. A task holds what it reserved from ASSIGNED until it has ended, whatever is desired of
 * it; it counts as one of its service's tasks while it is wanted.
 */
export interface NodeInfo {
  node: Node;
  /** Free amounts are below zero on a node that was over-reserved (its resources shrank). */
  freeNanoCpus: number;
  freeMemoryBytes: number;
  generic: GenericPool;
  /** Tasks by host-mode port. */
  usedPorts: Counts;
  /** Wanted tasks. */
  tasks: number;
  tasksByService: Counts;
  /** Among all nodes in order of id; kept by who tracks them. */
  place: number;
}

/** What a task takes of its node. */
export interface Claim {
  readonly serviceId: string;
  readonly demand: Demand;
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

export function claimOf(task: Task, demand: Demand): Claim {
  return {
    serviceId: task.serviceId,
    demand,
    assignedGeneric: task.assignedGeneric,
    wanted: isWanted(task.desiredState),
  };
}

/** The node with nothing on it. */
export function emptyNodeInfo(node: Node): NodeInfo {
  const resources = node.description?.resources;
  return {
    node,
    freeNanoCpus: resources?.nanoCpus ?? 0,
    freeMemoryBytes: resources?.memoryBytes ?? 0,
    generic: genericPool(resources?.generic ?? []),
    usedPorts: null,
    tasks: 0,
    tasksByService: null,
    place: -1,
  };
}

/** Takes a task's share of the node. */
export function addClaim(info: NodeInfo, claim: Claim): void {
  info.generic = consumeGeneric(info.generic, claim.assignedGeneric);
  count(info, claim, 1);
}

/** Gives a task's share back, except for generic resources: a node with those is read anew. */
export function removeClaim(info: NodeInfo, claim: Claim): void {
  count(info, claim, -1);
}

function count(info: NodeInfo, { demand, serviceId, wanted }: Claim, sign: 1 | -1): void {
  info.freeNanoCpus -= sign * demand.nanoCpus;
  info.freeMemoryBytes -= sign * demand.memoryBytes;
  for (const port of demand.hostPorts) info.usedPorts = counted(info.usedPorts, port, sign);
  if (!wanted) return;
  info.tasks += sign;
  info.tasksByService = counted(info.tasksByService, serviceId, sign);
}

/** The counts, changed: one more or less of the key. */
function counted(counts: Counts, key: string, sign: 1 | -1): Counts {
  const next = (counts?.get(key) ?? 0) + sign;
  if (next <= 0) counts?.delete(key);
  else if (counts === null) return new Map([[key, next]]);
  else counts.set(key, next);
  return counts;
}

/** Wanted tasks of a service on the node. */
export function serviceTasks(info: NodeInfo, serviceId: string): number {
  return info.tasksByService?.get(serviceId) ?? 0;
}
