import http from "node:http";
import t from "tap";
import { parseJson } from "../../src/api/json-body.ts";
import { SwarmError } from "../../src/base/errors.ts";
import type { LogSource } from "../../src/control/ports.ts";
import { nodeRow } from "../../src/daemon/ca-backend.ts";
import { SELF_ID } from "../support/control-rig.ts";
import { eventually } from "../support/eventually.ts";
import type { Reply } from "../support/fake-engine.ts";
import { managerRig, message, SPEC } from "../support/manager-rig.ts";
import { aNode, aStatus, aTask } from "../support/rows.ts";

t.test("a service, from creation to removal", async t => {
  const { ask } = await managerRig(t);
  const created = await ask("POST", "/v1.41/services/create", { json: SPEC });
  t.equal(created.status, 201);
  const { ID } = created.body as { ID: string };
  const shown = (await ask("GET", "/services/web")).body as { Version: { Index: number } };
  t.match(shown, {
    ID,
    Spec: {
      Name: "web",
      Labels: {},
      Mode: { Replicated: { Replicas: 1 } },
      TaskTemplate: {
        ContainerSpec: { Image: "app:1", Isolation: "default" },
        ForceUpdate: 0,
        Runtime: "container",
      },
    },
    Endpoint: { Spec: {} },
  });
  t.notOk("PreviousSpec" in shown || "ServiceStatus" in shown);
  const version = shown.Version.Index;
  const labelled = { ...SPEC, Labels: { a: "b" } };
  const updated = await ask("POST", `/services/${ID}/update?version=${version}`, {
    json: labelled,
  });
  t.same([updated.status, updated.body], [200, { Warnings: null }]);
  t.equal(
    message(await ask("POST", `/services/${ID}/update?version=${version}`, { json: SPEC })),
    "500 rpc error: code = Unknown desc = update out of sequence",
  );
  const list = await ask("GET", '/services?status=1&filters={"label":{"a=b":true}}');
  t.match(list.body, [{ ServiceStatus: { RunningTasks: 0, DesiredTasks: 1, CompletedTasks: 0 } }]);
  t.same([(await ask("DELETE", "/services/web")).status], [200]);
  t.equal(message(await ask("GET", `/services/${ID}`)), `404 service ${ID} not found`);
});

t.test("defaults are shown when asked for", async t => {
  const { ask } = await managerRig(t);
  await ask("POST", "/services/create", { json: SPEC });
  const shown = await ask("GET", "/services/web?insertDefaults=true");
  const update = {
    Parallelism: 1,
    FailureAction: "pause",
    Monitor: 5_000_000_000,
    MaxFailureRatio: 0,
    Order: "stop-first",
  };
  t.same((shown.body as { Spec: object }).Spec, {
    Name: "web",
    Labels: {},
    TaskTemplate: {
      ContainerSpec: {
        Image: "app:1",
        StopGracePeriod: 10_000_000_000,
        DNSConfig: {},
        Isolation: "default",
      },
      Resources: {},
      RestartPolicy: { Condition: "any", Delay: 5_000_000_000, MaxAttempts: 0 },
      Placement: {},
      ForceUpdate: 0,
      Runtime: "container",
    },
    Mode: { Replicated: { Replicas: 1 } },
    UpdateConfig: update,
    RollbackConfig: update,
  });
});

t.test("a spec comes back as Docker would print it", async t => {
  const { ask } = await managerRig(t);
  const sent = {
    Name: "web",
    Bogus: 1,
    TaskTemplate: {
      ContainerSpec: {
        Image: "app:1",
        Init: false,
        ReadOnly: false,
        Env: [],
        User: "",
        Labels: {},
        DNSConfig: {},
        PullOptions: { RegistryAuth: "mine" },
      },
      Resources: { Limits: { Pids: 0 }, Reservations: {} },
      RestartPolicy: { Delay: 0 },
    },
    EndpointSpec: { Ports: [{ TargetPort: 80 }] },
    UpdateConfig: { Parallelism: 0, Delay: 0 },
  };
  t.equal((await ask("POST", "/services/create", { json: sent })).status, 201);
  const { Spec } = (await ask("GET", "/services/web")).body as { Spec: object };
  t.match(Spec, {
    TaskTemplate: {
      Resources: { Limits: {}, Reservations: {} },
      RestartPolicy: { Condition: "any", Delay: 0, MaxAttempts: 0 },
    },
    EndpointSpec: {
      Mode: "vip",
      Ports: [{ Protocol: "tcp", TargetPort: 80, PublishMode: "ingress" }],
    },
    UpdateConfig: {
      Parallelism: 0,
      FailureAction: "pause",
      MaxFailureRatio: 0,
      Order: "stop-first",
    },
  });
  const { ContainerSpec } = (Spec as { TaskTemplate: { ContainerSpec: object } }).TaskTemplate;
  t.same(ContainerSpec, { Image: "app:1", Init: false, DNSConfig: {}, Isolation: "default" });
  t.notOk("Bogus" in Spec);
});

t.test("credentials for images are taken and not shown", async t => {
  const { ask, store } = await managerRig(t);
  const headers = { "X-Registry-Auth": "c2VjcmV0" };
  await ask("POST", "/services/create", { json: SPEC, headers });
  const service = store.view.serviceByName("web");
  t.equal(service?.spec.TaskTemplate?.ContainerSpec?.PullOptions?.RegistryAuth, "c2VjcmV0");
  t.notMatch((await ask("GET", "/services")).text, /c2VjcmV0/);
});

t.test("tasks, nodes and the swarm", async t => {
  const { ask, store } = await managerRig(t);
  const { ID: serviceId } = (await ask("POST", "/services/create", { json: SPEC })).body as {
    ID: string;
  };
  const status = aStatus("running", { containerId: "c0ffee", pid: 7, message: "started" });
  store.put({
    op: "create",
    table: "tasks",
    row: aTask({ id: "t1", serviceId, serviceName: "web", nodeId: SELF_ID, status }),
  });
  const task = (await ask("GET", "/tasks/t1")).body;
  t.match(task, {
    ID: "t1",
    Labels: {},
    ServiceID: serviceId,
    Slot: 1,
    NodeID: SELF_ID,
    DesiredState: "running",
    Spec: { ContainerSpec: { Image: "app:1", Isolation: "default" }, ForceUpdate: 0 },
    Status: {
      State: "running",
      Message: "started",
      ContainerStatus: { ContainerID: "c0ffee", PID: 7, ExitCode: 0 },
      PortStatus: {},
    },
  });
  t.match((await ask("GET", "/tasks")).body, [{ ID: "t1" }]);
  t.match((await ask("GET", "/nodes")).body, [
    {
      ID: SELF_ID,
      Spec: { Role: "manager", Availability: "active", Labels: {} },
      Status: { State: "ready", Addr: "10.0.0.1" },
      ManagerStatus: { Leader: true, Reachability: "reachable", Addr: "10.0.0.1:2377" },
    },
  ]);
  t.match((await ask("GET", "/swarm")).body, {
    ID: "cluster",
    Spec: { Name: "default", Orchestration: { TaskHistoryRetentionLimit: 5 } },
    JoinTokens: { Worker: "SWMTKN-1-w", Manager: "SWMTKN-1-m" },
    RootRotationInProgress: false,
    DefaultAddrPool: ["10.0.0.0/8"],
  });
});

t.test("a node that has only joined is shown by the name it joined with", async t => {
  const { ask, store } = await managerRig(t);
  const node = {
    nodeId: "n2",
    role: "worker",
    availability: "active",
    advertiseAddr: "10.0.0.2:2377",
    remoteIp: "10.0.0.2",
    hostname: "w1",
    certificatePem: "",
    rootGeneration: 0,
  } as const;
  store.put({ op: "create", table: "nodes", row: nodeRow(node) });
  const shown = { ID: "n2", Description: { Hostname: "w1" }, Status: { State: "unknown" } };
  t.match((await ask("GET", "/nodes/w1")).body, shown);
  t.match((await ask("GET", '/nodes?filters={"name":["w1"]}')).body, [shown]);
  const description = aNode({ id: "n2" }).description;
  if (description !== null) {
    const fields = { description: { ...description, hostname: "other" } };
    store.put({ op: "patch", table: "nodes", id: "n2", fields });
  }
  t.match((await ask("GET", "/nodes/other")).body, { Description: { Hostname: "other" } });
  t.equal((await ask("GET", "/nodes/w1")).status, 404, "what it says of itself goes before");
});

t.test("secrets and configs over HTTP", async t => {
  const { ask } = await managerRig(t);
  for (const noun of ["secret", "config"]) {
    const json = { Name: "one", Data: "aHVudGVyMg==" };
    const { ID } = (await ask("POST", `/${noun}s/create`, { json })).body as { ID: string };
    t.equal(
      message(await ask("POST", `/${noun}s/create`, { json: { Name: "x", Data: "not base64!" } })),
      "400 illegal base64 data at input byte 3",
    );
    const list = (await ask("GET", `/${noun}s?filters={"name":["on"]}`)).body as object[];
    const Data = noun === "secret" ? undefined : "aHVudGVyMg==";
    t.same(
      list.map(row => (row as { Spec: object }).Spec),
      [{ Name: "one", Labels: {}, ...(Data === undefined ? {} : { Data }) }],
    );
    t.equal(
      message(await ask("POST", `/${noun}s/${ID}/update`, { json: { Name: "one" } })),
      `400 invalid ${noun} version`,
    );
    const deleted = await ask("DELETE", `/${noun}s/one`);
    t.same([deleted.status, deleted.text, deleted.headers["content-length"]], [204, "", undefined]);
    t.equal(message(await ask("DELETE", `/${noun}s/one`)), `404 ${noun} one not found`);
  }
});

t.test("networks of the cluster beside the Engine's", async t => {
  const { ask, engine, lifecycle } = await managerRig(t);
  const json = { Name: "back", Driver: "overlay", Labels: { a: "b" }, CheckDuplicate: true };
  const created = await ask("POST", "/networks/create", { json });
  t.match(created.body, { Warning: "" });
  const { Id } = created.body as { Id: string };
  t.equal(
    message(await ask("POST", "/networks/create", { json })),
    "409 network with name back already exists",
  );
  t.equal(
    message(await ask("POST", "/networks/create", { json: { Name: "back", Driver: "bridge" } })),
    "409 network with name back already exists",
  );
  const bodies: string[] = [];
  engine.on("POST /networks/create", (request, response) => {
    request.on("data", (chunk: Buffer) => bodies.push(chunk.toString()));
    request.on("end", () => response.writeHead(201).end('{"Id":"local"}'));
  });
  const local = { Name: "mine", Driver: "bridge" };
  t.match((await ask("POST", "/networks/create", { json: local })).body, { Id: "local" });
  t.same(
    bodies.map(text => JSON.parse(text)),
    [local],
    "passed on whole",
  );
  const names = async (filters: object) => {
    const reply = await ask(
      "GET",
      `/networks?filters=${encodeURIComponent(JSON.stringify(filters))}`,
    );
    return (reply.body as { Name: string }[]).map(network => network.Name);
  };
  t.same(await names({}), ["back", "bridge"]);
  t.same(
    await names({ driver: ["overlay"], label: ["a=b"] }),
    ["back", "bridge"],
    "the Engine filters its own",
  );
  t.same(await names({ scope: { local: true } }), ["bridge"]);
  t.match((await ask("GET", "/networks/back")).body, {
    Id,
    Scope: "swarm",
    Driver: "overlay",
    Ingress: false,
  });
  t.match(
    (await ask("GET", `/networks/${Id.slice(0, 6)}`)).body,
    { Id },
    "by prefix, after the Engine",
  );
  t.equal(
    message(await ask("GET", "/networks/nosuch?scope=swarm")),
    "404 network nosuch not found",
  );
  t.match((await ask("GET", "/networks/host?scope=swarm")).body, { Id: "host", Scope: "swarm" });
  engine.json("GET /networks/back", { message: "network back not found" }, 404);
  t.equal((await ask("GET", "/networks/back?scope=local")).status, 404);
  const own = [
    { Name: "docker_gwbridge", Id: "g" },
    { Name: "mine", Id: "m" },
    { Name: "busy", Id: "b" },
    { Name: "part", Id: "p", Labels: { "swarmd.network.id": "of another" } },
  ];
  engine.json("GET /networks", own);
  engine.on("DELETE /networks/m", (_request, response) => response.writeHead(204).end());
  engine.json("DELETE /networks/b", { message: "has active endpoints" }, 403);
  t.same((await ask("POST", "/networks/prune")).body, { NetworksDeleted: ["back", "mine"] });
  t.notMatch(
    engine.requests.join(),
    /DELETE [^,]*networks\/[gp]\b/,
    "what the cluster needs stays",
  );
  engine.json("POST /networks/prune", { NetworksDeleted: ["old"] });
  const until = encodeURIComponent('{"until":["1h"]}');
  t.same((await ask("POST", `/networks/prune?filters=${until}`)).body, {
    NetworksDeleted: ["old"],
  });
  engine.json("GET /networks", [{ Name: "bridge", Id: "b" }]);
  t.equal((await ask("DELETE", "/networks/back")).status, 404, "gone; the Engine is asked");
  lifecycle.become("inactive");
  t.same(await names({}), ["bridge"]);
});

t.test("logs come in Docker's frames", async t => {
  const asked: unknown[] = [];
  const logs: LogSource = {
    subscribe: async function* (request) {
      asked.push(request);
      const base = {
        taskId: "t1",
        nodeId: "n1",
        timestampNs: "1700000000000000001",
        attrs: { z: "1" },
      };
      yield { ...base, stream: "stdout", data: Buffer.from("out\n") };
      yield { ...base, stream: "stderr", data: Buffer.from("err\n") };
      throw new SwarmError("unavailable", "node n2 is not available");
    },
  };
  const { ask } = await managerRig(t, { logs });
  await ask("POST", "/services/create", { json: SPEC });
  t.equal(
    message(await ask("GET", "/services/web/logs")),
    "500 Bad parameters: you must choose at least one stream",
  );
  t.equal(
    message(await ask("GET", "/services/nosuch/logs?stdout=1")),
    "404 service nosuch not found",
  );
  const reply = await ask(
    "GET",
    "/v1.42/services/web/logs?stdout=1&stderr=1&tail=5&since=2.5&timestamps=1",
  );
  t.equal(reply.headers["content-type"], "application/vnd.docker.multiplexed-stream");
  t.same(frames(reply.text), [
    [1, "2023-11-14T22:13:20.000000001Z out\n"],
    [2, "2023-11-14T22:13:20.000000001Z err\n"],
    [3, "Error grabbing logs: node n2 is not available\n"],
  ]);
  t.match(asked[0], {
    options: { stdout: true, stderr: true, follow: false, tail: 5, sinceMs: 2500 },
  });
  const plain = await ask("GET", "/v1.41/services/web/logs?stdout=1&details=1");
  t.equal(plain.headers["content-type"], undefined);
  t.match(
    plain.text,
    /com\.docker\.swarm\.node\.id=n1,com\.docker\.swarm\.service\.id=[0-9a-z]{25},com\.docker\.swarm\.task\.id=t1,z=1 out/,
  );
  const tty = { Name: "tty", TaskTemplate: { ContainerSpec: { Image: "app:1", TTY: true } } };
  await ask("POST", "/services/create", { json: tty });
  t.match(
    (await ask("GET", "/services/tty/logs?stdout=1")).text,
    /^out\nerr\n/,
    "a terminal has no frames",
  );
});

function frames(text: string): (readonly [number, string])[] {
  let rest = Buffer.from(text, "utf8");
  const found: (readonly [number, string])[] = [];
  while (rest.length > 0) {
    const length = rest.readUInt32BE(4);
    found.push([rest.readUInt8(0), rest.subarray(8, 8 + length).toString()]);
    rest = rest.subarray(8 + length);
  }
  return found;
}

t.test("what old clients leave to the daemon", async t => {
  const { ask, engine } = await managerRig(t);
  const create = async (version: string, Name: string, Image: string) => {
    const json = { Name, TaskTemplate: { ContainerSpec: { Image } } };
    return (await ask("POST", `/v${version}/services/create`, { json })).body as object;
  };
  const imageOf = async (name: string) => {
    const { body } = await ask("GET", `/services/${name}`);
    const { Spec } = body as { Spec: { TaskTemplate: { ContainerSpec: { Image: string } } } };
    return Spec.TaskTemplate.ContainerSpec.Image;
  };
  const digest = `sha256:${"a".repeat(64)}`;
  engine.json("GET /distribution/app/json", { Descriptor: { digest } });
  t.notOk("Warnings" in (await create("1.29", "pinned", "app")));
  t.equal(await imageOf("pinned"), `app:latest@${digest}`);
  await create("1.30", "new", "app");
  t.equal(await imageOf("new"), "app", "newer ones ask themselves");
  engine.json("GET /distribution/gone:1/json", { message: "no route" }, 500);
  t.match(await create("1.29", "gone", "gone:1"), {
    Warnings: [/^image gone:1 could not be accessed on a registry to record\nits digest\./],
  });
  t.equal(await imageOf("gone"), "gone:1");
  const { Version, Spec } = (await ask("GET", "/services/gone")).body as {
    Version: { Index: number };
    Spec: object;
  };
  const path = `/v1.29/services/gone/update?version=${Version.Index}`;
  t.match((await ask("POST", path, { json: Spec })).body, { Warnings: [/gone:1/] });
});

t.test("what Go prints whatever it is", async t => {
  const { ask } = await managerRig(t);
  const Privileges = { SELinuxContext: { Disable: true } };
  const json = { Name: "web", TaskTemplate: { ContainerSpec: { Image: "app", Privileges } } };
  await ask("POST", "/services/create", { json });
  const { body } = await ask("GET", "/services/web");
  const { Spec } = body as { Spec: { TaskTemplate: { ContainerSpec: { Privileges: object } } } };
  t.same(Spec.TaskTemplate.ContainerSpec.Privileges, {
    CredentialSpec: null,
    SELinuxContext: { Disable: true, User: "", Role: "", Type: "", Level: "" },
  });
});

t.test("past events are one answer, in order", async t => {
  const { ask, engine } = await managerRig(t);
  const before = Math.floor(Date.now() / 1000) - 1;
  engine.on("GET /events", (_request, response) => {
    response.end(
      '{"Type":"container","timeNano":1}\n{"Type":"image","timeNano":9999999999000000000}\n',
    );
  });
  await ask("POST", "/services/create", { json: SPEC });
  await ask("POST", "/secrets/create", { json: { Name: "s", Data: "aA==" } });
  const until = (Date.now() / 1000).toFixed(3);
  const types = (reply: Reply) =>
    reply.text
      .split("\n")
      .filter(line => line !== "")
      .map(line => (JSON.parse(line) as { Type: string }).Type);
  const path = `/events?since=${before}&until=${until}`;
  const all = await ask("GET", path);
  t.same(types(all), ["container", "service", "secret", "image"]);
  t.match(
    all.text,
    /"Actor":\{"ID":"[0-9a-z]{25}","Attributes":\{"name":"web"\}\},"scope":"swarm","time":\d+,"timeNano":\d{19}\}/,
  );
  t.same(types(await ask("GET", `${path}&filters={"type":["secret"]}`)), [
    "container",
    "secret",
    "image",
  ]);
  const local = await ask("GET", `${path}&filters={"type":["container"]}`);
  t.same(types(local), ["container", "image"], "nothing of the cluster is wanted");
});

t.test("new events come as they happen, from both sides", async t => {
  const { api, ask, engine } = await managerRig(t);
  const open: http.ServerResponse[] = [];
  engine.on("GET /events", (_request, response) => {
    open.push(response);
    response.writeHead(200);
    response.write('{"Type":"container"}\n{"Type":"im');
  });
  let text = "";
  const request = http.get({ socketPath: api.socketPath, path: "/events" }, response => {
    response.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    response.on("error", () => undefined);
  });
  request.on("error", () => undefined);
  await eventually(() => text.includes("container"), { what: "the Engine's event" });
  await ask("POST", "/services/create", { json: SPEC });
  await eventually(() => text.includes('"Type":"service"'), { what: "the cluster's event" });
  open[0]?.write('age"}\n');
  await eventually(() => text.includes('{"Type":"image"}\n'), { what: "the rest of a line" });
  t.equal(
    text
      .split("\n")
      .filter(line => line !== "")
      .every(line => parseJson(line) !== null),
    true,
  );
  request.destroy();
  await eventually(() => open[0]?.destroyed, { what: "the Engine's stream to be given up" });
});

t.test("long lists come in slices", async t => {
  const { ask, store } = await managerRig(t);
  const status = aStatus("running");
  const ids = Array.from({ length: 450 }, (_, i) => `t${String(i).padStart(4, "0")}`);
  for (const id of ids) {
    const row = aTask({ id, serviceId: "web", status });
    store.put({ op: "create", table: "tasks", row });
  }
  const reply = await ask("GET", "/tasks");
  t.equal(reply.headers["transfer-encoding"], "chunked");
  t.same(
    (reply.body as { ID: string }[]).map(task => task.ID),
    ids,
  );
});
