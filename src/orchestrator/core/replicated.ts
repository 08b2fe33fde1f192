import { replicasOf } from "../../model/service-spec.ts";
import { type ServiceDraft, type Slot, wantedOf } from "./draft.ts";
import { createInSlot, isExhausted, planRestarts } from "./restart.ts";

/** New tasks in one plan; the rest follows when these are in the state. */
export const MAX_NEW_TASKS_PER_PLAN = 2000;

/** Tasks of slots, restarted as the policy says, and as many slots as there shall be replicas. */
export function planReplicas(draft: ServiceDraft): void {
  for (const { key } of draft.slots()) planRestarts(draft, key, "running");
  const occupied: Slot[] = [];
  const dead: Slot[] = [];
  for (const slot of draft.slots()) {
    if (wantedOf(slot).length > 0 || isExhausted(draft, slot)) occupied.push(slot);
    else dead.push(slot);
  }
  const replicas = replicasOf(draft.service.spec);
  const refilled = fillSlots(draft, occupied, replicas - occupied.length);
  for (const slot of dead) if (!refilled.has(slot.slot)) removeSlot(draft, slot);
  if (occupied.length > replicas) removeExtra(draft, occupied, replicas);
}

/** Lowest free slot numbers first. Returns those taken. */
function fillSlots(draft: ServiceDraft, occupied: readonly Slot[], missing: number): Set<number> {
  const taken = new Set(occupied.map(slot => slot.slot));
  const filled = new Set<number>();
  const count = Math.min(missing, MAX_NEW_TASKS_PER_PLAN);
  for (let slot = 1; filled.size < count; slot++) {
    if (taken.has(slot)) continue;
    const tasks = draft.slot(String(slot))?.tasks ?? [];
    createInSlot(draft, { slot, nodeId: "", tasks }, 0, "running");
    filled.add(slot);
  }
  return filled;
}

/** Scaled down: nothing of the slot stays, not even its history. */
function removeSlot(draft: ServiceDraft, slot: Slot): void {
  for (const task of slot.tasks) draft.setDesired(task, "remove");
}

function removeExtra(draft: ServiceDraft, occupied: readonly Slot[], replicas: number): void {
  for (const slot of orderByWorth(occupied).slice(replicas)) removeSlot(draft, slot);
}

function isRunning(slot: Slot): boolean {
  return wantedOf(slot).some(task => task.status.state === "running");
}

/** The node that the slot burdens, when it is one. */
function nodeOfSlot(slot: Slot): string {
  const wanted = wantedOf(slot);
  return wanted.length === 1 ? (wanted[0]?.nodeId ?? "") : "";
}

/**
 * Slots to keep first: the first copy on every node, then the second, and so on; among those the
 * running ones, then the lower numbers. Slots on no node or on several come last (SwarmKit
 * replicated/services.go), so scaling down thins out the fullest nodes.
 */
function orderByWorth(slots: readonly Slot[]): Slot[] {
  const byState = [...slots].sort(
    (a, b) => Number(isRunning(b)) - Number(isRunning(a)) || a.slot - b.slot,
  );
  const copies = new Map<string, number>();
  const ranked = byState.map(slot => {
    const node = nodeOfSlot(slot);
    if (node === "") return { slot, rank: Number.MAX_SAFE_INTEGER };
    const rank = (copies.get(node) ?? 0) + 1;
    copies.set(node, rank);
    return { slot, rank };
  });
  return ranked.sort((a, b) => a.rank - b.rank).map(({ slot }) => slot);
}
