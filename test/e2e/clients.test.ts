import { spawnSync } from "node:child_process";
import { join } from "node:path";
import Docker from "dockerode";
import t, { type Test } from "tap";
import type { LabHost } from "../lab/lab.ts";
import { run } from "../lab/run.ts";
import { labUnavailable, startLab, until } from "../support/e2e.ts";

/** The swarm calls of other people's clients: docker-py and dockerode, as they are. */

const TIMEOUT_MS = 300_000;
const APP = "swarmd/app:1";
const PROGRAM = join(import.meta.dirname, "clients.py");
/** Debian's package python3-docker is for its own Python. */
const PYTHONS = ["/usr/bin/python3", "python3"];
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

function pythonWithDocker(): string | null {
  for (const python of PYTHONS) {
    const probe = spawnSync(python, ["-c", "import docker, sys; print(sys.executable)"]);
    if (probe.status === 0) return String(probe.stdout).trim();
  }
  return null;
}

t.test("other clients", { skip }, async t => {
  const lab = await startLab(t, "clients", { managers: 1, workers: 0 });
  const m1 = lab.host("m1");
  const python = pythonWithDocker();
  const why = python === null ? "needs python3-docker" : false;
  await t.test("docker-py", { skip: why }, t => dockerPy(t, m1, python ?? ""));
  await t.test("dockerode", t => dockerode(t, m1));
});

async function dockerPy(t: Test, host: LabHost, python: string): Promise<void> {
  const result = await run([python, PROGRAM, host.socketPath, APP], { timeoutMs: TIMEOUT_MS });
  t.equal(result.code, 0, result.stderr);
  t.match(JSON.parse(result.stdout), {
    swarm: "default",
    token: "SWMTKN-1-",
    history: 4,
    node: [true, { zone: "a" }],
    secret: ["py-secret", [409, /secret py-secret already exists/]],
    config: "py-config",
    network: ["swarm", "overlay"],
    service: ["py-web", { team: "blue" }, 8181],
    "in use": [400, /secret 'py-secret' is in use by the following service: py-web/],
    scaled: { Warnings: null },
    updated: { Warnings: null },
    listed: ["py-web"],
    logs: true,
    missing: [404, "service nosuch not found"],
    stale: [500, /update out of sequence/],
    task: "running",
    exec: "hello\n",
    typed: true,
    archive: true,
    left: [0, 0, 0],
  });
}

interface Seen {
  readonly Status: { readonly State: string };
  readonly DesiredState: string;
}

async function dockerode(t: Test, host: LabHost): Promise<void> {
  const docker = new Docker({ socketPath: host.socketPath });
  t.match(await docker.swarmInspect(), { Spec: { Name: "default" } });
  const [node] = await docker.listNodes();
  t.match(await docker.getNode(node?.ID ?? "").inspect(), { Status: { State: "ready" } });

  const secret = await docker.createSecret({ Name: "js-secret", Data: "aGk=" });
  const config = await docker.createConfig({ Name: "js-config", Data: "aGk=" });
  await docker.createNetwork({ Name: "js-net", Driver: "overlay" });
  t.match(await docker.getSecret(secret.id).inspect(), { Spec: { Name: "js-secret" } });
  const configs = { filters: { name: ["js-config"] } };
  t.equal((await docker.listConfigs(configs)).length, 1);

  const spec = {
    Name: "js-web",
    TaskTemplate: { ContainerSpec: { Image: APP }, Networks: [{ Target: "js-net" }] },
    Mode: { Replicated: { Replicas: 2 } },
  };
  const created = await docker.createService(spec);
  const service = docker.getService(created.id);
  const running = async (count: number): Promise<boolean> => {
    const filters = JSON.stringify({ service: ["js-web"], "desired-state": ["running"] });
    const tasks = (await docker.listTasks({ filters })) as readonly Seen[];
    return tasks.filter(({ Status }) => Status.State === "running").length === count;
  };
  await until("two tasks run", () => running(2));
  await exec(docker);
  const { Version } = await service.inspect();
  const one = { ...spec, version: Version.Index, Mode: { Replicated: { Replicas: 1 } } };
  await service.update(one);
  await until("one task runs", () => running(1));
  await t.rejects(service.update(one), { statusCode: 500, message: /update out of sequence/ });
  await t.rejects(docker.createService(spec), { statusCode: 409, message: /already exists/ });
  await t.rejects(docker.getService("nosuch").inspect(), { statusCode: 404, message: /not found/ });
  const services = { filters: { name: ["js-web"] }, status: true };
  t.match(await docker.listServices(services), [{ ServiceStatus: { DesiredTasks: 1 } }]);
  const logs = await service.logs({ stdout: true, stderr: true });
  t.ok(logs, "logs are streamed");
  await service.remove();
  await until("the network is free", async () => {
    const removed = await docker
      .getNetwork("js-net")
      .remove()
      .catch(() => "in use");
    return removed !== "in use";
  });
  await docker.getSecret(secret.id).remove();
  await docker.getConfig(config.id).remove();
  t.equal((await docker.listServices(services)).length, 0);
  t.equal((await docker.listConfigs(configs)).length, 0);
}

/** A hijacked connection through the proxy, with an upgrade and without. */
async function exec(docker: Docker): Promise<void> {
  const [container] = await docker.listContainers();
  for (const hijack of [true, false]) {
    const made = await docker.getContainer(container?.Id ?? "").exec({
      Cmd: ["cat"],
      AttachStdin: true,
      AttachStdout: true,
      Tty: true,
    });
    const stream = await made.start({ hijack, stdin: true, Tty: true });
    let got = "";
    stream.on("data", (chunk: Buffer) => {
      got += chunk.toString();
    });
    stream.write("typed\n");
    await until(`the echo, hijack ${hijack}`, () => got.includes("typed"));
    stream.end();
  }
}
