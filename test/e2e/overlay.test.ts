import t from "tap";
import type { LabHost } from "../lab/lab.ts";
import {
  type Container,
  census,
  containersOf,
  labUnavailable,
  must,
  startLab,
  tasksOf,
  until,
  untilRunning,
} from "../support/e2e.ts";
import { askUdp, ENOUGH_REQUESTS, requestMany, sendUdp, startUdpEcho } from "../support/load.ts";
import { type Attached, HEALTHY, overlayRig, PAGE, SEEN_RULES } from "../support/overlay-rig.ts";

/** Overlay networks with real packets: containers, names, virtual addresses, published ports. */

const TIMEOUT_MS = 600_000;
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

const ROLLING_REQUESTS = 10_000;
/** The audit comes every 3 s; the rest is a busy machine. */
const REPAIR_TIMEOUT_MS = 40_000;

t.test("overlay networks", { skip }, async t => {
  const rig = await overlayRig(t, "overlay");
  const { lab, hosts, m1, create, containers, inside, one, fetch, addressOf } = rig;
  const network = (name: string, ...args: string[]): Promise<string> =>
    m1.swarmDocker(["network", "create", "-d", "overlay", ...args, name]);
  const lookUp = (where: Container, name: string): Promise<string[]> =>
    rig.lookUp(where, name, "a");

  await network("blue");
  await network("green");
  await create("web", "--replicas", "5", "--network", "blue", ...HEALTHY, "swarmd/web:1");
  await create("app", "--mode", "global", "--network", "blue", "swarmd/web:2");
  await untilRunning(m1, "web", 5);
  await untilRunning(m1, "app", 5);

  await t.test("containers reach each other across hosts at the addresses of the API", async t => {
    const [from, ...others] = await containers("app");
    if (from === undefined) throw new Error("app runs");
    for (const to of others) {
      const address = await addressOf(to, "blue");
      const answer = await fetch(from, `http://${address}${PAGE}`);
      t.equal(answer.trim(), `${to.id.slice(0, 12)} v2 ${await addressOf(from, "blue")}`);
    }
    const tasks = await tasksOf(m1, "app");
    const stated = tasks.flatMap(
      task => (task as Attached).NetworksAttachments?.[0]?.Addresses ?? [],
    );
    const real = await Promise.all([from, ...others].map(where => addressOf(where, "blue")));
    t.same(stated.map(text => text.split("/")[0]).sort(), real.sort());
  });

  await t.test("a service has one name and one address, and all its tasks serve", async t => {
    const from = await one("app");
    t.equal((await lookUp(from, "web")).length, 1);
    t.equal((await lookUp(from, "tasks.web")).length, 5);
    t.equal((await lookUp(from, "WEB.blue")).length, 1);
    const answers = await Promise.all(
      Array.from({ length: 60 }, () => fetch(from, `http://web${PAGE}`)),
    );
    const served = new Set(answers.map(answer => answer.split(" ")[0]));
    t.same([...served].sort(), (await containers("web")).map(({ id }) => id.slice(0, 12)).sort());
    const self = await one("web");
    const own = await Promise.all(
      Array.from({ length: 20 }, () => fetch(self, `http://web${PAGE}`)),
    );
    t.notOk(own.includes("FAILED"), "a task reaches its own service, itself included");
    const [target] = await containers("web");
    if (target === undefined) throw new Error("web runs");
    t.same(await lookUp(from, target.name), [await addressOf(target, "blue")]);
    const reverse = (await addressOf(target, "blue")).split(".").reverse().join(".");
    const ptr = `nslookup -type=ptr ${reverse}.in-addr.arpa 127.0.0.11 || true`;
    t.match(await inside(from, "sh", "-c", ptr), target.name);
  });

  await t.test("dnsrr: the name is the tasks", async t => {
    await create(
      "rr",
      "--replicas",
      "3",
      "--network",
      "blue",
      "--endpoint-mode",
      "dnsrr",
      "swarmd/web:3",
    );
    await untilRunning(m1, "rr", 3);
    const from = await one("app");
    const addresses = await Promise.all((await containers("rr")).map(c => addressOf(c, "blue")));
    await until("the name has all three", async () => (await lookUp(from, "rr")).length === 3);
    t.same(await lookUp(from, "rr"), addresses.sort());
    await must(m1, "service", "rm", "rr");
    await until("the name is gone", async () => (await lookUp(from, "rr")).length === 0);
  });

  await t.test("networks are apart, unless a task is on both", async t => {
    await create("far", "--network", "green", "swarmd/web:3");
    await create("both", "--network", "blue", "--network", "green", "swarmd/web:1");
    await untilRunning(m1, "far", 1);
    await untilRunning(m1, "both", 1);
    const [far, both, app] = [await one("far"), await one("both"), await one("app")];
    t.same(await lookUp(app, "far"), [], "no name");
    const address = await addressOf(far, "green");
    t.equal(await fetch(app, `http://${address}${PAGE}`), "FAILED", "and no way");
    t.match(await fetch(both, `http://far${PAGE}`), / v3 /);
    t.match(await fetch(both, `http://web${PAGE}`), / v1 /);
    t.match(await fetch(far, `http://both${PAGE}`), / v1 /);
    await must(m1, "service", "rm", "far", "both");
    const namespaces = async (host: LabHost): Promise<string[]> =>
      (await host.exec(["ip", "netns"])).split("\n").filter(line => line.startsWith("swarmd-"));
    await until("green is on no host any more", async () => {
      const left = await Promise.all(hosts.map(async host => (await namespaces(host)).length));
      const engines = await Promise.all(
        hosts.map(host => host.docker(["network", "ls", "-q", "--filter", "name=green"])),
      );
      return left.every(count => count === 1) && engines.every(text => text === "");
    });
  });

  await t.test("a published port answers on every host, and sees the client", async t => {
    await create(
      "site",
      "--replicas",
      "2",
      "-p",
      "8080:80",
      "--network",
      "blue",
      ...HEALTHY,
      "swarmd/web:2",
    );
    await create("echo", "--replicas", "1", "-p", "7007:7/udp", "swarmd/web:1");
    await untilRunning(m1, "site", 2);
    await untilRunning(m1, "echo", 1);
    const udp = await startUdpEcho(lab, await one("echo"));
    t.teardown(() => udp.stop());
    for (const host of hosts) {
      const url = `http://${host.addr}:8080${PAGE}`;
      await until(
        `${host.name} answers`,
        async () => (await requestMany(lab, [url], 1)).failed === 0,
      );
      const { answers } = await requestMany(lab, [url], ENOUGH_REQUESTS);
      t.equal(new Set(answers.map(text => text.split(" ")[0])).size, 2, `${host.name}: both tasks`);
      t.same([...new Set(answers.map(text => text.split(" ")[2]))], ["10.77.0.254"]);
      t.equal(await askUdp(lab, host.addr, 7007), "10.77.0.254", `${host.name}: UDP too`);
      for (const own of ["127.0.0.1", host.addr]) {
        const local = await host.tryExec([
          "busybox",
          "wget",
          "-q",
          "-O",
          "-",
          `http://${own}:8080${PAGE}`,
        ]);
        t.match(local.stdout, / v2 /, `${host.name}: at ${own}`);
      }
    }
    const app = await one("app");
    t.match(await fetch(app, `http://${m1.addr}:8080${PAGE}`), / v2 /, "from a container");
    const site = await one("site");
    const ownHost = lab.host(site.host).addr;
    t.match(await fetch(site, `http://${ownHost}:8080${PAGE}`), / v2 /, "from a task of its own");
    t.match(await fetch(site, `http://web${PAGE}`), / v1 /, "which is on its other network too");
    await must(m1, "service", "rm", "echo");
  });

  await t.test("a task has ports of its host beside published ones", async t => {
    await create(
      ...(["mix", "--replicas", "1", "-p", "8082:80"] as const),
      ...["-p", "mode=host,published=8092,target=80", "swarmd/web:1"],
    );
    await untilRunning(m1, "mix", 1);
    const own = lab.host((await one("mix")).host);
    const published = hosts.map(host => `http://${host.addr}:8082${PAGE}`);
    const urls = [...published, `http://${own.addr}:8092${PAGE}`];
    const { failed, answers, errors } = await requestMany(lab, urls, urls.length * 2);
    t.equal(failed, 0, errors.join(", "));
    t.same([...new Set(answers.map(text => text.split(" ")[2]))], ["10.77.0.254"]);
    await must(m1, "service", "rm", "mix");
  });

  await t.test("a plain container joins an attachable network", async t => {
    await network("open", "--attachable");
    await create("on", "--network", "open", "--constraint", "node.hostname==w1", "swarmd/web:3");
    await untilRunning(m1, "on", 1);
    await m1.swarmDocker(["run", "-d", "--name", "plain", "--network", "open", "swarmd/web:1"]);
    await m1.swarmDocker(["run", "-d", "--name", "late", "swarmd/web:2"]);
    await m1.swarmDocker(["network", "connect", "open", "late"]);
    const inPlain = (...words: string[]): Promise<string> => m1.docker(["exec", "plain", ...words]);
    const get = ["timeout", "5", "wget", "-q", "-O", "-"];
    t.match(await inPlain(...get, `http://on${PAGE}`), / v3 /, "it reaches a service by its name");
    const format = '{{(index .NetworkSettings.Networks "open").IPAddress}}';
    const addresses = await Promise.all(
      ["plain", "late"].map(async name =>
        (await m1.docker(["inspect", "-f", format, name])).trim(),
      ),
    );
    const on = await one("on");
    t.match(await fetch(on, `http://${addresses[0]}${PAGE}`), / v1 /, "and is reached");
    t.match(
      await fetch(on, `http://${addresses[1]}${PAGE}`),
      / v2 /,
      "as is one that was connected",
    );
    t.equal(new Set([...addresses, await addressOf(on, "open")]).size, 3, "no address twice");
    await m1.swarmDocker(["rm", "-f", "plain", "late"]);
    await must(m1, "service", "rm", "on");
    await until("the network can be removed", async () => {
      const removed = await m1.swarmDocker(["network", "rm", "open"]).catch(() => null);
      return removed !== null;
    });
    t.pass();
  });

  await t.test("a rolling update loses no request", async t => {
    await must(m1, "service", "scale", "-d", "site=10");
    await untilRunning(m1, "site", 10);
    const urls = hosts.map(host => `http://${host.addr}:8080${PAGE}`);
    await must(
      m1,
      "service",
      "update",
      "-d",
      "--update-parallelism",
      "2",
      "--image",
      "swarmd/web:3",
      "site",
    );
    const load = await requestMany(lab, urls, ROLLING_REQUESTS);
    t.equal(load.failed, 0, load.errors.join(", "));
    const versions = new Set(load.answers.map(text => text.split(" ")[1]));
    t.same([...versions].sort(), ["v2", "v3"], "it was under way meanwhile");
    await until("the update is done", async () => {
      const running = await containers("site");
      return (
        running.length === 10 &&
        (await requestMany(lab, urls, 50)).answers.every(a => / v3 /.test(a))
      );
    });
  });

  await t.test("what other hands break is repaired", async t => {
    const from = await one("app");
    const host = lab.host(from.host);
    const name = (await host.exec(["ip", "netns"]))
      .split("\n")
      .map(line => line.split(" ")[0] ?? "");
    for (const ns of name.filter(one => one.startsWith("swarmd-"))) {
      await host.exec(["nsenter", `--net=/run/netns/${ns}`, "nft", "flush", "ruleset"]);
      await host.exec(["ip", "-n", ns, "route", "flush", "dev", "vx0"]);
    }
    await host.exec(["nft", "delete", "table", "ip", "swarmd"]);
    await until(
      "names, addresses and ports work again",
      async () => {
        const answer = await fetch(from, `http://web${PAGE}`);
        const url = `http://${host.addr}:8080${PAGE}`;
        return / v1 /.test(answer) && (await requestMany(lab, [url], 1)).failed === 0;
      },
      REPAIR_TIMEOUT_MS,
    );
    const spaces = name.filter(one => one.startsWith("swarmd-")).sort();
    for (const ns of spaces) await host.exec(["ip", "netns", "del", ns]);
    await until("the namespaces are back", async () => {
      const now = (await host.exec(["ip", "netns"])).split("\n").map(line => line.split(" ")[0]);
      return spaces.every(ns => now.includes(ns));
    });
    await until("with the containers in them", async () => {
      const url = `http://${host.addr}:8080${PAGE}`;
      const answers = await Promise.all([
        fetch(from, `http://web${PAGE}`),
        fetch(from, `http://${from.name}${PAGE}`),
      ]);
      return !answers.includes("FAILED") && (await requestMany(lab, [url], 20)).failed === 0;
    });
    t.pass();
  });

  await t.test("packets flow while swarmd is dead, and names are back with it", async t => {
    const from = await one("app");
    const host = lab.host(from.host);
    const [vip = ""] = await lookUp(from, "web");
    await host.kill();
    for (let i = 0; i < 10; i += 1) t.match(await fetch(from, `http://${vip}${PAGE}`), / v1 /);
    await host.start();
    await until("names are answered", async () => (await lookUp(from, "web")).length === 1);
    t.match(await fetch(from, `http://web${PAGE}`), / v1 /);
  });

  await t.test("a host that lost its power takes its place again", async t => {
    const w2 = lab.host("w2");
    const from = (await containers("app")).find(({ host }) => host !== "w2");
    if (from === undefined) throw new Error("app runs on every host");
    await w2.poweroff();
    await until("nobody is sent there", async () => {
      const all = await Promise.all(
        Array.from({ length: 12 }, () => fetch(from, `http://web${PAGE}`)),
      );
      return !all.includes("FAILED");
    });
    await w2.poweron();
    await untilRunning(m1, "app", 5);
    const url = `http://${w2.addr}:8080${PAGE}`;
    await until("its port answers", async () => (await requestMany(lab, [url], 1)).failed === 0);
    // The managers may not have missed the host: its task of before may still count as running.
    const back = await until(
      "a container runs on w2",
      async () => (await containersOf(w2)).find(({ running }) => running) ?? null,
    );
    await until("its containers reach others", async () =>
      / v1 /.test(await fetch(back, `http://web${PAGE}`)),
    );
    t.pass();
  });

  await t.test("a published port goes with its service", async t => {
    await must(m1, "service", "rm", "site");
    const urls = hosts.map(host => `http://${host.addr}:8080${PAGE}`);
    await until(
      "nobody answers",
      async () => (await requestMany(lab, urls, urls.length)).failed === urls.length,
    );
    for (const host of hosts) {
      const rules = await host.tryExec(["nft", "list", "table", "ip", "swarmd"]);
      t.notMatch(rules.stdout, /8080/);
    }
  });
});

t.test("without the tools a task with networks is refused, with the reason", { skip }, async t => {
  const lab = await startLab(t, "overlay-off", {
    managers: 1,
    workers: 0,
    daemonArgs: ["--network-plugin", "none"],
  });
  const m1 = lab.host("m1");
  await m1.swarmDocker(["network", "create", "-d", "overlay", "blue"]);
  await must(
    m1,
    "service",
    "create",
    "-d",
    "--name",
    "web",
    "--network",
    "blue",
    ...["--restart-condition", "none"],
    "swarmd/web:1",
  );
  const [task] = await until("it is refused", async () => {
    const tasks = await tasksOf(m1, "web");
    return tasks.some(({ Status }) => Status.State === "rejected") ? tasks : null;
  });
  t.match(task?.Status.Err, /overlay networks are not available on this node/);
  t.same(await census(lab.hosts()), [], "and runs nowhere else instead");
});

t.test("an encrypted network", { skip }, async t => {
  const lab = await startLab(t, "overlay-wg", { managers: 1, workers: 1 });
  const m1 = lab.host("m1");
  const w1 = lab.host("w1");
  const rules = await lab.asClient(["nft", "-f", "-"], { input: SEEN_RULES });
  t.equal(rules.code, 0, rules.stderr);
  const seen = async (name: string): Promise<number> => {
    const { stdout } = await lab.asClient(["nft", "list", "counter", "bridge", "seen", name]);
    return Number(/packets (\d+)/.exec(stdout)?.[1]);
  };
  await m1.swarmDocker(["network", "create", "-d", "overlay", "--opt", "encrypted", "secret"]);
  await must(
    m1,
    "service",
    "create",
    "-d",
    "--name",
    "web",
    "--mode",
    "global",
    "--network",
    "secret",
    "swarmd/web:1",
  );
  await untilRunning(m1, "web", 2);
  const onM1 = (await containersOf(m1)).find(({ running }) => running);
  const onW1 = (await containersOf(w1)).find(({ running }) => running);
  if (onM1 === undefined || onW1 === undefined) throw new Error("web runs on both");
  const ask = (): Promise<string> =>
    m1
      .docker([
        "exec",
        onM1.id,
        "timeout",
        "5",
        "wget",
        "-q",
        "-O",
        "-",
        `http://${onW1.name}${PAGE}`,
      ])
      .catch(() => "FAILED");

  await t.test("carries packets, and none of them in the clear", async t => {
    await until("the hosts have met", async () => / v1 /.test(await ask()));
    const before = await seen("sealed");
    for (let i = 0; i < 5; i += 1) t.match(await ask(), / v1 /);
    t.ok((await seen("sealed")) - before >= 20, "they went through the mesh");
    t.equal(await seen("plain"), 0);
  });

  await t.test("takes no frame from outside the mesh, and sends none beside it", async t => {
    const dropped = async (chain: string): Promise<number> => {
      const rules = await w1.exec(["nft", "list", "chain", "ip", "swarmd", chain]);
      return Number(/counter packets (\d+)/.exec(rules)?.[1]);
    };
    await sendUdp(lab, w1.addr, 4790, "08000000001001000253000000010253000000020800");
    await until("it is dropped at the door", async () => (await dropped("guard_in")) > 0);
    await w1.exec(["ip", "link", "set", "swg0", "down"]);
    await w1.exec(["ip", "route", "replace", "default", "dev", "eth0"]);
    await w1
      .docker([
        "exec",
        onW1.id,
        "timeout",
        "2",
        "wget",
        "-q",
        "-O",
        "-",
        `http://${onM1.name}${PAGE}`,
      ])
      .catch(() => "");
    t.equal(await seen("plain"), 0);
    await w1.exec(["ip", "link", "set", "swg0", "up"]);
  });

  await t.test("is refused where there is no WireGuard", async t => {
    await w1.stop();
    const key = (await w1.exec(["sh", "-c", "command -v wg"])).trim();
    await w1.exec(["mount", "--bind", "/dev/null", key]);
    await w1.start();
    await must(m1, "service", "update", "-d", "--force", "--restart-condition", "none", "web");
    await until("it says why", async () =>
      (await tasksOf(m1, "web")).some(({ Status }) =>
        /is encrypted, and this node cannot encrypt: missing program: wg/.test(Status.Err ?? ""),
      ),
    );
    t.pass();
  });
});
