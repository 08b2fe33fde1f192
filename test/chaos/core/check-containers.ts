import { drains, type Interval, losses, RECOVERY_MS } from "./disturbances.ts";
import type {
  ChaosHistory,
  ContainerEnd,
  ContainerRecord,
  FaultRecord,
  Violation,
  WriteRecord,
} from "./history.ts";

/**
 * Explains the end of every container by something that was asked for or done to its own node. The
 * daemons' own reasons do not count: a manager that wrongly calls a node down is what this is to
 * find.
 */

export type EndCause =
  | "service removed"
  | "service updated"
  | "service scaled down"
  | "engine or host down"
  | "node lost"
  | "node drained"
  | "ended by itself";

export interface ExplainedEnd {
  readonly container: ContainerRecord;
  readonly cause: EndCause | null;
}

/** After an Engine is back: until what it says of its containers is known. */
const ENGINE_SETTLES_MS = 10_000;
/** After a node is back: until it has been told what to stop, and has. */
const LOST_STOPS_WITHIN_MS = 90_000;
/** After a node is active again: until what was to stop, or about to start, has stopped. */
const DRAIN_STOPS_MS = 30_000;
/** The clocks of Engine and client are one; the order of events within this is not. */
const SLACK_MS = 250;

export const CONTAINER_RULE = "G4 no healthy container is stopped without a cause";

export function explainEnds(history: ChaosHistory): readonly ExplainedEnd[] {
  const byService = writesByService(history);
  const budgets = new Map<string, number>();
  for (const [service, writes] of byService) budgets.set(service, scaleDownBudget(writes));
  const ended = history.containers
    .filter(container => container.end !== null)
    .sort((a, b) => (a.end?.toMs ?? 0) - (b.end?.toMs ?? 0));
  return ended.map(container => {
    const writes = byService.get(container.service) ?? [];
    const cause = causeOf(container, writes, history) ?? scaled(container, writes, budgets);
    return { container, cause };
  });
}

export function checkContainers(history: ChaosHistory): readonly Violation[] {
  return explainEnds(history)
    .filter(({ cause }) => cause === null)
    .map(({ container }) => ({
      rule: CONTAINER_RULE,
      text: describeEnd(container),
      atMs: container.end?.toMs ?? 0,
    }));
}

function describeEnd({ host, name, service, taskId, generation, end }: ContainerRecord): string {
  const how = end?.asked === true ? "was stopped" : "ended";
  const code = end?.exitCode === null ? "unseen" : `exit code ${end?.exitCode}`;
  return (
    `container ${name} (service ${service}, task ${taskId}, generation ${generation}) on ${host} ` +
    `${how}, ${code}, and nothing explains it`
  );
}

/** Writes that may have come about, by the service's name. */
export function writesByService({ requests }: ChaosHistory): Map<string, WriteRecord[]> {
  const found = new Map<string, WriteRecord[]>();
  for (const request of requests) {
    if (request.what !== "write" || !request.key.startsWith("service/")) continue;
    if (request.outcome === "refused") continue;
    const service = request.key.slice("service/".length);
    found.set(service, [...(found.get(service) ?? []), request]);
  }
  return found;
}

function causeOf(
  container: ContainerRecord,
  writes: readonly WriteRecord[],
  history: ChaosHistory,
): EndCause | null {
  const { faults, requests } = history;
  const { end } = container;
  if (end === null) return null;
  const before = writes.filter(write => write.startMs <= end.toMs + SLACK_MS);
  if (before.some(write => write.action === "remove")) return "service removed";
  const newer = before.some(({ shape }) => (shape?.generation ?? 0) > container.generation);
  if (newer) return "service updated";
  if (faults.some(fault => engineWasDown(container.host, end, fault))) return "engine or host down";
  if (losses(container.host, history).some(loss => wasLost(container, end, loss))) {
    return "node lost";
  }
  if (drains(container.host, requests).some(span => wasDrained(container, end, span))) {
    return "node drained";
  }
  const mortal = before.some(({ shape }) => shape?.mode === "mortal");
  return mortal && !end.asked ? "ended by itself" : null;
}

function engineWasDown(host: string, end: ContainerEnd, fault: FaultRecord): boolean {
  const hit = fault.blows.some(
    blow => blow.host === host && (blow.kind === "poweroff" || blow.kind === "engine-restart"),
  );
  return hit && fault.startMs <= end.toMs && fault.endMs + ENGINE_SETTLES_MS >= end.fromMs;
}

/** It was given up before the container ended, which is from before the node was back. */
function wasLost(
  container: ContainerRecord,
  end: ContainerEnd,
  loss: Interval & { readonly downMs: number },
): boolean {
  return (
    loss.downMs <= end.toMs + SLACK_MS &&
    container.startedMs <= loss.toMs + RECOVERY_MS &&
    end.fromMs <= loss.toMs + LOST_STOPS_WITHIN_MS
  );
}

function wasDrained({ startedMs }: ContainerRecord, end: ContainerEnd, span: Interval): boolean {
  const within = span.fromMs <= end.toMs + SLACK_MS && end.fromMs <= span.toMs + DRAIN_STOPS_MS;
  return within && startedMs <= span.toMs + DRAIN_STOPS_MS;
}

/** How many replicas scaling may have taken away, at most. */
export function scaleDownBudget(writes: readonly WriteRecord[]): number {
  let possible: readonly number[] = [];
  let budget = 0;
  for (const { shape, outcome } of writes) {
    if (shape === null) continue;
    budget += Math.max(0, Math.max(0, ...possible) - shape.replicas);
    possible = outcome === "acknowledged" ? [shape.replicas] : [...possible, shape.replicas];
  }
  return budget;
}

/** Each replica that a service was asked to give up explains one end. */
function scaled(
  container: ContainerRecord,
  writes: readonly WriteRecord[],
  budgets: Map<string, number>,
): EndCause | null {
  const toMs = (container.end?.toMs ?? 0) + SLACK_MS;
  const left = budgets.get(container.service) ?? 0;
  const soFar = scaleDownBudget(writes.filter(write => write.startMs <= toMs));
  const used = scaleDownBudget(writes) - left;
  if (left <= 0 || used >= soFar) return null;
  budgets.set(container.service, left - 1);
  return "service scaled down";
}
