import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import t, { type Test } from "tap";
import type { Lab, LabHost } from "../lab/lab.ts";
import type { RunResult } from "../lab/run.ts";
import {
  api,
  askAsStranger,
  census,
  disturbances,
  followersOf,
  httpGet,
  labUnavailable,
  leaderOf,
  must,
  nodeOf,
  nodesOf,
  startLab,
  swarmd,
  until,
  untilRunning,
  words,
} from "../support/e2e.ts";
import { TestCa } from "../support/test-ca.ts";

/** Membership of a cluster, as an operator changes it: on real hosts, through the command line. */

const NOT_A_MANAGER =
  /^Error response from daemon: This node is not a swarm manager\. Use "docker swarm init" or "docker swarm join"/;
const WORKER_REFUSES =
  /This node is not a swarm manager\. Worker nodes can't be used to view or modify cluster state\./;
const ALREADY_IN = /This node is already part of a swarm\. Use "docker swarm leave"/;
const TOKEN = /SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}/;
const TIMEOUT_MS = 480_000;
/** A leader that ends in order is succeeded at once; the rest is this machine. */
const HANDOVER_LIMIT_MS = 10_000;

/** Of each host's own loopback. */
const METRICS = "127.0.0.1:9323";
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

t.test("a cluster's membership", { skip }, async t => {
  const lab = await startLab(t, "cluster", {
    mode: "bare",
    daemonArgs: [`--http-addr=${METRICS}`],
  });
  const [m1, m2, m3] = [lab.host("m1"), lab.host("m2"), lab.host("m3")];
  const [w1, w2] = [lab.host("w1"), lab.host("w2")];
  const token = async (role: string): Promise<string> =>
    (await must(m1, "join-token", "-q", role)).trim();
  const join = async (host: LabHost, role: string, via: LabHost = m1): Promise<RunResult> =>
    swarmd(host, ["join", "--token", await token(role), `${via.addr}:2377`]);
  const rows = async (host: LabHost): Promise<string[]> => {
    const format = "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}";
    const printed = await must(host, "node", "ls", "--format", format);
    return printed.trim().split(/ *\n/);
  };

  await t.test("a host in no cluster says so", async t => {
    for (const args of [
      ["node", "ls"],
      ["service", "ls"],
      ["join-token", "worker"],
    ]) {
      t.match(
        await swarmd(m1, args),
        { code: 1, stdout: "", stderr: NOT_A_MANAGER },
        args.join(" "),
      );
    }
    t.match(await swarmd(m1, ["leave"]), {
      code: 1,
      stderr: "Error response from daemon: This node is not part of a swarm\n",
    });
    t.match(await must(m1, "info"), /^Swarm: inactive$/m);
    t.equal((await must(m1, "info", "--format", "{{.Swarm.LocalNodeState}}")).trim(), "inactive");
    t.match(await must(m1, "version"), /^swarmd: \d+\.\d+\.\d+\nEngine: .+\nAPI: 1\.\d+\n$/);
    const version = JSON.parse(await must(m1, "version", "--json")) as { Components: object[] };
    t.match(version.Components[0], { Name: "Engine" });
    t.match(version.Components.at(-1), { Name: "swarmd" });
    t.equal((await m1.request("GET", "/_ping")).headers["swarm"], "inactive");
    t.match(await m1.request("GET", "/swarm"), { status: 503 });
    t.same(await healthOf(m1), {
      healthy: false,
      engine: true,
      reasons: ["this node is in no swarm: use swarmd init or swarmd join"],
    });
  });

  await t.test("init makes the first manager and says how to join", async t => {
    const printed = await must(m1, "init", "--advertise-addr", "eth0");
    t.match(printed, /^Swarm initialized: current node \([0-9a-z]{25}\) is now a manager\.\n/);
    t.match(printed, new RegExp(`^ {4}swarmd join --token ${TOKEN.source} 10.77.0.1:2377$`, "m"));
    t.same(await rows(m1), ["m1 Ready Active Leader"]);
    t.match(await swarmd(m1, ["init"]), { code: 1, stderr: ALREADY_IN });
    t.match(await join(m1, "worker"), { code: 1, stderr: ALREADY_IN });
    t.match(await swarmd(m1, ["leave"]), {
      code: 1,
      stderr: /Removing the last manager erases all current state of the swarm\. Use `--force`/,
    });
    t.same(await rows(m1), ["m1 Ready Active Leader"], "refusals change nothing");
    t.match(await must(m1, "info"), /^ Is Manager: true\n ClusterID: [0-9a-z]{25}\n/m);
  });

  await t.test("tokens are shown, quietly too, and rotated one role at a time", async t => {
    t.match(
      await must(m1, "join-token", "manager"),
      new RegExp(
        `^To add a manager to this swarm, run the following command:\\n\\n` +
          ` {4}swarmd join --token ${TOKEN.source} 10\\.77\\.0\\.1:2377\\n\\n$`,
      ),
    );
    const [worker, manager] = [await token("worker"), await token("manager")];
    t.match(worker, TOKEN);
    t.match(await must(m1, "join-token", "--rotate", "worker"), /^Successfully rotated worker/);
    t.not(await token("worker"), worker);
    t.equal(await token("manager"), manager);
    const rotated = (await must(m1, "join-token", "--rotate", "-q", "manager")).trim();
    t.equal(await token("manager"), rotated);
    t.match(await swarmd(m1, ["join-token", "boss"]), { code: 2, stderr: /unknown role boss/ });
    t.match(await swarmd(w1, ["join", "--token", worker, m1.addr]), {
      code: 1,
      stderr: "Error response from daemon: A valid join token is necessary to join this cluster\n",
    });
    t.match(await must(w1, "info"), /^Swarm: inactive$/m);
  });

  await t.test("the token decides the role; any manager admits", async t => {
    const manager = { code: 0, stdout: "This node joined a swarm as a manager.\n" };
    const worker = { code: 0, stdout: "This node joined a swarm as a worker.\n" };
    t.match(await join(m2, "manager"), manager);
    t.match(await join(m3, "manager", m2), manager, "through a follower");
    t.match(await join(w1, "worker"), worker);
    t.match(await join(w2, "worker", m3), worker, "through a follower");
    const members = [
      "m1 Ready Active Leader",
      "m2 Ready Active Reachable",
      "m3 Ready Active Reachable",
      "w1 Ready Active",
      "w2 Ready Active",
    ];
    for (const host of [m1, m2, m3]) {
      await until(
        `${host.name} lists all`,
        async () => (await rows(host)).join() === members.join(),
      );
    }
    t.match(await swarmd(w1, ["node", "ls"]), { code: 1, stderr: WORKER_REFUSES });
    t.equal((await w1.request("GET", "/_ping")).headers["swarm"], "active/worker");
    t.equal((await m2.request("GET", "/_ping")).headers["swarm"], "active/manager");
    t.match(await must(w1, "info"), /^ Is Manager: false\n Node Address: 10\.77\.0\.101$/m);
    t.match(await must(m3, "info"), /^ Managers: 3\n Nodes: 5$/m);
    t.match(
      words(await m2.swarmDocker(["info", "--format", "{{json .Swarm}}"])),
      /"LocalNodeState":"active","ControlAvailable":true/,
    );
  });

  await t.test("metrics tell the same of every node", async t => {
    for (const host of [m1, m2, w1]) {
      await until(`${host.name} is healthy`, async () => (await healthOf(host)).healthy);
    }
    const [leader, follower, worker] = await Promise.all([m1, m2, w1].map(metricsOf));
    const members = {
      'swarm_manager_nodes{state="ready"}': 5,
      swarmd_raft_voters: 3,
      swarm_node_manager: 1,
    };
    t.match(leader, { ...members, swarm_manager_leader: 1, swarmd_sessions: 5 });
    t.match(follower, { ...members, swarm_manager_leader: 0, swarmd_raft_has_leader: 1 });
    t.match(worker, { swarm_node_manager: 0, swarmd_node_served: 1 });
    t.notOk("swarm_manager_leader" in (worker ?? {}), "a worker knows nothing of the managers");
    const written = "swarm_raft_transaction_latency_seconds_count";
    t.ok((leader?.[written] ?? 0) > 0, "the leader's writes are counted");
    const lags = Object.keys(leader ?? {}).filter(name => name.startsWith("swarmd_raft_peer_lag"));
    t.equal(lags.length, 2, "a lag of each follower");
  });

  await t.test("nodes are listed and inspected", async t => {
    const self = await nodeOf(m2, "m2");
    const table = await must(m2, "node", "ls");
    t.match(table, /^ID +HOSTNAME +STATUS +AVAILABILITY +MANAGER STATUS +ENGINE VERSION$/m);
    t.match(table, new RegExp(`^${self.ID} \\* +m2 +Ready +Active +Reachable +20\\.10`, "m"));
    t.equal((await must(m1, "node", "ls", "-q")).trim().split("\n").length, 5);
    const role = async (name: string): Promise<string[]> =>
      (await must(m1, "node", "ls", "--filter", `role=${name}`, "--format", "{{.Hostname}}"))
        .trim()
        .split("\n");
    t.same(await role("worker"), ["w1", "w2"]);
    t.match(JSON.parse((await must(m1, "node", "ls", "--json")).split("\n")[0] ?? ""), {
      Hostname: "m1",
      Status: "Ready",
      ManagerStatus: "Leader",
    });
    const pretty = await must(m1, "node", "inspect", "--pretty", "w1");
    t.match(pretty, /^Hostname: +\tw1$/m);
    t.match(pretty, /^ Address:\t\t10\.77\.0\.101$/m);
    t.match(pretty, /^ CPUs:\t\t\t\d+$/m);
    t.equal((await must(m2, "node", "inspect", "-f", "{{.ID}}", "self")).trim(), self.ID);
    const docker = await m1.swarmDocker(["node", "ls", "--format", "{{.Hostname}} {{.Status}}"]);
    t.match(docker, /^w2 Ready$/m);
    for (const args of [
      ["inspect", "nobody"],
      ["update", "nobody"],
      ["rm", "nobody"],
    ]) {
      t.match(await swarmd(m1, ["node", ...args]), { code: 1, stderr: /node nobody not found/ });
    }
  });

  await t.test("a node's labels and availability are changed", async t => {
    const add = ["--label-add", "zone=a", "--label-add", "ssd"];
    t.equal(await must(m1, "node", "update", ...add, "w1"), "w1\n");
    t.same((await nodeOf(m1, "w1")).Spec.Labels, { zone: "a", ssd: "" });
    t.match(await must(m1, "node", "ls", "--filter", "node.label=zone=a", "-q"), /^\w{25}\n$/);
    await must(m1, "node", "update", "--label-rm", "ssd", "--availability", "pause", "w1");
    t.match((await nodeOf(m1, "w1")).Spec, { Labels: { zone: "a" }, Availability: "pause" });
    t.match(await swarmd(m1, ["node", "update", "--label-rm", "ssd", "w1"]), {
      code: 1,
      stderr: "key ssd doesn't exist in node's labels\n",
    });
    t.match(await swarmd(m1, ["node", "update", "--availability", "gone", "w1"]), {
      code: 1,
      stderr: /gone/,
    });
    await must(m1, "node", "update", "--availability", "active", "w1");
  });

  await t.test("a worker is promoted, votes, and is demoted again", async t => {
    t.equal(
      await must(m1, "node", "promote", "w1"),
      "Node w1 promoted to a manager in the swarm.\n",
    );
    await until("w1 is reachable", async () =>
      (await rows(m1)).includes("w1 Ready Active Reachable"),
    );
    await until("w1 answers", async () => (await swarmd(w1, ["node", "ls"])).code === 0);
    t.match(await must(w1, "info"), /^ Is Manager: true$/m);
    t.equal(await must(m1, "node", "promote", "w1"), "Node w1 is already a manager.\n");
    t.equal(await must(w1, "node", "demote", "w1"), "Manager w1 demoted in the swarm.\n");
    await until("w1 is a worker", async () =>
      WORKER_REFUSES.test((await swarmd(w1, ["node", "ls"])).stderr),
    );
    await until("w1 left the group", async () => (await rows(m1)).includes("w1 Ready Active"));
    const managers = await must(m1, "info", "--format", "{{.Swarm.Managers}}");
    t.equal(managers.trim(), "3");
  });

  await t.test("the leader is demoted: another leads, and it can come back", async t => {
    const leader = await leaderOf(lab);
    const [other] = await followersOf(lab);
    if (other === undefined) throw new Error("no follower");
    await must(other, "node", "demote", leader.name);
    await until("it is a worker", async () =>
      WORKER_REFUSES.test((await swarmd(leader, ["node", "ls"])).stderr),
    );
    t.not((await leaderOf(lab, [other])).name, leader.name);
    await must(other, "node", "promote", leader.name);
    await until("it is a manager", async () =>
      (await rows(other)).includes(`${leader.name} Ready Active Reachable`),
    );
    await until("it answers", async () => (await swarmd(leader, ["node", "ls"])).code === 0);
  });

  await t.test("a manager that ends in order hands leadership over", async t => {
    await must(
      m1,
      "service",
      "create",
      "-d",
      "--name",
      "steady",
      "--replicas",
      "4",
      "swarmd/app:1",
    );
    await untilRunning(m1, "steady", 4);
    const before = await census(lab.hosts());
    const leader = await leaderOf(lab);
    const [witness] = await followersOf(lab);
    if (witness === undefined) throw new Error("no follower");
    const stoppedMs = performance.now();
    const stopped = leader.stop();
    await until("another leads", async () => {
      const next = (await nodesOf(witness)).find(node => node.ManagerStatus?.Leader === true);
      return next !== undefined && next.Description?.Hostname !== leader.name;
    });
    await must(witness, "node", "update", "--label-add", "written=yes", "w2");
    const elapsedMs = performance.now() - stoppedMs;
    t.ok(elapsedMs < HANDOVER_LIMIT_MS, `a write ${Math.round(elapsedMs)} ms after SIGTERM`);
    await stopped;
    t.match(await readFile(leader.logPath, "utf8"), /"signal":"SIGTERM","msg":"stopping"/);
    await leader.start();
    await until("it is back", async () =>
      (await rows(witness)).includes(`${leader.name} Ready Active Reachable`),
    );
    t.same(await disturbances(lab, before), [], "no container noticed");
    await must(witness, "service", "rm", "steady");
  });

  await t.test("nodes are removed when they may be", async t => {
    t.match(await swarmd(m1, ["node", "rm", "w2"]), {
      code: 1,
      stderr: /node \w{25} is not down and can't be removed/,
    });
    t.match(await swarmd(m1, ["node", "rm", "--force", "m2"]), {
      code: 1,
      stderr: /is a cluster manager and is a member of the raft cluster\. It must be demoted/,
    });
    t.equal((await nodesOf(m1)).length, 5, "refusals change nothing");
    t.equal(await must(w2, "leave"), "Node left the swarm.\n");
    t.match(await must(w2, "info"), /^Swarm: inactive$/m);
    await until("w2 is down", async () => (await rows(m1)).includes("w2 Down Active"));
    t.equal(await must(m1, "node", "rm", "w2"), "w2\n");
    t.match(await join(w2, "worker"), { code: 0 });
    await until("w2 is ready", async () => (await rows(m1)).includes("w2 Ready Active"));
  });

  await t.test("a node removed by force ends its tasks and can join anew", async t => {
    const create = ["service", "create", "-d", "--name", "everywhere", "--mode", "global"];
    await must(m1, ...create, "swarmd/app:1");
    await untilRunning(m1, "everywhere", 5);
    t.equal(await must(m1, "node", "rm", "--force", "w2"), "w2\n");
    await until("it knows", async () => /^ Error: .*removed/m.test(await must(w2, "info")));
    await until("its tasks end", async () => (await census([w2])).length === 0);
    t.match(await join(w2, "worker"), { code: 1, stderr: ALREADY_IN });
    t.equal(await must(w2, "leave", "--force"), "Node left the swarm.\n");
    t.match(await join(w2, "worker"), { code: 0 });
    await untilRunning(m1, "everywhere", 5);
    await must(m1, "service", "rm", "everywhere");
    await until("none is left", async () => (await census(lab.hosts())).length === 0);
  });

  await t.test("a manager leaves by force; the others go on", async t => {
    const refused = await swarmd(m3, ["leave"]);
    t.match(refused, { code: 1, stderr: /participating as a manager\..*Use `--force`/s });
    t.equal(await must(m3, "leave", "--force"), "Node left the swarm.\n");
    await until("two managers", async () => {
      const info = await must(m1, "info", "--format", "{{.Swarm.Managers}}");
      return info.trim() === "2";
    });
    await must(m1, "node", "update", "--label-add", "after=leave", "w1");
    const m3Id = (await nodeOf(m1, "m3")).ID;
    await until("m3 is down", async () => (await rows(m1)).includes("m3 Down Active"));
    t.equal(await must(m1, "node", "rm", m3Id), `${m3Id}\n`);
    t.match(await join(m3, "manager"), { code: 0 });
    await until("three managers", async () =>
      (await rows(m1)).includes("m3 Ready Active Reachable"),
    );
  });

  await t.test("one daemon a data directory", async t => {
    const second = await m1.tryExec([
      ...["swarmd", "daemon", "--data-dir", m1.paths.data],
      ...["--socket", "/run/second.sock", "--docker-host", m1.dockerSocketPath],
    ]);
    t.match(second, { code: 3, stderr: /^swarmd: another swarmd \(pid \d+\) uses the data dir/m });
    t.match(await must(m1, "info"), /^Swarm: active$/m, "the first one goes on");
  });

  await t.test("the daemon's configuration is checked as a whole", async t => {
    const daemon = (args: readonly string[], env: Record<string, string> = {}) =>
      m1.tryExec([
        "env",
        ...Object.entries(env).map(e => e.join("=")),
        "swarmd",
        "daemon",
        ...args,
      ]);
    t.match(await daemon(["--help"]), { code: 0, stdout: /--data-dir +where the daemon keeps/ });
    t.match(await daemon(["--bogus"]), { code: 2, stderr: /Unknown option '--bogus'/ });
    t.match(await daemon(["--config", "/none.yaml"]), { code: 2, stderr: /\/none\.yaml.*ENOENT/ });
    await m1.exec(["sh", "-c", "printf 'colour: red\\nlog-level: loud\\n' >/run/bad.yaml"]);
    const faulty = ["--config", "/run/bad.yaml", "--raft-tick-ms", "1"];
    const told = await daemon(faulty, { SWARMD_DATA_DIR: "relative" });
    t.equal(told.code, 2);
    for (const fault of [
      "/run/bad.yaml: unknown setting 'colour'",
      "/run/bad.yaml: log-level takes one of debug, info, warn, error, not 'loud'",
      "--raft-tick-ms takes whole milliseconds from 10 to 5000",
      "SWARMD_DATA_DIR takes an absolute path, not 'relative'",
    ]) {
      t.ok(told.stderr.includes(fault), fault);
    }
    await m1.exec(["sh", "-c", "mkdir -p /run/open && chmod 755 /run/open"]);
    const open = ["--data-dir", "/run/open", "--socket", "/run/second.sock"];
    t.match(await daemon(open), { code: 3, stderr: /\/run\/open: it is open to other users/ });
    t.match(await swarmd(m1, ["-H", "nonsense", "info"]), { code: 2, stderr: /invalid host/ });
    t.match(await swarmd(m1, ["-H", "unix:///none.sock", "info"]), {
      code: 1,
      stderr: /Cannot connect to the swarmd daemon at unix:\/\/\/none\.sock \(no such socket\)/,
    });
    for (const args of [
      ["fly"],
      ["node", "fly"],
      ["node", "ls", "--fly"],
      ["join"],
      ["node", "rm"],
    ]) {
      t.match(await swarmd(m1, args), { code: 2, stdout: "" }, args.join(" "));
    }
  });

  await t.test("the cluster port serves nobody without a certificate of this cluster", t =>
    checkStrangers(t, lab),
  );
});

const OPEN_TO_ALL = ["/swarmd.v1.CA/GetRootCA", "/swarmd.v1.CA/IssueCertificate"];
const OPEN_TO_NODES = [
  "/swarmd.v1.CA/RenewCertificate",
  "/swarmd.v1.Membership/Leave",
  /^\/swarmd\.v1\.Dispatcher\//,
];

async function checkStrangers(t: Test, lab: Lab): Promise<void> {
  const leader = await leaderOf(lab);
  const addr = `${leader.addr}:2377`;
  const plain = await httpGet(lab, `http://${addr}/swarm`);
  t.match(plain, { code: 1, stdout: "", stderr: /ECONNRESET|socket hang up/ }, "plain text");

  const pem = async (host: LabHost, file: string): Promise<string> =>
    readFile(join(host.paths.data, "certificates", file), "utf8");
  const caPem = await pem(leader, "ca.crt");
  const without = await askAsStranger(lab, { addr, caPem, own: null });
  t.ok(Object.keys(without).length > 8, "every method is asked for");
  for (const [method, code] of Object.entries(without)) {
    if (OPEN_TO_ALL.includes(method)) t.not(code, "UNAUTHENTICATED", method);
    else t.equal(code, "UNAUTHENTICATED", method);
  }
  t.equal(without["/swarmd.v1.CA/IssueCertificate"], "INVALID_ARGUMENT", "without a token");

  const w1 = lab.host("w1");
  const own = { certPem: await pem(w1, "node.crt"), keyPem: await pem(w1, "node.key") };
  for (const [method, code] of Object.entries(await askAsStranger(lab, { addr, caPem, own }))) {
    const open = [...OPEN_TO_ALL, ...OPEN_TO_NODES].some(known => method.match(known) !== null);
    if (!open) t.equal(code, "PERMISSION_DENIED", `a worker calls ${method}`);
  }
  t.equal((await nodeOf(leader, "w1")).Status.State, "ready");

  const { Swarm } = await api<{ Swarm: { NodeID: string; Cluster: { ID: string } } }>(
    leader,
    "GET",
    "/info",
  );
  const other = await TestCa.create();
  const forged = await other.identity("manager", {
    nodeId: Swarm.NodeID,
    clusterId: Swarm.Cluster.ID,
  });
  const refused = await askAsStranger(lab, { addr, caPem, own: forged });
  for (const [method, code] of Object.entries(refused)) {
    t.equal(code, "UNAVAILABLE", `the handshake of a forged manager fails: ${method}`);
  }
}

const FETCH = `
const answer = await fetch(process.argv[1]);
process.stdout.write(await answer.text());
`;

function fetchOn(host: LabHost, path: string): Promise<string> {
  const url = `http://${METRICS}${path}`;
  return host.exec([process.execPath, "--input-type=module", "-e", FETCH, url]);
}

async function healthOf(host: LabHost): Promise<{
  readonly healthy: boolean;
  readonly engine: boolean;
  readonly reasons: readonly string[];
}> {
  return JSON.parse(await fetchOn(host, "/healthz"));
}

/** Values by name and labels. */
async function metricsOf(host: LabHost): Promise<Readonly<Record<string, number>>> {
  const lines = (await fetchOn(host, "/metrics")).split("\n");
  const values = lines.filter(line => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(
    values.map(line => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}
