import type { Strategy } from "./demand.ts";
import type { NodeInfo } from "./node-info.ts";

/** Failures of a service's spec version on a node from which on the node is a last resort. */
export const MAX_FAILURES = 5;

/** How far back failures count. */
export const FAILURE_WINDOW_MS = 5 * 60_000;

/**
 * A node as tasks of a group rank it. The figures are those of its last ranking: who changes the
 * node has it ranked again.
 */
export interface Candidate {
  readonly nodeId: string;
  /** Wanted tasks of the group's service here. */
  own: number;
  /** Wanted tasks here. */
  tasks: number;
  /** The scarcer of reserved CPU and memory, 0..1 (above on an over-reserved node). */
  reserved: number;
  /** Recent failures of this service and spec version here. */
  readonly failures: number;
}

export type Compare = (a: Candidate, b: Candidate) => number;

/**
 * Swarm mode's order: a node with MAX_FAILURES or more comes after those with fewer; then the
 * strategy decides; the id makes the order total.
 */
export function comparatorFor(strategy: Strategy): Compare {
  const byStrategy = strategy === "binpack" ? fullestFirst : emptiestFirst;
  return (a, b) => compareFailures(a, b) || byStrategy(a, b) || compareText(a.nodeId, b.nodeId);
}

/** The order for one task under the random strategy: a hash of task and node, so it can be redone. */
export function randomComparator(taskId: string): Compare {
  return (a, b) =>
    compareFailures(a, b) ||
    hash(taskId, a.nodeId) - hash(taskId, b.nodeId) ||
    compareText(a.nodeId, b.nodeId);
}

function compareFailures(a: Candidate, b: Candidate): number {
  return Math.max(a.failures, b.failures) < MAX_FAILURES ? 0 : a.failures - b.failures;
}

/** Fewest tasks of the service, then fewest tasks; reservations do not rank. */
function emptiestFirst(a: Candidate, b: Candidate): number {
  return a.own - b.own || a.tasks - b.tasks;
}

/** The largest reserved share first, then most tasks, so that whole nodes stay free. */
function fullestFirst(a: Candidate, b: Candidate): number {
  return b.reserved - a.reserved || b.tasks - a.tasks;
}

/** The scarcer of CPU and memory, 0..1 (above on an over-reserved node). */
export function reservedShare(info: NodeInfo): number {
  const total = info.node.description?.resources;
  if (total === undefined) return 0;
  return Math.max(
    share(info.freeNanoCpus, total.nanoCpus),
    share(info.freeMemoryBytes, total.memoryBytes),
  );
}

function share(free: number, total: number): number {
  return total > 0 ? 1 - free / total : 0;
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

/** 32-bit FNV-1a of both texts, mixed (MurmurHash3's finalizer) so that near ids differ widely. */
function hash(a: string, b: string): number {
  let h = FNV_OFFSET;
  for (let i = 0; i < a.length; i++) h = Math.imul(h ^ a.charCodeAt(i), FNV_PRIME);
  for (let i = 0; i < b.length; i++) h = Math.imul(h ^ b.charCodeAt(i), FNV_PRIME);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
