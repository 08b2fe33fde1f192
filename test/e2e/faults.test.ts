import t from "tap";
import type { LabHost } from "../lab/lab.ts";
import {
  api,
  type Container,
  census,
  disturbances,
  labUnavailable,
  leaderOf,
  must,
  nodeOf,
  startLab,
  swarmd,
  until,
  untilRunning,
} from "../support/e2e.ts";

/** What breaks, and that no healthy container is stopped by it: real kills, cuts and power losses. */

const TIMEOUT_MS = 900_000;
const REPLICAS = 6;
/** A minority has to say so within this; it waits 5 s for a leader. */
const REFUSAL_LIMIT_MS = 15_000;

const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

t.test("faults", { skip }, async t => {
  const lab = await startLab(t, "faults");
  const hosts = lab.hosts();
  const managers = hosts.filter(host => host.role === "manager");
  const [m1] = managers;
  if (m1 === undefined) throw new Error("a lab has a manager");
  let writes = 0;

  /** A write that any manager must be able to do now; its trace is read back. */
  const write = async (host: LabHost): Promise<void> => {
    writes += 1;
    const name = `write-${writes}`;
    await api(host, "POST", "/configs/create", { Name: name, Data: "eA==" });
    await api(host, "GET", `/configs/${name}`);
  };
  const whole = async (): Promise<void> => {
    await until("every node is ready and every manager reachable", async () => {
      const states = await Promise.all(
        hosts.map(async ({ name }) => (await nodeOf(await leaderOf(lab), name)) ?? null),
      );
      return states.every(
        node =>
          node.Status.State === "ready" &&
          (node.ManagerStatus?.Reachability ?? "reachable") === "reachable",
      );
    });
    await untilRunning(await leaderOf(lab), "web", REPLICAS);
  };
  const undisturbed = async (before: readonly Container[], what: string): Promise<void> => {
    t.same(await disturbances(lab, before), [], `${what}: no container was stopped or restarted`);
  };

  await must(m1, "service", "create", "-d", "--name", "web", "--replicas", "6", "swarmd/app:1");
  await untilRunning(m1, "web", REPLICAS);

  await t.test("leader SIGKILL", async t => {
    const before = await census(hosts);
    const leader = await leaderOf(lab);
    await leader.kill();
    const others = managers.filter(({ name }) => name !== leader.name);
    const [survivor] = others;
    if (survivor === undefined) throw new Error("three managers");
    await until("a write after the leader's death", () => write(survivor).then(() => true));
    t.not((await leaderOf(lab, others)).name, leader.name);
    await leader.start();
    await whole();
    await undisturbed(before, "leader SIGKILL");
  });

  await t.test("leader cut off, then healed", async t => {
    const before = await census(hosts);
    const leader = await leaderOf(lab);
    await leader.cut();
    const others = managers.filter(({ name }) => name !== leader.name);
    const [survivor] = others;
    if (survivor === undefined) throw new Error("three managers");
    await until("a write on the majority's side", () => write(survivor).then(() => true));
    const body = { Name: "lost", Data: "eA==" };
    const refused = await leader.request("POST", "/configs/create", body, {
      timeoutMs: REFUSAL_LIMIT_MS,
    });
    t.equal(refused.status >= 500, true, "the leader that was cut off takes no write");
    t.match(refused.text, /does not have a leader|quorum|leader/);
    await leader.heal();
    await whole();
    const names = await api<{ readonly Spec: { readonly Name: string } }[]>(
      leader,
      "GET",
      "/configs",
    );
    t.notOk(
      names.some(({ Spec }) => Spec.Name === "lost"),
      "what was refused is not there",
    );
    await undisturbed(before, "a leader cut off for less than its node's grace");
  });

  await t.test("a write on a minority is refused promptly, and containers run on", async t => {
    const before = await census(hosts);
    const leader = await leaderOf(lab);
    const followers = managers.filter(({ name }) => name !== leader.name);
    for (const follower of followers) await follower.kill();
    const answer = await leader.request(
      "POST",
      "/configs/create",
      { Name: "minority", Data: "eA==" },
      { timeoutMs: REFUSAL_LIMIT_MS },
    );
    t.match(answer, { status: 503, text: /The swarm does not have a leader/ });
    const said = await swarmd(leader, ["service", "scale", "-d", "web=1"]);
    t.match(said, { code: 1, stderr: /does not have a leader/ });
    for (const follower of followers) await follower.start();
    await whole();
    await undisturbed(before, "a lost quorum");
  });

  await t.test("no manager at all: containers run on", async () => {
    const before = await census(hosts);
    for (const manager of managers) await manager.kill();
    await undisturbed(before, "no manager");
    for (const manager of managers) await manager.start();
    await whole();
    await undisturbed(before, "managers back");
  });

  await t.test("the daemon restarts on every host in turn", async () => {
    const before = await census(hosts);
    for (const host of hosts) {
      await host.stop();
      await host.start();
      await whole();
    }
    await undisturbed(before, "restarts in turn");
  });

  await t.test("a worker's daemon is away: its tasks go on and are adopted", async () => {
    const before = await census(hosts);
    const worker = lab.host("w1");
    await worker.kill();
    await undisturbed(before, "a dead worker daemon");
    await worker.start();
    await whole();
    await undisturbed(before, "an adopted task");
  });

  await t.test("a worker loses its power: replicas elsewhere, none too many after", async t => {
    const worker = lab.host("w2");
    const before = (await census(hosts)).filter(({ host }) => host !== "w2");
    await worker.poweroff();
    await until("the node is down", async () => {
      const node = await nodeOf(await leaderOf(lab), "w2");
      return node.Status.State === "down";
    });
    const running = await untilRunning(await leaderOf(lab), "web", REPLICAS);
    const gone = (await nodeOf(await leaderOf(lab), "w2")).ID;
    t.notOk(
      running.some(({ NodeID }) => NodeID === gone),
      "none is counted where nothing runs",
    );
    await worker.poweron();
    await whole();
    await until("exactly as many containers as replicas", async () => {
      const web = (await census(hosts)).filter(({ name }) => name.includes("web."));
      return web.length === REPLICAS;
    });
    await undisturbed(before, "another host's power loss");
  });

  await t.test("the Engine of a worker restarts under a running swarmd", async () => {
    const before = (await census(hosts)).filter(({ host }) => host !== "w1");
    await lab.host("w1").restartEngine();
    await whole();
    await undisturbed(before, "another host's Engine");
  });
});
