import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { join, resolve } from "node:path";
import t from "tap";
import { formCluster } from "../lab/cluster.ts";
import { leftovers } from "../lab/down.ts";
import { request } from "../lab/http.ts";
import { Lab, type LabHost } from "../lab/lab.ts";
import { hostScope } from "../lab/plan.ts";
import { isRunning, namespaceOf } from "../lab/proc.ts";
import { plainEnv, type RunResult, run } from "../lab/run.ts";
import { eventually } from "../support/eventually.ts";

/** The lab itself, on real Engines, with a stand-in where swarmd would run. */

const CHECKOUT = resolve(import.meta.dirname, "../..");
const MAIN = join(CHECKOUT, "test/lab/main.ts");
const STAND_IN = join(CHECKOUT, "test/lab/stand-in.mjs");
/** Engines start and stop slowly on a busy machine. */
const TIMEOUT_MS = 300_000;
const UP = { managers: 2, workers: 1, mode: "bare", swarmdBin: STAND_IN } as const;

const folder = mkdtempSync("/tmp/swarmd-lab-test-");
const lab = Lab.open(join(folder, "lab"));
t.setTimeout(TIMEOUT_MS);
t.teardown(async () => {
  await lab.down();
  rmSync(folder, { recursive: true, force: true });
});

async function pings(from: LabHost, to: LabHost): Promise<boolean> {
  const result = await from.tryExec(["busybox", "ping", "-c", "1", "-W", "1", to.addr]);
  return result.code === 0;
}

async function untilPings(from: LabHost, to: LabHost): Promise<void> {
  await eventually(() => pings(from, to), { what: `${from.name} reaches ${to.name}` });
}

/** Echo requests that have come in since the host's boot (RFC 1213 icmpInEchos). */
async function echoesIn(host: LabHost): Promise<number> {
  const lines = (await host.exec(["cat", "/proc/net/snmp"])).split("\n");
  const [names, values] = lines.filter(line => line.startsWith("Icmp:")).map(l => l.split(" "));
  return Number(values?.[names?.indexOf("InEchos") ?? -1]);
}

function cli(...args: string[]): Promise<RunResult> {
  const env = { ...plainEnv(), SWARMD_LAB_DIR: lab.dir, SWARMD_BIN: STAND_IN };
  return run([process.execPath, "--import=tsx", MAIN, ...args], { env });
}

t.test("up gives hosts of their own", async t => {
  await lab.up(UP);
  t.same(
    lab.hosts().map(host => [host.name, host.addr]),
    [
      ["m1", "10.77.0.1"],
      ["m2", "10.77.0.2"],
      ["w1", "10.77.0.101"],
    ],
  );
  for (const host of lab.hosts()) {
    t.equal((await host.exec(["hostname"])).trim(), host.name);
    t.match(await host.exec(["ip", "-o", "-4", "addr", "show", "eth0"]), `${host.addr}/24`);
    const pid = await host.pid();
    t.equal(pid, Number(readFileSync(host.paths.pid, "utf8")), "the pid file's process runs");
    t.not(namespaceOf(pid ?? 0, "net"), namespaceOf(process.pid, "net"));
    const answer = await host.request("GET", "/info");
    t.match(answer, { status: 200, body: { docker: `unix://${host.dockerSocketPath}` } });
    t.match(readFileSync(host.logPath, "utf8"), /stand-in answers/);
    t.match(await host.docker(["images", "-q", "swarmd/web:1"]), /^[0-9a-f]{12}/);
  }
  await untilPings(lab.host("m1"), lab.host("w1"));
  await untilPings(lab.host("w1"), lab.host("m2"));
  await t.rejects(lab.up(UP), /is up already/);
});

t.test("images do what they are for", async t => {
  const host = lab.host("m1");
  const engine = (args: string): Promise<string> => host.docker(args.split(" "));
  await engine("run -d --name web -p 8080:80 -e X=1 swarmd/web:2");
  const answer = await eventually(
    async () =>
      (await lab.asClient(["busybox", "wget", "-qO-", `http://${host.addr}:8080/`])).stdout,
    { what: "the web service answers" },
  );
  t.match(answer, /^[0-9a-f]{12} v2 10\.77\.0\.254\n$/);
  await engine("run -d --name app swarmd/app:3");
  const stops = performance.now();
  await engine("stop web app");
  t.ok(performance.now() - stops < 5_000, "both obey SIGTERM");
  t.match(await engine("ps -a --format {{.Names}}={{.Status}}"), /app=Exited \(0\)/);
  await t.rejects(engine("run --rm swarmd/app:fail"), /m1: .* exited with 1: app fails/s);
  t.match(await engine("run --rm swarmd/app:done"), /app vdone starts/);
  await engine("rm -f web app");
});

t.test("swarmd is killed, stopped, started, paused", async t => {
  const host = lab.host("m2");
  const first = await host.pid();
  await host.kill();
  t.equal(await host.pid(), null);
  t.notOk(isRunning(first ?? 0));
  await t.rejects(host.kill(), /m2: swarmd does not run/);
  await host.start();
  await t.rejects(host.start(), /m2: swarmd runs already/);
  await host.pause();
  t.ok(await host.isPaused());
  await t.rejects(host.request("GET", "/info", undefined, { timeoutMs: 200 }), /within 200 ms/);
  await t.rejects(host.stop(), /m2: swarmd is paused/);
  await host.resume();
  t.match(await host.request("GET", "/info"), { status: 200 });
  await host.stop();
  t.match(readFileSync(host.logPath, "utf8"), /stand-in stops\n$/);
  await host.start();
  await host.pause();
  await host.kill();
  await host.start();
});

t.test("a program that fails at its start is quoted", async t => {
  const host = lab.host("m2");
  await host.stop();
  await host.exec(["mv", host.paths.data, `${host.paths.data}.away`]);
  await t.rejects(host.start(), /m2: swarmd ended at its start; .*ENOENT/s);
  await host.exec(["mv", `${host.paths.data}.away`, host.paths.data]);
  await host.start();
});

t.test("links are cut and healed", async t => {
  const [m1, w1] = [lab.host("m1"), lab.host("w1")];
  await w1.cut();
  t.equal(await w1.link(), "down");
  t.notOk(await pings(m1, w1));
  await w1.heal();
  await untilPings(m1, w1);
});

t.test("pairs are partitioned, in one direction or both", async t => {
  const [m1, m2, w1] = [lab.host("m1"), lab.host("m2"), lab.host("w1")];
  await untilPings(m2, m1);
  await lab.partition("m1", "m2", { oneWay: true });
  const before = [await echoesIn(m1), await echoesIn(m2)] as const;
  t.notOk(await pings(m1, m2));
  t.notOk(await pings(m2, m1));
  t.equal(await echoesIn(m2), before[1], "nothing gets from m1 to m2");
  t.equal(await echoesIn(m1), before[0] + 1, "packets get from m2 to m1");
  await lab.partition("m1", "m2");
  await pings(m2, m1);
  t.equal(await echoesIn(m1), before[0] + 1, "nothing gets from m2 to m1");
  await untilPings(m1, w1);
  await lab.unpartition("m2", "m1");
  await lab.unpartition("m2", "m1");
  await untilPings(m2, m1);
  await lab.partition("w1", "m1");
  await w1.cut();
  await lab.healNetwork();
  await untilPings(m1, w1);
  await t.rejects(lab.partition("m1", "m9"), /no host "m9": there are m1 m2 w1/);
  await t.rejects(lab.partition("m1", "m1"), /one host, not two/);
});

/** Counts TCP segments with FIN or RST that the switch gets from a host's port. */
const FAREWELLS = `table bridge probe {
  chain seen {
    type filter hook prerouting priority -300;
    iifname "m2" tcp flags & (fin | rst) != 0 counter
  }
}
`;

async function farewells(): Promise<number> {
  const rules = await lab.asClient(["nft", "list", "chain", "bridge", "probe", "seen"]);
  return Number(/counter packets (\d+)/.exec(rules.stdout)?.[1]);
}

/** A connection from m1 to a listener on m2; resolves when it is established. */
async function connect(port: number): Promise<void> {
  const [m1, m2] = [lab.host("m1"), lab.host("m2")];
  const start = (host: LabHost, shell: string): void => {
    const [program = "", ...args] = host.execCommand(["sh", "-c", shell]);
    spawn(program, args, { env: plainEnv(), stdio: ["pipe", "ignore", "ignore"] }).unref();
  };
  start(m2, `echo $$ >/run/nc.pid; exec busybox nc -l -p ${port}`);
  const established = (host: LabHost): Promise<string> =>
    host.exec(["busybox", "netstat", "-tn"]).then(text => /ESTABLISHED/.exec(text)?.[0] ?? "");
  await eventually(
    async () => (await m2.exec(["busybox", "netstat", "-tln"])).includes(`:${port}`),
    {
      what: "the listener listens",
    },
  );
  start(m1, `exec busybox nc ${m2.addr} ${port}`);
  await eventually(() => established(m2), { what: "the connection is established" });
}

t.test("a loss of power ends all at once and in silence; the disk stays", async t => {
  const host = lab.host("m2");
  await host.docker(["run", "-d", "--name", "kept", "swarmd/app:1"]);
  const inside = await host.docker(["inspect", "-f", "{{.State.Pid}}", "kept"]);
  const pids = [await host.pid(), await host.enginePid()];
  await lab.asClient(["nft", "-f", "-"], { input: FAREWELLS });
  await connect(7001);
  await host.exec(["sh", "-c", "kill -9 $(cat /run/nc.pid)"]);
  await eventually(async () => (await farewells()) > 0, { what: "a killed process says goodbye" });
  const said = await farewells();
  await connect(7002);
  await host.poweroff();
  t.equal(await farewells(), said, "a powered off host does not");
  t.notOk(host.isPoweredOn());
  t.same(await Promise.all([host.pid(), host.enginePid(), host.link()]), [null, null, null]);
  t.notOk(pids.some(pid => pid !== null && isRunning(pid)));
  t.ok(Number(inside) > 0);
  t.notOk(existsSync(`/sys/fs/cgroup/memory/${hostScope(lab.dir, "m2")}`));
  await t.rejects(host.exec(["true"]), /m2 is powered off/);
  await t.rejects(host.poweroff(), /m2 is powered off already/);
  await host.poweron();
  await t.rejects(host.poweron(), /m2 is powered on already/);
  t.match(await host.docker(["ps", "-a", "--format", "{{.Names}} {{.Status}}"]), /kept Exited/);
  const starts = readFileSync(join(host.paths.data, "starts"), "utf8").trim().split("\n");
  t.ok(starts.length > 1, "swarmd's data outlived the power cycle");
  await untilPings(host, lab.host("m1"));
});

t.test("a cable stays out over a power cycle", async t => {
  const host = lab.host("w1");
  await host.cut();
  await host.poweroff();
  await host.poweron();
  t.equal(await host.link(), "down");
  await host.heal();
  await untilPings(lab.host("m1"), host);
});

t.test("the Engine is stopped and started", async t => {
  const host = lab.host("w1");
  await host.stopEngine();
  t.equal(await host.enginePid(), null);
  await t.rejects(host.stopEngine(), /w1: dockerd does not run/);
  await host.startEngine();
  const pid = await host.enginePid();
  await host.restartEngine();
  t.not(await host.enginePid(), pid);
  await host.killEngine();
  await host.startEngine();
  t.match(await host.docker(["run", "--rm", "busybox", "echo", "works"]), /works/);
});

t.test("the command line tells success, failure and bad usage apart", async t => {
  const expectations: readonly (readonly [string[], number, RegExp])[] = [
    [["status"], 0, /^m1 +10\.77\.0\.1 +on +up +up \(\d+\) +up \(\d+\) +inactive$/m],
    [["exec", "m1", "--", "sh", "-c", "hostname; exit 7"], 7, /^m1$/m],
    [["exec", "w1", "--", "sh", "-c", "command -v swarmd"], 0, /bin\/swarmd$/m],
    [["logs", "m1", "--lines", "1"], 0, /stand-in/],
    [["kill", "m1"], 0, /m1: swarmd killed/],
    [["kill", "m1"], 1, /m1: swarmd does not run/],
    [["start", "m1"], 0, /m1: swarmd started/],
    [["kill", "m7"], 2, /no host "m7"/],
    [["fly"], 2, /unknown verb/],
    [["up"], 1, /is up already/],
    [[], 2, /usage:/],
  ];
  for (const [args, code, output] of expectations) {
    const result = await cli(...args);
    t.equal(result.code, code, args.join(" "));
    t.match(`${result.stdout}${result.stderr}`, output);
  }
});

t.test("down leaves nothing and touches nothing else", async t => {
  const stranger = spawn("sleep", ["600"], { stdio: "ignore" });
  t.teardown(() => stranger.kill());
  const hosts = lab.hosts();
  const pids = await Promise.all(hosts.flatMap(host => [host.pid(), host.enginePid()]));
  await lab.down();
  t.same(leftovers(lab.dir), []);
  t.notOk(pids.some(pid => pid === null || isRunning(pid)));
  t.ok(isRunning(stranger.pid ?? 0));
  await lab.down();
  t.same(await lab.hosts(), []);
  t.throws(() => lab.host("m1"), /there is no lab/);
  t.match(await cli("status"), { code: 1, stdout: /no lab is up/ });
});

t.test("down clears a lab whose making was interrupted", async t => {
  const command = [process.execPath, "--import=tsx", MAIN, "up", "--bare"];
  for (const seen of ["init.json", "dockerd.pid", "swarmd.pid"]) {
    const env = { ...plainEnv(), SWARMD_LAB_DIR: lab.dir, SWARMD_BIN: STAND_IN };
    const up = spawn(command[0] ?? "", command.slice(1), { env, stdio: "ignore" });
    await eventually(() => existsSync(join(lab.dir, "m1", seen)), { what: seen });
    up.kill("SIGKILL");
    await lab.down();
    t.same(leftovers(lab.dir), [], `interrupted at ${seen}`);
  }
});

t.test("down clears a lab that has lost its records", async t => {
  await lab.up({ ...UP, managers: 1, mode: "engines-only" });
  const host = lab.host("w1");
  const pid = await host.enginePid();
  rmSync(host.paths.init);
  rmSync(join(lab.dir, "lab.json"));
  await t.rejects(lab.down(), /is not a lab's folder/);
  t.notOk(isRunning(pid ?? 0));
  rmSync(lab.dir, { recursive: true });
  t.same(leftovers(lab.dir), []);
});

t.test("a cluster is formed by init and joins", async t => {
  const calls: string[] = [];
  const nodes: object[] = [];
  const socketPath = join(folder, "fake.sock");
  const server = createServer((_, response) => {
    response.setHeader("content-type", "application/json").end(JSON.stringify(nodes));
  });
  await new Promise<void>(done => server.listen(socketPath, done));
  t.teardown(() => server.close());
  const fake = (name: string, role: "manager" | "worker") => ({
    ...{ name, role, addr: `addr-${name}`, socketPath },
    swarmd: async (args: readonly string[]) => {
      calls.push(`${name} ${args.join(" ")}`);
      if (args[0] === "join-token") return `TOKEN-${args[2]}\n`;
      const manager = role === "manager" ? { ManagerStatus: { Reachability: "reachable" } } : {};
      nodes.push({ Description: { Hostname: name }, Status: { State: "ready" }, ...manager });
      return "";
    },
  });
  await formCluster([fake("m1", "manager"), fake("m2", "manager"), fake("w1", "worker")]);
  t.same(calls.sort(), [
    "m1 init --advertise-addr addr-m1",
    "m1 join-token -q manager",
    "m1 join-token -q worker",
    "m2 join --token TOKEN-manager --advertise-addr addr-m2 addr-m1:2377",
    "w1 join --token TOKEN-worker --advertise-addr addr-w1 addr-m1:2377",
  ]);
  await t.rejects(
    request(join(folder, "none.sock"), "GET", "/"),
    /GET \/ on .*none\.sock: .*ENOENT/,
  );
});
