import type { Task } from "../../model/rows.ts";
import { compareTaskStates, isTerminal, isWanted } from "../../model/task-state.ts";
import { type StateView, specOfTask } from "../../model/view.ts";
import { compareByAge, type ServiceDraft, type Slot, wantedOf } from "./draft.ts";
import { isGone, keepsTasks, nodeOf } from "./nodes.ts";
import { type RestartPolicyMs, restartPolicyOf } from "./policy.ts";

/** How long a prepared replacement waits for the old task to stop (SwarmKit restart.go). */
export const MAX_STOP_WAIT_MS = 60_000;

/** The task came to its end without having been told to. */
export function endedByItself(task: Task): boolean {
  const { state } = task.status;
  return state === "complete" || state === "failed" || state === "rejected";
}

function policyOf(view: StateView, task: Task): RestartPolicyMs {
  return restartPolicyOf(specOfTask(view, task)?.spec);
}

/** Ends of this task's spec version in its slot, before this one: as many restarts were made. */
function restartsBefore(task: Task, slot: Slot, windowMs: number): number {
  const sinceMs = windowMs === 0 ? Number.NEGATIVE_INFINITY : task.endedAtMs - windowMs;
  return slot.tasks.filter(
    other =>
      other.specVersion === task.specVersion &&
      endedByItself(other) &&
      compareByAge(other, task) < 0 &&
      other.endedAtMs > sinceMs,
  ).length;
}

/**
 * Whether the restart policy of the task's own spec wants another one in its place. A task that was
 * stopped (drain, lost node) does not use up an attempt: only its condition counts.
 */
export function shouldRestart(view: StateView, task: Task, slot: Slot): boolean {
  const policy = policyOf(view, task);
  if (policy.condition === "none") return false;
  if (policy.condition === "on-failure" && task.status.state === "complete") return false;
  if (!endedByItself(task) || policy.maxAttempts === 0) return true;
  return restartsBefore(task, slot, policy.windowMs) < policy.maxAttempts;
}

/**
 * The slot has no live task and shall have none: its newest ended and the policy wants no other. A
 * rollback revives such slots, so that it always ends in a converged service.
 */
export function isExhausted(draft: ServiceDraft, slot: Slot): boolean {
  const newest = slot.tasks.at(-1);
  if (newest === undefined || slot.tasks.some(task => isWanted(task.desiredState))) return false;
  const { updateStatus, specVersion } = draft.service;
  if (updateStatus?.state === "rollback_started" && newest.specVersion !== specVersion)
    return false;
  return !shouldRestart(draft.view, newest, slot);
}

/**
 * When its start delay is over. Counted from its own stamp at most: the plan that set the time may
 * have been made just before the leader's clock was set back. `tasks` are those of its slot.
 */
function startsAtMs(view: StateView, task: Task, tasks: readonly Task[]): number {
  const policy = policyOf(view, task);
  const before = tasks.findLast(other => compareByAge(other, task) < 0);
  const delayMs = before === undefined ? policy.delayMs : restartDelayMs(policy, before);
  return Math.min(task.startAfterMs, task.createdAtMs + delayMs);
}

function mayStart(task: Task, startsMs: number, nowMs: number): boolean {
  return nowMs >= startsMs || nowMs < task.createdAtMs;
}

/** Its container may still run where we can wait for it. */
function isStopping(view: StateView, task: Task): boolean {
  if (isWanted(task.desiredState) || task.nodeId === "") return false;
  if (isTerminal(task.status.state)) return false;
  if (compareTaskStates(task.status.state, "assigned") < 0) return false;
  return !isGone(nodeOf(view, task.nodeId));
}

/** What the tasks of a slot are wanted to become: jobs end, others run. */
export type RunState = "running" | "complete";

/** The slot to make a task in, and how often in a row those before have failed fast. */
interface NewInSlot {
  readonly slot: number;
  readonly nodeId: string;
  readonly tasks: readonly Task[];
  readonly fastFailures?: number;
}

/**
 * A new task for the slot, started once its delay is over and what it replaces has stopped;
 * meanwhile (desired READY) it is prepared.
 */
export function createInSlot(
  draft: ServiceDraft,
  slot: NewInSlot,
  startAfterMs: number,
  run: RunState,
): void {
  const waits = startAfterMs > draft.nowMs || slot.tasks.some(old => isStopping(draft.view, old));
  const { fastFailures = 0 } = slot;
  const task = draft.create({
    slot: slot.slot,
    nodeId: slot.nodeId,
    ...(fastFailures > 0 ? { fastFailures } : {}),
    desiredState: waits ? "ready" : run,
    startAfterMs: startAfterMs > draft.nowMs ? startAfterMs : 0,
  });
  if (waits) promoteWhenDue(draft, task, slot.tasks, run);
}

/**
 * Replaces what has ended, and what was lost with its node: the old task is told to shut down, the
 * policy says whether and when another starts. The delay does not apply when the node is to blame.
 * A task that fails while its own delay still runs is replaced only at its end, so that a task
 * which cannot even be prepared does not spin.
 */
export function planRestarts(draft: ServiceDraft, key: string, run: RunState): void {
  for (const task of wantedOf(draft.slot(key))) {
    if (run === "complete" && task.status.state === "complete") continue;
    const lost = task.nodeId !== "" && !keepsTasks(nodeOf(draft.view, task.nodeId));
    const ended = isTerminal(task.status.state);
    if (lost || ended) planRestart(draft, key, task, { lost: lost && !ended, run });
  }
  planPromotions(draft, key, run);
}

interface RestartCause {
  readonly lost: boolean;
  readonly run: RunState;
}

function planRestart(draft: ServiceDraft, key: string, task: Task, cause: RestartCause): void {
  const slot = draft.slot(key);
  if (slot === undefined) return;
  const startsMs = startsAtMs(draft.view, task, slot.tasks);
  if (!cause.lost && !mayStart(task, startsMs, draft.nowMs)) {
    draft.wakeAt(startsMs);
    return;
  }
  const wanted = shouldRestart(draft.view, task, slot);
  draft.setDesired(task, "shutdown");
  const rest = draft.slot(key);
  if (!wanted || rest === undefined || hasNewer(rest, task)) return;
  const delayMs = restartDelayMs(policyOf(draft.view, task), task);
  const endedMs = Math.max(task.endedAtMs, task.startAfterMs);
  const dueMs = cause.lost ? task.startAfterMs : endedMs + delayMs;
  // The stamps may be of an earlier leader whose clock is ahead of ours.
  const sameSpec = task.specVersion === draft.service.specVersion;
  const fastFailures = sameSpec ? failuresInARow(task) : 0;
  const startAfterMs = Math.min(dueMs, draft.nowMs + delayMs);
  createInSlot(draft, { ...rest, fastFailures }, startAfterMs, cause.run);
}

/** As many fast failures in a row are restarted after the delay asked for. */
const STEADY_FAILURES = 5;
/** A task that ran longer has not failed fast. */
const FAST_MS = 10_000;
/** What the first longer delay is at least. */
const BACKOFF_STEP_MS = 1_000;

/**
 * The delay of the policy; after repeated fast failures twice that of the task before, up to the
 * limit. How far it has grown is read from the task alone, for history may be cut at any length: it
 * counts the failures before it, and one that was made to wait longer than the policy says is itself
 * in the backoff.
 */
function restartDelayMs({ delayMs, maxDelayMs }: RestartPolicyMs, task: Task): number {
  if (maxDelayMs <= delayMs || !failedFast(task)) return delayMs;
  const waitedMs = task.startAfterMs === 0 ? 0 : task.startAfterMs - task.createdAtMs;
  if (waitedMs <= delayMs && failuresInARow(task) < STEADY_FAILURES) return delayMs;
  return Math.min(maxDelayMs, Math.max(BACKOFF_STEP_MS, 2 * delayMs, 2 * waitedMs));
}

function failedFast({ status, runningSinceMs, endedAtMs }: Task): boolean {
  if (status.state !== "failed" && status.state !== "rejected") return false;
  return runningSinceMs === 0 || endedAtMs - runningSinceMs < FAST_MS;
}

/** Fast failures in a row up to this task; one that was stopped says nothing. */
function failuresInARow(task: Task): number {
  const before = task.fastFailures ?? 0;
  if (!endedByItself(task)) return before;
  return failedFast(task) ? before + 1 : 0;
}

function hasNewer(slot: Slot, task: Task): boolean {
  return wantedOf(slot).some(other => compareByAge(task, other) < 0);
}

function planPromotions(draft: ServiceDraft, key: string, run: RunState): void {
  const slot = draft.slot(key);
  for (const task of wantedOf(slot)) {
    if (task.desiredState !== "ready" || isTerminal(task.status.state)) continue;
    promoteWhenDue(draft, task, slot?.tasks ?? [], run);
  }
}

/** READY becomes RUNNING after the delay, and once nothing of the slot is still stopping. */
function promoteWhenDue(
  draft: ServiceDraft,
  task: Task,
  others: readonly Task[],
  run: RunState,
): void {
  const startsMs = startsAtMs(draft.view, task, others);
  if (!mayStart(task, startsMs, draft.nowMs)) {
    draft.wakeAt(startsMs);
    return;
  }
  const stopByMs = task.createdAtMs + MAX_STOP_WAIT_MS;
  const waiting = draft.nowMs < stopByMs && draft.nowMs >= task.createdAtMs;
  if (waiting && others.some(other => isStopping(draft.view, other))) {
    draft.wakeAt(stopByMs);
    return;
  }
  draft.setDesired(task, run);
}
