import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { MAX_BODY_BYTES, MAX_JSON_DEPTH, parseJson } from "../../src/api/json-body.ts";
import { listenOnSocket } from "../../src/api/socket.ts";
import { SwarmError } from "../../src/base/errors.ts";
import { apiRig, controlRig, SELF_ID } from "../support/control-rig.ts";
import { ask } from "../support/fake-engine.ts";
import { managerRig, message, SPEC } from "../support/manager-rig.ts";

t.test("every answer says who speaks", async t => {
  const { ask } = await managerRig(t);
  const ping = await ask("GET", "/_ping");
  t.equal(ping.text, "OK");
  t.match(ping.headers, {
    "api-version": "1.43",
    "builder-version": "2",
    ostype: "linux",
    "docker-experimental": "false",
    swarm: "active/manager",
    server: "swarmd/0.1.0 (linux)",
    "cache-control": "no-cache, no-store, must-revalidate",
  });
  const head = await ask("HEAD", "/v1.41/_ping");
  t.equal(head.headers["content-length"], "0");
  t.equal((await ask("GET", "/services")).headers["api-version"], "1.43");
});

t.test("versions are negotiated", async t => {
  const { ask } = await managerRig(t);
  for (const prefix of ["", "/v1.12", "/v1.24", "/v1.43"]) {
    t.equal((await ask("GET", `${prefix}/services`)).status, 200, prefix);
  }
  t.equal(
    message(await ask("GET", "/v1.99/services")),
    "400 client version 1.99 is too new. Maximum supported API version is 1.43",
  );
  t.equal(
    message(await ask("GET", "/v1.11/services")),
    "400 undefined",
    "in plain text, as errors were then",
  );
});

t.test("the Engine's info and version with our part in it", async t => {
  const { ask, raft } = await managerRig(t);
  const info = (await ask("GET", "/v1.41/info")).body;
  t.match(info, {
    ID: "ENGINE",
    Swarm: {
      NodeID: SELF_ID,
      NodeAddr: "10.0.0.1",
      LocalNodeState: "active",
      ControlAvailable: true,
      Error: "",
      RemoteManagers: [{ NodeID: SELF_ID, Addr: "10.0.0.1:2377" }],
      Nodes: 1,
      Managers: 1,
      Cluster: { ID: "cluster" },
    },
  });
  t.notMatch(JSON.stringify(info), /SWMTKN/);
  t.match((await ask("GET", "/version")).body, {
    ApiVersion: "1.43",
    MinAPIVersion: "1.12",
    Components: [{ Name: "swarmd", Version: "0.1.0" }],
  });
  t.match((await ask("GET", "/swarmd/v1/status")).body, {
    version: "0.1.0",
    node: { nodeId: SELF_ID },
    raft: { role: "leader", leaderNodeId: SELF_ID },
  });
  raft.barrierError = new SwarmError("internal", "disk");
  t.match((await ask("GET", "/info")).body, { Swarm: { Error: "disk", ControlAvailable: true } });
});

t.test("a node that cannot speak for a cluster says why", async t => {
  const { ask, lifecycle } = await managerRig(t);
  const paths = [
    "/services",
    "/nodes",
    "/tasks",
    "/secrets",
    "/configs",
    "/swarm",
    "/swarm/unlockkey",
  ];
  const sentences = {
    inactive:
      'Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    worker:
      "Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager.",
    preparing: "Manager is being prepared or has trouble connecting to the cluster.",
  } as const;
  for (const state of ["inactive", "worker", "preparing"] as const) {
    lifecycle.become(state);
    for (const path of paths) {
      const expected = `503 This node is not a swarm manager. ${sentences[state]}`;
      t.equal(message(await ask("GET", path)), expected, `${state} ${path}`);
    }
  }
  const overlay = { Name: "n1", Driver: "overlay" };
  lifecycle.become("worker");
  t.equal(
    message(await ask("POST", "/networks/create", { json: overlay })),
    "403 Cannot create a multi-host network from a worker node. Please create the network from a manager node.",
  );
  t.equal((await ask("GET", "/_ping")).headers["swarm"], "active/worker");
  lifecycle.become("inactive");
  t.equal((await ask("GET", "/_ping")).headers["swarm"], "inactive");
  t.match((await ask("GET", "/info")).body, {
    Swarm: {
      LocalNodeState: "inactive",
      NodeID: "",
      RemoteManagers: null,
      ControlAvailable: false,
    },
  });
  t.match((await ask("GET", "/swarmd/v1/status")).body, { raft: null });
});

t.test("init and join read Docker's requests", async t => {
  const { ask, lifecycle } = await managerRig(t);
  const listen = { ListenAddr: "0.0.0.0:2377", AdvertiseAddr: "10.0.0.1" };
  t.match(
    message(await ask("POST", "/swarm/init", { json: listen })),
    /^503 This node is already part of a swarm/,
  );
  t.equal(lifecycle.asked.length, 0);
  lifecycle.become("inactive");
  const refusals: readonly (readonly [string, object, string])[] = [
    ["init", { ListenAddr: "" }, '400 invalid ListenAddr "": invalid empty address'],
    ["init", { ...listen, SubnetSize: 33 }, "500 subnet size is out of range: 33"],
    [
      "init",
      { ...listen, DataPathPort: 80 },
      "500 Datapath port number is not in valid range (1024-49151) : 80",
    ],
    [
      "init",
      { ...listen, DefaultAddrPool: ["10.0.0.0"] },
      "500 invalid base pool 10.0.0.0: invalid CIDR address: 10.0.0.0",
    ],
    ["init", { ...listen, Availability: "foo" }, '500 invalid Availability: "foo"'],
    ["init", { ...listen, Spec: { Name: "x" } }, '400 swarm spec must be named "default"'],
    [
      "init",
      { ...listen, Spec: { CAConfig: { NodeCertExpiry: 1 } } },
      "400 rpc error: code = InvalidArgument desc = minimum certificate expiry time is: 1h0m0s",
    ],
    ["join", { ...listen, RemoteAddrs: [] }, "400 at least 1 RemoteAddr is required to join"],
    ["join", [], "400 json: cannot unmarshal array into Go value of type swarm.JoinRequest"],
  ];
  for (const [verb, json, expected] of refusals) {
    t.equal(message(await ask("POST", `/swarm/${verb}`, { json })), expected);
  }
  const init = await ask("POST", "/swarm/init", {
    json: { ...listen, Spec: { Orchestration: { TaskHistoryRetentionLimit: 2 } } },
  });
  t.same([init.status, init.body], [200, SELF_ID]);
  const join = { ...listen, RemoteAddrs: ["10.0.0.2", "[fd00::1]:99", "fd00::2"], JoinToken: "x" };
  t.equal((await ask("POST", "/swarm/join", { json: join })).status, 200);
  t.match(lifecycle.asked, [
    [
      "init",
      {
        listenAddr: "0.0.0.0:2377",
        dataPathPort: 4789,
        subnetSize: 24,
        defaultAddrPool: ["10.0.0.0/8"],
        availability: "active",
        spec: { Orchestration: { TaskHistoryRetentionLimit: 2 }, Raft: { ElectionTick: 10 } },
      },
    ],
    ["join", { remoteAddrs: ["10.0.0.2:2377", "[fd00::1]:99", "[fd00::2]:2377"], joinToken: "x" }],
  ]);
});

t.test("a manager leaves by force only", async t => {
  const { ask, lifecycle, store, raft } = await managerRig(t);
  const leave = async (query = "") => message(await ask("POST", `/swarm/leave${query}`));
  t.match(
    await leave(),
    /^503 You are attempting to leave .* Removing the last manager erases all current state of the swarm\. Use `--force` to ignore this message\. $/,
  );
  for (const raftId of [2, 3]) {
    const row = { id: String(raftId), raftId, nodeId: `n${raftId}`, addr: "" };
    store.put({ op: "create", table: "members", row });
  }
  raft.unreachable.add(3);
  t.match(
    await leave(),
    /Removing this node leaves 1 managers out of 3\. Without a Raft quorum your swarm will be inaccessible\. The only way to restore/,
  );
  t.match(await leave("?force=1"), /^200/);
  lifecycle.become("worker");
  t.match(await leave(), /^200/);
  t.same(lifecycle.asked, [
    ["leave", true],
    ["leave", false],
  ]);
  lifecycle.become("inactive");
  t.equal(await leave("?force=1"), "503 This node is not part of a swarm");
  t.match(
    message(await ask("POST", "/swarm/unlock", { json: {} })),
    /^503 This node is not a swarm manager/,
  );
});

t.test("unlocking and keys", async t => {
  const { ask, lifecycle } = await managerRig(t);
  t.same((await ask("GET", "/swarm/unlockkey")).body, { UnlockKey: "" });
  t.equal(message(await ask("POST", "/swarm/unlock", { json: {} })), "409 swarm is not locked");
  const { Version } = (await ask("GET", "/swarm")).body as { Version: { Index: number } };
  await ask("POST", `/swarm/update?version=${Version.Index}&rotateManagerUnlockKey=true`, {
    json: {},
  });
  t.same(lifecycle.asked, [], "the key is the cluster's");
  lifecycle.become("preparing");
  lifecycle.info = { ...lifecycle.info, localNodeState: "locked" };
  t.match(
    message(await ask("GET", "/services")),
    /^503 Swarm is encrypted and needs to be unlocked/,
  );
  await ask("POST", "/swarm/unlock", { json: { UnlockKey: "SWMKEY-1-x" } });
  t.same(lifecycle.asked.at(-1), ["unlock", "SWMKEY-1-x"]);
});

t.test("bad input leaves the connection usable", async t => {
  const { api } = await managerRig(t);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  const send = (path: string, text: string) => ask(api.socketPath, "POST", path, { text, agent });
  const deep = "[".repeat(MAX_JSON_DEPTH + 1);
  const cases: readonly (readonly [string, string])[] = [
    ['{"Name":"web"', "400 unexpected EOF"],
    ["", "400 got EOF while reading request body"],
    ["{]", "400 invalid character ']' looking for beginning of object key string"],
    ["[1]", "400 json: cannot unmarshal array into Go value of type swarm.ServiceSpec"],
    [
      '{"Name":7}',
      "400 json: cannot unmarshal number into Go struct field ServiceSpec.Name of type string",
    ],
    [deep, "400 exceeded max depth of JSON document"],
    [
      "x".repeat(MAX_BODY_BYTES + 1),
      `413 request body too large: more than ${MAX_BODY_BYTES} bytes`,
    ],
  ];
  for (const [text, expected] of cases) {
    t.equal(message(await send("/services/create", text)), expected, expected);
  }
  const { sockets, freeSockets } = agent;
  const count = Object.values({ ...sockets, ...freeSockets }).flat().length;
  t.equal(count, 1, "one connection served them all");
  t.equal((await ask(api.socketPath, "GET", "/services", { agent })).status, 200);
});

t.test("odd paths, filters and versions", async t => {
  const { ask } = await managerRig(t);
  const cases = [
    ["GET", "/services/%zz", '400 invalid URL escape in "%zz"'],
    ["GET", "/services?filters=bad", "400 invalid character 'b' looking for beginning of value"],
    [
      "GET",
      "/services?filters=[]",
      "400 json: cannot unmarshal array into Go value of type map[string]map[string]bool",
    ],
    [
      "GET",
      '/services?filters={"name":7}',
      "400 json: cannot unmarshal number into Go value of type map[string]bool",
    ],
    [
      "POST",
      "/services/a/update?version=x",
      `400 invalid service version 'x': strconv.ParseUint: parsing "x": invalid syntax`,
    ],
    [
      "POST",
      "/nodes/a/update",
      `400 invalid node version '': strconv.ParseUint: parsing "": invalid syntax`,
    ],
    ["GET", "/nosuchendpoint", "404 page not found"],
    ["GET", "/services/a/logs?stdout=1&tail=-1", "500 negative tail values not supported"],
    ["GET", "/events?since=bogus", '500 strconv.ParseInt: parsing "bogus": invalid syntax'],
  ] as const;
  for (const [method, path, expected] of cases) {
    const options = method === "POST" ? { json: SPEC } : {};
    t.equal(message(await ask(method, path, options)), expected, path);
  }
  t.equal((await ask("GET", "/v1.40/services?status=x")).status, 200, "of a later version");
});

t.test("keys that name a prototype are nothing special", t => {
  const parsed = parseJson(
    '{"__proto__":{"polluted":1},"a":{"\\u005f_proto__":2,"constructor":3}}',
  );
  t.same(parsed, { a: { constructor: 3 } });
  t.equal(Reflect.get({}, "polluted"), undefined);
  t.end();
});

t.test("the socket", async t => {
  const control = controlRig();
  const first = await apiRig(control, "/nonexistent.sock");
  t.equal(statSync(first.socketPath).mode & 0o777, 0o660);
  const dir = mkdtempSync(join(tmpdir(), "swarmd-socket-"));
  t.teardown(async () => {
    await first.close();
    rmSync(dir, { recursive: true });
  });
  const second = http.createServer();
  await t.rejects(
    listenOnSocket(second, first.socketPath),
    { code: "failed_precondition" },
    "one is served",
  );
  const stale = join(dir, "stale.sock");
  await leaveStaleSocket(stale);
  await listenOnSocket(second, stale);
  t.ok(second.listening, "one that nobody answers on is replaced");
  second.close();
  writeFileSync(join(dir, "file"), "");
  await t.rejects(listenOnSocket(http.createServer(), join(dir, "file")), {
    code: "failed_precondition",
  });
});

/** A socket file whose process is gone. */
async function leaveStaleSocket(path: string): Promise<void> {
  const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", script]);
  await new Promise<void>(resolve => {
    net.connect(path).once("error", () => resolve());
  });
}
