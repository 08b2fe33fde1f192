import { spawn } from "node:child_process";
import { performance } from "node:perf_hooks";
import t, { type Test } from "tap";
import type { Answer } from "../lab/http.ts";
import type { Lab, LabHost } from "../lab/lab.ts";
import type { RunResult } from "../lab/run.ts";
import {
  api,
  census,
  disturbances,
  labUnavailable,
  must,
  nodesOf,
  startLab,
  swarmd,
  until,
  untilRunning,
} from "../support/e2e.ts";

/**
 * What users and accidents get wrong: each a clear message and the right code, promptly, with
 * nothing half-done, and what failed can be done right afterwards.
 */

const TIMEOUT_MS = 480_000;
/** A refusal that needs no waiting for the network. */
const PROMPT_MS = 10_000;
const MIB = 1024 * 1024;

const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

t.test("bad input", { skip }, async t => {
  const lab = await startLab(t, "bad-input", { mode: "bare", managers: 2, workers: 2 });
  const [m1, m2, w1, w2] = [lab.host("m1"), lab.host("m2"), lab.host("w1"), lab.host("w2")];
  await t.test("an Engine in swarm mode itself", async t => {
    const engine = (...words: string[]): Promise<string> =>
      m1.exec(["docker", "-H", `unix://${m1.dockerSocketPath}`, "swarm", ...words]);
    await engine("init", "--advertise-addr", m1.addr, "--listen-addr", `${m1.addr}:2399`);
    const worker = await engine("join-token", "-q", "worker");
    const refusal = { code: 1, stdout: "", stderr: /is in swarm mode itself.*swarm leave --force/ };
    t.match(await swarmd(m1, ["init", "--advertise-addr", m1.addr]), refusal, "as a manager");
    const w2Engine = ["docker", "-H", `unix://${w2.dockerSocketPath}`, "swarm"];
    await w2.exec([...w2Engine, "join", "--token", worker.trim(), `${m1.addr}:2399`]);
    t.match(await swarmd(w2, ["init", "--advertise-addr", w2.addr]), refusal, "as a worker");
    t.match(await must(m1, "info"), /^Swarm: inactive$/m);
    await w2.exec([...w2Engine, "leave"]);
    await engine("leave", "--force");
  });
  await must(m1, "init", "--advertise-addr", m1.addr);
  // The other cluster of these tests.
  await must(w2, "init", "--advertise-addr", w2.addr);
  const token = async (host: LabHost, role: string): Promise<string> =>
    (await must(host, "join-token", "-q", role)).trim();
  const worker = await token(m1, "worker");
  const manager = await token(m1, "manager");

  await t.test("joins that cannot work", async t => {
    const strange = await startStrangers(m2);
    const joining = ["--token", worker];
    const at = (port: number): string[] => [...joining, `${m2.addr}:${port}`];
    const wrong = worker.replace(/.{3}$/, tail => (tail === "aaa" ? "bbb" : "aaa"));
    const wrongDigest = worker.replace(/-1-.{5}/, "-1-00000");
    const table: readonly (readonly [string, readonly string[], number, RegExp])[] = [
      ["no token", [m1.addr], 2, /required flag\(s\) "token" not set/],
      ["no address", joining, 2, /missing required argument/],
      ["unknown flag", [...joining, "--fast", m1.addr], 2, /unknown option '--fast'/],
      ["no token at all", ["--token", "letmein", m1.addr], 1, /invalid join token/],
      ["a wrong secret", ["--token", wrong, m1.addr], 1, /A valid join token is necessary/],
      ["a wrong root", ["--token", wrongDigest, m1.addr], 1, /remote CA does not match finger/],
      ["another cluster's address", [...joining, w2.addr], 1, /remote CA does not match finger/],
      [
        "another cluster's token",
        ["--token", await token(w2, "worker"), m1.addr],
        1,
        /remote CA does not match fingerprint/,
      ],
      ["nobody there", at(strange.nobody), 1, /cannot connect to .*: nothing listens there/],
      ["no host there", [...joining, "10.77.0.44"], 1, /:2377: the host does not answer/],
      ["no such name", [...joining, "nohost.invalid"], 1, /nohost\.invalid:2377: the name is not/],
      ["no address", [...joining, "10.77.0.1:99999"], 1, /is no address of the form host:port/],
      [
        "a silent port",
        at(strange.silent),
        1,
        /as a swarm manager \(it takes connections and says n/,
      ],
      ["a talker", at(strange.banner), 1, /as a swarm manager \(it does not speak TLS\)/],
      ["a web server", at(strange.http), 1, /as a swarm manager \(it does not speak TLS\)/],
      ["one that hangs up", at(strange.hangUp), 1, /as a swarm manager \(it closed the connection/],
      ["a TLS server", at(strange.tls), 1, /as a swarm manager \(it does not speak HTTP\/2\)/],
      ["an HTTP/2 server", at(strange.http2), 1, /as a swarm manager \(it does not speak gRPC\)/],
      ["bad availability", [...joining, "--availability", "off", m1.addr], 1, /"off"/],
      ["bad listener", [...joining, "--listen-addr", "eth9", m1.addr], 1, /^Error.*listen address/],
      ["bad address", [...joining, "--advertise-addr", "eth9", m1.addr], 1, /advertise address/],
      [
        "an address of nobody",
        ["--token", manager, "--advertise-addr", "10.77.0.99", m1.addr],
        1,
        /using its advertised address: cannot connect to 10\.77\.0\.99:2377.*--advertise-addr/,
      ],
      [
        "a port of nobody",
        ["--token", manager, "--listen-addr", "10.9.9.9", m1.addr],
        1,
        /cannot listen on 10\.9\.9\.9:2377: this host has no such address/,
      ],
    ];
    const before = { nodes: await nodesOf(m1), files: await filesOf(w1) };
    for (const [what, args, code, message] of table) {
      const startedMs = performance.now();
      const result = await swarmd(w1, ["join", ...args]);
      t.match(result, { code, stdout: "", stderr: message }, what);
      t.ok(performance.now() - startedMs < PROMPT_MS, `${what}: promptly`);
    }
    t.match(await must(w1, "info"), /^Swarm: inactive$/m, "it is in no cluster");
    t.same(await filesOf(w1), before.files, "nothing is left on its disk");
    t.same(
      (await nodesOf(m1)).map(node => node.ID),
      before.nodes.map(node => node.ID),
    );
    strange.stop();
    t.match(await swarmd(w1, ["join", ...joining, m1.addr]), { code: 0 }, "then it joins");
    const joined = (await nodesOf(m1)).find(node => node.Description?.Hostname === "w1");
    t.match(joined, { Status: { State: "ready" } }, "and is ready when the join has returned");
    t.match(await swarmd(w1, ["join", ...joining, w2.addr]), {
      code: 1,
      stderr: /This node is already part of a swarm/,
    });
    t.match(await must(w1, "info"), /^ {2}10\.77\.0\.1:2377$/m, "it stays in its cluster");
  });

  await t.test("a manager whose port is taken joins when it is free", async t => {
    const squatter = await listen(m2, 2377);
    const refused = await swarmd(m2, ["join", "--token", manager, m1.addr]);
    t.match(refused, {
      code: 1,
      stderr: /cannot listen on 0\.0\.0\.0:2377: another program listens there/,
    });
    const init = await swarmd(m2, ["init", "--advertise-addr", m2.addr]);
    t.match(init, { code: 1, stderr: /cannot listen on 0\.0\.0\.0:2377/ });
    t.match(await must(m2, "info"), /^Swarm: inactive$/m);
    t.equal((await nodesOf(m1)).length, 2, "the cluster does not list it");
    squatter();
    await until("it joins", async () => {
      const result = await swarmd(m2, ["join", "--token", manager, m1.addr]);
      return result.code === 0;
    });
    await untilManager(m1, "m2");
  });

  await t.test("a worker whose port is taken becomes a manager when it is free", async t => {
    const squatter = await listen(w1, 2377);
    await must(m1, "node", "promote", "w1");
    await until("it says why", async () => /cannot listen on .*:2377/.test(await must(w1, "info")));
    squatter();
    await untilManager(m1, "w1", 3);
    await must(m1, "node", "demote", "w1");
    await until("it is a worker", async () => /Is Manager: false/.test(await must(w1, "info")));
    t.match(await swarmd(w1, ["join", "--token", manager, m1.addr]), { code: 1 }, "it still runs");
  });

  await t.test("services that cannot be", t => checkServices(t, m1));
  await t.test("requests that make no sense", t => checkRequests(t, m1));
  await t.test("nodes and references that do not exist", async t => {
    for (const args of [
      ["node", "inspect", "ghost"],
      ["node", "promote", "ghost"],
      ["node", "demote", "ghost"],
      ["node", "rm", "ghost"],
      ["node", "ps", "ghost"],
    ]) {
      t.match(await swarmd(m1, args), { code: 1, stderr: /node ghost not found/ }, args.join(" "));
    }
    for (const verb of ["inspect", "rollback", "rm"]) {
      const result = await swarmd(m1, ["service", verb, "ghost"]);
      t.match(result, { code: 1, stderr: /service ghost not found/ }, verb);
    }
    t.match(await swarmd(m1, ["node", "ls", "--filter", "colour=red"]), {
      code: 1,
      stderr: /Invalid filter 'colour'|invalid filter 'colour'/,
    });
    t.match(await swarmd(m1, ["node", "ls", "--format", "{{.Nope"]), {
      code: 2,
      stderr: /template parsing error: unclosed action/,
    });
    const ids = (await nodesOf(m1)).map(node => node.ID);
    t.match(await swarmd(m1, ["node", "demote", "m1", "m2"]), { code: 1, stdout: /demoted/ });
    const left = await until("one manager is left", async () => {
      for (const host of [m1, m2]) {
        const info = "{{.Swarm.ControlAvailable}} {{.Swarm.Managers}}";
        if ((await must(host, "info", "--format", info)) === "true 1\n") return host;
      }
      return null;
    });
    t.match(await swarmd(left, ["node", "demote", "self"]), {
      code: 1,
      stderr: /attempting to demote the last manager of the swarm/,
    });
    const other = left.name === "m1" ? m2 : m1;
    await must(left, "node", "promote", other.name);
    await untilManager(left, other.name);
    // The group counts it before it has read itself up to the leader's state.
    await until(`${other.name} answers as a manager`, async () => {
      return (await must(other, "info", "--format", "{{.Swarm.ControlAvailable}}")) === "true\n";
    });
    t.same((await nodesOf(left)).map(node => node.ID).sort(), ids.sort());
  });

  await t.test("data directories that cannot be used", t => checkDataDirs(t, lab));
});

interface Strangers {
  readonly nobody: number;
  readonly silent: number;
  readonly banner: number;
  readonly http: number;
  readonly hangUp: number;
  readonly tls: number;
  readonly http2: number;
  stop(): void;
}

const STRANGERS = `
process.on("uncaughtException", () => undefined);
const [net, http, tls, http2] = ["net", "http", "tls", "http2"].map(name => require(name));
const { cert, key } = JSON.parse(process.argv[1]);
net.createServer(() => undefined).listen(3001);
net.createServer(socket => socket.end("SSH-2.0-x\\r\\n")).listen(3002);
http.createServer((_, answer) => answer.end("web")).listen(3003);
net.createServer(socket => socket.destroy()).listen(3004);
tls.createServer({ cert, key }, socket => socket.end("hi")).listen(3005);
http2.createSecureServer({ cert, key }, (_, answer) => answer.end("hi"))
  .listen(3006, () => console.log("ready"));
`;

/** Programs that are no manager, on a host. */
async function startStrangers(host: LabHost): Promise<Strangers> {
  const { TestCa } = await import("../support/test-ca.ts");
  const { certPem: cert, keyPem: key } = await (await TestCa.create()).identity("manager");
  const stop = await background(host, STRANGERS, JSON.stringify({ cert, key }));
  const ports = { nobody: 3000, silent: 3001, banner: 3002, http: 3003, hangUp: 3004 };
  return { ...ports, tls: 3005, http2: 3006, stop };
}

const LISTENER = `require("net").createServer().listen(Number(process.argv[1]), () => console.log("ready"))`;

function listen(host: LabHost, port: number): Promise<() => void> {
  return background(host, LISTENER, String(port));
}

/** A script on a host; resolves with its end when it has said something. */
async function background(host: LabHost, script: string, argument: string): Promise<() => void> {
  // The shell is told to go by the end of its input: a signal to nsenter would not reach it.
  const shell = '"$0" -e "$1" "$2" & read -r line; kill $!';
  const words = ["sh", "-c", shell, process.execPath, script, argument];
  const [program = "", ...args] = host.execCommand(words);
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("exit", () => reject(new Error(`${host.name}: the script ended`)));
  });
  return () => child.stdin.end("\n");
}

async function filesOf(host: LabHost): Promise<string[]> {
  const listed = await host.exec(["find", host.paths.data, "-not", "-path", "*/lock/*"]);
  return listed.trim().split("\n").sort();
}

async function untilManager(witness: LabHost, name: string, voters = 2): Promise<void> {
  await until(`${name} is a manager`, async () => {
    const node = (await nodesOf(witness)).find(one => one.Description?.Hostname === name);
    return node?.ManagerStatus?.Reachability === "reachable";
  });
  await until(`${name} is a voter`, async () => {
    const info = await must(witness, "info", "--format", "{{.Swarm.Managers}}");
    return info.trim() === String(voters);
  });
}

/** What is refused by the command line (2) or the daemon (1), and its words. */
const BAD_FLAGS: readonly (readonly [readonly string[], number, RegExp])[] = [
  [["--bogus"], 2, /unknown option '--bogus'/],
  [["--constraint", "node.hostname"], 1, /constraint/],
  [["--constraint", "node.hostname=w1"], 1, /constraint/],
  [["--constraint", "node.hostname==w@1"], 1, /value 'w@1' is invalid/],
  [["--replicas", "-1"], 2, /invalid argument "-1" for "--replicas"/],
  [["--replicas", "many"], 2, /invalid argument "many" for "--replicas"/],
  [["--mode", "sometimes"], 2, /Unknown mode: sometimes/],
  [["--mode", "global", "--replicas", "2"], 2, /replicas can only be used with replicated/],
  [["--limit-cpu", "NaN"], 2, /invalid argument "NaN" for "--limit-cpu"/],
  [["--limit-cpu", "-1"], 1, /invalid cpu value -1/],
  [["--reserve-cpu", "Infinity"], 2, /invalid argument "Infinity" for "--reserve-cpu"/],
  [["--limit-memory", "3m"], 1, /invalid memory value 3145728: Must be at least 4MiB/],
  [["--reserve-memory", "-5m"], 1, /invalid memory value -5242880: Must be at least 4MiB/],
  [["--limit-memory", "lots"], 2, /invalid argument "lots" for "--limit-memory"/],
  [["--limit-pids", "-3"], 2, /invalid argument "-3" for "--limit-pids"/],
  [["--publish", "70000:80"], 2, /invalid port '70000'/],
  [["--publish", "80:70000"], 2, /invalid port '70000'/],
  [["--publish", "mode=somewhere,target=80"], 2, /invalid publish mode value/],
  [["--publish", "published=80"], 2, /missing mandatory field "target"/],
  [["--update-delay", "soon"], 2, /invalid duration "soon"/],
  [["--update-order", "random"], 2, /must be one of start-first, stop-first/],
  [["--update-max-failure-ratio", "2"], 1, /maxfailureratio/],
  [["--restart-condition", "maybe"], 2, /must be one of none, on-failure, any/],
  [["--mount", "type=bind,source=/x"], 2, /target is required/],
  [["--network", "nonet"], 1, /network nonet not found/],
  [["--secret", "nosecret"], 1, /nosecret/],
  [["--name", "no good"], 1, /name must be valid as a DNS name component/],
  [["--stop-grace-period", "-1s"], 2, /invalid duration/],
  [["--env-file", "/none"], 1, /\/none/],
  [["--host", "x"], 2, /bad format for add-host: "x"/],
];

async function checkServices(t: Test, m1: LabHost): Promise<void> {
  await must(m1, "service", "create", "-d", "--name", "solid", "--replicas", "2", "swarmd/app:1");
  await untilRunning(m1, "solid", 2);
  const list = async (): Promise<unknown> => api(m1, "GET", "/services");
  const before = await list();
  for (const [flags, code, message] of BAD_FLAGS) {
    const result = await swarmd(m1, ["service", "create", "-d", ...flags, "swarmd/app:1"]);
    t.match(result, { code, stdout: "", stderr: message }, flags.join(" "));
  }
  const duplicate = await swarmd(m1, ["service", "create", "--name", "solid", "swarmd/app:1"]);
  t.match(duplicate, { code: 1, stderr: /name conflicts with an existing object/ });
  t.match(await swarmd(m1, ["service", "create"]), { code: 2, stderr: /missing required arg/ });
  t.match(await swarmd(m1, ["service", "create", "-d", ""]), { code: 1, stderr: /image/ });
  const updates: readonly (readonly [readonly string[], RegExp])[] = [
    [["--limit-memory", "1m"], /Must be at least 4MiB/],
    [["--constraint-add", "nonsense"], /constraint/],
    [["--image", "UPPER:case"], /UPPER:case/],
    [["--rollback"], /does not have a previous spec/],
  ];
  for (const [flags, message] of updates) {
    const result = await swarmd(m1, ["service", "update", "-d", ...flags, "solid"]);
    t.match(result, { code: 1, stderr: message }, `update ${flags.join(" ")}`);
  }
  t.same(await list(), before, "nothing was made or changed");
  await must(m1, "service", "rm", "solid");
}

function specWith(task: object, rest: object = {}): object {
  const ContainerSpec = { Image: "swarmd/app:1" };
  return { Name: "raw", TaskTemplate: { ContainerSpec, ...task }, ...rest };
}

function limits(fields: object): object {
  return specWith({ Resources: { Limits: fields } });
}

/** What no command line would send. */
const BAD_REQUESTS: readonly (readonly [string, string, unknown, number, RegExp])[] = [
  ["POST", "/services/create", {}, 400, /./],
  ["POST", "/services/create", "text", 400, /cannot unmarshal/],
  ["POST", "/services/create", limits({ NanoCPUs: -1 }), 400, /invalid cpu value/],
  ["POST", "/services/create", limits({ NanoCPUs: "NaN" }), 400, /./],
  ["POST", "/services/create", limits({ NanoCPUs: 1e300 }), 400, /./],
  ["POST", "/services/create", limits({ MemoryBytes: 4 * MIB - 1 }), 400, /at least 4MiB/],
  ["POST", "/services/create", limits({ MemoryBytes: 1.5 }), 400, /./],
  ["POST", "/services/create", specWith({ Placement: { Constraints: ["x"] } }), 500, /constraint/],
  ["POST", "/services/create", specWith({}, { Mode: { Replicated: { Replicas: -1 } } }), 400, /./],
  ["POST", "/services/create", specWith({}, { Mode: { Global: {}, Replicated: {} } }), 400, /./],
  [
    "POST",
    "/services/create",
    specWith({}, { EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 99_999 }] } }),
    400,
    /./,
  ],
  ["POST", "/services/create", specWith({ RestartPolicy: { Delay: -1 } }), 400, /./],
  ["POST", "/services/ghost/update?version=1", specWith({}), 404, /service ghost not found/],
  ["POST", "/services/ghost/update?version=x", specWith({}), 400, /invalid/],
  ["GET", "/services?filters=x", undefined, 400, /invalid/],
  ["GET", "/tasks/ghost", undefined, 404, /task ghost not found/],
  ["GET", "/nodes/ghost", undefined, 404, /node ghost not found/],
  ["DELETE", "/services/ghost", undefined, 404, /service ghost not found/],
  ["POST", "/swarm/update?version=x", {}, 400, /invalid swarm version 'x'/],
  ["POST", "/swarm/join", {}, 503, /already part of a swarm/],
  ["POST", "/swarm/unlock", { UnlockKey: "x" }, 409, /swarm is not locked/],
  ["GET", "/services/ghost/logs?stdout=1", undefined, 404, /ghost/],
  ["GET", "/v9.99/services", undefined, 400, /client version 9\.99 is too new/],
];

async function checkRequests(t: Test, m1: LabHost): Promise<void> {
  const swarm = await m1.request("GET", "/swarm");
  for (const [method, path, body, status, message] of BAD_REQUESTS) {
    const answer: Answer = await m1.request(method, path, body);
    const what = `${method} ${path} ${JSON.stringify(body) ?? ""}`;
    t.match(answer, { status, body: { message } }, what);
  }
  t.same(await api(m1, "GET", "/services"), [], "nothing was made");
  t.same((await m1.request("GET", "/swarm")).body, swarm.body, "the cluster is as it was");
}

async function checkDataDirs(t: Test, lab: Lab): Promise<void> {
  const [m1, m2, w1, w2] = [lab.host("m1"), lab.host("m2"), lab.host("w1"), lab.host("w2")];
  await must(m1, "service", "create", "-d", "--name", "kept", "--replicas", "3", "swarmd/app:1");
  await untilRunning(m1, "kept", 3);
  const before = await census(lab.hosts());
  const data = m2.paths.data;
  const daemon = (host: LabHost): Promise<RunResult> =>
    host.tryExec([
      ...["swarmd", "daemon", "--data-dir", host.paths.data],
      ...["--socket", host.socketPath, "--docker-host", host.dockerSocketPath],
    ]);

  await t.test("in place of which there is a file, or what cannot be written", async t => {
    await m2.stop();
    await m2.exec(["mv", data, `${data}.away`]);
    await m2.exec(["touch", data]);
    t.match(await daemon(m2), {
      code: 3,
      stderr: /cannot use the data directory .*EEXIST|ENOTDIR/,
    });
    await m2.exec([
      "sh",
      "-c",
      `rm ${data} && mkdir -m 700 ${data} && mount -t tmpfs -o ro,mode=700 x ${data}`,
    ]);
    t.match(await daemon(m2), { code: 3, stderr: /cannot use the data directory .*read-only/i });
    await m2.exec(["sh", "-c", `umount ${data} && rmdir ${data} && mv ${data}.away ${data}`]);
    await m2.start();
    await untilManager(m1, "m2");
  });

  await t.test("with damaged or missing files", async t => {
    await m2.stop();
    const files: readonly (readonly [string, RegExp])[] = [
      ["node.json", /node\.json is damaged|half of a membership/],
      ["certificates/node.key", /./],
      ["raft/dek", /raft\/dek is damaged/],
    ];
    for (const [file, message] of files) {
      const path = `${data}/${file}`;
      await m2.exec(["sh", "-c", `cp -p ${path} /run/saved && echo damaged >${path}`]);
      t.match(await daemon(m2), { code: 4, stderr: message }, `${file} damaged`);
      await m2.exec(["sh", "-c", `cat /run/saved >${path}`]);
    }
    await m2.exec(["mv", `${data}/certificates`, "/run/certificates"]);
    t.match(await daemon(m2), { code: 4, stderr: /holds half of a membership/ });
    await m2.exec(["cp", "-a", "/run/certificates", `${data}/certificates`]);
    await m2.start();
    await untilManager(m1, "m2");
  });

  await t.test("of another cluster", async t => {
    await Promise.all([m2.stop(), w2.stop()]);
    await m2.exec(["mv", `${data}/raft`, `${data}/raft.own`]);
    await m2.exec(["cp", "-a", `${w2.paths.data}/raft`, `${data}/raft`]);
    const told = await daemon(m2);
    t.match(told, { code: 3, stderr: /cluster|member/ });
    await m2.exec(["sh", "-c", `rm -r ${data}/raft && mv ${data}/raft.own ${data}/raft`]);
    await Promise.all([m2.start(), w2.start()]);
    await untilManager(m1, "m2");
    t.match(await must(w2, "node", "ls"), /w2 +Ready +Active +Leader/, "the other goes on too");
  });

  await t.test("that are full when the node joins", async t => {
    await must(w1, "leave");
    await until("w1 is down", async () => (await must(m1, "node", "ls")).includes("Down"));
    await must(m1, "node", "rm", "w1");
    await w1.stop();
    const mount = `mount -t tmpfs -o size=256k,mode=700 x ${w1.paths.data}`;
    await w1.exec(["sh", "-c", mount]);
    await w1.start();
    await w1.exec(["sh", "-c", `head -c 1M /dev/zero >${w1.paths.data}/filler || :`]);
    const token = (await must(m1, "join-token", "-q", "worker")).trim();
    const refused = await swarmd(w1, ["join", "--token", token, m1.addr]);
    t.match(refused, { code: 1, stderr: /ENOSPC|no space left/i });
    t.match(await must(w1, "info"), /^Swarm: inactive$/m);
    await until("it is not listed", async () => (await nodesOf(m1)).length === 2);
    await w1.exec(["rm", `${w1.paths.data}/filler`]);
    t.match(
      await swarmd(w1, ["join", "--token", token, m1.addr]),
      { code: 0 },
      "with room it joins",
    );
  });

  t.same(
    await disturbances(
      lab,
      before.filter(({ host }) => host !== "w1"),
    ),
    [],
  );
  await must(m1, "service", "rm", "kept");
}
