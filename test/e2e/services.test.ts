import t from "tap";
import type { ApiService, ApiTask } from "../../cli/types.ts";
import { request } from "../lab/http.ts";
import type { LabHost } from "../lab/lab.ts";
import { run } from "../lab/run.ts";
import {
  api,
  type Container,
  census,
  containersOf,
  disturbances,
  followersOf,
  hostnames,
  httpGet,
  labUnavailable,
  must,
  nodeOf,
  runningOf,
  serviceOf,
  startLab,
  swarmd,
  tasksOf,
  until,
  untilRunning,
  words,
} from "../support/e2e.ts";

/** Services on real Engines, as their owner sees them: through the command line and the API. */

const TIMEOUT_MS = 600_000;
const APP = "swarmd/app:1";
/** Nothing of an update's verification is waited for that a test does not look at. */
const QUICK = ["--update-monitor", "500ms", "--rollback-monitor", "500ms"];
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

function imagesOf(tasks: readonly ApiTask[]): string[] {
  return tasks.map(task => task.Spec.ContainerSpec?.Image ?? "").sort();
}

t.test("services", { skip }, async t => {
  const lab = await startLab(t, "services", { engineArgs: ["--label", "disk=fast"] });
  const hosts = lab.hosts();
  const m1 = lab.host("m1");
  const names = new Map<string, string>();
  for (const host of hosts) names.set((await nodeOf(m1, host.name)).ID, host.name);
  const create = (name: string, ...args: string[]): Promise<string> =>
    must(m1, "service", "create", "-d", "--name", name, ...QUICK, ...args);
  const remove = async (...services: string[]): Promise<void> => {
    await must(m1, "service", "rm", ...services);
    await until("their containers are gone", async () => {
      const left = (await Promise.all(hosts.map(containersOf))).flat();
      return !left.some(({ labels }) =>
        services.includes(labels["com.docker.swarm.service.name"] ?? ""),
      );
    });
  };
  const update = (name: string) => async (): Promise<string> =>
    (await serviceOf(m1, name)).UpdateStatus?.State ?? "";
  const untilUpdate = async (name: string, state: string): Promise<ApiService> => {
    const read = update(name);
    await until(`the update of ${name} is ${state}`, async () => (await read()) === state);
    return serviceOf(m1, name);
  };

  await t.test("a replicated service runs under swarm mode's names and labels", async t => {
    const printed = await must(
      m1,
      ...["service", "create", "--name", "web", "--replicas", "3", ...QUICK],
      ...["--label", "team=blue", "--container-label", "tier=front", "-e", "A=1", "swarmd/web:1"],
    );
    const [id = "", ...progress] = printed.trim().split("\n");
    t.match(id, /^[0-9a-z]{25}$/);
    t.equal(progress.at(0), "overall progress: 0 out of 3 tasks");
    t.ok(progress.includes("overall progress: 3 out of 3 tasks"), "progress is printed");
    t.equal(progress.at(-1), `verify: Service ${id} converged`);
    const running = await untilRunning(m1, "web", 3);
    t.same(running.map(task => task.Slot).sort(), [1, 2, 3]);
    const containers = await census(hosts);
    t.equal(containers.length, 3);
    for (const task of running) {
      const own = containers.find(one => one.labels["com.docker.swarm.task.id"] === task.ID);
      const name = `web.${task.Slot}.${task.ID}`;
      t.match(own, {
        name,
        host: names.get(task.NodeID ?? ""),
        id: task.Status.ContainerStatus?.ContainerID,
        labels: {
          tier: "front",
          "com.docker.swarm.node.id": task.NodeID,
          "com.docker.swarm.service.id": id,
          "com.docker.swarm.service.name": "web",
          "com.docker.swarm.task": "",
          "com.docker.swarm.task.name": name,
        },
      });
      t.notOk(own?.labels["team"], "service labels stay at the service");
    }
    t.equal(new Set(running.map(task => task.NodeID)).size, 3, "they are spread");
  });

  await t.test("a service is listed, inspected and formatted", async t => {
    const id = (await serviceOf(m1, "web")).ID;
    const table = await must(m1, "service", "ls");
    t.match(table, /^ID +NAME +MODE +REPLICAS +IMAGE +PORTS\n/);
    t.match(words(table), `${id.slice(0, 12)} web replicated 3/3 swarmd/web:1`);
    const format = ["--format", "{{.Name}}={{.Replicas}}"];
    t.equal(await must(m1, "service", "ls", ...format), "web=3/3\n");
    t.equal(await m1.swarmDocker(["service", "ls", ...format]), "web=3/3\n", "docker's own");
    t.match(JSON.parse(await must(m1, "service", "ls", "--json")), { Name: "web", ID: /^\w{12}$/ });
    t.equal(await must(m1, "service", "ls", "-q"), `${id.slice(0, 12)}\n`);
    t.equal(await must(m1, "service", "ls", "-q", "--filter", "label=team=red"), "");
    const ps = await must(m1, "service", "ps", "web");
    t.match(ps, /^ID +NAME +IMAGE +NODE +DESIRED STATE +CURRENT STATE +ERROR +PORTS\n/);
    t.match(ps, /^\w{12} +web\.1 +swarmd\/web:1 +[mw]\d +Running +Running .+ ago$/m);
    t.equal((await must(m1, "service", "ps", "-q", "web")).trim().split("\n").length, 3);
    const env = "{{json .Spec.TaskTemplate.ContainerSpec.Env}} {{.Spec.Labels.team}}";
    t.equal(await must(m1, "service", "inspect", "-f", env, "web"), '["A=1"] blue\n');
    const pretty = await must(m1, "service", "inspect", "--pretty", "web");
    t.match(pretty, /^Service Mode:\tReplicated\n Replicas:\t3$/m);
    t.match(pretty, /^ Monitoring Period: 0\.5s$/m);
    const [inspected] = JSON.parse(await must(m1, "service", "inspect", id.slice(0, 10))) as {
      Spec: { Name: string };
    }[];
    t.equal(inspected?.Spec.Name, "web", "by a prefix of its id");
    t.match(await swarmd(m1, ["service", "inspect", "web", "nothing"]), {
      code: 1,
      stdout: /"Name": "web"/,
      stderr: "Error response from daemon: service nothing not found\n",
    });
    t.match(await swarmd(m1, ["service", "ps", "nothing"]), {
      code: 1,
      stderr: "no such service: nothing\n",
    });
  });

  await t.test("scaling touches no task that stays", async t => {
    const before = await census(hosts);
    t.match(await must(m1, "service", "scale", "web=6"), /^web scaled to 6\n/);
    await untilRunning(m1, "web", 6);
    t.same(await disturbances(lab, before), [], "up");
    const six = await census(hosts);
    t.equal(await must(m1, "service", "scale", "-d", "web=2"), "web scaled to 2\n");
    await untilRunning(m1, "web", 2);
    const two = await until("four have ended", async () => {
      const now = await census(hosts);
      return now.length === 2 ? now : null;
    });
    const kept = six.filter(one => two.some(({ id }) => id === one.id));
    t.equal(kept.length, 2, "the two that stay were there before");
    t.same(await disturbances(lab, kept), [], "down");
    t.match(await swarmd(m1, ["service", "scale", "web=-1"]), { code: 2 });
    t.match(await swarmd(m1, ["service", "scale", "nothing=2"]), {
      code: 1,
      stderr: /service nothing not found/,
    });
    await remove("web");
  });

  await t.test("a global service has one task a node", async t => {
    await create("agent", "--mode", "global", APP);
    const tasks = await untilRunning(m1, "agent", hosts.length);
    t.same(hostnames(tasks, names), ["m1", "m2", "m3", "w1", "w2"]);
    for (const { name, labels } of await census(hosts)) {
      const nodeId = labels["com.docker.swarm.node.id"];
      t.equal(name, `agent.${nodeId}.${labels["com.docker.swarm.task.id"]}`);
    }
    t.match(await must(m1, "service", "ls", "--format", "{{.Mode}} {{.Replicas}}"), "global 5/5");
    t.match(await swarmd(m1, ["service", "scale", "agent=3"]), {
      code: 1,
      stderr: /scale can only be used with replicated or replicated-job mode/,
    });
    await remove("agent");
  });

  await t.test("limits are set on the container", async t => {
    const limits = ["--limit-cpu", "0.5", "--limit-memory", "64m", "--limit-pids", "50"];
    await create("limited", ...limits, APP);
    await untilRunning(m1, "limited", 1);
    const [container] = await census(hosts);
    const found = await inspect(lab.host(container?.host ?? ""), container);
    t.match(found.HostConfig, {
      NanoCpus: 500_000_000,
      Memory: 64 * 1024 * 1024,
      PidsLimit: 50,
    });
    await remove("limited");
  });

  await t.test("reservations are respected, and what is missing is said in numbers", async t => {
    await create("heavy", "--replicas", "6", "--reserve-cpu", "1.5", APP);
    const running = await until("five run, one waits", async () => {
      const now = await runningOf(m1, "heavy");
      return now.length === 5 ? now : null;
    });
    t.equal(new Set(running.map(task => task.NodeID)).size, 5, "one a node of two CPUs");
    const waiting = await pending(m1, "heavy");
    t.match(waiting.Status.Err, /^no suitable node \(insufficient resources on 5 nodes/);
    t.match(waiting.Status.Err, /1\.5.*0\.5/, "how much is wanted and how much is free");
    t.match(await must(m1, "service", "ps", "--no-trunc", "heavy"), /"no suitable node \(insuff/);
    await must(m1, "service", "update", "-d", "--reserve-cpu", "0.5", "heavy");
    await untilRunning(m1, "heavy", 6);
    await remove("heavy");
  });

  await t.test("no more than the replicas allowed run on a node", async t => {
    await create("few", "--replicas", "6", "--replicas-max-per-node", "1", APP);
    await until("five run", async () => (await runningOf(m1, "few")).length === 5);
    t.match(
      (await pending(m1, "few")).Status.Err,
      /max replicas per node limit exceed\): limit of 1 reached on 5 nodes$/,
    );
    t.match(await must(m1, "service", "ls"), /5\/6 \(max 1 per node\)/);
    await remove("few");
  });

  await t.test("constraints of every kind place tasks", async t => {
    await must(m1, "node", "update", "--label-add", "zone=a", "w1");
    await must(m1, "node", "update", "--label-add", "zone=a", "m2");
    const all = ["m1", "m2", "m3", "w1", "w2"];
    const w2 = (await nodeOf(m1, "w2")).ID;
    const table: readonly (readonly [string, readonly string[], readonly string[]])[] = [
      ["by-id", [`node.id==${w2}`], ["w2"]],
      ["by-name", ["node.hostname==m3"], ["m3"]],
      ["by-role", ["node.role==worker"], ["w1", "w2"]],
      ["not-role", ["node.role!=worker"], ["m1", "m2", "m3"]],
      ["by-label", ["node.labels.zone==a"], ["m2", "w1"]],
      ["not-label", ["node.labels.zone != a"], ["m1", "m3", "w2"]],
      ["by-engine", ["engine.labels.disk==fast"], all],
      ["by-os", ["node.platform.os==linux"], all],
      ["by-arch", [`node.platform.arch==${process.arch === "x64" ? "x86_64" : "aarch64"}`], all],
      ["both", ["node.role==manager", "node.labels.zone==a"], ["m2"]],
      ["none", ["engine.labels.disk==slow"], []],
    ];
    await Promise.all(
      table.map(([name, constraints]) =>
        create(name, "--mode", "global", ...constraints.flatMap(c => ["--constraint", c]), APP),
      ),
    );
    for (const [name, constraints, expected] of table) {
      const tasks = await untilRunning(m1, name, expected.length);
      t.same(hostnames(tasks, names), expected, constraints.join(" and "));
    }
    await create("nowhere", "--constraint", "node.hostname==m9", APP);
    t.match(
      (await pending(m1, "nowhere")).Status.Err,
      /^no suitable node \(scheduling constraints not satisfied on 5 nodes/,
    );
    await must(m1, "node", "update", "--label-rm", "zone", "w1");
    const moved = await untilRunning(m1, "by-label", 1);
    t.same(hostnames(moved, names), ["m2"], "a node that lost the label loses the task");
    await remove(...table.map(([name]) => name), "nowhere");
  });

  await t.test("nodes are drained, paused and made active again", async t => {
    await create("spread", "--replicas", "5", APP);
    await untilRunning(m1, "spread", 5);
    const before = await census(hosts);
    await must(m1, "node", "update", "--availability", "drain", "w1");
    await until("w1 is empty", async () => (await census([lab.host("w1")])).length === 0);
    const five = hostnames(await untilRunning(m1, "spread", 5), names);
    const others = before.filter(({ host }) => host !== "w1");
    t.same(await disturbances(lab, others), [], "the other nodes' tasks stay");
    await must(m1, "node", "update", "--availability", "pause", "w2");
    await must(m1, "service", "scale", "-d", "spread=8");
    const eight = hostnames(await untilRunning(m1, "spread", 8), names);
    const onW2 = (all: readonly string[]): number => all.filter(name => name === "w2").length;
    t.equal(onW2(eight), onW2(five), "a paused node keeps what it has");
    t.notOk(eight.includes("w1"));
    const settled = await census(hosts);
    await must(m1, "node", "update", "--availability", "active", "w1");
    await must(m1, "node", "update", "--availability", "active", "w2");
    await must(m1, "service", "scale", "-d", "spread=10");
    const ten = hostnames(await untilRunning(m1, "spread", 10), names);
    t.ok(ten.filter(name => name === "w1").length >= 1, "an active node gets new tasks");
    t.same(await disturbances(lab, settled), [], "nothing is moved to it");
    await remove("spread");
  });

  await t.test("a rolling update goes by its parallelism, delay and order", async t => {
    const pace = ["--update-parallelism", "2", "--update-delay", "1s"];
    await create("rolled", "--replicas", "6", ...pace, APP);
    await untilRunning(m1, "rolled", 6);
    await must(m1, "service", "update", "-d", "--image", "swarmd/app:2", "rolled");
    const fewest = await lowest(m1, "rolled", "completed");
    t.ok(fewest >= 4, `stop-first: never fewer than 4 of 6, was ${fewest}`);
    t.same(imagesOf(await untilRunning(m1, "rolled", 6)), Array(6).fill("swarmd/app:2"));
    const batches = startTimes(await runningOf(m1, "rolled"));
    const [, one = 0, two = 0, three = 0, four = 0] = batches;
    t.ok(two - one >= 1_000, "the delay passes between batches");
    t.ok(four - three >= 1_000);
    const order = ["--update-order", "start-first", "--update-delay", "0s"];
    await must(m1, "service", "update", "-d", ...order, "--image", "swarmd/app:3", "rolled");
    const least = await lowest(m1, "rolled", "completed");
    t.equal(least, 6, "start-first: never fewer than 6");
    t.same(imagesOf(await untilRunning(m1, "rolled", 6)), Array(6).fill("swarmd/app:3"));
    await remove("rolled");
  });

  await t.test("what needs no new task restarts none", async t => {
    await create("calm", "--replicas", "3", APP);
    await untilRunning(m1, "calm", 3);
    const before = await census(hosts);
    await must(m1, "service", "update", "-q", "--label-add", "x=y", "--update-delay", "3s", "calm");
    t.same(await disturbances(lab, before), [], "labels and update settings");
    await must(m1, "service", "update", "-q", "--force", "--update-delay", "0s", "calm");
    t.equal((await disturbances(lab, before)).length, 3, "--force restarts all");
    await remove("calm");
  });

  await t.test("a failing update pauses", async t => {
    // Within the delay the first failure shows; without it the next task would be on its way.
    const pace = ["--update-delay", "3s", "--restart-delay", "500ms"];
    await create("fragile", "--replicas", "4", ...pace, APP);
    await untilRunning(m1, "fragile", 4);
    const before = await census(hosts);
    const result = await swarmd(m1, ["service", "update", "--image", "swarmd/app:fail", "fragile"]);
    t.match(result, {
      code: 1,
      stderr: /^service update paused: update paused due to failure or early termination of task /,
    });
    t.equal((await serviceOf(m1, "fragile")).UpdateStatus?.State, "paused");
    t.equal((await disturbances(lab, before)).length, 1, "the other three run on");
    t.match(await must(m1, "service", "rollback", "fragile"), /^fragile\n/);
    const back = await untilUpdate("fragile", "rollback_completed");
    t.equal(back.Spec.TaskTemplate?.ContainerSpec?.Image, APP);
    t.same(imagesOf(await untilRunning(m1, "fragile", 4)), Array(4).fill(APP));
    t.equal((await disturbances(lab, before)).length, 1, "nor does the rollback touch them");
  });

  await t.test("a failing update goes on when it is told to", async t => {
    const action = ["--update-failure-action", "continue", "--restart-condition", "none"];
    const pace = ["--update-delay", "0s"];
    await must(
      m1,
      "service",
      "update",
      "-d",
      ...action,
      ...pace,
      "--image",
      "swarmd/app:fail",
      "fragile",
    );
    await untilUpdate("fragile", "completed");
    const tasks = await tasksOf(m1, "fragile");
    t.equal(tasks.filter(task => task.Status.State === "failed").length >= 4, true);
    t.equal((await runningOf(m1, "fragile")).length, 0, "all four were replaced and failed");
    await remove("fragile");
  });

  await t.test("a failing update rolls back by itself", async t => {
    const action = ["--update-failure-action", "rollback", "--restart-delay", "500ms"];
    await create("careful", "--replicas", "3", "--update-delay", "3s", ...action, APP);
    await untilRunning(m1, "careful", 3);
    const before = await census(hosts);
    const result = await swarmd(m1, ["service", "update", "--image", "swarmd/app:fail", "careful"]);
    t.match(result, { code: 1, stderr: /^service rolled back: rollback completed/ });
    t.match(await untilUpdate("careful", "rollback_completed"), {
      Spec: { TaskTemplate: { ContainerSpec: { Image: APP } } },
    });
    await untilRunning(m1, "careful", 3);
    t.equal((await disturbances(lab, before)).length, 1, "only the one that was tried");
    await remove("careful");
  });

  await t.test("a rollback by hand, and another, go back and forth", async t => {
    await create("toggled", "--replicas", "2", APP);
    await untilRunning(m1, "toggled", 2);
    t.match(await swarmd(m1, ["service", "rollback", "toggled"]), {
      code: 1,
      stderr: /service \w{25} does not have a previous spec/,
    });
    await must(m1, "service", "update", "-q", "--image", "swarmd/app:2", "toggled");
    for (const image of [APP, "swarmd/app:2"]) {
      await must(m1, "service", "rollback", "-q", "toggled");
      t.same(imagesOf(await untilRunning(m1, "toggled", 2)), [image, image]);
    }
    await must(m1, "service", "update", "--rollback", "-q", "toggled");
    t.same(imagesOf(await untilRunning(m1, "toggled", 2)), [APP, APP]);
    await remove("toggled");
  });

  await t.test("the restart policy decides what follows an end", async t => {
    const once = ["--restart-delay", "200ms"];
    const attempts = ["--restart-condition", "on-failure", "--restart-max-attempts", "2"];
    await create("tries", ...once, ...attempts, "swarmd/app:fail");
    await create("succeeds", ...once, "--restart-condition", "on-failure", "swarmd/app:done");
    await create("single", ...once, "--restart-condition", "none", "swarmd/app:fail");
    await create("again", ...once, "--restart-condition", "any", "swarmd/app:done");
    const states = async (name: string): Promise<string[]> =>
      (await tasksOf(m1, name)).map(task => task.Status.State);
    await until("it was tried three times", async () => {
      const all = await states("tries");
      return all.length === 3 && all.every(state => state === "failed");
    });
    t.match((await tasksOf(m1, "tries"))[0]?.Status, {
      Err: /task: non-zero exit \(1\)/,
      ContainerStatus: { ExitCode: 1 },
    });
    await until("it is run again and again", async () => (await states("again")).length >= 4);
    t.same(await states("tries"), ["failed", "failed", "failed"], "and not a fourth time");
    t.same(await states("succeeds"), ["complete"]);
    t.same(await states("single"), ["failed"]);
    await remove("tries", "succeeds", "single", "again");
  });

  await t.test("a health check decides when a task runs, and ends it", async t => {
    const check = ["--health-interval", "300ms", "--health-retries", "2", "--health-timeout", "2s"];
    const ready = "sleep 2; touch /tmp/ready; sleep 3600 & wait";
    await create(
      "checked",
      "--health-cmd",
      "test -e /tmp/ready",
      ...check,
      "--health-start-period",
      "20s",
      "busybox",
      "sh",
      "-c",
      ready,
    );
    const starting = await until("it starts", async () => {
      const [task] = await tasksOf(m1, "checked");
      return task?.Status.State === "starting" ? task : null;
    });
    const [running] = await untilRunning(m1, "checked", 1);
    t.equal(running?.ID, starting.ID);
    const [container] = await census(hosts);
    const late =
      Date.parse(running?.Status.Timestamp ?? "") - Date.parse(container?.startedAt ?? "");
    t.ok(late >= 1_500, `it counts as running once it is healthy, ${late} ms after its start`);
    const host = lab.host(container?.host ?? "");
    await host.docker(["exec", container?.id ?? "", "rm", "/tmp/ready"]);
    const failed = await until("it is replaced", async () => {
      const task = (await tasksOf(m1, "checked")).find(one => one.ID === running?.ID);
      return task?.Status.State === "failed" ? task : null;
    });
    t.match(failed.Status.Err, /unhealthy/);
    await remove("checked");
  });

  await t.test("an image that exists nowhere is rejected, and not in a hot loop", async t => {
    await create("lost", "--restart-delay", "1s", "nowhere.invalid/none:1");
    const rejected = await until("it was tried four times", async () => {
      const all = await tasksOf(m1, "lost");
      return all.filter(task => task.Status.State === "rejected").length >= 4 ? all : null;
    });
    t.match(rejected[0]?.Status.Err, /No such image: nowhere\.invalid\/none:1/);
    // The next try is prepared while the delay passes, so that one may fail early; no more do.
    const [first = 0, , third = 0, fourth = 0] = rejected.map(task => Date.parse(task.CreatedAt));
    t.ok(third - first >= 1_000, "one restart delay has passed before the third");
    t.ok(fourth - first >= 2_000, "and two before the fourth");
    t.match(await must(m1, "service", "ps", "--no-trunc", "lost"), /Rejected .*"No such image/);
    await remove("lost");
  });

  await t.test("ports in host mode are published on the tasks' nodes", async t => {
    const port = "published=8085,target=80,mode=host";
    await create("site", "--mode", "global", "--publish", port, "swarmd/web:2");
    await untilRunning(m1, "site", 5);
    for (const host of hosts) {
      const url = `http://${host.addr}:8085/cgi-bin/index.cgi`;
      const answer = await until(`${host.name} serves`, async () => {
        const result = await httpGet(lab, url);
        return result.code === 0 ? result.stdout : null;
      });
      t.match(answer, / v2 /, host.name);
    }
    t.match(await must(m1, "service", "ps", "site"), /\*:8085->80\/tcp$/m);
    await create("rival", "--replicas", "1", "--publish", port, "swarmd/web:1");
    t.match((await pending(m1, "rival")).Status.Err, /host-mode port already in use on 5 nodes/);
    await remove("site", "rival");
  });

  await t.test("logs come from every node to any manager", async t => {
    const [manager] = await followersOf(lab);
    if (manager === undefined) throw new Error("no follower");
    const script =
      'echo "start $SLOT"; echo "oops $SLOT" >&2; i=0; while :; do i=$((i+1)); echo "line $i"; sleep 1; done';
    await create(
      "talk",
      "--replicas",
      "5",
      "-e",
      "SLOT={{.Task.Slot}}",
      "busybox",
      "sh",
      "-c",
      script,
    );
    await untilRunning(m1, "talk", 5);
    const logs = (...args: string[]) => swarmd(manager, ["service", "logs", ...args, "talk"]);
    const all = await until("all have spoken", async () => {
      const result = await logs();
      return /start 5/.test(result.stdout) && /oops 5/.test(result.stderr) ? result : null;
    });
    for (const slot of [1, 2, 3, 4, 5]) {
      t.match(all.stdout, new RegExp(`^talk\\.${slot}\\.\\w{12}@[mw]\\d +\\| start ${slot}$`, "m"));
      t.match(all.stderr, new RegExp(`\\| oops ${slot}$`, "m"), "the error stream apart");
    }
    const tail = (await logs("--tail", "1", "--raw")).stdout.trim().split("\n");
    t.ok(tail.length <= 5 && tail.every(line => /^line \d+$/.test(line)), "the last of each task");
    await until("all have gone on for a while", async () => {
      const { stdout } = await logs();
      return (stdout.match(/\| line 4$/gm) ?? []).length === 5;
    });
    t.notMatch((await logs("--since", "2s")).stdout, /start/, "what came before is left out");
    const [task] = await runningOf(m1, "talk");
    const ofTask = await swarmd(manager, ["service", "logs", "--raw", task?.ID ?? ""]);
    t.match(ofTask.stdout, new RegExp(`^start ${task?.Slot}$`, "m"), "of one task");
    t.match(await manager.swarmDocker(["service", "logs", "--raw", "talk"]), /^start 4$/m);
    const followed = await run(
      manager.execCommand([
        "timeout",
        "4",
        "swarmd",
        "service",
        "logs",
        "-f",
        "--tail",
        "0",
        "talk",
      ]),
      { env: manager.loginEnv() },
    );
    const seen = new Set([...followed.stdout.matchAll(/^talk\.(\d)\./gm)].map(match => match[1]));
    t.equal(seen.size, 5, "new lines of all tasks are followed");
    t.notMatch(followed.stdout, /start/);
    t.match(await logs("--tail", "x"), { code: 2, stderr: /invalid argument "x" for "--tail"/ });
    t.match(await swarmd(m1, ["service", "logs", "nothing"]), {
      code: 1,
      stderr: "Error response from daemon: no such task or service: nothing\n",
    });
    await remove("talk");
  });

  await t.test("the docker command line and any manager do the same", async t => {
    for (const manager of hosts.filter(host => host.role === "manager")) {
      const name = `via-${manager.name}`;
      const printed = await manager.swarmDocker([
        "service",
        "create",
        "--name",
        name,
        "--replicas",
        "2",
        ...QUICK,
        APP,
      ]);
      t.match(printed, /verify: Service \w+ converged|verify: Service converged/);
      await manager.swarmDocker(["service", "update", "-q", "--replicas", "3", name]);
      await untilRunning(m1, name, 3);
      t.match(
        await manager.swarmDocker(["service", "ps", name]),
        /Running \d+ seconds? ago|less than/i,
      );
      await manager.swarmDocker(["service", "rm", name]);
    }
    t.same(await api<unknown[]>(m1, "GET", "/services"), []);
    await until("nothing is left", async () => (await census(hosts)).length === 0);
  });
});

/** The task that waits, once it says why. */
function pending(host: LabHost, service: string): Promise<ApiTask> {
  return until(`a task of ${service} says why it waits`, async () =>
    (await tasksOf(host, service)).find(
      task => task.Status.State === "pending" && (task.Status.Err ?? "") !== "",
    ),
  );
}

/** The fewest tasks that ran at once until the update came to `state`. */
async function lowest(host: LabHost, service: string, state: string): Promise<number> {
  let fewest = Number.POSITIVE_INFINITY;
  await until(`the update of ${service} is ${state}`, async () => {
    const tasks = await tasksOf(host, service);
    const running = tasks.filter(task => task.Status.State === "running").length;
    fewest = Math.min(fewest, running);
    return (await serviceOf(host, service)).UpdateStatus?.State === state;
  });
  return fewest;
}

function startTimes(tasks: readonly ApiTask[]): number[] {
  return tasks.map(task => Date.parse(task.Status.Timestamp)).sort((a, b) => a - b);
}

interface Inspected {
  readonly HostConfig: Readonly<Record<string, unknown>>;
}

async function inspect(host: LabHost, container: Container | undefined): Promise<Inspected> {
  const path = `/containers/${container?.id}/json`;
  return (await request(host.dockerSocketPath, "GET", path)).body as Inspected;
}
