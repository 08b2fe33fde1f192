import t from "tap";
import {
  type Container,
  census,
  labUnavailable,
  must,
  swarmd,
  tasksOf,
  until,
  untilRunning,
} from "../support/e2e.ts";
import { overlayRig, PAGE } from "../support/overlay-rig.ts";

/** Addresses that users choose, and networks that are apart, with real packets. */

const TIMEOUT_MS = 600_000;
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

interface Place {
  readonly IPAddress: string;
  readonly GlobalIPv6Address: string;
  readonly MacAddress: string;
  readonly DriverOpts: Readonly<Record<string, string>> | null;
}

t.test("addresses", { skip }, async t => {
  const rig = await overlayRig(t, "addresses", { managers: 1, workers: 2 });
  const { lab, m1, create, inside, one, page: fetch } = rig;
  const network = (name: string, subnet: string, ...args: string[]): Promise<string> => {
    const subnets = ["--subnet", `10.${subnet}.0.0/24`, "--subnet", `fd00:${subnet}::/64`];
    const flags = ["-d", "overlay", "--ipv6", "--attachable", ...subnets, ...args];
    return m1.swarmDocker(["network", "create", ...flags, name]);
  };
  const placeIn = async (where: Container, net: string): Promise<Place> => {
    const format = "{{json .NetworkSettings.Networks}}";
    const text = await lab.host(where.host).docker(["inspect", "-f", format, where.id]);
    const place = (JSON.parse(text) as Record<string, Place>)[net];
    if (place === undefined) throw new Error(`${where.name} is not on ${net}`);
    return place;
  };
  const label = (kind: string, value: string): string[] => [
    "--label",
    `swarmd.network.red.${kind}=${value}`,
  ];

  await network("red", "31");
  await network("blue", "32");

  await t.test("a task has the addresses and the MAC that labels say", async t => {
    await create(
      ...(["db", "--network", "name=red,alias=data,driver-opt=com.example.key=1"] as const),
      ...["--constraint", "node.role==worker", "--restart-delay", "0s"],
      ...label("ipv4", "10.31.0.77"),
      ...label("ipv6", "fd00:31::77"),
      ...[...label("mac", "02:00:00:00:00:77"), "swarmd/web:1"],
    );
    await create("app", "--mode", "global", "--network", "red", "swarmd/web:2");
    await untilRunning(m1, "db", 1);
    await untilRunning(m1, "app", 3);
    const db = await one("db");
    t.match(await placeIn(db, "red"), {
      IPAddress: "10.31.0.77",
      GlobalIPv6Address: "fd00:31::77",
      MacAddress: "02:00:00:00:00:77",
      DriverOpts: { "com.example.key": "1" },
    });
    t.match(await inside(db, "cat", "/sys/class/net/eth0/address"), /^02:00:00:00:00:77/);
    const app = await one("app");
    for (const host of ["10.31.0.77", "[fd00:31::77]", "data"]) {
      t.match(await fetch(app, host), / v1 /, `answers at ${host}`);
    }
    await must(m1, "service", "update", "-d", "--image", "swarmd/web:3", "db");
    await until("an update keeps them", async () => / v3 /.test(await fetch(app, "[fd00:31::77]")));
    t.match(await fetch(app, "10.31.0.77"), / v3 /);
  });

  await t.test("what cannot be is refused, and says whose it is", async t => {
    const refused = async (...args: string[]): Promise<string> => {
      const all = ["service", "create", "-d", "--name", "no", "--network", "red"];
      return (await swarmd(m1, [...all, ...args, "swarmd/web:1"])).stderr;
    };
    t.match(await refused(...label("ipv4", "10.31.0.77")), /in use by .*service 'db'/);
    t.match(await refused(...label("vip", "10.31.0.77")), /in use by .*service 'db'/);
    t.match(await refused(...label("ipv4", "10.31.0.1")), /not one that network red gives/);
    t.match(
      await refused("--replicas", "2", ...label("ipv4", "10.31.0.78")),
      /one task alone can have/,
    );
    t.match((await swarmd(m1, ["service", "scale", "-d", "db=2"])).stderr, /one task alone/);
    const run = (...args: string[]): Promise<string> =>
      m1.swarmDocker(["run", "-d", "--network", "red", ...args, "swarmd/web:1"]);
    await t.rejects(run("--name", "p0", "--ip", "10.31.0.77"), /in use by .*service 'db'/);
    await t.rejects(run("--name", "p1", "--ip6", "fd00:99::1"), /outside|invalid|not/i);
    await m1.swarmDocker(["rm", "-f", "p0", "p1"]).catch(() => undefined);
  });

  await t.test("a service has the virtual addresses that labels say", async t => {
    const fixed = [...label("vip", "10.31.0.200"), ...label("vip6", "fd00:31::200")];
    await create("front", "--replicas", "2", "--network", "red", ...fixed, "swarmd/web:1");
    await untilRunning(m1, "front", 2);
    const app = await one("app");
    for (const host of ["10.31.0.200", "[fd00:31::200]"]) {
      await until(`${host} answers`, async () => / v1 /.test(await fetch(app, host)));
    }
    await must(m1, "service", "rm", "front");
    t.pass();
  });

  await t.test("docker run --ip and --ip6, network connect --ip", async t => {
    const run = ["run", "-d", "--network", "red", "--name"];
    const own = ["--ip", "10.31.0.90", "--ip6", "fd00:31::90"];
    await m1.swarmDocker([...run, "plain", ...own, "swarmd/web:1"]);
    await m1.swarmDocker(["run", "-d", "--name", "late", "swarmd/web:2"]);
    await m1.swarmDocker(["network", "connect", "--ip", "10.32.0.91", "blue", "late"]);
    const db = await one("db");
    t.match(await fetch(db, "10.31.0.90"), / v1 /);
    t.match(await fetch(db, "[fd00:31::90]"), / v1 /);
    const format = '{{(index .NetworkSettings.Networks "blue").IPAddress}}';
    t.equal((await m1.docker(["inspect", "-f", format, "late"])).trim(), "10.32.0.91");
    const twice = [...run, "twin", "--ip", "10.31.0.90", "swarmd/web:1"];
    await t.rejects(m1.swarmDocker(twice), /in use by a container on node m1/);
    await m1.swarmDocker(["rm", "-f", "plain", "late", "twin"]);
    await until("it is free again", async () => {
      const ran = await m1.swarmDocker(twice).catch(() => null);
      if (ran === null) await m1.swarmDocker(["rm", "-f", "twin"]).catch(() => undefined);
      return ran !== null;
    });
    await m1.swarmDocker(["rm", "-f", "twin"]);
  });

  await t.test("no packet goes from one network to another, nor from the mesh", async t => {
    const pinned = (role: string): string[] => ["--constraint", `node.hostname==${role}`];
    await create("far", ...pinned("w1"), "--network", "blue", "swarmd/web:3");
    await create("near", ...pinned("m1"), "--network", "blue", "swarmd/web:3");
    const both = ["--network", "red", "--network", "blue", "-p", "8080:80"];
    await create("both", ...pinned("m1"), ...both, "swarmd/web:1");
    await create("pub", ...pinned("w2"), "-p", "8081:80", "swarmd/web:1");
    for (const name of ["far", "near", "both", "pub"]) await untilRunning(m1, name, 1);
    const app = (await census([m1])).find(({ name }) => name.startsWith("app."));
    if (app === undefined) throw new Error("app is on every host");
    const targets = await Promise.all(["far", "near"].map(name => one(name)));
    const counted = await Promise.all(targets.map(watch));
    for (const target of targets) {
      const { IPAddress, GlobalIPv6Address } = await placeIn(target, "blue");
      t.equal(await fetch(app, IPAddress), "FAILED");
      t.equal(await fetch(app, `[${GlobalIPv6Address}]`), "FAILED");
      t.match(await fetch(await one("both"), IPAddress), / v3 /, "unless on both");
      t.match(await fetch(await one("both"), `[${GlobalIPv6Address}]`), / v3 /);
    }
    const format = "{{json .Endpoint.VirtualIPs}}";
    const vips = await m1.swarmDocker(["service", "inspect", "-f", format, "far"]);
    for (const { Addr } of JSON.parse(vips) as { Addr: string }[]) {
      const vip = Addr.split("/")[0] ?? "";
      t.equal(await fetch(app, vip.includes(":") ? `[${vip}]` : vip), "FAILED");
    }
    const pub = await one("pub");
    const ingress = await placeIn(await one("both"), "ingress");
    t.equal(await fetch(pub, ingress.IPAddress), "FAILED", "task to task by ingress");
    t.equal(await fetch(pub, `[${ingress.GlobalIPv6Address}]`), "FAILED");
    const [first] = targets;
    if (first === undefined) throw new Error("there are two");
    const blue = await placeIn(first, "blue");
    for (const [family, net, via] of [
      ["-4", "10.32.0.0/24", m1.addr],
      ["-6", "fd00:32::/64", m1.addr6],
    ] as const) {
      await lab.asClient(["ip", family, "route", "replace", net, "via", via]);
    }
    for (const host of [blue.IPAddress, `[${blue.GlobalIPv6Address}]`]) {
      const { code } = await lab.asClient([
        ...["timeout", "3", "busybox", "wget", "-q", "-O", "-", `http://${host}${PAGE}`],
      ]);
      t.not(code, 0, `a client has no way to ${host}`);
    }
    for (const count of counted) t.equal(await count(), 0, "nothing has arrived");
    await must(m1, "service", "rm", "far", "near", "both", "pub");

    /** Counts what reaches a container on blue from anywhere but blue. */
    async function watch(where: Container): Promise<() => Promise<number>> {
      const host = lab.host(where.host);
      const format = "{{.State.Pid}}";
      const pid = (await host.docker(["inspect", "-f", format, where.id])).trim();
      const enter = ["nsenter", "-t", pid, "-n", "nft"];
      const rules = `table inet seen {
        counter strange { }
        chain in {
          type filter hook input priority 0;
          iifname "eth0" ip saddr != 10.32.0.0/24 counter name strange
          iifname "eth0" ip6 saddr != { fd00:32::/64, fe80::/10 } counter name strange
        }
      }`;
      await host.exec([...enter, "-f", "-"], { input: rules });
      return async () => {
        const text = await host.exec([...enter, "list", "counter", "inet", "seen", "strange"]);
        return Number(/packets (\d+)/.exec(text)?.[1]);
      };
    }
  });

  await t.test("an address goes with its service from a host that lost its power", async t => {
    const before = await one("db");
    const app = (await census([m1])).find(({ name }) => name.startsWith("app."));
    if (app === undefined) throw new Error("app is on every host");
    await lab.host(before.host).poweroff();
    await until("it answers from elsewhere", async () => {
      const answers = await Promise.all([fetch(app, "10.31.0.77"), fetch(app, "[fd00:31::77]")]);
      return answers.every(text => / v3 /.test(text));
    });
    t.not((await one("db")).host, before.host);
    await lab.host(before.host).poweron();
    await until("its old task has ended", async () =>
      (await tasksOf(m1, "db")).every(
        task => task.DesiredState === "running" || task.Status.State !== "running",
      ),
    );
    t.match(await fetch(app, "[fd00:31::77]"), / v3 /);
  });
});
