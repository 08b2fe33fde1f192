import { join } from "node:path";
import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import type { AssignmentChange, LogSubscription } from "../../src/model/assignment.ts";
import type { TaskStatus } from "../../src/model/rows.ts";
import type { ContainerSpec } from "../../src/model/service-spec.ts";
import { KernelRng, realClock } from "../../src/system/real.ts";
import { Agent } from "../../src/worker/agent.ts";
import type { TaskWork } from "../../src/worker/core/task-work.ts";
import { DockerEngine } from "../../src/worker/docker/engine.ts";
import { DockerExecutor } from "../../src/worker/docker/executor.ts";
import { TaskFileStore } from "../../src/worker/docker/task-files.ts";
import { LevelLocalStore } from "../../src/worker/local-store.ts";
import { NoNetworks } from "../../src/worker/networks.ts";
import { engineUnavailable, PrivateEngine } from "../support/engine.ts";
import { eventually } from "../support/eventually.ts";
import {
  type ExecutorHarness,
  executorConformance,
  type WorkKind,
} from "../support/executor-conformance.ts";
import { assign, aTask, unassign } from "../support/tasks.ts";

const NS_PER_MS = 1_000_000;
const NODE = {
  nodeId: "node1",
  clusterId: "c1",
  hostname: "h",
  os: "linux",
  architecture: "x86_64",
};
const GRACEFUL = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

function newExecutor(engine: PrivateEngine): DockerExecutor {
  const { socketPath, dir } = engine;
  return new DockerExecutor(
    { clusterId: NODE.clusterId },
    {
      engine: new DockerEngine({ socketPath }, { clock: realClock }),
      files: new TaskFileStore({ dir: join(dir, "files") }),
      networks: new NoNetworks("this test has none"),
      clock: realClock,
    },
  );
}

/** An agent on a real Engine; `restart` replaces it as a restart of swarmd does. */
class Worker {
  readonly engine: PrivateEngine;
  readonly statuses = new Map<string, TaskStatus>();
  readonly history: string[] = [];
  agent: Agent | null = null;
  #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(engine: PrivateEngine) {
    this.engine = engine;
  }

  async start(): Promise<void> {
    this.#stop = new AbortController();
    this.statuses.clear();
    const agent = new Agent(
      { nodeId: NODE.nodeId, clusterId: NODE.clusterId, hostname: NODE.hostname, bootedAtMs: 0 },
      {
        executor: newExecutor(this.engine),
        store: await LevelLocalStore.open(join(this.engine.dir, "worker")),
        reporter: {
          report: ({ taskId, status }) => {
            this.statuses.set(taskId, status);
            const line = `${taskId} ${status.state}`;
            // A status may be said again; only its changes are of interest here.
            if (!this.history.includes(line)) this.history.push(line);
          },
        },
        networks: new NoNetworks("this test has none"),
        clock: realClock,
        rng: new KernelRng(),
        logger: silentLogger,
      },
    );
    this.agent = agent;
    this.#running = agent.run(this.#stop.signal);
    this.#running.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error("swarmd ends"));
    await this.#running;
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async apply(changes: readonly AssignmentChange[], complete = false): Promise<void> {
    await this.agent?.applyAssignments(changes, complete);
  }

  run(id: string, container: ContainerSpec = {}): Promise<void> {
    return this.apply([assign(aTask({ id, container }))]);
  }

  async reaches(id: string, state: string): Promise<TaskStatus> {
    const what = `${id} is ${state}`;
    return eventually(
      () => {
        const status = this.statuses.get(id);
        if (status?.state !== state) throw new Error(`it is ${JSON.stringify(status)}`);
        return status;
      },
      { what },
    );
  }

  /** Containers of the Engine by name: `web.1.x running`. */
  async containers(): Promise<string[]> {
    const list = (await this.engine.api("GET", "/containers/json?all=1")) as {
      Names: string[];
      State: string;
    }[];
    return list.map(one => `${one.Names[0]?.slice(1)} ${one.State}`).sort();
  }

  inspect(id: string): Promise<Record<string, unknown>> {
    return this.engine.api("GET", `/containers/web.1.${id}/json`) as Promise<
      Record<string, unknown>
    >;
  }

  /** Removes all tasks and waits until nothing is left. */
  async clear(): Promise<void> {
    await this.apply([], true);
    await eventually(async () => (await this.containers()).length === 0, { what: "no containers" });
  }
}

const COMMANDS: Readonly<Record<WorkKind, ContainerSpec>> = {
  forever: {},
  stubborn: { Init: false, Args: ["sleep", "1000"] },
  exit0: { Args: ["true"] },
  exit3: { Args: ["sh", "-c", "exit 3"] },
  healthy: { Healthcheck: { Test: ["CMD", "true"], Interval: 200 * NS_PER_MS } },
  unhealthy: { Healthcheck: { Test: ["CMD", "false"], Interval: 200 * NS_PER_MS, Retries: 1 } },
  talks: { Args: ["sh", "-c", "echo one; echo two; echo three; exec sleep 1000"] },
  missingImage: { Image: "nope:latest" },
  badCommand: { Init: false, Command: ["/no/such/command"] },
};

t.setTimeout(2 * 60_000);
const skip = engineUnavailable() ?? false;
const TIMEOUT_MS = 110_000;

t.test("a real Engine", { skip, timeout: TIMEOUT_MS }, async t => {
  const engine = await PrivateEngine.start(["--label", "disk=ssd", "--shutdown-timeout", "5"]);
  t.teardown(() => engine.close());

  await t.test("executor conformance", async t => {
    const harness: ExecutorHarness = {
      executor: newExecutor(engine),
      work: (kind, id): TaskWork => ({
        assigned: aTask({ id, container: COMMANDS[kind] }),
        node: NODE,
        files: [],
        registryAuth: "",
      }),
      wait: promise => promise,
      until: async (probe, what) => void (await eventually(probe, { what })),
    };
    await executorConformance(t, harness);
  });

  const worker = new Worker(engine);
  await worker.start();
  t.teardown(() => worker.stop());

  await t.test("a task runs, with its labels, and ends on request", async t => {
    await worker.apply([assign(aTask({ id: "a" }))], true);
    const status = await worker.reaches("a", "running");
    t.match(status, { message: "started", err: "", containerId: /^[0-9a-f]{64}$/ });
    t.ok(status.pid > 0);
    const found = await worker.inspect("a");
    t.match(found, {
      Name: "/web.1.a",
      HostConfig: { RestartPolicy: { Name: "no" } },
      Config: {
        Labels: {
          "com.docker.swarm.task": "",
          "com.docker.swarm.task.id": "a",
          "com.docker.swarm.task.name": "web.1.a",
          "com.docker.swarm.service.name": "web",
          "com.docker.swarm.node.id": "node1",
          "swarmd.cluster.id": "c1",
        },
      },
    });
    await worker.apply([assign(aTask({ id: "a", task: { desiredState: "shutdown" } }))]);
    await worker.reaches("a", "shutdown");
    t.strictSame(await worker.containers(), ["web.1.a exited"], "kept for its logs");
    await worker.apply([unassign("a")]);
    await eventually(async () => (await worker.containers()).length === 0, { what: "removed" });
    t.strictSame(
      worker.history.filter(line => line.startsWith("a ")).map(line => line.slice(2)),
      ["accepted", "preparing", "ready", "starting", "running", "shutdown"],
    );
  });

  await t.test("tasks that end by themselves or cannot start say why", async t => {
    await worker.run("ok", { Args: ["true"] });
    await worker.run("bad", { Args: ["sh", "-c", "exit 1"] });
    await worker.run("lost", { Image: "nope:latest" });
    await worker.run("cmd", COMMANDS.badCommand);
    await worker.run("bind", { Mounts: [{ Type: "bind", Source: "/no/such/dir", Target: "/x" }] });
    await worker.run("sick", COMMANDS.unhealthy);
    t.match(await worker.reaches("ok", "complete"), { message: "finished", exitCode: 0 });
    t.match(await worker.reaches("bad", "failed"), { err: "task: non-zero exit (1)", exitCode: 1 });
    t.match((await worker.reaches("lost", "rejected")).err, /^No such image: nope:latest/);
    t.match(
      (await worker.reaches("cmd", "failed")).err,
      /^starting container failed: .*no such file/,
    );
    t.match((await worker.reaches("bind", "rejected")).err, /bind source path does not exist/);
    t.match((await worker.reaches("sick", "failed")).err, /dockerexec: unhealthy container$/);
    t.notOk((await worker.containers()).some(line => line.endsWith("running")));
    await worker.clear();
  });

  await t.test("RUNNING waits for the healthcheck", async t => {
    await worker.run("h", {
      Args: ["sh", "-c", "sleep 0.5; touch /ready; exec sleep 1000"],
      Healthcheck: {
        Test: ["CMD", "test", "-e", "/ready"],
        Interval: 100 * NS_PER_MS,
        Retries: 50,
      },
    });
    await worker.reaches("h", "running");
    const found = (await worker.inspect("h")) as { State: { Health: { Status: string } } };
    t.equal(found.State.Health.Status, "healthy");
    await worker.clear();
  });

  await t.test("published ports, limits and secrets reach the container", async t => {
    const secret = {
      id: "s1",
      version: 1,
      createdAtMs: 1,
      updatedAtMs: 1,
      spec: { Name: "key", Data: Buffer.from("hush").toString("base64") },
    };
    const task = aTask({
      id: "p",
      container: {
        Args: [
          "sh",
          "-c",
          "cat /run/secrets/key; stat -c ' %a %u' /run/secrets/key; exec sleep 1000",
        ],
        Secrets: [
          {
            SecretID: "s1",
            SecretName: "key",
            File: { Name: "key", UID: "70", GID: "0", Mode: 0o400 },
          },
        ],
      },
      spec: {
        EndpointSpec: { Ports: [{ TargetPort: 80, Protocol: "tcp", PublishMode: "host" }] },
        TaskTemplate: { Resources: { Limits: { MemoryBytes: 32 * 1024 * 1024 } } },
      },
    });
    await worker.apply([{ action: "update", kind: "secret", item: secret }, assign(task)]);
    const { ports } = await worker.reaches("p", "running");
    t.match(ports, [{ TargetPort: 80, Protocol: "tcp", PublishMode: "host" }]);
    t.ok((ports[0]?.PublishedPort ?? 0) > 0, "the port that was bound");
    t.match(await worker.inspect("p"), { HostConfig: { Memory: 32 * 1024 * 1024 } });
    t.equal((await readAll(worker, "p")).join(""), "hush 400 70\n");
    await worker.clear();
  });

  await t.test("logs of several tasks, merged and followed", async t => {
    await worker.run("l1", { Args: ["sh", "-c", "echo a1; exec sleep 1000"] });
    await worker.reaches("l1", "running");
    await worker.run("l2", { TTY: true, Args: ["sh", "-c", "echo b1; exec sleep 1000"] });
    await worker.reaches("l2", "running");
    await eventually(async () => (await readAll(worker, "l1", "l2")).length === 2, {
      what: "lines",
    });
    t.strictSame(await readAll(worker, "l1", "l2"), ["a1\n", "b1\r\n"]);
    const enough = new AbortController();
    const seen: string[] = [];
    for await (const line of follow(worker, enough.signal, "l1", "l2")) {
      seen.push(line);
      if (seen.length === 2) enough.abort();
    }
    t.strictSame(seen.sort(), ["a1\n", "b1\r\n"], "a followed log ends at the abort");
    await worker.clear();
  });

  await t.test("a restart of swarmd touches no container", async t => {
    await worker.run("keep");
    await worker.run("held", {});
    const before = await worker.reaches("keep", "running");
    await worker.reaches("held", "running");
    await worker.stop();
    await engine.api("POST", "/containers/web.1.held/kill");
    await worker.start();
    t.match((await worker.reaches("held", "failed")).err, "task: non-zero exit (137)");
    const after = await worker.reaches("keep", "running");
    t.equal(after.containerId, before.containerId);
    t.equal(after.pid, before.pid, "the same process");
    const found = (await worker.inspect("keep")) as { State: { Pid: number } };
    t.equal(found.State.Pid, before.pid);
    await worker.clear();
  });

  await t.test("orphans go once a manager has said what is ours", async t => {
    const labels = { "swarmd.cluster.id": "c1", "com.docker.swarm.task.id": "ghost" };
    const body = { Image: "busybox:latest", Cmd: ["sleep", "1000"], HostConfig: { Init: true } };
    await engine.api("POST", "/containers/create?name=ghost", { ...body, Labels: labels });
    await engine.api("POST", "/containers/ghost/start");
    await engine.api("POST", "/containers/create?name=stranger", body);
    await worker.restart();
    await worker.run("mine");
    await worker.reaches("mine", "running");
    t.ok((await worker.containers()).includes("ghost running"), "kept as long as nobody has said");
    await worker.apply([assign(aTask({ id: "mine" }))], true);
    const gone = async (): Promise<boolean> =>
      !(await worker.containers()).some(line => line.startsWith("ghost"));
    await eventually(gone, { what: "the orphan is removed" });
    const left = await worker.containers();
    t.strictSame(left, ["stranger created", "web.1.mine running"]);
    await engine.api("DELETE", "/containers/stranger");
    await worker.clear();
  });

  await t.test("an Engine that is restarted", async t => {
    await worker.run("graceful", { Command: ["sh", "-c", GRACEFUL], Args: [] });
    await worker.run("plain");
    await worker.reaches("graceful", "running");
    await worker.reaches("plain", "running");
    await engine.down("TERM");
    await worker.run("later");
    await worker.reaches("later", "preparing");
    await engine.up();
    const graceful = await worker.reaches("graceful", "failed");
    t.match(graceful, { exitCode: 0, err: "the Docker Engine or the host was restarted" });
    t.match(
      (await worker.reaches("plain", "failed")).err,
      /^task: non-zero exit \(\d+\): the Docker/,
    );
    await worker.reaches("later", "running");
    await worker.clear();
  });

  await t.test("an Engine that is killed", async t => {
    await worker.run("k");
    await worker.reaches("k", "running");
    await engine.down("KILL");
    t.equal((await worker.agent?.describe())?.engineVersion !== "", true, "still described");
    await engine.up();
    t.match(
      (await worker.reaches("k", "failed")).err,
      /the Docker Engine or the host was restarted$/,
    );
    await worker.clear();
  });

  await t.test("leave stops and removes everything", async t => {
    await worker.run("x");
    await worker.run("y", { Image: "nope:latest" });
    await worker.reaches("x", "running");
    await worker.agent?.shutdownAll(new AbortController().signal);
    t.strictSame(await worker.containers(), []);
    t.strictSame(worker.agent?.tasks(), []);
  });

  await t.test("the node is described", async t => {
    t.match(await worker.agent?.describe(), {
      architecture: "x86_64",
      os: "linux",
      engineLabels: { disk: "ssd" },
      engineVersion: /^\d+\./,
    });
  });
});

t.test("an Engine with live-restore", { skip, timeout: TIMEOUT_MS }, async t => {
  const engine = await PrivateEngine.start(["--live-restore"]);
  t.teardown(() => engine.close());
  const worker = new Worker(engine);
  await worker.start();
  t.teardown(() => worker.stop());
  for (const signal of ["TERM", "KILL"] as const) {
    await worker.run(signal, { Healthcheck: { Test: ["CMD", "true"], Interval: 100 * NS_PER_MS } });
    const before = await worker.reaches(signal, "running");
    await engine.down(signal);
    if (signal === "TERM") await worker.restart();
    await engine.up();
    await worker.run("after", {});
    await worker.reaches("after", "running");
    const found = (await worker.inspect(signal)) as { State: { Pid: number } };
    t.equal(found.State.Pid, before.pid, `${signal}: the same process`);
    t.equal(worker.statuses.get(signal)?.state, "running");
    await worker.clear();
  }
});

function subscription(follow: boolean, taskIds: readonly string[]): LogSubscription {
  const options = { stdout: true, stderr: true, follow, tail: -1, sinceMs: 0 };
  return { id: "sub", taskIds, options };
}

async function* follow(
  worker: Worker,
  signal: AbortSignal,
  ...taskIds: string[]
): AsyncGenerator<string, void> {
  const lines = worker.agent?.readLogs(subscription(true, taskIds), signal) ?? [];
  for await (const line of lines) yield new TextDecoder().decode(line.data);
}

/** The lines of the tasks' logs so far, in order of time. */
async function readAll(worker: Worker, ...taskIds: string[]): Promise<string[]> {
  const texts: string[] = [];
  const signal = new AbortController().signal;
  for await (const line of worker.agent?.readLogs(subscription(false, taskIds), signal) ?? []) {
    texts.push(new TextDecoder().decode(line.data));
  }
  return texts;
}
