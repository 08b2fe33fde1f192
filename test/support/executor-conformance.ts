import type { Test } from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import { taskName } from "../../src/worker/core/task-context.ts";
import type { TaskWork } from "../../src/worker/core/task-work.ts";
import type {
  ContainerRef,
  Executor,
  ExecutorEvent,
  LogReadOptions,
} from "../../src/worker/executor.ts";

/** What a container of a conformance case does. */
export type WorkKind =
  | "forever"
  /** Ignores its stop signal. */
  | "stubborn"
  | "exit0"
  | "exit3"
  | "healthy"
  | "unhealthy"
  /** Writes "one", "two", "three" and goes on. */
  | "talks"
  | "missingImage"
  | "badCommand";

export interface ExecutorHarness {
  readonly executor: Executor;
  work(kind: WorkKind, taskId: string): TaskWork;
  /** Waits for a promise while time passes. */
  wait<T>(promise: Promise<T>): Promise<T>;
  /** Asks until the answer is yes. */
  until(probe: () => Promise<boolean>, what: string): Promise<void>;
}

const ALL_LOGS: LogReadOptions = {
  stdout: true,
  stderr: true,
  follow: false,
  tail: -1,
  sinceMs: 0,
};

/** What every Executor must do, shown on one. Leaves no container behind. */
export async function executorConformance(t: Test, harness: ExecutorHarness): Promise<void> {
  for (const [name, run] of Object.entries(CASES)) {
    await t.test(name, async t => {
      const box = new Box(harness);
      try {
        await run(t, box);
      } finally {
        await box.cleanUp();
      }
    });
  }
}

/** The containers of one case. */
class Box {
  readonly harness: ExecutorHarness;
  readonly executor: Executor;
  readonly abort = new AbortController();
  readonly signal = this.abort.signal;
  readonly #made: { id: string; taskId: string }[] = [];

  constructor(harness: ExecutorHarness) {
    this.harness = harness;
    this.executor = harness.executor;
  }

  wait<T>(promise: Promise<T>): Promise<T> {
    return this.harness.wait(promise);
  }

  async create(kind: WorkKind, taskId: string): Promise<{ id: string; work: TaskWork }> {
    const work = this.harness.work(kind, taskId);
    const { id } = await this.wait(this.executor.create(work, this.signal));
    this.#made.push({ id, taskId });
    return { id, work };
  }

  async started(kind: WorkKind, taskId: string): Promise<{ id: string; work: TaskWork }> {
    const made = await this.create(kind, taskId);
    await this.wait(this.executor.start(made.id, made.work, this.signal));
    return made;
  }

  inspect(work: TaskWork, containerId = ""): ReturnType<Executor["inspect"]> {
    return this.wait(this.executor.inspect(refOf(work, containerId), this.signal));
  }

  phaseIs(work: TaskWork, phase: string): Promise<void> {
    const probe = async (): Promise<boolean> => (await this.inspect(work)).phase === phase;
    return this.harness.until(probe, `the container is ${phase}`);
  }

  /** The error's code and what is missing, or "none". */
  async failure(promise: Promise<unknown>): Promise<string> {
    try {
      await this.wait(promise);
      return "none";
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      const missing = error.details["missing"];
      return missing === undefined ? error.code : `${error.code}:${missing}`;
    }
  }

  async cleanUp(): Promise<void> {
    this.abort.abort(new SwarmError("canceled", "the case is over"));
    const signal = new AbortController().signal;
    for (const { id, taskId } of this.#made) {
      await this.wait(this.executor.remove(id, taskId, signal));
    }
  }
}

function refOf(work: TaskWork, containerId: string): ContainerRef {
  return { taskId: work.assigned.task.id, name: taskName(work.assigned), containerId };
}

type Case = (t: Test, box: Box) => Promise<void>;

const CASES: Readonly<Record<string, Case>> = {
  "a container's life": async (t, box) => {
    const { id, work } = await box.create("forever", "life");
    const created = await box.inspect(work);
    t.match(created, { phase: "created", id, pid: 0 });
    await box.wait(box.executor.start(id, work, box.signal));
    const running = await box.inspect(work, id);
    t.match(running, { phase: "running", id, health: "none", finishedAtMs: 0 });
    t.ok(running.pid > 0, "has a process");
    await box.wait(box.executor.stop(id, 10_000, box.signal));
    const exited = await box.inspect(work);
    t.match(exited, { phase: "exited", exitCode: 143, pid: 0 });
    t.ok(exited.finishedAtMs > 0, "has an end");
    await box.wait(box.executor.remove(id, "life", box.signal));
    t.equal((await box.inspect(work)).phase, "absent");
  },

  "each step may be repeated": async (t, box) => {
    const { id, work } = await box.create("forever", "again");
    const second = await box.wait(box.executor.create(work, box.signal));
    t.strictSame(second, { id, existed: true });
    await box.wait(box.executor.start(id, work, box.signal));
    const { pid } = await box.inspect(work);
    await box.wait(box.executor.start(id, work, box.signal));
    t.equal((await box.inspect(work)).pid, pid, "the second start does nothing");
    for (const _twice of [1, 2]) await box.wait(box.executor.stop(id, 10_000, box.signal));
    await box.wait(box.executor.kill(id, box.signal));
    for (const _twice of [1, 2]) await box.wait(box.executor.remove(id, "again", box.signal));
    await box.wait(box.executor.stop(id, 10_000, box.signal));
    t.equal((await box.inspect(work)).phase, "absent");
  },

  "exit codes": async (t, box) => {
    for (const [kind, exitCode] of [
      ["exit0", 0],
      ["exit3", 3],
    ] as const) {
      const { work } = await box.started(kind, kind);
      await box.phaseIs(work, "exited");
      t.equal((await box.inspect(work)).exitCode, exitCode, kind);
    }
  },

  "a process that will not stop is killed after the grace": async (t, box) => {
    const { id, work } = await box.started("stubborn", "stubborn");
    await box.wait(box.executor.stop(id, 1000, box.signal));
    t.match(await box.inspect(work), { phase: "exited", exitCode: 137 });
    const other = await box.started("stubborn", "stubborn2");
    await box.wait(box.executor.kill(other.id, box.signal));
    await box.phaseIs(other.work, "exited");
    t.equal((await box.inspect(other.work)).exitCode, 137);
  },

  health: async (t, box) => {
    for (const health of ["healthy", "unhealthy"] as const) {
      const { work } = await box.started(health, health);
      t.not((await box.inspect(work)).health, "none");
      const probe = async (): Promise<boolean> => (await box.inspect(work)).health === health;
      await box.harness.until(probe, health);
    }
  },

  "what cannot be made or started": async (t, box) => {
    const missing = box.harness.work("missingImage", "missing");
    const created = box.executor.create(missing, box.signal);
    t.equal(await box.failure(created), "not_found:image");
    const pulled = await box.failure(box.executor.pull(missing, box.signal));
    t.notOk(["none", "unavailable"].includes(pulled), `a pull in vain: ${pulled}`);
    const bad = await box.create("badCommand", "bad");
    const started = await box.failure(box.executor.start(bad.id, bad.work, box.signal));
    t.notOk(["none", "unavailable"].includes(started), `a bad command: ${started}`);
    t.equal((await box.inspect(bad.work)).phase, "created");
    const nowhere = box.executor.start("0123456789ab", missing, box.signal);
    t.equal(await box.failure(nowhere), "not_found:container");
  },

  "a listing shows all containers and their tasks": async (t, box) => {
    const running = await box.started("forever", "listed1");
    const created = await box.create("forever", "listed2");
    const found = await box.wait(box.executor.list(box.signal));
    const seen = found
      .filter(one => one.id === running.id || one.id === created.id)
      .map(({ name, taskId, phase }) => `${name} ${taskId} ${phase}`)
      .sort();
    t.strictSame(seen, [
      `${taskName(running.work.assigned)} listed1 running`,
      `${taskName(created.work.assigned)} listed2 created`,
    ]);
    const other = box.harness.work("forever", "other");
    const ref = { ...refOf(other, running.id) };
    const view = await box.wait(box.executor.inspect(ref, box.signal));
    t.equal(view.phase, "absent", "another task's container is not its own");
  },

  "events say which task to look at": async (t, box) => {
    const events: ExecutorEvent[] = [];
    const following = (async () => {
      for await (const event of box.executor.watch(box.signal)) events.push(event);
    })();
    following.catch(() => undefined);
    const seen = async (count: number): Promise<void> => {
      const probe = async (): Promise<boolean> => {
        return events.filter(event => event.kind === "changed").length >= count;
      };
      await box.harness.until(probe, `${count} events`);
    };
    await box.harness.until(async () => events[0]?.kind === "connected", "connected");
    const { id } = await box.started("exit3", "watched");
    await seen(1);
    t.match(events[1], { kind: "changed", taskId: "watched", containerId: id });
    await box.wait(box.executor.remove(id, "watched", box.signal));
    await seen(2);
    box.abort.abort(new SwarmError("canceled", "enough"));
    t.equal(await box.failure(following), "canceled", "the signal ends it");
  },

  logs: async (t, box) => {
    const { id, work } = await box.started("talks", "talks");
    const read = async (options: Partial<LogReadOptions>): Promise<string[]> => {
      const lines: string[] = [];
      const all = { ...ALL_LOGS, ...options };
      for await (const line of box.executor.logs(id, all, box.signal)) {
        t.match(line.timestampNs, /^\d{19}$/);
        lines.push(new TextDecoder().decode(line.data));
      }
      return lines;
    };
    await box.harness.until(async () => (await box.wait(read({}))).length === 3, "three lines");
    t.strictSame(await box.wait(read({})), ["one\n", "two\n", "three\n"]);
    t.strictSame(await box.wait(read({ tail: 1 })), ["three\n"]);
    t.strictSame(await box.wait(read({ stdout: false })), []);
    const followed = read({ follow: true });
    await box.wait(box.executor.stop(id, 1000, box.signal));
    t.strictSame(
      await box.wait(followed),
      ["one\n", "two\n", "three\n"],
      "ends with the container",
    );
    t.equal((await box.inspect(work)).phase, "exited");
  },

  "a node says what it has": async (t, box) => {
    const { hostname, architecture, os, resources } = await box.wait(
      box.executor.describe(box.signal),
    );
    t.ok(hostname !== "" && architecture !== "" && os === "linux");
    t.ok(resources.nanoCpus >= 1e9 && resources.memoryBytes > 1e6);
  },
};
