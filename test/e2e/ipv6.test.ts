import t from "tap";
import {
  type Container,
  labUnavailable,
  must,
  tasksOf,
  until,
  untilRunning,
} from "../support/e2e.ts";
import { askUdp, ENOUGH_REQUESTS, requestMany, startUdpEcho } from "../support/load.ts";
import { type Attached, HEALTHY, overlayRig, PAGE, SEEN_RULES } from "../support/overlay-rig.ts";

/** IPv6 in overlay networks and at published ports, with real packets; hosts speak IPv4. */

const TIMEOUT_MS = 600_000;
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

const CLIENT = "fd77::fe";
const ROLLING_REQUESTS = 3_000;
const REPAIR_TIMEOUT_MS = 40_000;
/** 1450 less the headers of IPv6 and ICMP. */
const LARGEST_PING = "1402";
interface Inspected {
  readonly EnableIPv6: boolean;
  readonly IPAM: { readonly Config: readonly { readonly Subnet: string }[] };
}

t.test("IPv6", { skip }, async t => {
  const rig = await overlayRig(t, "ipv6", { managers: 1, workers: 2 });
  const { lab, hosts, m1, create, containers, inside, one, page: fetch } = rig;
  const lookUp = (where: Container, name: string): Promise<string[]> =>
    rig.lookUp(where, name, "aaaa");
  const addressOf = (where: Container, net: string): Promise<string> =>
    rig.addressOf(where, net, "ipv6");
  const inspected = async (name: string): Promise<Inspected> => {
    const text = await m1.swarmDocker(["network", "inspect", name]);
    const [network] = JSON.parse(text) as Inspected[];
    if (network === undefined) throw new Error(`no network ${name}`);
    return network;
  };
  const subnetsOf = async (name: string): Promise<string[]> =>
    (await inspected(name)).IPAM.Config.map(({ Subnet }) => Subnet);

  await t.test("a network has the subnets asked for, or the cluster's own", async t => {
    const make = (name: string, ...args: string[]): Promise<string> =>
      m1.swarmDocker(["network", "create", "-d", "overlay", ...args, name]);
    await make("blue", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64");
    await make("auto", "--ipv6", "--attachable");
    t.same(await subnetsOf("blue"), ["10.30.0.0/24", "fd00:30::/64"]);
    const [, own = ""] = await subnetsOf("auto");
    t.match(own, /^fd[0-9a-f]{2}:.*::\/64$/);
    t.equal((await inspected("auto")).EnableIPv6, true);
    await t.rejects(make("odd", "--subnet", "fd00:31::/64"), /add --ipv6/);
    await t.rejects(make("odd", "--ipv6", "--subnet", "fd00:30::/56"), /overlaps/);
  });

  await create("web", "--mode", "global", "--network", "blue", ...HEALTHY, "swarmd/web:1");
  await untilRunning(m1, "web", 3);

  await t.test("containers reach each other across hosts at the addresses of the API", async t => {
    const [from, ...others] = await containers("web");
    if (from === undefined) throw new Error("web runs");
    const own = await addressOf(from, "blue");
    for (const to of others) {
      const answer = await fetch(from, `[${await addressOf(to, "blue")}]`);
      t.equal(answer.trim(), `${to.id.slice(0, 12)} v1 ${own}`);
      const ping = ["ping", "-c", "1", "-W", "2", "-s"];
      const address = await addressOf(to, "blue");
      t.match(await inside(from, ...ping, LARGEST_PING, address), / 0% packet loss/);
      t.match(await inside(from, ...ping, "4000", address), / 0% packet loss/, "in fragments");
    }
    const stated = (await tasksOf(m1, "web")).flatMap(
      task => (task as Attached).NetworksAttachments?.[0]?.Addresses?.[1] ?? [],
    );
    const real = await Promise.all([from, ...others].map(where => addressOf(where, "blue")));
    t.same(stated.sort(), real.map(addr => `${addr}/64`).sort());
  });

  await t.test("a service has one name and an address of each family", async t => {
    const from = await one("web");
    const format = "{{json .Endpoint.VirtualIPs}}";
    const text = await m1.swarmDocker(["service", "inspect", "-f", format, "web"]);
    const vips = (JSON.parse(text) as { Addr: string }[]).map(({ Addr }) => Addr.split("/")[0]);
    t.match(vips, [/^10\.30\.0\./, /^fd00:30::/]);
    const shown = await must(m1, "network", "inspect", "--pretty", "blue");
    t.match(shown, `${vips[0]}/24, ${vips[1]}/64`);
    await until("every node says it has what it should", async () => {
      const words = await must(m1, "network", "inspect", "-f", "{{.DataPath.inStep}}", "blue");
      return words.trim() === "true";
    });
    t.same(await lookUp(from, "web"), [vips[1]]);
    t.same((await lookUp(from, "tasks.web")).length, 3);
    const answers = await Promise.all(
      Array.from({ length: 30 }, () => fetch(from, `[${vips[1]}]`)),
    );
    t.notOk(answers.includes("FAILED"), "itself included");
    t.equal(new Set(answers.map(answer => answer.split(" ")[0])).size, 3, "all its tasks serve");
    const [to] = await containers("web");
    if (to === undefined) throw new Error("web runs");
    const reverse = `nslookup -type=ptr ${arpaOf(await addressOf(to, "blue"))} 127.0.0.11`;
    t.match(await inside(from, "sh", "-c", `${reverse} || true`), to.name);
    await create(
      ...(["rr", "--replicas", "2", "--network", "blue"] as const),
      ...["--endpoint-mode", "dnsrr", "swarmd/web:3"],
    );
    await untilRunning(m1, "rr", 2);
    const tasks = await Promise.all((await containers("rr")).map(c => addressOf(c, "blue")));
    await until("dnsrr gives both", async () => (await lookUp(from, "rr")).length === 2);
    t.same(await lookUp(from, "rr"), tasks.sort());
    await must(m1, "service", "rm", "rr");
  });

  await t.test("a published port answers on every host, and sees the client", async t => {
    await create("site", "--replicas", "2", "-p", "8080:80", ...HEALTHY, "swarmd/web:2");
    await create("echo", "--replicas", "1", "-p", "7007:7/udp", "swarmd/web:1");
    await untilRunning(m1, "site", 2);
    await untilRunning(m1, "echo", 1);
    const udp = await startUdpEcho(lab, await one("echo"));
    t.teardown(() => udp.stop());
    for (const host of hosts) {
      const url = `http://[${host.addr6}]:8080${PAGE}`;
      const answered = async (): Promise<boolean> =>
        (await requestMany(lab, [url], 1)).failed === 0;
      await until(`${host.name} answers`, answered);
      const { answers } = await requestMany(lab, [url], ENOUGH_REQUESTS);
      t.equal(new Set(answers.map(text => text.split(" ")[0])).size, 2, `${host.name}: both tasks`);
      t.same([...new Set(answers.map(text => text.split(" ")[2]))], [CLIENT]);
      t.equal(await askUdp(lab, host.addr6, 7007), CLIENT, `${host.name}: UDP too`);
      for (const own of ["::1", host.addr6]) {
        const ask = ["busybox", "wget", "-q", "-O", "-", `http://[${own}]:8080${PAGE}`];
        t.match((await host.tryExec(ask)).stdout, / v2 /, `${host.name}: at ${own}`);
      }
    }
    await must(m1, "service", "rm", "echo");
  });

  await t.test("a task has ports of its host beside published ones", async t => {
    await create(
      ...(["mix", "--replicas", "1", "-p", "8082:80"] as const),
      ...["-p", "mode=host,published=8092,target=80", "swarmd/web:1"],
    );
    await untilRunning(m1, "mix", 1);
    const urls = hosts.map(host => `http://[${host.addr6}]:8082${PAGE}`);
    const { failed, answers, errors } = await requestMany(lab, urls, urls.length * 2);
    t.equal(failed, 0, errors.join(", "));
    t.same([...new Set(answers.map(text => text.split(" ")[2]))], [CLIENT]);
    await must(m1, "service", "rm", "mix");
  });

  await t.test("a rolling update loses no request", async t => {
    await must(m1, "service", "scale", "-d", "site=6");
    await untilRunning(m1, "site", 6);
    const urls = hosts.map(host => `http://[${host.addr6}]:8080${PAGE}`);
    const update = ["--update-parallelism", "2", "--image", "swarmd/web:3"];
    await must(m1, "service", "update", "-d", ...update, "site");
    const load = await requestMany(lab, urls, ROLLING_REQUESTS);
    t.equal(load.failed, 0, load.errors.join(", "));
    const versions = new Set(load.answers.map(text => text.split(" ")[1]));
    t.same([...versions].sort(), ["v2", "v3"], "it was under way meanwhile");
  });

  await t.test("what other hands break is repaired", async t => {
    const from = await one("web");
    const host = lab.host(from.host);
    const works = async (): Promise<boolean> => {
      const [vip = ""] = await lookUp(from, "web").catch(() => []);
      const answers = await Promise.all(Array.from({ length: 6 }, () => fetch(from, `[${vip}]`)));
      const url = `http://[${host.addr6}]:8080${PAGE}`;
      return !answers.includes("FAILED") && (await requestMany(lab, [url], 6)).failed === 0;
    };
    await until("it works", works);
    const spaces = (await host.exec(["ip", "netns"]))
      .split("\n")
      .map(line => line.split(" ")[0] ?? "")
      .filter(name => name.startsWith("swarmd-"));
    for (const ns of spaces) {
      const enter = ["nsenter", `--net=/run/netns/${ns}`];
      await host.exec([...enter, "nft", "delete", "table", "ip6", await tableIn(ns)]);
      await host.exec(["ip", "-6", "-n", ns, "route", "flush", "dev", "vx0"]);
      await host.exec(["ip", "-6", "-n", ns, "neigh", "flush", "dev", "vx0", "nud", "permanent"]);
    }
    async function tableIn(ns: string): Promise<string> {
      const enter = ["nsenter", `--net=/run/netns/${ns}`];
      return (
        /table ip6 (\w+)/.exec(await host.exec([...enter, "nft", "list", "tables"]))?.[1] ?? ""
      );
    }
    await host.exec(["nft", "delete", "table", "ip6", "swarmd"]);
    await until("rules and routes are back", works, REPAIR_TIMEOUT_MS);
    for (const ns of spaces) await host.exec(["ip", "netns", "del", ns]);
    await until("containers are in new namespaces", works, REPAIR_TIMEOUT_MS);
    t.pass();
  });

  await t.test("a plain container joins with both addresses, and gives them back", async t => {
    await create("on", "--network", "auto", "--constraint", "node.hostname==w1", "swarmd/web:3");
    await untilRunning(m1, "on", 1);
    await m1.swarmDocker(["run", "-d", "--name", "plain", "--network", "auto", "swarmd/web:1"]);
    const get = ["timeout", "5", "wget", "-q", "-O", "-"];
    const on = await one("on");
    const target = `http://[${await addressOf(on, "auto")}]${PAGE}`;
    const answer = await m1.docker(["exec", "plain", ...get, target]);
    const format = '{{(index .NetworkSettings.Networks "auto").GlobalIPv6Address}}';
    const own = (await m1.docker(["inspect", "-f", format, "plain"])).trim();
    t.equal(answer.trim().split(" ")[2], own);
    t.match(await fetch(on, `[${own}]`), / v1 /, "and is reached");
    await m1.swarmDocker(["rm", "-f", "plain"]);
    await must(m1, "service", "rm", "on");
    await until("the network can be removed", async () => {
      const removed = await m1.swarmDocker(["network", "rm", "auto"]).catch(() => null);
      return removed !== null;
    });
  });

  await t.test("an encrypted network carries it, and none of it in the clear", async t => {
    await must(m1, "service", "rm", "web", "site");
    const rules = await lab.asClient(["nft", "-f", "-"], { input: SEEN_RULES });
    t.equal(rules.code, 0, rules.stderr);
    const seen = async (name: string): Promise<number> => {
      const { stdout } = await lab.asClient(["nft", "list", "counter", "bridge", "seen", name]);
      return Number(/packets (\d+)/.exec(stdout)?.[1]);
    };
    const options = ["-d", "overlay", "--ipv6", "--opt", "encrypted"];
    await m1.swarmDocker(["network", "create", ...options, "secret"]);
    await create("dark", "--mode", "global", "--network", "secret", "swarmd/web:1");
    await untilRunning(m1, "dark", 3);
    const [from, to] = await containers("dark");
    if (from === undefined || to === undefined) throw new Error("dark runs");
    const target = `[${await addressOf(to, "secret")}]`;
    await until("the hosts have met", async () => / v1 /.test(await fetch(from, target)));
    const [before, plain] = [await seen("sealed"), await seen("plain")];
    for (let i = 0; i < 5; i += 1) t.match(await fetch(from, target), / v1 /);
    t.ok((await seen("sealed")) - before >= 20, "through the mesh");
    t.equal(await seen("plain"), plain);
  });
});

/** The name that a PTR query for an address asks about. */
function arpaOf(address: string): string {
  const [head = "", tail = ""] = address.split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const missing = 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...Array.from({ length: missing }, () => "0"), ...groups(tail)];
  const digits = all.map(group => group.padStart(4, "0")).join("");
  return `${[...digits].reverse().join(".")}.ip6.arpa`;
}
