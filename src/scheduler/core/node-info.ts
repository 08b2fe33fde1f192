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
  node: Node;
  /** Free amounts are below zero on a node that was over-reserved (its resources shrank). */
  freeNanoCpus: number;
  freeMemoryBytes: number;
  generic: GenericPool;
  /** Tasks by host-mode port. */
  readonly usedPorts: Map<string, number>;
  /** Wanted tasks. */
  tasks: number;
  readonly tasksByService: Map<string, number>;
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
    usedPorts: new Map(),
    tasks: 0,
    tasksByService: new Map(),
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
  for (const port of demand.hostPorts) addTo(info.usedPorts, port, sign);
  if (!wanted) return;
  info.tasks += sign;
  addTo(info.tasksByService, serviceId, sign);
}

function addTo(counts: Map<string, number>, key: string, sign: 1 | -1): void {
  const next = (counts.get(key) ?? 0) + sign;
  if (next > 0) counts.set(key, next);
  else counts.delete(key);
}

/** Wanted tasks of a service on the node. */
export function serviceTasks(info: NodeInfo, serviceId: string): number {
  return info.tasksByService.get(serviceId) ?? 0;
}
