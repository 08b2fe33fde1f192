import type { TaskStatus } from "../../model/rows.ts";
import {
  compareTaskStates,
  type DesiredState,
  isTerminal,
  type TaskState,
  UNHEALTHY_TEXT,
} from "../../model/task-state.ts";
import type { ContainerView } from "./container-view.ts";

/**
 * The life of one task on its node, decided one step at a time: given what is wanted, what was
 * reported and what the Engine says, the next thing to report and to do. Nothing here waits, so the
 * same decision is reached again after a crash.
 */

/** `gone`: no longer this node's business; stop it, remove its container and forget it. */
export type Goal = DesiredState | "gone";

const GOAL_ORDER: readonly Goal[] = ["ready", "running", "complete", "shutdown", "remove", "gone"];

/** The later of two goals: what is wanted of a task never moves back. */
export function laterGoal(a: Goal, b: Goal): Goal {
  return GOAL_ORDER.indexOf(a) >= GOAL_ORDER.indexOf(b) ? a : b;
}

/** Whether the task is to end. */
export function isEnding(goal: Goal): boolean {
  return goal === "shutdown" || goal === "remove" || goal === "gone";
}

export type StepKind = "inspect" | "pull" | "create" | "start" | "stop" | "kill" | "remove";

/** What to do next. `afterBackoff`: the step failed for now; try it again after a pause. */
export type Step =
  | { readonly kind: StepKind; readonly afterBackoff: boolean }
  /** Wait until something changes: the goal, the container, the Engine. */
  | { readonly kind: "wait" }
  /** Decide again at once, with the status just reported. */
  | { readonly kind: "again" }
  /** Nothing of the task is left. */
  | { readonly kind: "forget" };

/** How the last step failed. */
export interface StepFailure {
  readonly step: StepKind;
  readonly kind: /** The Engine does not answer, or says "later": try again. */
    | "temporary"
    /** Trying again would not help. */
    | "permanent"
    /** `create` only: the image is not on this node. */
    | "missingImage"
    /** The Engine did not finish in time. */
    | "timeout";
  readonly message: string;
}

/** Why swarmd asked the container to stop; kept on disk before it does. */
export type StopReason = "shutdown" | "unhealthy";

export interface MachineInput {
  readonly goal: Goal;
  readonly status: TaskStatus;
  /** Null: not known (after a restart, a failure or an event) and to be asked for. */
  readonly container: ContainerView | null;
  readonly stopReason: StopReason | null;
  readonly failure: StepFailure | null;
  /** A pull was tried since the task came; `pullError` is its failure in the registry's words. */
  readonly pulled: boolean;
  readonly pullError: string;
  /** The Engine (or the host) went down while the container ran and ended it. */
  readonly interrupted: boolean;
  /** The Engine has not answered for so long that the task's status should say so. */
  readonly engineLost: boolean;
}

/** The parts of a TaskStatus that a decision sets; the shell stamps the time. */
export type StatusChange = Omit<TaskStatus, "timestampMs">;

export interface Decision {
  /** To be kept and reported before the step. */
  readonly status: StatusChange | null;
  /** To be kept before the step. */
  readonly stopReason: StopReason | null;
  readonly step: Step;
}

export const ENGINE_LOST_TEXT = "the Docker Engine of this node does not answer";
const LOST_TEXT = "the task's container has gone: it was removed without swarmd";
const INTERRUPTED_TEXT = "the Docker Engine or the host was restarted";

/** The next step of a task. Total: every combination has an answer. */
export function decide(input: MachineInput): Decision {
  const outage = outageChange(input);
  if (outage !== null) return report(input, outage);
  if (isTerminal(input.status.state)) return { ...NOTHING, step: cleanUp(input) };
  if (isEnding(input.goal)) return end(input);
  const handler = ADVANCE[input.status.state];
  return handler === undefined ? reportState(input, "accepted", "accepted") : handler(input);
}

const NOTHING: Pick<Decision, "status" | "stopReason"> = { status: null, stopReason: null };

function step(kind: StepKind, input: MachineInput): Decision {
  const failed = input.failure !== null && input.failure.step === kind;
  return { ...NOTHING, step: { kind, afterBackoff: failed } };
}

const WAIT: Decision = { ...NOTHING, step: { kind: "wait" } };

function report(input: MachineInput, change: Partial<StatusChange>): Decision {
  const { timestampMs: _stamped, ...now } = input.status;
  const next = { ...now, ...change };
  const state = compareTaskStates(next.state, now.state) < 0 ? now.state : next.state;
  return { ...NOTHING, status: { ...next, state }, step: { kind: "again" } };
}

function reportState(input: MachineInput, state: TaskState, message: string): Decision {
  return report(input, { state, message, err: "" });
}

/** An error before STARTING rejects the task, a later one fails it (SwarmKit agent/exec). */
function reportError(input: MachineInput, err: string): Decision {
  const before = compareTaskStates(input.status.state, "starting") < 0;
  return report(input, { state: before ? "rejected" : "failed", err, pid: 0 });
}

/** Says in the status that the Engine is away, and takes it back when it answers again. */
function outageChange(input: MachineInput): Partial<StatusChange> | null {
  if (isTerminal(input.status.state) || input.goal === "gone") return null;
  const said = input.status.err === ENGINE_LOST_TEXT;
  if (input.engineLost === said) return null;
  return { err: input.engineLost ? ENGINE_LOST_TEXT : "" };
}

type Handler = (input: MachineInput) => Decision;

/** Handlers of the states the agent owns, for a task that is wanted. */
const ADVANCE: Readonly<Partial<Record<TaskState, Handler>>> = {
  accepted: input => reportState(input, "preparing", "preparing"),
  preparing: prepare,
  ready: input =>
    input.goal === "ready" ? holdReady(input) : reportState(input, "starting", "starting"),
  starting: start,
  running: run,
};

function prepare(input: MachineInput): Decision {
  const { container, failure } = input;
  if (container === null) return step("inspect", input);
  if (container.phase === "removing") return step("inspect", recheck(input));
  if (container.phase === "exited") return finish(input, container);
  if (container.phase !== "absent") {
    return report(input, { state: "ready", message: "prepared", containerId: container.id });
  }
  if (failure?.kind === "permanent") return reportError(input, failure.message);
  if (failure?.kind === "missingImage") {
    return input.pulled ? reportError(input, missingImage(input, failure)) : step("pull", input);
  }
  return step("create", input);
}

/** A phase that passes by itself is asked about again after a pause. */
function recheck(input: MachineInput): MachineInput {
  return { ...input, failure: { step: "inspect", kind: "temporary", message: "" } };
}

function missingImage(input: MachineInput, failure: StepFailure): string {
  return input.pullError === "" ? failure.message : `${failure.message} (${input.pullError})`;
}

/** Prepared and not yet wanted to run. */
function holdReady(input: MachineInput): Decision {
  if (input.container === null) return step("inspect", input);
  return input.container.phase === "absent" ? reportError(input, LOST_TEXT) : WAIT;
}

function start(input: MachineInput): Decision {
  const { container, failure } = input;
  if (container === null) return step("inspect", input);
  if (container.phase === "created") {
    return failure?.kind === "permanent"
      ? reportError(input, `starting container failed: ${failure.message}`)
      : step("start", input);
  }
  if (container.phase !== "running") return ended(input, container);
  if (mustStop(input, container)) return stop(input, "unhealthy");
  if (container.health === "starting") return WAIT;
  return report(input, {
    state: "running",
    message: "started",
    err: "",
    containerId: container.id,
    pid: container.pid,
    ports: container.ports,
  });
}

function run(input: MachineInput): Decision {
  const { container } = input;
  if (container === null) return step("inspect", input);
  if (container.phase !== "running") return ended(input, container);
  const isSaid = input.status.err === UNHEALTHY_TEXT;
  if (!isSaid && !mustStop(input, container)) return WAIT;
  // Said first, so that nobody sends it connections when it is stopped; and then it is stopped.
  if (!isSaid && input.stopReason === null) return report(input, { err: UNHEALTHY_TEXT });
  return stop(input, "unhealthy");
}

/** Once a stop was asked for it is carried through, whatever the health becomes meanwhile. */
function mustStop(input: MachineInput, container: ContainerView): boolean {
  return container.health === "unhealthy" || input.stopReason !== null;
}

/** Kills when a stop did not work: the Engine gave up on it, or did not finish in time. */
function stop(input: MachineInput, reason: StopReason): Decision {
  const failure = input.failure;
  const stopFailed = failure?.step === "stop" && failure.kind !== "temporary";
  const decision = step(stopFailed || failure?.step === "kill" ? "kill" : "stop", input);
  return { ...decision, stopReason: input.stopReason ?? reason };
}

/** The container of a started task runs no more. */
function ended(input: MachineInput, container: ContainerView): Decision {
  if (container.phase === "exited") return finish(input, container);
  if (container.phase === "removing") return step("inspect", recheck(input));
  if (container.phase === "created") {
    return reportError(input, container.error || "the task's container is not running any more");
  }
  return reportError(input, input.interrupted ? INTERRUPTED_TEXT : LOST_TEXT);
}

/** What an exit means: asked for, done, or an error (texts of moby's container executor). */
function finish(input: MachineInput, container: ContainerView): Decision {
  const seen = { containerId: container.id, pid: 0, exitCode: container.exitCode };
  if (input.stopReason === "shutdown") {
    return report(input, { ...seen, state: "shutdown", message: "shutdown", err: "" });
  }
  const cause = exitCause(input, container);
  if (container.exitCode === 0 && cause === "") {
    return report(input, { ...seen, state: "complete", message: "finished", err: "" });
  }
  return report(input, { ...seen, state: "failed", err: exitText(container.exitCode, cause) });
}

function exitCause(input: MachineInput, container: ContainerView): string {
  if (input.stopReason === "unhealthy") return UNHEALTHY_TEXT;
  if (container.error !== "") return container.error;
  if (container.oomKilled) return "out of memory";
  return input.interrupted ? INTERRUPTED_TEXT : "";
}

function exitText(exitCode: number, cause: string): string {
  if (exitCode === 0) return cause;
  const text = `task: non-zero exit (${exitCode})`;
  return cause === "" ? text : `${text}: ${cause}`;
}

/** The task has not ended yet and is to. */
function end(input: MachineInput): Decision {
  const { container } = input;
  if (container === null) return step("inspect", input);
  if (container.phase === "running") return stop(input, "shutdown");
  if (container.phase === "exited") return finish(input, container);
  return report(input, { state: "shutdown", message: "shutdown", err: "", pid: 0 });
}

/** The task has ended; its container stays (for its logs) until the task is removed. */
function cleanUp(input: MachineInput): Step {
  const { container, goal } = input;
  const removing = goal === "gone" || goal === "remove";
  if (container === null) return step("inspect", input).step;
  if (container.phase === "running") return stop(input, "shutdown").step;
  if (!removing) return { kind: "wait" };
  if (container.phase === "absent") return { kind: goal === "gone" ? "forget" : "wait" };
  if (container.phase === "removing") return step("inspect", recheck(input)).step;
  return step("remove", input).step;
}
