import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import type { AssignmentChange, LogSubscription } from "../../src/model/assignment.ts";
import type { Secret, TaskStatus } from "../../src/model/rows.ts";
import type { ContainerSpec } from "../../src/model/service-spec.ts";
import { taskStateOrder } from "../../src/model/task-state.ts";
import { Agent } from "../../src/worker/agent.ts";
import { ENGINE_LOST_TEXT } from "../../src/worker/core/task-machine.ts";
import { ENGINE_LOST_REPORT_MS } from "../../src/worker/engine-watch.ts";
import { NoNetworks } from "../../src/worker/networks.ts";
import { MemoryLocalStore } from "../../src/worker/sim/memory-store.ts";
import { type SimBehaviour, SimExecutor } from "../../src/worker/sim/sim-executor.ts";
import { assign, aTask, type TaskParts, unassign } from "../support/tasks.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { advanceUntil, drive, elapse, settle } from "../support/virtual-run.ts";

const DESCRIPTION = {
  hostname: "sim",
  architecture: "x86_64",
  os: "linux",
  resources: { nanoCpus: 2e9, memoryBytes: 1e9, generic: [] },
  engineVersion: "sim",
  engineLabels: {},
  plugins: [],
};

/** A simulated node: its Engine and its disk outlive the agent. Images name behaviours. */
class Node {
  readonly clock = new VirtualClock();
  readonly store = new MemoryLocalStore();
  readonly statuses = new Map<string, TaskStatus>();
  readonly history: string[] = [];
  readonly behaviours: Record<string, Partial<SimBehaviour>> = {};
  readonly executor = new SimExecutor(
    {
      description: DESCRIPTION,
      behaviour: work => {
        const image = work.assigned.spec.TaskTemplate?.ContainerSpec?.Image ?? "";
        return this.behaviours[image] ?? {};
      },
    },
    { clock: this.clock },
  );
  agent = this.#newAgent();
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  #newAgent(): Agent {
    return new Agent(
      { nodeId: "node1", clusterId: "c1", hostname: "h", bootedAtMs: 0 },
      {
        executor: this.executor,
        store: this.store,
        reporter: {
          report: ({ taskId, status }) => {
            this.statuses.set(taskId, status);
            this.history.push(`${taskId} ${status.state}`);
          },
        },
        networks: new NoNetworks("a test has none"),
        clock: this.clock,
        rng: new SeededRng(1),
        logger: silentLogger,
      },
    );
  }

  async start(): Promise<void> {
    this.agent = this.#newAgent();
    this.#stop = new AbortController();
    this.#running = this.agent.run(this.#stop.signal);
    this.#running.catch(() => undefined);
    await settle();
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error("swarmd ends"));
    await drive(this.clock, this.#running);
  }

  apply(changes: readonly AssignmentChange[], complete = false): Promise<void> {
    return drive(this.clock, this.agent.applyAssignments(changes, complete));
  }

  run(id: string, container: ContainerSpec = {}): Promise<void> {
    return this.apply([assign(aTask({ id, container }))]);
  }

  want(parts: TaskParts): Promise<void> {
    return this.apply([assign(aTask(parts))]);
  }

  async reaches(id: string, state: string): Promise<TaskStatus> {
    await this.until(() => this.statuses.get(id)?.state === state, `${id} is ${state}`);
    return this.statuses.get(id) as TaskStatus;
  }

  until(probe: () => boolean, what: string): Promise<void> {
    return advanceUntil(this.clock, probe, `${what}; history: ${this.history.join(", ")}`);
  }

  calls(name: string): number {
    return this.executor.calls.get(name) ?? 0;
  }

  running(): readonly string[] {
    return this.executor.runningTasks();
  }
}

async function startedNode(): Promise<Node> {
  const node = new Node();
  await node.start();
  await elapse(node.clock, 100);
  return node;
}

t.test("a task goes through its states and stops on request", async t => {
  const node = await startedNode();
  await node.run("a");
  t.match(await node.reaches("a", "running"), { message: "started", containerId: /^sim/, err: "" });
  await node.want({ id: "a", task: { desiredState: "shutdown" } });
  t.match(await node.reaches("a", "shutdown"), { message: "shutdown", exitCode: 143 });
  t.strictSame(
    [...new Set(node.history)],
    ["accepted", "preparing", "ready", "starting", "running", "shutdown"].map(s => `a ${s}`),
  );
  t.equal((await drive(node.clock, node.executor.list(new AbortController().signal))).length, 1);
  await node.apply([unassign("a")]);
  await node.until(() => node.agent.tasks().length === 0, "forgotten");
  t.equal((await drive(node.clock, node.executor.list(new AbortController().signal))).length, 0);
  t.strictSame(await node.store.load(), []);
  await node.stop();
});

t.test("a task is made with three calls and one look", async t => {
  const node = await startedNode();
  await node.run("a");
  await node.reaches("a", "running");
  await elapse(node.clock, 1000);
  t.strictSame(
    ["create", "start", "inspect", "pull"].map(name => node.calls(name)),
    [1, 1, 1, 0],
  );
  await node.stop();
});

t.test("a task that is to be ready waits for its start", async t => {
  const node = await startedNode();
  await node.want({ id: "a", task: { desiredState: "ready" } });
  await node.reaches("a", "ready");
  await elapse(node.clock, 5000);
  t.strictSame(node.running(), []);
  await node.want({ id: "a", task: { desiredState: "running" } });
  await node.reaches("a", "running");
  await node.want({ id: "a", task: { desiredState: "shutdown" } });
  await node.want({ id: "a", task: { desiredState: "running" } });
  await node.reaches("a", "shutdown");
  await elapse(node.clock, 5000);
  t.strictSame(node.running(), [], "a desired state never moves back");
  await node.stop();
});

t.test("ends and failures", async t => {
  const node = await startedNode();
  node.behaviours["done"] = { exitAfterMs: 100 };
  node.behaviours["bad"] = { exitAfterMs: 100, exitCode: 2 };
  node.behaviours["nope"] = { imageIsLocal: false, pullError: "no registry" };
  node.behaviours["far"] = { imageIsLocal: false };
  node.behaviours["sick"] = { health: { becomes: "unhealthy", afterMs: 500 } };
  node.behaviours["fit"] = { health: { becomes: "healthy", afterMs: 500 } };
  node.behaviours["broken"] = { createError: "invalid mount config" };
  for (const image of Object.keys(node.behaviours)) await node.run(image, { Image: image });
  t.match(await node.reaches("done", "complete"), { message: "finished", exitCode: 0 });
  t.match(await node.reaches("bad", "failed"), { err: "task: non-zero exit (2)", exitCode: 2 });
  t.match(await node.reaches("nope", "rejected"), { err: "No such image: nope (no registry)" });
  t.match(await node.reaches("sick", "failed"), {
    err: "task: non-zero exit (143): dockerexec: unhealthy container",
  });
  t.match(await node.reaches("broken", "rejected"), { err: "invalid mount config" });
  await node.reaches("far", "running");
  await node.reaches("fit", "running");
  t.strictSame(node.running(), ["far", "fit"]);
  t.equal(node.history.filter(line => line === "fit running").length, 1);
  await node.stop();
});

t.test("a complete set replaces what was known", async t => {
  const node = await startedNode();
  for (const id of ["a", "b", "c"]) await node.run(id);
  for (const id of ["a", "b", "c"]) await node.reaches(id, "running");
  await node.apply([assign(aTask({ id: "b" })), assign(aTask({ id: "d" }))], true);
  await node.reaches("d", "running");
  await node.until(() => node.agent.tasks().length === 2, "the others are forgotten");
  t.strictSame(node.running(), ["b", "d"]);
  await node.stop();
});

t.test("a task that comes back while it is being forgotten is reported lost", async t => {
  const node = await startedNode();
  node.behaviours["slow"] = { stopMs: 5000 };
  await node.run("a", { Image: "slow" });
  await node.reaches("a", "running");
  await node.apply([], true);
  await elapse(node.clock, 100);
  const status = { ...(node.statuses.get("a") as TaskStatus) };
  await node.want({ id: "a", container: { Image: "slow" }, task: { status } });
  t.match((await node.reaches("a", "failed")).err, /container has gone/);
  t.strictSame(node.running(), []);
  await node.stop();
});

t.test("a restart of swarmd adopts what runs, without a call that could disturb it", async t => {
  const node = await startedNode();
  for (const id of ["a", "b", "c"]) await node.run(id);
  for (const id of ["a", "b", "c"]) await node.reaches(id, "running");
  await node.stop();
  const before = ["create", "start", "stop", "kill", "remove"].map(name => node.calls(name));
  node.executor.exitTask("b", 3);
  node.executor.deleteTask("c");
  node.statuses.clear();
  await node.start();
  t.match(await node.reaches("b", "failed"), { err: "task: non-zero exit (3)" });
  t.match((await node.reaches("c", "failed")).err, /container has gone/);
  await elapse(node.clock, 5 * 60_000);
  t.equal(node.statuses.get("a")?.state, "running", "said again to the managers");
  t.strictSame(node.running(), ["a"], "no manager has answered, and it runs on");
  t.strictSame(
    ["create", "start", "stop", "kill", "remove"].map(name => node.calls(name)),
    before,
  );
  await node.stop();
});

t.test("a crash between any two steps leads to one running container", async t => {
  const CRASH_EVERY_MS = 7;
  for (let firstMs = 1; firstMs <= 300; firstMs += 37) {
    const node = new Node();
    await node.start();
    await node.run("a");
    await elapse(node.clock, firstMs);
    for (let crashes = 0; crashes < 5; crashes += 1) {
      await node.stop();
      await node.start();
      await elapse(node.clock, CRASH_EVERY_MS);
    }
    await node.reaches("a", "running");
    const signal = new AbortController().signal;
    t.equal((await drive(node.clock, node.executor.list(signal))).length, 1);
    t.strictSame(node.running(), ["a"], `first crash after ${firstMs} ms`);
    const orders = node.history.map(line => taskStateOrder(line.slice(2) as TaskStatus["state"]));
    t.strictSame(
      orders,
      [...orders].sort((a, b) => a - b),
      "never backwards",
    );
    await node.stop();
  }
});

t.test("a worker that lost its disk adopts containers by their labels", async t => {
  const node = await startedNode();
  await node.run("a");
  const status = await node.reaches("a", "running");
  await node.run("stale");
  await node.reaches("stale", "running");
  await node.stop();
  await node.store.clear();
  await node.start();
  await elapse(node.clock, 60_000);
  t.strictSame(node.running(), ["a", "stale"], "kept until a manager has spoken");
  await node.apply([assign(aTask({ id: "a", task: { status } }))], true);
  await node.until(() => node.running().length === 1, "the orphan is gone");
  t.strictSame(node.running(), ["a"]);
  t.equal(node.calls("create"), 2, "none was made anew");
  await node.stop();
});

t.test("an Engine that does not answer changes no state, and is picked up again", async t => {
  const node = await startedNode();
  await node.run("a");
  await node.reaches("a", "running");
  node.executor.setReachable(false);
  await node.run("b");
  await elapse(node.clock, 2000);
  t.equal(node.statuses.get("b")?.state, "preparing");
  t.equal(node.statuses.get("a")?.err, "", "a short outage is not worth a word");
  await elapse(node.clock, ENGINE_LOST_REPORT_MS);
  t.match(node.statuses.get("a"), { state: "running", err: ENGINE_LOST_TEXT });
  t.match(await node.agent.describe(), { engineVersion: "sim" }, "described as it was");
  const calls = node.calls("create");
  await elapse(node.clock, 60_000);
  t.ok(node.calls("create") + node.calls("inspect") - calls < 40, "no hot loop");
  node.executor.setReachable(true);
  await node.reaches("b", "running");
  await node.until(() => node.statuses.get("a")?.err === "", "the word is taken back");
  t.strictSame(node.running(), ["a", "b"]);
  t.equal(node.history.filter(line => line === "a starting").length, 1, "never started again");
  await node.stop();
});

t.test("an Engine that takes its containers along makes their tasks fail", async t => {
  const node = await startedNode();
  node.behaviours["polite"] = { exitAfterMs: 3000 };
  await node.run("a");
  await node.run("polite", { Image: "polite" });
  await node.reaches("polite", "running");
  node.executor.setReachable(false);
  await elapse(node.clock, 4000);
  node.executor.crash();
  await elapse(node.clock, 5000);
  node.executor.setReachable(true);
  t.match(
    (await node.reaches("a", "failed")).err,
    /^task: non-zero exit \(255\): the Docker Engine/,
  );
  const polite = await node.reaches("polite", "failed");
  t.match(polite, { exitCode: 0, err: /^the Docker Engine or the host was restarted$/ });
  await node.stop();
});

t.test("an agent that starts while the Engine is away", async t => {
  const node = new Node();
  node.executor.setReachable(false);
  await node.start();
  await node.run("a");
  await node.reaches("a", "preparing");
  await t.rejects(node.agent.describe(), { code: "unavailable" });
  await elapse(node.clock, 30_000);
  node.executor.setReachable(true);
  await node.reaches("a", "running");
  t.match(await node.agent.describe(), DESCRIPTION);
  await node.stop();
});

t.test("an event that was missed is made good by the audit", async t => {
  const node = await startedNode();
  await node.run("a");
  await node.reaches("a", "running");
  const watch = node.executor.watch;
  node.executor.watch = async function* (signal) {
    for await (const event of watch.call(node.executor, signal)) {
      if (event.kind === "connected") yield event;
    }
  };
  await node.stop();
  await node.start();
  await elapse(node.clock, 1000);
  node.executor.exitTask("a", 9);
  t.match(await node.reaches("a", "failed"), { exitCode: 9 });
  await node.stop();
});

function aSecret(id: string): Secret {
  const spec = { Name: id, Data: "aGk=" };
  return { id, version: 1, createdAtMs: 1, updatedAtMs: 1, spec };
}

t.test("secrets: waited for until a manager has spoken, then missing", async t => {
  const container = { Secrets: [{ SecretID: "s1", SecretName: "s1", File: { Name: "s1" } }] };
  const node = await startedNode();
  await node.run("a", container);
  await node.reaches("a", "preparing");
  await elapse(node.clock, 30_000);
  t.equal(node.statuses.get("a")?.state, "preparing");
  await node.apply([{ action: "update", kind: "secret", item: aSecret("s1") }]);
  await node.reaches("a", "running");
  await node.apply([assign(aTask({ id: "a", container }))], true);
  await node.run("b", container);
  t.match(await node.reaches("b", "rejected"), { err: "secret reference s1 not found" });
  t.strictSame(node.running(), ["a"]);
  t.notMatch(JSON.stringify(await node.store.load()), /aGk=/, "never on the disk");
  await node.stop();
});

t.test("a disk that is full stops no task, and takes no new one", async t => {
  const node = await startedNode();
  await node.run("a");
  await node.reaches("a", "starting");
  const save = node.store.save;
  node.store.save = () => Promise.reject(new Error("no space left on device"));
  await node.reaches("a", "running");
  await t.rejects(node.run("b"), { message: "no space left on device" });
  await elapse(node.clock, 1000);
  t.equal(node.statuses.has("b"), false, "what is not on disk is not begun");
  node.store.save = save;
  await node.run("b");
  await node.reaches("b", "running");
  node.store.save = () => Promise.reject(new Error("no space left on device"));
  node.executor.exitTask("b", 1);
  await node.reaches("b", "failed");
  t.strictSame(node.running(), ["a"]);
  await node.stop();
});

t.test("a health that changed while nobody listened", async t => {
  const node = await startedNode();
  node.behaviours["sick"] = { health: { becomes: "unhealthy", afterMs: 5000 } };
  node.behaviours["fit"] = { health: { becomes: "healthy", afterMs: 5000 } };
  for (const image of ["sick", "fit"]) await node.run(image, { Image: image });
  await node.reaches("fit", "starting");
  await elapse(node.clock, 1000);
  node.executor.setReachable(false);
  await elapse(node.clock, 6000);
  node.executor.setReachable(true);
  await node.reaches("fit", "running");
  t.match((await node.reaches("sick", "failed")).err, /unhealthy container/);
  await node.stop();
});

t.test("leaving ends everything", async t => {
  const node = await startedNode();
  node.behaviours["nope"] = { imageIsLocal: false, pullMs: 600_000 };
  for (const id of ["a", "b"]) await node.run(id);
  await node.run("pulls", { Image: "nope" });
  await node.reaches("a", "running");
  const beganMs = node.clock.monoMs();
  await drive(node.clock, node.agent.shutdownAll(new AbortController().signal));
  t.ok(node.clock.monoMs() - beganMs < 60_000, "a pull is not waited for");
  t.strictSame(node.agent.tasks(), []);
  t.strictSame(node.running(), []);
  t.strictSame(await node.store.load(), []);
  await node.stop();
});

t.test("a leave right after the start waits for the first look at the Engine", async t => {
  const node = new Node();
  await node.start();
  const leaving = node.agent.shutdownAll(new AbortController().signal);
  await t.resolves(drive(node.clock, leaving));
  await node.stop();
});

t.test("many tasks start side by side, a few at a time", async t => {
  const node = await startedNode();
  const ids = Array.from({ length: 64 }, (_, i) => `t${i}`);
  const beganMs = node.clock.monoMs();
  await node.apply(ids.map((id, i) => assign(aTask({ id, task: { slot: i + 1 } }))));
  await node.until(() => node.running().length === ids.length, "all run");
  const tookMs = node.clock.monoMs() - beganMs;
  t.ok(tookMs >= 8 * 270 && tookMs < 9 * 270, `8 at a time: ${tookMs} ms`);
  const stopMs = node.clock.monoMs();
  await node.apply([], true);
  await node.until(() => node.running().length === 0, "all stopped");
  t.ok(node.clock.monoMs() - stopMs < 1000, "stops are parallel");
  await node.stop();
});

t.test("logs", async t => {
  const node = await startedNode();
  node.behaviours["says"] = { output: ["x", "y"] };
  await node.run("a", { Image: "says" });
  await node.reaches("a", "running");
  await elapse(node.clock, 1000);
  await node.run("b", { Image: "says" });
  await node.reaches("b", "running");
  const options = { stdout: true, stderr: true, follow: false, tail: -1, sinceMs: 0 };
  const read = async (subscription: LogSubscription, stopAt: number): Promise<string[]> => {
    const stop = new AbortController();
    const lines: string[] = [];
    for await (const line of node.agent.readLogs(subscription, stop.signal)) {
      lines.push(`${line.taskId} ${line.nodeId} ${new TextDecoder().decode(line.data).trim()}`);
      if (lines.length === stopAt) stop.abort(new Error("enough"));
    }
    return lines;
  };
  const all = { id: "s", taskIds: ["b", "a", "elsewhere"], options };
  const lines = await drive(node.clock, read(all, -1));
  t.strictSame(lines, ["a node1 x", "a node1 y", "b node1 x", "b node1 y"], "in order of time");
  const followed = { ...all, taskIds: ["a", "later"], options: { ...options, follow: true } };
  await node.want({ id: "later", container: { Image: "says" }, task: { desiredState: "ready" } });
  const following = read(followed, 4);
  await elapse(node.clock, 1000);
  await node.want({ id: "later", container: { Image: "says" } });
  t.equal((await drive(node.clock, following)).length, 4, "one that starts later is waited for");
  await node.stop();
});
