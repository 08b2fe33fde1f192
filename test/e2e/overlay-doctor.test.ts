import t from "tap";
import type { DoctorReport, NetworkStatus } from "../../src/model/data-path-status.ts";
import { namespaceOf } from "../../src/overlay/core/names.ts";
import type { LabHost } from "../lab/lab.ts";
import { labUnavailable, must, startLab, swarmd, until, untilRunning } from "../support/e2e.ts";

/** What is blocked between hosts, and what nodes have of a network, told by the nodes themselves. */

const TIMEOUT_MS = 300_000;
/** Damage is found and told of within this: the audit comes every 3 s, the rest is a busy machine. */
const AUDIT_LIMIT_MS = 40_000;
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

t.test("the network is looked at by the command line", { skip }, async t => {
  const lab = await startLab(t, "doctor", { managers: 1, workers: 2 });
  const [m1, w1, w2] = [lab.host("m1"), lab.host("w1"), lab.host("w2")];
  const examine = async (): Promise<{ code: number; report: DoctorReport }> => {
    const { code, stdout } = await swarmd(m1, ["network", "doctor", "--json"]);
    return { code, report: JSON.parse(stdout) as DoctorReport };
  };
  const ways = ({ report }: { report: DoctorReport }): string[] =>
    report.findings.map(({ what, from, to }) => `${what} ${from} ${to}`).sort();
  const status = async (name: string): Promise<NetworkStatus> => {
    const [network] = JSON.parse(await must(m1, "network", "inspect", name)) as readonly {
      readonly DataPath: NetworkStatus;
    }[];
    if (network === undefined) throw new Error(`${name} is there`);
    return network.DataPath;
  };
  const block = (host: LabHost, what: string): Promise<string> =>
    host.exec(["nft", "-f", "-"], { input: firewall(what) });
  const isInStep = async (name: string): Promise<boolean> => (await status(name)).inStep;

  await m1.swarmDocker(["network", "create", "-d", "overlay", "blue"]);
  await must(
    m1,
    ...["service", "create", "-d", "--name", "web", "--mode", "global"],
    ...["--network", "blue", "-p", "8080:80", "swarmd/web:1"],
  );
  await untilRunning(m1, "web", 3);

  await t.test("all ways are open", async t => {
    const found = await examine();
    t.same(ways(found), []);
    t.equal(found.code, 0);
    t.match(found.report.ways, [
      { what: "control", tried: 3, open: 3 },
      { what: "vxlan", tried: 6, open: 6 },
      { what: "mtu", tried: 6, open: 6 },
    ]);
  });

  await t.test("every node has what it should", async t => {
    for (const name of ["blue", "ingress"]) {
      await until(`${name} is in step`, () => isInStep(name));
      const { nodes, services } = await status(name);
      t.same(
        nodes.map(({ hostname, endpoints }) => [hostname, endpoints.length]),
        ["m1", "w1", "w2"].map(host => [host, 1]),
      );
      t.match(services, [{ name: "web", serving: 3 }]);
      for (const { report } of nodes) {
        t.ok((report?.wanted?.backends ?? 0) >= 3);
        t.same(report?.programmed, report?.wanted);
      }
    }
    t.match(await must(m1, "network", "inspect", "--pretty", "blue"), /w2 .*in step/);
  });

  await t.test("a firewall that drops tunnels one way is found, and named", async t => {
    await block(w1, `ip saddr ${m1.addr} udp dport 4789`);
    const found = await examine();
    t.same(ways(found), ["vxlan m1 w1"]);
    t.equal(found.code, 1);
    t.match(found.report.findings[0]?.advice, /UDP port 4789/);
    const { stdout } = await swarmd(m1, ["network", "doctor"]);
    t.match(stdout, /FAIL VXLAN: 5 of 6 ways/);
    await w1.exec(["nft", "delete", "table", "ip", "firewall"]);
    t.same(ways(await examine()), [], "and it is open again");
  });

  await t.test("a link with a smaller MTU than its ends is found, with its size", async t => {
    await w2.exec(["ip", "link", "set", "eth0", "mtu", "1300"]);
    const found = await examine();
    t.same(ways(found), ["mtu m1 w2", "mtu w1 w2"]);
    // A veth lets a VLAN tag's four bytes pass on top.
    t.match(found.report.findings[0]?.problem, /packets of up to 130[04] bytes pass/);
    await w2.exec(["ip", "link", "set", "eth0", "mtu", "1500"]);
  });

  await t.test("a mesh that is blocked is found", async t => {
    await m1.swarmDocker(["network", "create", "-d", "overlay", "--opt", "encrypted", "secret"]);
    await must(
      m1,
      ...["service", "create", "-d", "--name", "hidden", "--mode", "global"],
      ...["--network", "secret", "swarmd/web:1"],
    );
    await untilRunning(m1, "hidden", 3);
    t.same(ways(await examine()), []);
    await block(w1, "udp dport 51820");
    const found = await examine();
    t.same(ways(found), ["wireguard m1 w1", "wireguard w2 w1"]);
    await w1.exec(["nft", "delete", "table", "ip", "firewall"]);
    await until("the mesh works again", async () => ways(await examine()).length === 0);
  });

  await t.test("what other hands break is found within 10 s, mended and told", async t => {
    const { id } = await status("blue");
    const inside = ["nsenter", `--net=/run/netns/${namespaceOf(id)}`];
    const repairs = async (name: string): Promise<readonly string[]> => {
      const { nodes } = await status(name);
      const w1s = nodes.find(({ hostname }) => hostname === "w1");
      return (w1s?.report?.findings ?? []).map(({ what }) => what);
    };
    const { services } = await status("blue");
    const vip = services[0]?.vip.split("/")[0] ?? "";
    const breaks: readonly (readonly [string, string, readonly string[]])[] = [
      ["blue", "its rules are gone", [...inside, "nft", "flush", "ruleset"]],
      [
        "blue",
        `its rules: svc lacks ${vip} : jump n3`,
        [...inside, "nft", "delete", "element", "ip", "sw", "svc", `{ ${vip} }`],
      ],
      ["blue", "routes or neighbours", [...inside, "ip", "route", "flush", "dev", "vx0"]],
      ["ingress", "the host's rules", ["nft", "delete", "table", "ip", "swarmd"]],
      ["blue", "its namespace is gone", ["ip", "netns", "del", namespaceOf(id)]],
    ];
    for (const [name, what, command] of breaks) {
      await w1.exec(command);
      // The log is where it is told without anybody asking.
      const isLogged = async (): Promise<boolean> =>
        (await w1.exec(["cat", w1.logPath])).includes(
          what === "the host's rules" ? "host's rules" : what,
        );
      await until(`${what}: it is in the log`, isLogged, AUDIT_LIMIT_MS);
      t.ok((await repairs(name)).includes(what), `${what}: it is in the report`);
      await until("all is in step", () => isInStep(name), AUDIT_LIMIT_MS);
    }
  });

  await t.test("a node that is away is named", async t => {
    await w2.kill();
    await until("its session has ended", async () => !(await isInStep("blue")));
    const { nodes } = await status("blue");
    const problems = nodes.find(({ hostname }) => hostname === "w2")?.problems ?? [];
    t.match(problems.join(), /no session/);
    await until("the doctor tells too", async () => ways(await examine()).includes("node w2 "));
    await w2.start();
    await until("it is back", () => isInStep("blue"));
    t.pass();
  });
});

function firewall(what: string): string {
  const hook = "type filter hook input priority -10";
  return `table ip firewall {\n chain in {\n ${hook}; ${what} drop\n }\n}\n`;
}
