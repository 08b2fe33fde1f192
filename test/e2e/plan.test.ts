import t from "tap";
import type { ServicePlan } from "../../src/model/service-plan.ts";
import {
  census,
  followersOf,
  labUnavailable,
  must,
  nodesOf,
  runningOf,
  startLab,
  swarmd,
  tasksOf,
  until,
  untilRunning,
} from "../support/e2e.ts";

/** What is told before it happens, and updates that need a node of their own. */

const TIMEOUT_MS = 300_000;
const APP = "swarmd/app:1";
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

t.test("plans", { skip }, async t => {
  const lab = await startLab(t, "plan", { mode: "bare" });
  const [m1, m2, w1, w2] = [lab.host("m1"), lab.host("m2"), lab.host("w1"), lab.host("w2")];
  await must(m1, "init", "--advertise-addr", m1.addr);
  const token = async (role: string): Promise<string> =>
    (await must(m1, "join-token", "-q", role)).trim();
  const join = async (host: typeof m1, role: string): Promise<string> =>
    must(host, "join", "--token", await token(role), `${m1.addr}:2377`);

  await t.test("a node has its name as soon as it has joined", async t => {
    for (const host of [w1, w2, m2]) {
      await join(host, host === m2 ? "manager" : "worker");
      const names = (await nodesOf(m1)).map(node => node.Description?.Hostname);
      t.ok(names.includes(host.name), `${host.name} is among ${names.join(", ")}`);
    }
    await join(lab.host("m3"), "manager");
    await until("all are ready", async () =>
      (await nodesOf(m1)).every(({ Status }) => Status.State === "ready"),
    );
  });

  await t.test("a plan tells beforehand what then happens, from any manager", async t => {
    const [follower = m1] = await followersOf(lab);
    const spec = ["--replicas", "7", "--reserve-cpu", "1.5", APP];
    const plan = await swarmd(follower, ["plan", "create", "--json", "--name", "seven", ...spec]);
    t.equal(plan.code, 1, "two tasks would wait");
    t.match(plan.stderr, /^2 tasks would wait$/m);
    const told = JSON.parse(plan.stdout) as ServicePlan;
    const hostnames = lab.hosts().map(({ name }) => name);
    t.same(
      told.nodes.map(({ hostname, added }) => `${hostname} ${added}`),
      hostnames.sort().map(name => `${name} 1`),
    );
    t.equal((await must(m1, "service", "ls", "-q")).trim(), "", "nothing was made");
    await must(m1, "service", "create", "-d", "--name", "seven", ...spec);
    await until("five run", async () => (await runningOf(m1, "seven")).length === 5);
    const waiting = await until("a reason", async () => {
      const tasks = await tasksOf(m1, "seven");
      return tasks.find(task => (task.Status.Err ?? "") !== "")?.Status.Err;
    });
    t.equal(waiting, told.waiting[0]?.reason);
    const smaller = await must(follower, "plan", "update", "--replicas", "3", "seven");
    t.match(smaller, /^NODE +KEPT +NEW +REMOVED\n/);
    t.equal(smaller.split("\n").filter(line => / 0 +0 +1$/.test(line)).length, 2, smaller);
    await must(m1, "service", "rm", "seven");
    const bad = await swarmd(follower, ["plan", "update", "--replicas", "3", "nosuch"]);
    t.match(bad, { code: 1, stderr: /service nosuch not found/ });
  });

  await t.test(
    "with a port of the host the new task starts first where a node is free",
    async t => {
      const port = "published=8086,target=80,mode=host";
      const order = ["--update-order", "start-first", "--update-monitor", "1s"];
      const constraint = ["--constraint", "node.role==worker"];
      const args = ["-d", "--name", "edge", "--publish", port, ...order, ...constraint];
      await must(m1, "service", "create", ...args, "swarmd/web:1");
      const [old] = await untilRunning(m1, "edge", 1);
      await must(m1, "service", "update", "-d", "--env-add", "X=1", "edge");
      const fresh = await until("the new one runs", async () => {
        const running = await runningOf(m1, "edge");
        return running.find(task => task.ID !== old?.ID);
      });
      t.not(fresh.NodeID, old?.NodeID, "beside the old one, on the other worker");
      await untilRunning(m1, "edge", 1);
      await must(m1, "node", "update", "--availability", "drain", w1.name);
      const [moved] = await untilRunning(m1, "edge", 1);
      await must(m1, "service", "update", "-d", "--env-add", "X=2", "edge");
      const only = await until("another runs in its place", async () => {
        const [task] = await runningOf(m1, "edge");
        return task !== undefined && task.ID !== moved?.ID ? task : null;
      });
      t.equal(only.NodeID, moved?.NodeID, "the only node for it");
      await must(m1, "service", "rm", "edge");
      await until("its containers are gone", async () => (await census([w1, w2])).length === 0);
    },
  );
});
