import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { get } from "node:http";
import { get as getTls, type RequestOptions } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { Clock } from "../../src/base/clock.ts";
import type { Logger } from "../../src/base/logger.ts";
import { loadConfig } from "../../src/daemon/config.ts";
import { ManagerRecord } from "../../src/daemon/manager-record.ts";
import { isLoopback, parseHttpAddress } from "../../src/metrics/core/address.ts";
import { counter, exposition, family, gauge } from "../../src/metrics/core/exposition.ts";
import { healthOf, readinessOf } from "../../src/metrics/core/health.ts";
import { Histogram } from "../../src/metrics/core/histogram.ts";
import { nodeFamilies } from "../../src/metrics/core/node-families.ts";
import { raftFamilies } from "../../src/metrics/core/raft-families.ts";
import { stateFamilies } from "../../src/metrics/core/state-families.ts";
import { MetricsServer, type MetricsServerDeps } from "../../src/metrics/server.ts";
import type { MetricsTls } from "../../src/metrics/tls-files.ts";
import type { StateView } from "../../src/model/view.ts";
import type { RaftStatus } from "../../src/raft/core/types.ts";
import { eventually } from "../support/eventually.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => quiet,
};

function lines(text: string, prefix: string): string[] {
  return text.split("\n").filter(line => line.startsWith(prefix));
}

t.test("the text that Prometheus reads", async t => {
  const text = exposition([
    gauge("a", 'what \\ it\nis "x"', 1.5, { x: 'q"\\\n' }),
    counter("b_total", "b", 3),
    family("gauge", "none", "left out", []),
  ]);
  t.equal(
    text,
    [
      '# HELP a what \\\\ it\\nis "x"',
      "# TYPE a gauge",
      'a{x="q\\"\\\\\\n"} 1.5',
      "# HELP b_total b",
      "# TYPE b_total counter",
      "b_total 3",
      "",
    ].join("\n"),
  );
});

t.test("a histogram counts from below", async t => {
  const histogram = new Histogram([1, 2]);
  for (const value of [0.5, 1, 1.5, 9]) histogram.observe(value);
  t.same(lines(exposition([histogram.family("h", "h")]), "h"), [
    'h_bucket{le="1"} 2',
    'h_bucket{le="2"} 3',
    'h_bucket{le="+Inf"} 4',
    "h_sum 12",
    "h_count 4",
  ]);
});

function viewOf(tables: Readonly<Record<string, readonly unknown[]>>): StateView {
  const table = (name: string) => ({
    size: tables[name]?.length ?? 0,
    all: () => tables[name] ?? [],
    unordered: () => tables[name] ?? [],
  });
  return { index: 1, table } as unknown as StateView;
}

t.test("the state in swarm mode's names", async t => {
  const task = (serviceName: string, state: string, desiredState: string) => ({
    serviceId: serviceName === "" ? "" : "id",
    serviceName,
    desiredState,
    status: { state },
  });
  const text = exposition(
    stateFamilies(
      viewOf({
        nodes: [{ status: { state: "ready" } }, { status: { state: "down" } }],
        tasks: [
          task("web", "running", "running"),
          task("web", "failed", "shutdown"),
          task("", "running", "running"),
        ],
        services: [{}],
        secrets: [{}, {}],
      }),
    ),
  );
  t.same(lines(text, "swarm_manager_nodes"), [
    'swarm_manager_nodes{state="ready"} 1',
    'swarm_manager_nodes{state="down"} 1',
    'swarm_manager_nodes{state="unknown"} 0',
    'swarm_manager_nodes{state="disconnected"} 0',
  ]);
  t.match(text, /^swarm_manager_tasks_total\{state="running"\} 2$/m);
  t.match(text, /^swarm_manager_tasks_total\{state="new"\} 0$/m);
  t.match(text, /^swarm_manager_services_total 1$/m);
  t.match(text, /^swarm_manager_secrets_total 2$/m);
  t.match(text, /^swarm_manager_configs_total 0$/m);
  t.same(lines(text, "swarmd_service_tasks{"), [
    'swarmd_service_tasks{service="web",service_id="id",state="running"} 1',
    'swarmd_service_tasks{service="web",service_id="id",state="failed"} 1',
  ]);
  t.match(text, /^swarmd_service_tasks_desired\{service="web",service_id="id"\} 1$/m);
});

t.test("the log and its managers", async t => {
  const status: RaftStatus = {
    id: 1,
    term: 7,
    vote: 1,
    commit: 90,
    applied: 89,
    lastIndex: 100,
    role: "leader",
    leaderId: 1,
    transferTarget: 0,
    conf: { voters: [1, 2], votersOutgoing: [], learners: [3], learnersNext: [], autoLeave: false },
    progress: [1, 2, 3].map(id => ({
      id,
      match: 110 - id * 10,
      next: 0,
      state: "replicate",
      learner: id === 3,
      recentlyActive: true,
      paused: false,
      inflightMessages: 0,
      inflightFull: false,
      pendingSnapshot: 0,
    })),
  };
  const counts = {
    proposed: 5,
    proposalsRefused: 1,
    proposalsWaiting: 2,
    entriesPending: 3,
    readTimeouts: 0,
    snapshotsTaken: 0,
    snapshotsSent: 0,
    snapshotsReceived: 0,
    snapshotFailures: 0,
    pauses: 0,
  };
  const text = exposition(
    raftFamilies({
      status,
      counts,
      leaderChanges: 4,
      names: new Map([[2, "node2"]]),
      reachable: id => id === 2,
    }),
  );
  for (const line of [
    "swarm_manager_leader 1",
    "swarmd_raft_term 7",
    "swarmd_raft_commit_index 90",
    "swarmd_raft_applied_index 89",
    "swarmd_raft_leader_changes_total 4",
    "swarmd_raft_proposals_waiting 2",
    'swarmd_raft_peer_lag_entries{peer="node2"} 10',
    'swarmd_raft_peer_lag_entries{peer="3"} 20',
    'swarmd_raft_peer_reachable{peer="node2"} 1',
    'swarmd_raft_peer_reachable{peer="3"} 0',
  ]) {
    t.ok(text.split("\n").includes(line), line);
  }
});

t.test("a node in no cluster says nothing of one", async t => {
  const text = exposition(
    nodeFamilies({
      version: "1",
      nodeId: "",
      clusterId: "",
      isManager: false,
      isServed: false,
      hasEngine: true,
      overlay: null,
      loop: { meanMs: 1, p99Ms: 20, maxMs: 50, stalls: 2, longestStallMs: 500 },
      process: { residentBytes: 5, heapUsedBytes: 4, cpuSeconds: 3, startedAtSeconds: 2 },
    }),
  );
  t.same(lines(text, "swarm_"), []);
  t.match(text, /^swarmd_event_loop_delay_seconds\{stat="p99"\} 0\.02$/m);
  t.match(text, /^process_resident_memory_bytes 5$/m);
});

t.test("what a manager's life leaves", async t => {
  const record = new ManagerRecord();
  for (const leaderId of [0, 1, 1, 0, 2, 1]) {
    record.sawLeader({ role: "follower", term: 1, leaderId });
  }
  t.equal(record.leaderChanges, 2);
  const task = (runningSinceMs: number) => ({ createdAtMs: 1_000, runningSinceMs });
  const event = (before: object | null, after: object | null) => ({
    table: "tasks",
    id: "t",
    before,
    after,
  });
  const events = [
    event(null, task(0)),
    event(task(0), task(3_000)),
    event(task(3_000), task(3_000)),
    event(task(0), null),
  ];
  record.committed({ index: 1, nowMs: 0, events } as never);
  record.tookSnapshot(2_000);
  t.match(exposition([record.snapshots.family("s", "s")]), /^s_sum 2$/m);
  const text = exposition([record.schedulingDelays.family("d", "d")]);
  t.same(lines(text, "d_").slice(-2), ["d_sum 2", "d_count 1"]);
});

t.test("a node's health has its reasons", async t => {
  const well = {
    state: "active",
    problem: "",
    isManager: true,
    hasLeader: true,
    isServed: true,
    hasEngine: true,
  } as const;
  t.same(healthOf(well), { healthy: true, engine: true, reasons: [] });
  const alone = healthOf({ ...well, hasEngine: false });
  t.same(alone, { healthy: true, engine: false, reasons: [] }, "the swarm outlives Engines");
  t.match(readinessOf(alone), { healthy: false, reasons: [/Docker Engine .* does not answer/] });
  t.same(readinessOf(healthOf(well)), healthOf(well));
  const reasons = (facts: object): string => healthOf({ ...well, ...facts }).reasons.join("|");
  t.match(reasons({ hasLeader: false }), /^no leader is known/);
  t.match(reasons({ isServed: false }), /^no manager serves this node/);
  t.match(reasons({ state: "inactive", isServed: false }), /^this node is in no swarm[^|]*$/);
  t.match(reasons({ state: "locked", isServed: false }), /^this manager is locked[^|]*$/);
  t.equal(reasons({ problem: "broken" }), "broken");
});

t.test("addresses", async t => {
  t.same(parseHttpAddress("[::1]:9"), { host: "::1", port: 9 });
  for (const bad of ["", "9323", "eth0:1", "1.2.3.4", "1.2.3.4:99999", ":1"]) {
    t.equal(parseHttpAddress(bad), null, bad);
  }
  for (const host of ["127.0.0.1", "127.1.2.3", "::1", "localhost"]) t.ok(isLoopback(host), host);
  for (const host of ["0.0.0.0", "::", "10.0.0.1"]) t.notOk(isLoopback(host), host);
});

t.test("what others can reach needs mutual TLS", async t => {
  const load = (flags: Readonly<Record<string, string>>): string =>
    loadConfig({ flags, env: {}, file: { path: "/nonexistent", required: false } }).httpAddr;
  const tls = { "http-cert": "/c", "http-key": "/k", "http-client-ca": "/a" };
  t.equal(load({}), "");
  t.equal(load({ "http-addr": "127.0.0.1:9323" }), "127.0.0.1:9323");
  t.equal(load({ "http-addr": "0.0.0.0:9323", ...tls }), "0.0.0.0:9323");
  t.throws(() => load({ "http-addr": "0.0.0.0:9323" }), {
    message: /--http-addr 0\.0\.0\.0:9323 can be reached from other hosts: that needs mutual TLS/,
  });
  t.throws(() => load({ "http-addr": "127.0.0.1:1", "http-cert": "/c" }), {
    message: /go together/,
  });
  t.throws(() => load({ "http-addr": "eth0:9323" }), { message: /takes ADDRESS:PORT/ });
});

interface Answer {
  readonly status: number;
  readonly body: string;
}

function ask(port: number, path: string, tls: RequestOptions | null = null): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const read = (answer: import("node:http").IncomingMessage): void => {
      let body = "";
      answer.on("data", chunk => {
        body += String(chunk);
      });
      answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body }));
    };
    const where = { host: "127.0.0.1", port, path, agent: false };
    const request = tls === null ? get(where, read) : getTls({ ...where, ...tls }, read);
    request.on("error", reject);
  });
}

interface Served {
  readonly healthy?: boolean;
  readonly engine?: boolean;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

function depsOf(served: Served): MetricsServerDeps {
  const { healthy = true, engine = true, clock = new VirtualClock(), logger = quiet } = served;
  const reasons = healthy ? [] : ["because"];
  return {
    families: () => Promise.resolve([gauge("up", "up", 1)]),
    health: () => Promise.resolve({ healthy, engine, reasons }),
    clock,
    logger,
  };
}

async function serve(t: Test, tls: MetricsTls | null, served: Served = {}): Promise<number> {
  const address = { host: "127.0.0.1", port: 0 };
  const server = new MetricsServer({ address, tls }, depsOf(served));
  t.teardown(() => server.close());
  return server.start();
}

t.test("over HTTP", async t => {
  const port = await serve(t, null);
  t.match(await ask(port, "/metrics"), { status: 200, body: /^# HELP up up\n/ });
  const well = '{"healthy":true,"engine":true,"reasons":[]}\n';
  t.match(await ask(port, "/healthz"), { status: 200, body: well });
  t.match(await ask(port, "/readyz"), { status: 200, body: well });
  t.match(await ask(port, "/livez"), { status: 200, body: "ok\n" });
  t.match(await ask(port, "/"), { status: 404 });
  const ill = await serve(t, null, { healthy: false });
  t.match(await ask(ill, "/healthz"), { status: 503, body: /because/ });
  t.match(await ask(ill, "/livez"), { status: 200 });
  const alone = await serve(t, null, { engine: false });
  t.match(await ask(alone, "/healthz"), { status: 200, body: /"engine":false/ });
  t.match(await ask(alone, "/readyz"), { status: 503, body: /Engine of this host does not/ });
  const address = { host: "127.0.0.1", port };
  const second = new MetricsServer({ address, tls: null }, depsOf({}));
  await t.rejects(second.start(), { message: /cannot serve metrics on .*EADDRINUSE/ });
});

interface Pair {
  readonly cert: string;
  readonly key: string;
}

function selfSigned(dir: string, name: string): Pair {
  const [cert, key] = [join(dir, `${name}.pem`), join(dir, `${name}.key`)];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const subject = ["-subj", `/CN=${name}`, "-addext", "subjectAltName=IP:127.0.0.1"];
  execFileSync(
    "openssl",
    ["req", "-x509", ...curve, ...subject, "-keyout", key, "-out", cert, "-days", "2"],
    { stdio: "ignore" },
  );
  return { cert, key };
}

t.test("certificates that are replaced are used, when they fit together", async t => {
  const dir = mkdtempSync(join(tmpdir(), "swarmd-metrics-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const [old, next, client] = ["old", "next", "client"].map(name => selfSigned(dir, name));
  if (old === undefined || next === undefined || client === undefined) throw new Error("no pairs");
  const said: string[] = [];
  const say = (message: string): void => void said.push(message);
  const clock = new VirtualClock();
  const own = { cert: join(dir, "own.pem"), key: join(dir, "own.key"), clientCa: client.cert };
  copyFileSync(old.cert, own.cert);
  copyFileSync(old.key, own.key);
  const logger = { ...quiet, info: say, warn: say };
  const port = await serve(t, own, { clock, logger });
  const trusting = (who: Pair): RequestOptions => ({
    ca: readFileSync(who.cert),
    cert: readFileSync(client.cert),
    key: readFileSync(client.key),
  });
  t.match(await ask(port, "/livez", trusting(old)), { status: 200 });

  copyFileSync(next.cert, own.cert);
  for (let looks = 0; looks < 2; looks += 1) {
    clock.advance(10_000);
    await eventually(() => clock.pending > 0, { what: "the next look" });
  }
  await eventually(() => said.length > 0, { what: "the fault" });
  t.match(said, [/cannot be used; the old one stays/], "a key that does not fit, told of once");
  t.match(await ask(port, "/livez", trusting(old)), { status: 200 });

  copyFileSync(next.key, own.key);
  clock.advance(10_000);
  await eventually(() => said.length > 1, { what: "the new certificate" });
  t.match(said.slice(1), [/was read again/]);
  t.match(await ask(port, "/livez", trusting(next)), { status: 200 });
  await t.rejects(ask(port, "/livez", trusting(old)));
});

t.test("files that make no certificate are refused at the start", async t => {
  const dir = mkdtempSync(join(tmpdir(), "swarmd-metrics-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const [one, other] = [selfSigned(dir, "one"), selfSigned(dir, "other")];
  const address = { host: "127.0.0.1", port: 0 };
  const open = (tls: MetricsTls): MetricsServer => new MetricsServer({ address, tls }, depsOf({}));
  t.throws(() => open({ cert: one.cert, key: other.key, clientCa: one.cert }), {
    code: "invalid_argument",
    message: /^--http-cert, --http-key, --http-client-ca: /,
  });
  t.throws(() => open({ ...one, clientCa: join(dir, "none.pem") }), {
    message: /^--http-client-ca: ENOENT/,
  });
});

t.test("with TLS only who has a certificate of the authority is answered", async t => {
  const dir = mkdtempSync(join(tmpdir(), "swarmd-metrics-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const make = (name: string): Pair => selfSigned(dir, name);
  const [own, client, stranger] = [make("own"), make("client"), make("stranger")];
  const port = await serve(t, { ...own, clientCa: client.cert });
  const as = (who: { readonly cert: string; readonly key: string }): RequestOptions => ({
    ca: readFileSync(own.cert),
    cert: readFileSync(who.cert),
    key: readFileSync(who.key),
  });
  t.match(await ask(port, "/metrics", as(client)), { status: 200 });
  await t.rejects(ask(port, "/metrics", as(stranger)));
  await t.rejects(ask(port, "/metrics", { ca: readFileSync(own.cert) }));
  await t.rejects(ask(port, "/metrics"));
});
