import { deepEqual } from "../../base/deep-equal.ts";
import { networkLabelsOf } from "../../model/network-labels.ts";
import type { Service, Task, UpdateState } from "../../model/rows.ts";
import { isTerminal, isWanted } from "../../model/task-state.ts";
import { DirtyCheck } from "./dirty.ts";
import { compareByAge, type ServiceDraft, type Slot, wantedOf } from "./draft.ts";
import { elapsedMs } from "./elapsed.ts";
import { FreeNodes, isUnplaced } from "./free-nodes.ts";
import { type UpdatePolicy, updatePolicyOf } from "./policy.ts";
import { createInSlot, endedByItself, isExhausted } from "./restart.ts";

/** What has become of the first new task of a slot. */
interface Outcome {
  readonly task: Task;
  /** When it reached RUNNING, ended or ran out of time; null while it is on its way. */
  readonly settledAtMs: number | null;
  /** How it failed; null when it did not, or not yet. */
  readonly failure: "ended" | "stuck" | null;
}

interface Progress {
  readonly dirty: readonly Slot[];
  readonly outcomes: readonly Outcome[];
}

/** A task that shall start first and has found no node for so long waits for the old one's. */
export const NO_NODE_AFTER_MS = 2_000;

const IN_PROGRESS: ReadonlySet<UpdateState> = new Set(["updating", "rollback_started"]);
const HALTED: ReadonlySet<UpdateState> = new Set(["paused", "rollback_paused"]);

/** A rolling update or rollback of the service is being worked on. */
export function isUpdating(service: Service): boolean {
  const state = service.updateStatus?.state;
  return state !== undefined && IN_PROGRESS.has(state);
}

/**
 * Rolling update and rollback (SwarmKit update/updater.go), as a function of the rows alone: which
 * slots are done, in work or failed is read from the tasks of the present spec version and their
 * stamps, so that a new leader goes on with the same update. `updatable` limits it to some slots.
 */
export function planUpdate(draft: ServiceDraft, updatable: ReadonlySet<string> | null): void {
  const policy = updatePolicyOf(draft.service);
  const check = new DirtyCheck(draft.view, draft.service);
  const settling = { policy, free: new FreeNodes(draft) };
  for (const { key } of inOrderOfPlaces(draft, check, policy)) {
    settleSlot(draft, check, settling, key);
  }
  const state = draft.service.updateStatus?.state;
  if (state !== undefined && HALTED.has(state)) return;
  const slots = draft.slots().filter(slot => updatable === null || updatable.has(slot.key));
  const progress = measure(draft, check, policy, slots);
  const running = isUpdating(draft.service);
  if (progress.dirty.length === 0 && !running) return;
  if (!running) startUpdate(draft);
  if (actOnFailures(draft, policy, progress)) return;
  // Found out anew: places have come free since.
  advance(draft, { policy, free: new FreeNodes(draft) }, progress);
}

/** Slots whose old task goes come first where it leaves a place that others wait for. */
function inOrderOfPlaces(
  draft: ServiceDraft,
  check: DirtyCheck,
  { hostPorts }: UpdatePolicy,
): readonly Slot[] {
  const slots = draft.slots();
  if (!hostPorts) return slots;
  const isDone = (slot: Slot): boolean =>
    wantedOf(slot).some(task => isUp(task) && !check.isDirty(task));
  const done = new Set(slots.filter(isDone));
  return [...done, ...slots.filter(slot => !done.has(slot))];
}

/** How to replace tasks, and where there is room for that. */
interface Means {
  readonly policy: UpdatePolicy;
  readonly free: FreeNodes;
}

/**
 * A slot keeps one live task; while a start-first update replaces it, the old one beside the new.
 * Once a task of the present spec runs, the others go.
 */
function settleSlot(draft: ServiceDraft, check: DirtyCheck, means: Means, key: string): void {
  const wanted = wantedOf(draft.slot(key));
  if (wanted.length < 2) return;
  const clean = wanted.filter(task => !check.isDirty(task));
  const best = clean.find(isUp) ?? clean.at(-1);
  if (best === undefined) {
    const keep = bestOf(wanted);
    for (const task of wanted) if (task !== keep) draft.setDesired(task, "shutdown");
    return;
  }
  const old = wanted.filter(task => check.isDirty(task));
  const beside = bestOf(old);
  const stays = beside !== undefined && mayStayBeside(draft, means, best, beside);
  for (const task of wanted) {
    if (task !== best && !(stays && task === beside)) draft.setDesired(task, "shutdown");
  }
}

/** The old one goes when the new one runs, or can only run where the old one is. */
function mayStayBeside(
  draft: ServiceDraft,
  { policy, free }: Means,
  task: Task,
  old: Task,
): boolean {
  if (policy.order !== "start-first" || isUp(task)) return false;
  if (!policy.hostPorts || !isUnplaced(task)) return true;
  const sinceMs = elapsedMs(draft.nowMs, task.createdAtMs);
  if (sinceMs >= NO_NODE_AFTER_MS && !free.has(task.nodeId) && free.fitsInPlaceOf(old))
    return false;
  draft.wakeAt(draft.nowMs + NO_NODE_AFTER_MS);
  return true;
}

function isUp(task: Task): boolean {
  return task.status.state === "running";
}

/** The one to keep alive beside a new task: a running one, else the oldest. */
function bestOf(tasks: readonly Task[]): Task | undefined {
  return tasks.find(isUp) ?? tasks[0];
}

function measure(
  draft: ServiceDraft,
  check: DirtyCheck,
  policy: UpdatePolicy,
  slots: readonly Slot[],
): Progress {
  const dirty: Slot[] = [];
  const outcomes: Outcome[] = [];
  for (const slot of slots) {
    const task = judgedTask(slot, draft.service.specVersion);
    const isDirty = isDirtySlot(draft, check, slot);
    if (isDirty && !wasTried(task)) dirty.push(slot);
    else if (task !== undefined && replacedDirty(check, slot, task)) {
      outcomes.push(outcomeOf(task, policy, draft.nowMs));
    }
  }
  return { dirty, outcomes };
}

/**
 * The update made a task for the slot that ended, and the restart policy wants no other: the old
 * one of a start-first update stays, and the update does not try the slot again.
 */
function wasTried(judged: Task | undefined): boolean {
  return judged !== undefined && endedByItself(judged);
}

/** The slot was updated; it was not just added, nor restarted though it was clean. */
function replacedDirty(check: DirtyCheck, slot: Slot, task: Task): boolean {
  return slot.tasks.some(older => compareByAge(older, task) < 0 && check.isDirty(older));
}

function isDirtySlot(draft: ServiceDraft, check: DirtyCheck, slot: Slot): boolean {
  const wanted = wantedOf(slot);
  if (wanted.length > 0) return wanted.every(task => check.isDirty(task));
  const newest = slot.tasks.at(-1);
  return newest !== undefined && isExhausted(draft, slot) && check.isDirty(newest);
}

/**
 * The task by which an update judges the slot: the first of the present spec version. One that was
 * stopped for its node's sake (lost, drained) says nothing about the new spec; the next one does.
 */
function judgedTask(slot: Slot, specVersion: number): Task | undefined {
  return slot.tasks.find(
    task =>
      task.specVersion === specVersion && (isWanted(task.desiredState) || endedByItself(task)),
  );
}

/** What a running update reads of a slot's history: the judged task, and what it replaced. */
export function evidenceOf(slot: Slot, specVersion: number): readonly (Task | undefined)[] {
  const first = slot.tasks.findIndex(task => task.specVersion === specVersion);
  return first < 0 ? [] : [judgedTask(slot, specVersion), slot.tasks[first - 1]];
}

function outcomeOf(task: Task, policy: UpdatePolicy, nowMs: number): Outcome {
  const { runningSinceMs, endedAtMs } = task;
  if (endedByItself(task)) {
    const early = runningSinceMs === 0 || endedAtMs - runningSinceMs <= policy.monitorMs;
    return { task, settledAtMs: runningSinceMs || endedAtMs, failure: early ? "ended" : null };
  }
  if (runningSinceMs > 0) return { task, settledAtMs: runningSinceMs, failure: null };
  if (isTerminal(task.status.state)) return { task, settledAtMs: endedAtMs, failure: null };
  const deadlineMs = task.createdAtMs + policy.deadlineMs;
  if (nowMs < deadlineMs) return { task, settledAtMs: null, failure: null };
  return { task, settledAtMs: deadlineMs, failure: "stuck" };
}

function startUpdate(draft: ServiceDraft): void {
  draft.setService({
    updateStatus: {
      state: "updating",
      startedAtMs: draft.nowMs,
      completedAtMs: 0,
      message: "update in progress",
    },
  });
}

function setState(draft: ServiceDraft, state: UpdateState, message: string): void {
  const completed = state === "completed" || state === "rollback_completed";
  draft.setService({
    updateStatus: {
      state,
      startedAtMs: draft.service.updateStatus?.startedAtMs ?? draft.nowMs,
      completedAtMs: completed ? draft.nowMs : 0,
      message,
    },
  });
  draft.note("service", draft.service.id, message);
}

/** True when the update was stopped or turned round. */
function actOnFailures(draft: ServiceDraft, policy: UpdatePolicy, progress: Progress): boolean {
  const failed = progress.outcomes.filter(outcome => outcome.failure !== null).sort(bySettling);
  const total = progress.outcomes.length + progress.dirty.length;
  const first = failed[0];
  if (first === undefined || policy.failureAction === "continue") return false;
  if (failed.length / total <= policy.maxFailureRatio) return false;
  const reason = reasonOf(first, policy);
  const rollingBack = draft.service.updateStatus?.state === "rollback_started";
  if (rollingBack) setState(draft, "rollback_paused", `rollback paused due to ${reason}`);
  else if (policy.failureAction === "pause") {
    setState(draft, "paused", `update paused due to ${reason}`);
  } else rollBack(draft, reason);
  return true;
}

function bySettling(a: Outcome, b: Outcome): number {
  return (a.settledAtMs ?? 0) - (b.settledAtMs ?? 0) || compareByAge(a.task, b.task);
}

function reasonOf(outcome: Outcome, policy: UpdatePolicy): string {
  const { id } = outcome.task;
  if (outcome.failure === "ended") return `failure or early termination of task ${id}`;
  return `task ${id} not running after ${Math.round(policy.deadlineMs / 1000)}s`;
}

/** Back to the previous spec, once: a rollback has no previous spec. */
function rollBack(draft: ServiceDraft, reason: string): void {
  const { previousSpec, spec } = draft.service;
  if (previousSpec === null) {
    setState(draft, "paused", `update paused due to ${reason}; there is no previous spec`);
    return;
  }
  const sameAddresses =
    deepEqual(spec.EndpointSpec, previousSpec.EndpointSpec) &&
    deepEqual(spec.TaskTemplate?.Networks, previousSpec.TaskTemplate?.Networks) &&
    deepEqual(spec.Networks, previousSpec.Networks) &&
    deepEqual(networkLabelsOf(spec.Labels), networkLabelsOf(previousSpec.Labels));
  const message = `update rolled back due to ${reason}`;
  draft.setSpec(previousSpec, {
    previousSpec: null,
    previousSpecVersion: 0,
    allocated: draft.service.allocated && sameAddresses,
    updateStatus: {
      state: "rollback_started",
      startedAtMs: draft.nowMs,
      completedAtMs: 0,
      message,
    },
  });
  draft.note("service", draft.service.id, message);
}

function advance(draft: ServiceDraft, means: Means, progress: Progress): void {
  const { policy } = means;
  let busy = 0;
  let lastMs = 0;
  for (const { task, settledAtMs } of progress.outcomes) {
    if (settledAtMs === null) {
      busy += 1;
      draft.wakeAt(task.createdAtMs + policy.deadlineMs);
    } else {
      lastMs = Math.max(lastMs, settledAtMs);
      if (progress.dirty.length > 0 && elapsedMs(draft.nowMs, settledAtMs) < policy.delayMs) {
        busy += 1;
        draft.wakeAt(settledAtMs + policy.delayMs);
      }
    }
  }
  const free = Math.max(0, policy.parallelism - busy);
  for (const slot of progress.dirty.slice(0, free)) replaceSlot(draft, means, slot);
  if (progress.dirty.length === 0 && busy === 0) finishUpdate(draft, policy, lastMs);
}

function replaceSlot(draft: ServiceDraft, { policy, free }: Means, slot: Slot): void {
  const wanted = wantedOf(slot);
  const old = bestOf(wanted);
  const isInTheWay = policy.hostPorts && old !== undefined && !free.take(slot.nodeId);
  const first = policy.order === "start-first" && !(isInTheWay && free.fitsInPlaceOf(old));
  const keep = first ? old : undefined;
  for (const task of wanted) if (task !== keep) draft.setDesired(task, "shutdown");
  const { slot: number, nodeId } = slot;
  const tasks = keep === undefined ? (draft.slot(slot.key)?.tasks ?? []) : [];
  createInSlot(draft, { slot: number, nodeId, tasks }, 0, "running");
}

/** Every slot is done: the last one is watched for one monitor period more. */
function finishUpdate(draft: ServiceDraft, policy: UpdatePolicy, lastMs: number): void {
  if (elapsedMs(draft.nowMs, lastMs) < policy.monitorMs) {
    draft.wakeAt(lastMs + policy.monitorMs);
    return;
  }
  const rollingBack = draft.service.updateStatus?.state === "rollback_started";
  if (rollingBack) setState(draft, "rollback_completed", "rollback completed");
  else setState(draft, "completed", "update completed");
}
