import { scaleDownBudget, writesByService } from "./check-containers.ts";
import { losses, RECOVERY_MS } from "./disturbances.ts";
import type { ChaosHistory, ContainerRecord, Violation, WriteRecord } from "./history.ts";

export const COPIES_RULE = "G7 no extra copy runs";

/** Clocks agree; what two Engines tell may cross. */
const SLACK_MS = 250;

/**
 * Two containers of one slot never run at once, unless one of their nodes was out of reach for its
 * grace, or the service starts the new one first, or gave the slot up in between.
 */
export function checkCopies(history: ChaosHistory): readonly Violation[] {
  const writes = writesByService(history);
  return [...bySlot(history.containers).values()].flatMap(containers =>
    containers.flatMap((newer, i) =>
      containers
        .slice(0, i)
        .filter(older => endOf(older, history) > newer.startedMs + SLACK_MS)
        .filter(older => !mayOverlap(older, newer, writes.get(newer.service) ?? [], history))
        .map(older => ({
          rule: COPIES_RULE,
          text: `${older.name} on ${older.host} still ran when ${newer.name} started on ${newer.host}`,
          atMs: newer.startedMs,
        })),
    ),
  );
}

/** Containers are called `service.slot.task`; a global service has the node's id for a slot. */
function bySlot(containers: readonly ContainerRecord[]): ReadonlyMap<string, ContainerRecord[]> {
  const slots = new Map<string, ContainerRecord[]>();
  for (const container of [...containers].sort((a, b) => a.startedMs - b.startedMs)) {
    const key = container.name.slice(0, container.name.lastIndexOf("."));
    slots.set(key, [...(slots.get(key) ?? []), container]);
  }
  return slots;
}

/** A host that lost its power tells of the end only when it is back. */
function endOf({ host, end, startedMs }: ContainerRecord, { faults }: ChaosHistory): number {
  if (end === null) return Number.POSITIVE_INFINITY;
  const off = faults.filter(
    fault =>
      fault.startMs >= startedMs &&
      fault.startMs <= end.fromMs &&
      fault.blows.some(blow => blow.kind === "poweroff" && blow.host === host),
  );
  return Math.min(end.fromMs, ...off.map(fault => fault.injectedMs));
}

function mayOverlap(
  older: ContainerRecord,
  newer: ContainerRecord,
  writes: readonly WriteRecord[],
  history: ChaosHistory,
): boolean {
  const lost = losses(older.host, history).some(
    loss => loss.downMs <= newer.startedMs && loss.toMs + RECOVERY_MS >= older.startedMs,
  );
  if (lost) return true;
  // A node that is back goes on with what it was told to start, until it is told otherwise.
  const unaware = losses(newer.host, history).some(
    loss => loss.fromMs <= newer.startedMs && loss.toMs + RECOVERY_MS >= newer.startedMs,
  );
  if (unaware) return newer.end !== null;
  const startFirst = writes.some(write => write.shape?.order === "start-first");
  if (startFirst && older.generation !== newer.generation) return true;
  const before = writes.filter(write => write.startMs <= newer.startedMs);
  const budgetThen = scaleDownBudget(before.filter(write => write.endMs < older.startedMs));
  return scaleDownBudget(before) > budgetThen;
}
