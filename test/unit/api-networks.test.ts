import type { IncomingMessage, ServerResponse } from "node:http";
import t from "tap";
import { managerRig, SPEC } from "../support/manager-rig.ts";
import { aNode, aStatus, aTask } from "../support/rows.ts";

t.test("the Engine's part of a network of the cluster is the cluster's network", async t => {
  const { ask, engine, lifecycle } = await managerRig(t);
  const json = { Name: "back", Driver: "overlay", Attachable: true };
  const { Id } = (await ask("POST", "/networks/create", { json })).body as { Id: string };
  const engineId = "e".repeat(64);
  const local = {
    Name: `back-${Id.slice(0, 12)}`,
    Id: engineId,
    Scope: "local",
    Driver: "swarmd",
    IPAM: { Driver: "swarmd", Options: { id: Id }, Config: [{ Subnet: "10.0.1.0/24" }] },
    Containers: { c1: { Name: "one" } },
    Options: { id: Id },
    Labels: { "swarmd.network.id": Id, "swarmd.network.attachable": "true" },
  };
  engine.json("GET /networks", [{ Name: "bridge", Id: "b".repeat(64) }, local]);
  engine.json(`GET /networks/${engineId}`, local);
  engine.json(`GET /networks/${Id}`, { message: `network ${Id} not found` }, 404);
  const shown = { Name: "back", Id, Scope: "swarm", Driver: "overlay", Attachable: true };
  const list = async (filters = "{}") =>
    (await ask("GET", `/networks?filters=${encodeURIComponent(filters)}`)).body as object[];

  t.match(await list(), [shown, { Name: "bridge" }], "once");
  t.match((await ask("GET", "/networks/back")).body, { ...shown, Containers: local.Containers });

  engine.json("GET /containers/c1/json", { Networks: { back: { NetworkID: engineId } } });
  t.match((await ask("GET", "/containers/c1/json")).body, {
    Networks: { back: { NetworkID: Id } },
  });
  const asked: string[] = [];
  const note = (request: IncomingMessage, response: ServerResponse): void => {
    asked.push(decodeURIComponent(request.url ?? ""));
    response.writeHead(200, { "Content-Type": "application/json" }).end("[]");
  };
  engine.on("GET /containers/json", note);
  engine.on(`POST /networks/${engineId}/disconnect`, note);
  await ask("GET", `/containers/json?filters=${encodeURIComponent(`{"network":["${Id}"]}`)}`);
  const both = `{"network":{"${Id}":true},"label":{"a":true}}`;
  await ask("GET", `/containers/json?filters=${encodeURIComponent(both)}`);
  await ask("POST", `/networks/${Id}/disconnect`, { json: { Container: "c1" } });
  t.match(asked, [
    `/containers/json?filters={"network":["${engineId}"]}`,
    `/containers/json?filters={"network":{"${engineId}":true},"label":{"a":true}}`,
    `/networks/${engineId}/disconnect`,
  ]);
  const event = { Type: "network", Action: "connect", Actor: { ID: engineId } };
  engine.json("GET /events", event);
  t.match((await ask("GET", "/events?until=1")).body, { Actor: { ID: Id } });

  lifecycle.become("worker");
  t.match((await ask("GET", "/events?until=1")).body, { Actor: { ID: Id } }, "a worker's too");
  engine.on("GET /events", (request, response) => {
    note(request, response);
  });
  await ask("GET", `/events?until=1&filters=${encodeURIComponent(`{"network":["${Id}"]}`)}`);
  t.match(asked.pop(), `{"network":["${Id}","${engineId}"]}`, "the Engine has another id for it");
  const own = { "swarmd.cluster.id": "x", name: "web.1.t" };
  const started = { Type: "container", Action: "start", Actor: { ID: "c1", Attributes: own } };
  engine.json("GET /events", started);
  const filters = encodeURIComponent('{"type":["container"]}');
  t.same((await ask("GET", `/events?until=1&filters=${filters}`)).body, {
    ...started,
    Actor: { ID: "c1", Attributes: { name: "web.1.t" } },
  });
  t.match(await list(), [{ Name: "bridge" }, shown], "what a worker knows");
  t.match(await list('{"driver":["overlay"]}'), [shown]);
  t.same(await list('{"scope":["global"]}'), []);
  t.match((await ask("GET", `/networks/${Id}`)).body, { ...shown, Labels: {}, Options: {} });
});

t.test("what a network of the cluster cannot be, and where it is not seen", async t => {
  const { ask, engine } = await managerRig(t);
  const make = async (json: object) => {
    const { status, body } = await ask("POST", "/networks/create", { json });
    return `${status} ${(body as { message?: string }).message ?? "made"}`;
  };
  t.equal(
    await make({ Name: "a", Scope: "swarm" }),
    "400 rpc error: code = InvalidArgument desc = driver name: if driver is specified name is required",
  );
  t.equal(
    await make({ Name: "a", Driver: "overlay", Scope: "local" }),
    "403 cannot downgrade network scope for overlay networks",
  );
  t.equal(await make({ Name: "a", Driver: "overlay" }), "201 made");
  t.match((await ask("GET", "/networks/a?verbose=x")).body, {
    message: 'invalid value for verbose: x: strconv.ParseBool: parsing "x": invalid syntax',
  });
  t.equal((await ask("GET", "/networks/a?scope=global")).status, 404);
  const { Id } = (await ask("GET", "/networks/a")).body as { Id: string };
  const twin = {
    Name: "a",
    Id: "e".repeat(64),
    Driver: "swarmd",
    Labels: { "swarmd.network.id": Id },
  };
  engine.json("GET /networks", [twin]);
  const filters = encodeURIComponent('{"scope":["local"]}');
  t.same((await ask("GET", `/networks?filters=${filters}`)).body, [], "its twin is no other one");
});

t.test("who is on a network, wherever it runs", async t => {
  const { ask, store, engine } = await managerRig(t);
  const { Id } = (
    await ask("POST", "/networks/create", { json: { Name: "back", Driver: "overlay" } })
  ).body as { Id: string };
  const created = await ask("POST", "/services/create", { json: SPEC });
  const serviceId = (created.body as { ID: string }).ID;
  const virtualIps = [{ networkId: Id, addr: "10.0.1.2/24" }];
  const endpoint = { spec: {}, ports: [{ TargetPort: 80, PublishedPort: 8080 }], virtualIps };
  store.put({ op: "patch", table: "services", id: serviceId, fields: { endpoint } });
  const networks = [{ networkId: Id, addresses: ["10.0.1.3/24"], aliases: [] }];
  const status = aStatus("running");
  const session = { state: "ready", message: "", addr: "10.0.0.9:2377" } as const;
  const far = aNode({ id: "far0123456789abcdef", status: session });
  store.put({ op: "create", table: "nodes", row: far });
  const at = { nodeId: far.id, networks, status };
  const row = aTask({ id: "t1", serviceId, serviceName: "web", slot: 1, ...at });
  store.put({ op: "create", table: "tasks", row });
  const lease = [{ networkId: Id, addresses: ["10.0.1.4/24"], aliases: [] }];
  const container = aTask({ ...at, id: "t2", serviceId: "", networks: lease });
  store.put({ op: "create", table: "tasks", row: container });
  const plain = (await ask("GET", "/networks/back")).body as object;
  t.notOk("Services" in plain);
  t.match((await ask("GET", "/networks/back?verbose=true")).body, {
    Services: {
      web: {
        VIP: "10.0.1.2",
        Ports: ["Target: 80, Publish: 8080"],
        Tasks: [{ Name: "web.1.t1", EndpointIP: "10.0.1.3", Info: { "Host IP": "10.0.0.9" } }],
      },
      "": { VIP: "<nil>", Ports: [], Tasks: [{ Name: "t2", EndpointIP: "10.0.1.4" }] },
    },
  });
  t.match(plain, { Labels: null });
  t.notOk("Peers" in plain, "an Engine tells them of networks that its node is on");

  const twin = {
    Id: "e".repeat(64),
    Name: "back",
    Containers: { c1: { Name: "one", EndpointID: "e1", IPv4Address: "10.0.1.4/24" } },
    Labels: { "swarmd.network.id": Id },
  };
  engine.json("GET /networks", [twin]);
  engine.json(`GET /networks/${twin.Id}`, twin);
  t.match((await ask("GET", "/networks/back?verbose=true")).body, {
    Labels: {},
    Peers: [{ Name: "far012345678", IP: "10.0.0.9" }],
    Services: {
      web: { Tasks: [{ Name: "web.1.t1", EndpointID: "" }] },
      "": { Tasks: [{ Name: "one", EndpointID: "e1" }] },
    },
  });
});

t.test("a task shows its networks as Docker's types have them", async t => {
  const { ask, store } = await managerRig(t);
  const pool = { Subnet: "10.9.0.0/24", IPRange: "10.9.0.128/25", Gateway: "10.9.0.1" };
  const json = {
    ...{ Name: "back", Driver: "overlay", EnableIPv6: true },
    IPAM: { Config: [pool, { Subnet: "fd00:9::/64" }] },
  };
  const { Id } = (await ask("POST", "/networks/create", { json })).body as { Id: string };
  const { body } = await ask("POST", "/services/create", { json: SPEC });
  const serviceId = (body as { ID: string }).ID;
  const networks = [{ networkId: Id, addresses: ["10.9.0.129/24"], aliases: ["other"] }];
  const row = aTask({ id: "t1", serviceId, networks, status: aStatus("running") });
  store.put({ op: "create", table: "tasks", row });
  const task = (await ask("GET", "/tasks/t1")).body as {
    NetworksAttachments: readonly { readonly Network: { readonly Spec: object } }[];
  };
  const [attachment] = task.NetworksAttachments;
  t.same(Object.keys(attachment ?? {}).sort(), ["Addresses", "Network"]);
  const range = { Subnet: pool.Subnet, Range: pool.IPRange, Gateway: pool.Gateway };
  t.match(attachment?.Network, {
    Spec: {
      IPv6Enabled: true,
      DriverConfiguration: { Name: "overlay" },
      IPAMOptions: { Driver: { Name: "default" }, Configs: [range, { Subnet: "fd00:9::/64" }] },
    },
    IPAMOptions: { Configs: [range, { Subnet: "fd00:9::/64" }] },
  });
});

t.test("an Engine's own network has an id of its own for clients", async t => {
  const { ask } = await managerRig(t);
  const host = (await ask("GET", "/networks/host?scope=swarm")).body as { Id: string };
  t.match(host, { Name: "host", Id: /^[0-9a-z]{25}$/, Scope: "swarm" });
  t.match((await ask("GET", `/networks/${host.Id}`)).body, { Name: "host" });
  const TaskTemplate = { ContainerSpec: { Image: "app:1" }, Networks: [{ Target: host.Id }] };
  await ask("POST", "/services/create", { json: { Name: "on-host", TaskTemplate } });
  const { body } = await ask("GET", "/services/on-host");
  t.match(body, { Spec: { TaskTemplate: { Networks: [{ Target: host.Id }] } } });
});
