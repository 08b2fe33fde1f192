import assert from "node:assert/strict";
import fc from "fast-check";
import t from "tap";
import type { TaskStatus } from "../../src/model/rows.ts";
import {
  isTerminal,
  TASK_STATES,
  taskStateOrder,
  UNHEALTHY_TEXT,
} from "../../src/model/task-state.ts";
import { ABSENT_CONTAINER, type ContainerView } from "../../src/worker/core/container-view.ts";
import {
  type Decision,
  decide,
  ENGINE_LOST_TEXT,
  type Goal,
  laterGoal,
  type MachineInput,
  type StepFailure,
  type StepKind,
} from "../../src/worker/core/task-machine.ts";

const STATUS: TaskStatus = {
  state: "assigned",
  timestampMs: 1,
  message: "",
  err: "",
  containerId: "",
  pid: 0,
  exitCode: 0,
  ports: [],
};

const CREATED: ContainerView = { ...ABSENT_CONTAINER, phase: "created", id: "c1" };
const RUNNING: ContainerView = { ...CREATED, phase: "running", pid: 7 };
const EXITED: ContainerView = { ...CREATED, phase: "exited", finishedAtMs: 5 };
const REMOVING: ContainerView = { ...CREATED, phase: "removing" };

interface Given {
  readonly goal?: Goal;
  readonly state?: TaskStatus["state"];
  readonly err?: string;
  readonly container?: ContainerView | null;
  readonly failure?: StepFailure;
  readonly more?: Partial<MachineInput>;
}

function given(g: Given): MachineInput {
  return {
    goal: g.goal ?? "running",
    status: { ...STATUS, state: g.state ?? "assigned", err: g.err ?? "" },
    container: g.container === undefined ? ABSENT_CONTAINER : g.container,
    stopReason: null,
    failure: g.failure ?? null,
    pulled: false,
    pullError: "",
    interrupted: false,
    engineLost: false,
    ...g.more,
  };
}

/** A decision in a line: `step`, `step*` (after a pause), `-> state: message | err`. */
function show({ status, stopReason, step }: Decision): string {
  const pause = "afterBackoff" in step && step.afterBackoff ? "*" : "";
  const reason = stopReason === null ? "" : ` (${stopReason})`;
  if (status === null) return `${step.kind}${pause}${reason}`;
  const err = status.err === "" ? "" : ` | ${status.err}`;
  return `-> ${status.state}: ${status.message}${err}`;
}

function failed(step: StepKind, kind: StepFailure["kind"], message = "boom"): StepFailure {
  return { step, kind, message };
}

t.test("each situation has its step", async t => {
  const table: readonly (readonly [string, Given, string])[] = [
    ["new", {}, "-> accepted: accepted"],
    ["accepted", { state: "accepted" }, "-> preparing: preparing"],
    ["preparing", { state: "preparing" }, "create"],
    ["preparing, container unknown", { state: "preparing", container: null }, "inspect"],
    [
      "create failed for now",
      { state: "preparing", failure: failed("create", "temporary") },
      "create*",
    ],
    ["create timed out", { state: "preparing", failure: failed("create", "timeout") }, "create*"],
    [
      "create refused",
      { state: "preparing", failure: failed("create", "permanent") },
      "-> rejected:  | boom",
    ],
    ["image missing", { state: "preparing", failure: failed("create", "missingImage") }, "pull"],
    ["pull failed for now", { state: "preparing", failure: failed("pull", "temporary") }, "create"],
    [
      "image missing after a pull",
      {
        state: "preparing",
        failure: failed("create", "missingImage", "No such image: nope:latest"),
        more: { pulled: true },
      },
      "-> rejected:  | No such image: nope:latest",
    ],
    [
      "image missing after a pull that failed",
      {
        state: "preparing",
        failure: failed("create", "missingImage", "No such image: nope:latest"),
        more: { pulled: true, pullError: "registry is down" },
      },
      "-> rejected:  | No such image: nope:latest (registry is down)",
    ],
    ["created", { state: "preparing", container: CREATED }, "-> ready: prepared"],
    ["adopted while it ran", { state: "preparing", container: RUNNING }, "-> ready: prepared"],
    ["old container being removed", { state: "preparing", container: REMOVING }, "inspect*"],
    ["held", { state: "ready", goal: "ready", container: CREATED }, "wait"],
    [
      "held, unknown after a restart",
      { state: "ready", goal: "ready", container: null },
      "inspect",
    ],
    [
      "held, and lost",
      { state: "ready", goal: "ready" },
      "-> rejected:  | the task's container has gone: it was removed without swarmd",
    ],
    ["released", { state: "ready", container: CREATED }, "-> starting: starting"],
    ["starting", { state: "starting", container: CREATED }, "start"],
    [
      "start failed for now",
      { state: "starting", container: CREATED, failure: failed("start", "temporary") },
      "start*",
    ],
    [
      "start refused",
      { state: "starting", container: CREATED, failure: failed("start", "permanent") },
      "-> failed:  | starting container failed: boom",
    ],
    ["started", { state: "starting", container: RUNNING }, "-> running: started"],
    [
      "health not known yet",
      { state: "starting", container: { ...RUNNING, health: "starting" } },
      "wait",
    ],
    [
      "healthy",
      { state: "starting", container: { ...RUNNING, health: "healthy" } },
      "-> running: started",
    ],
    [
      "never healthy",
      { state: "starting", container: { ...RUNNING, health: "unhealthy" } },
      "stop (unhealthy)",
    ],
    ["running", { state: "running", container: RUNNING }, "wait"],
    ["running, unknown", { state: "running", container: null }, "inspect"],
    [
      "turned unhealthy",
      { state: "running", container: { ...RUNNING, health: "unhealthy" } },
      `-> running:  | ${UNHEALTHY_TEXT}`,
    ],
    [
      "turned unhealthy, and said so",
      {
        state: "running",
        container: { ...RUNNING, health: "healthy" },
        more: { status: { ...STATUS, state: "running", err: UNHEALTHY_TEXT } },
      },
      "stop (unhealthy)",
    ],
    [
      "healthy again in the middle of the stop",
      {
        state: "running",
        container: { ...RUNNING, health: "healthy" },
        more: { stopReason: "unhealthy" },
      },
      "stop (unhealthy)",
    ],
    [
      "stopped for its health",
      {
        state: "running",
        container: { ...EXITED, exitCode: 143 },
        more: { stopReason: "unhealthy" },
      },
      `-> failed:  | task: non-zero exit (143): ${UNHEALTHY_TEXT}`,
    ],
    [
      "stopped for its health, exit 0",
      { state: "running", container: EXITED, more: { stopReason: "unhealthy" } },
      `-> failed:  | ${UNHEALTHY_TEXT}`,
    ],
    ["done", { state: "running", container: EXITED }, "-> complete: finished"],
    [
      "failed",
      { state: "running", container: { ...EXITED, exitCode: 1 } },
      "-> failed:  | task: non-zero exit (1)",
    ],
    [
      "ran out of memory",
      { state: "running", container: { ...EXITED, exitCode: 137, oomKilled: true } },
      "-> failed:  | task: non-zero exit (137): out of memory",
    ],
    [
      "the Engine says why",
      { state: "running", container: { ...EXITED, exitCode: 127, error: "no such file" } },
      "-> failed:  | task: non-zero exit (127): no such file",
    ],
    [
      "ended while starting",
      { state: "starting", container: { ...EXITED, exitCode: 2 } },
      "-> failed:  | task: non-zero exit (2)",
    ],
    [
      "the Engine went down and took it along",
      { state: "running", container: EXITED, more: { interrupted: true } },
      "-> failed:  | the Docker Engine or the host was restarted",
    ],
    [
      "container removed by hand",
      { state: "running" },
      "-> failed:  | the task's container has gone: it was removed without swarmd",
    ],
    ["shut down", { state: "running", goal: "shutdown", container: RUNNING }, "stop (shutdown)"],
    [
      "stop failed for now",
      {
        state: "running",
        goal: "shutdown",
        container: RUNNING,
        failure: failed("stop", "temporary"),
      },
      "stop* (shutdown)",
    ],
    [
      "stop hung",
      {
        state: "running",
        goal: "shutdown",
        container: RUNNING,
        failure: failed("stop", "timeout"),
      },
      "kill (shutdown)",
    ],
    [
      "kill failed",
      {
        state: "running",
        goal: "shutdown",
        container: RUNNING,
        failure: failed("kill", "permanent"),
      },
      "kill* (shutdown)",
    ],
    [
      "stopped",
      {
        state: "running",
        goal: "shutdown",
        container: { ...EXITED, exitCode: 143 },
        more: { stopReason: "shutdown" },
      },
      "-> shutdown: shutdown",
    ],
    [
      "ended by itself before the stop",
      { state: "running", goal: "shutdown", container: EXITED },
      "-> complete: finished",
    ],
    [
      "shut down before it was made",
      { state: "preparing", goal: "shutdown" },
      "-> shutdown: shutdown",
    ],
    [
      "shut down before it was started",
      { state: "ready", goal: "shutdown", container: CREATED },
      "-> shutdown: shutdown",
    ],
    [
      "ended: the container stays for its logs",
      { state: "shutdown", goal: "shutdown", container: EXITED },
      "wait",
    ],
    ["ended, and yet it runs", { state: "failed", container: RUNNING }, "stop"],
    ["removed", { state: "shutdown", goal: "remove", container: EXITED }, "remove"],
    [
      "removed, for now in vain",
      {
        state: "shutdown",
        goal: "remove",
        container: EXITED,
        failure: failed("remove", "permanent"),
      },
      "remove*",
    ],
    ["removed and empty", { state: "shutdown", goal: "remove" }, "wait"],
    [
      "gone while it runs",
      { state: "running", goal: "gone", container: RUNNING },
      "stop (shutdown)",
    ],
    ["gone, container left", { state: "failed", goal: "gone", container: EXITED }, "remove"],
    ["gone, being removed", { state: "failed", goal: "gone", container: REMOVING }, "inspect*"],
    ["gone and empty", { state: "failed", goal: "gone" }, "forget"],
    [
      "the Engine is away",
      { state: "running", container: RUNNING, more: { engineLost: true } },
      `-> running:  | ${ENGINE_LOST_TEXT}`,
    ],
    [
      "the Engine is still away",
      { state: "running", err: ENGINE_LOST_TEXT, container: RUNNING, more: { engineLost: true } },
      "wait",
    ],
    [
      "the Engine is back",
      { state: "running", err: ENGINE_LOST_TEXT, container: RUNNING },
      "-> running: ",
    ],
  ];
  for (const [name, situation, expected] of table) {
    t.equal(show(decide(given(situation))), expected, name);
  }
});

t.test("goals only move on", async t => {
  t.equal(laterGoal("shutdown", "running"), "shutdown");
  t.equal(laterGoal("ready", "running"), "running");
  t.equal(laterGoal("gone", "remove"), "gone");
});

const view = fc.record({
  phase: fc.constantFrom("absent", "created", "running", "exited", "removing"),
  id: fc.constant("c1"),
  health: fc.constantFrom("none", "starting", "healthy", "unhealthy"),
  pid: fc.constant(1),
  exitCode: fc.constantFrom(0, 1, 137),
  oomKilled: fc.boolean(),
  error: fc.constantFrom("", "no such file"),
  finishedAtMs: fc.constant(5),
  ports: fc.constant([]),
}) as fc.Arbitrary<ContainerView>;

const anyInput: fc.Arbitrary<MachineInput> = fc.record({
  goal: fc.constantFrom<Goal>("ready", "running", "complete", "shutdown", "remove", "gone"),
  status: fc.record({
    ...Object.fromEntries(Object.entries(STATUS).map(([key, value]) => [key, fc.constant(value)])),
    state: fc.constantFrom(...TASK_STATES),
    err: fc.constantFrom("", ENGINE_LOST_TEXT),
  }) as fc.Arbitrary<TaskStatus>,
  container: fc.option(view),
  stopReason: fc.constantFrom(null, "shutdown" as const, "unhealthy" as const),
  failure: fc.option(
    fc.record({
      step: fc.constantFrom<StepKind>(
        "inspect",
        "pull",
        "create",
        "start",
        "stop",
        "kill",
        "remove",
      ),
      kind: fc.constantFrom("temporary", "permanent", "missingImage", "timeout"),
      message: fc.constant("boom"),
    }),
  ) as fc.Arbitrary<StepFailure | null>,
  pulled: fc.boolean(),
  pullError: fc.constantFrom("", "registry is down"),
  interrupted: fc.boolean(),
  engineLost: fc.boolean(),
});

t.test("a decision never moves the state back, and starts only what may run", async t => {
  fc.assert(
    fc.property(anyInput, input => {
      const { status, step } = decide(input);
      if (status !== null) {
        assert.ok(taskStateOrder(status.state) >= taskStateOrder(input.status.state));
        const { timestampMs: _time, ...before } = input.status;
        assert.notEqual(
          JSON.stringify(status),
          JSON.stringify(before),
          "a report says something new",
        );
      }
      const ended = isTerminal(input.status.state);
      const ending = ["shutdown", "remove", "gone"].includes(input.goal);
      if (step.kind === "create") {
        assert.equal(input.container?.phase, "absent", "one container a task");
        assert.ok(!ended && !ending);
      }
      if (step.kind === "start") {
        assert.equal(input.container?.phase, "created", "what has run is never started again");
        assert.ok(!ended && !ending);
      }
      if (step.kind === "stop" || step.kind === "kill")
        assert.equal(input.container?.phase, "running");
      if (step.kind === "remove")
        assert.ok(["created", "exited"].includes(input.container?.phase ?? ""));
      if (step.kind === "forget") assert.equal(input.container?.phase, "absent");
    }),
    { numRuns: 2000 },
  );
  t.pass("held");
});

/** What happens to a task from outside, between its steps. */
type Event = "none" | "exit" | "destroy" | "unhealthy" | "healthy" | "engineLost" | "engineBack";

/** Plays the Engine and the managers for one task. */
class World {
  input: MachineInput;
  /** The container as it is, whatever the machine knows of it. */
  container: ContainerView = ABSENT_CONTAINER;
  starts = 0;
  done = false;

  constructor(healthchecked: boolean) {
    this.input = given({});
    this.#healthchecked = healthchecked;
  }

  readonly #healthchecked: boolean;

  happen(event: Event): void {
    const running = this.container.phase === "running";
    if (event === "exit" && running) this.container = { ...EXITED, exitCode: 1 };
    else if (event === "destroy") this.container = ABSENT_CONTAINER;
    else if ((event === "unhealthy" || event === "healthy") && running && this.#healthchecked) {
      this.container = { ...this.container, health: event };
    } else if (event === "engineLost") this.input = { ...this.input, engineLost: true };
    else if (event === "engineBack") this.input = { ...this.input, engineLost: false };
    else return;
    this.input = { ...this.input, container: null };
  }

  /** One decision; `outcome` says how a step goes. False when nothing is left to do. */
  turn(outcome: StepFailure["kind"] | "ok"): boolean {
    const { status, stopReason, step } = decide(this.input);
    if (status !== null) this.input = { ...this.input, status: { ...status, timestampMs: 2 } };
    if (stopReason !== null) this.input = { ...this.input, stopReason };
    if (step.kind === "forget") this.done = true;
    if (step.kind === "wait" || step.kind === "forget") return false;
    if (step.kind === "again") return true;
    if (outcome !== "ok" && !(outcome === "missingImage" && step.kind !== "create")) {
      const failure = failed(step.kind, outcome);
      this.input = { ...this.input, failure, container: null };
      if (outcome === "missingImage") this.input = { ...this.input, container: ABSENT_CONTAINER };
      return true;
    }
    this.#succeed(step.kind);
    return true;
  }

  #succeed(step: StepKind): void {
    if (step === "create") this.container = CREATED;
    if (step === "start") {
      this.starts += 1;
      this.container = { ...RUNNING, health: this.#healthchecked ? "starting" : "none" };
    }
    if ((step === "stop" || step === "kill") && this.container.phase === "running") {
      this.container = { ...EXITED, exitCode: 143 };
    }
    if (step === "remove") this.container = ABSENT_CONTAINER;
    const cleared = step !== "inspect" || this.input.failure?.step === "inspect";
    this.input = {
      ...this.input,
      container: step === "inspect" ? this.container : null,
      failure: cleared ? null : this.input.failure,
      pulled: this.input.pulled || step === "pull",
    };
  }
}

const anyEvent = fc.constantFrom<Event>(
  "none",
  "exit",
  "destroy",
  "unhealthy",
  "healthy",
  "engineLost",
  "engineBack",
);
const anyOutcome = fc.constantFrom(
  "ok",
  "ok",
  "ok",
  "temporary",
  "permanent",
  "missingImage",
  "timeout",
) as fc.Arbitrary<StepFailure["kind"] | "ok">;
const anyMoment = fc.record({
  event: anyEvent,
  outcome: anyOutcome,
  goal: fc.option(fc.constantFrom<Goal>("running", "shutdown", "remove", "gone"), { freq: 8 }),
});

t.test("whatever happens, a task starts once, ends, and can be forgotten", async t => {
  const SETTLE_TURNS = 40;
  fc.assert(
    fc.property(fc.boolean(), fc.array(anyMoment, { maxLength: 60 }), (healthchecked, moments) => {
      const world = new World(healthchecked);
      let order = 0;
      for (const { event, outcome, goal } of moments) {
        if (goal !== null) {
          world.input = { ...world.input, goal: laterGoal(world.input.goal, goal) };
        }
        world.happen(event);
        world.turn(outcome);
        assert.ok(taskStateOrder(world.input.status.state) >= order, "never backwards");
        order = taskStateOrder(world.input.status.state);
      }
      world.input = { ...world.input, goal: "gone" };
      let turns = 0;
      while (!world.done && turns < SETTLE_TURNS) {
        world.turn("ok");
        turns += 1;
      }
      assert.ok(world.done, "forgotten within a bound of steps");
      assert.equal(world.container.phase, "absent", "nothing is left");
      assert.ok(world.starts <= 1, "a task is started once");
    }),
    { numRuns: 1000 },
  );
  t.pass("held");
});

t.test("an untroubled task runs within a bound of steps", async t => {
  const world = new World(false);
  let turns = 0;
  while (world.turn("ok")) turns += 1;
  t.equal(world.input.status.state, "running");
  t.ok(turns < 12, `took ${turns} turns`);
});
