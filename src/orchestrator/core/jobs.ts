import type { Service } from "../../model/rows.ts";
import { type ServiceDraft, type Slot, wantedOf } from "./draft.ts";
import { eligibleNodes } from "./global.ts";
import { MAX_NEW_TASKS_PER_PLAN } from "./replicated.ts";
import { createInSlot, isExhausted, planRestarts } from "./restart.ts";

/** Docker's defaults: one at a time, and as many completions as may run at once. */
function jobSize(service: Service): { readonly concurrent: number; readonly total: number } {
  const { MaxConcurrent: concurrent = 1, TotalCompletions: total } =
    service.spec.Mode?.ReplicatedJob ?? {};
  return { concurrent, total: total ?? concurrent };
}

type SlotState = "done" | "live" | "given-up" | "free";

function stateOf(draft: ServiceDraft, slot: Slot | undefined): SlotState {
  if (slot === undefined) return "free";
  if (slot.tasks.some(task => task.status.state === "complete")) return "done";
  if (wantedOf(slot).length > 0) return "live";
  return isExhausted(draft, slot) ? "given-up" : "free";
}

/** What an earlier execution of the job left. */
function removeEarlier(draft: ServiceDraft): void {
  for (const slot of draft.slots()) {
    for (const task of slot.tasks) {
      if (task.jobIteration !== draft.service.jobIteration) draft.setDesired(task, "remove");
    }
  }
}

/**
 * At most MaxConcurrent tasks at a time until TotalCompletions have completed. Slots count from 0
 * (SwarmKit orchestrator/jobs); one whose restart policy gave up counts as used, so that a job that
 * cannot succeed ends.
 */
export function planReplicatedJob(draft: ServiceDraft): void {
  removeEarlier(draft);
  for (const { key } of draft.slots()) planRestarts(draft, key, "complete");
  const { concurrent, total } = jobSize(draft.service);
  const states = draft.slots().map(slot => stateOf(draft, slot));
  const live = states.filter(state => state === "live").length;
  const used = states.filter(state => state !== "free").length;
  const count = Math.min(concurrent - live, total - used, MAX_NEW_TASKS_PER_PLAN);
  for (let slot = 0, created = 0; created < count; slot++) {
    const present = draft.slot(String(slot));
    if (stateOf(draft, present) !== "free") continue;
    createInSlot(draft, { slot, nodeId: "", tasks: present?.tasks ?? [] }, 0, "complete");
    created += 1;
  }
}

/** Once on every node that may run it, also on nodes that come later. */
export function planGlobalJob(draft: ServiceDraft): void {
  removeEarlier(draft);
  const eligible = new Set(eligibleNodes(draft));
  for (const slot of draft.slots()) {
    if (eligible.has(slot.nodeId)) continue;
    for (const task of wantedOf(slot)) {
      if (task.status.state !== "complete") draft.setDesired(task, "shutdown");
    }
  }
  for (const nodeId of eligible) {
    planRestarts(draft, nodeId, "complete");
    const slot = draft.slot(nodeId);
    if (stateOf(draft, slot) !== "free") continue;
    createInSlot(draft, { slot: 0, nodeId, tasks: slot?.tasks ?? [] }, 0, "complete");
  }
}
