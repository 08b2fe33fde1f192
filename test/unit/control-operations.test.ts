import t from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import type { OperationArgs } from "../../src/control/operations.ts";
import type { Change } from "../../src/model/change.ts";
import { anId, aSpec, create, never, refusal, refused, update } from "../support/control-calls.ts";
import { controlRig, SELF_ID } from "../support/control-rig.ts";
import { aStatus, aTask } from "../support/rows.ts";

t.test("a service is a row and the first version of its spec", async t => {
  const rig = controlRig();
  const id = await create(rig, aSpec("web"));
  const service = rig.store.view.table("services").get(id);
  t.match(service, { specVersion: 1, previousSpec: null, pendingDelete: false });
  t.same(rig.store.view.table("serviceSpecs").get(`${id}.1`)?.spec, service?.spec);
  t.equal(service?.spec.Mode?.Replicated?.Replicas, 1);
});

t.test("the allocator is left what it has something to give to, and nothing else", async t => {
  const rig = controlRig();
  const row = (id: string) => rig.store.view.table("services").get(id);
  const id = await create(rig, { ...aSpec("web"), EndpointSpec: { Mode: "dnsrr" } });
  const plain = { allocated: true, endpoint: { spec: {}, ports: [] } };
  t.match(row(id), plain, "so its version stays the one that its creator reads");
  await update(rig, "web", { ...aSpec("web"), EndpointSpec: { Mode: "vip" } });
  t.match(row(id), { allocated: true, endpoint: { spec: {} } });

  const ports = [{ TargetPort: 80, PublishedPort: 8080 }];
  await update(rig, "web", { ...aSpec("web"), EndpointSpec: { Ports: ports } });
  t.match(row(id), { allocated: false });
  const endpoint = { spec: {}, ports, virtualIps: [] };
  rig.store.put({ op: "patch", table: "services", id, fields: { allocated: true, endpoint } });
  await update(rig, "web", aSpec("web"));
  t.match(row(id), { allocated: false, endpoint: { ports } }, "it has to give ports back");
  t.match(
    row(await create(rig, { ...aSpec("published"), EndpointSpec: { Ports: [{ TargetPort: 1 }] } })),
    { allocated: false },
  );
});

t.test("a service without a name gets the one offered", async t => {
  const rig = controlRig();
  await create(rig, aSpec(""));
  t.ok(rig.store.view.serviceByName("quiet_lark7"));
});

t.test("a creation that is repeated with its id is one creation", async t => {
  const rig = controlRig();
  const args = { id: anId(), spec: aSpec("web"), fallbackName: "", registryAuth: "" };
  t.same(await rig.client.call("service.create", args, never), { id: args.id });
  const submits = rig.store.submits;
  t.same(await rig.client.call("service.create", args, never), { id: args.id });
  t.equal(rig.store.submits, submits, "nothing is written again");
  t.match(
    await refusal(rig, "service.create", { ...args, spec: aSpec("other") }),
    /^409 an object with id/,
  );
});

t.test("what the creation of a service refuses, in Docker's words", async t => {
  const rig = controlRig();
  const ports = (published: number, mode: "ingress" | "host", protocol: "tcp" | "udp" = "tcp") => ({
    EndpointSpec: {
      Ports: [
        {
          PublishedPort: published,
          TargetPort: 80,
          PublishMode: mode,
          Protocol: protocol,
        },
      ],
    },
  });
  const web = await create(rig, aSpec("web", ports(8080, "ingress")));
  const edge = await create(rig, aSpec("edge", ports(9000, "host")));
  const container = (fields: object) => ({
    TaskTemplate: { ContainerSpec: { Image: "app:1", ...fields } },
  });
  const rpc = (code: string, text: string) => `rpc error: code = ${code} desc = ${text}`;
  const cases: readonly (readonly [string, object, string])[] = [
    ["no container", { Name: "a" }, "400 mismatched Runtime and *Spec fields"],
    [
      "name taken",
      aSpec("web"),
      `409 ${rpc("AlreadyExists", "name conflicts with an existing object: service web already exists")}`,
    ],
    [
      "name taken in other case",
      aSpec("WEB"),
      `409 ${rpc("AlreadyExists", "name conflicts with an existing object: service WEB already exists")}`,
    ],
    [
      "bad constraint",
      aSpec("a", {
        TaskTemplate: {
          ContainerSpec: { Image: "app:1" },
          Placement: { Constraints: ["node.role=manager"] },
        },
      }),
      `500 ${rpc("Unknown", "constraint expected one operator from ==, !=")}`,
    ],
    [
      "ingress port of another",
      aSpec("a", ports(8080, "ingress")),
      `400 ${rpc("InvalidArgument", `port '8080' is already in use by service 'web' (${web}) as an ingress port`)}`,
    ],
    [
      "host port that is an ingress port",
      aSpec("a", ports(8080, "host")),
      `400 ${rpc("InvalidArgument", `port '8080' is already in use by service 'web' (${web}) as an ingress port`)}`,
    ],
    [
      "ingress port that is a host port",
      aSpec("a", ports(9000, "ingress")),
      `400 ${rpc("InvalidArgument", `port '9000' is already in use by service 'edge' (${edge}) as a host-published port`)}`,
    ],
    ["host port that is a host port", aSpec("h", ports(9000, "host")), "done"],
    ["the same port of another protocol", aSpec("u", ports(8080, "ingress", "udp")), "done"],
    [
      "missing secret",
      {
        Name: "a",
        ...container({ Secrets: [{ SecretID: "x", SecretName: "s", File: { Name: "s" } }] }),
      },
      `400 ${rpc("InvalidArgument", "secret not found: s")}`,
    ],
    [
      "missing configs",
      {
        Name: "a",
        ...container({
          Configs: [
            { ConfigID: "x", ConfigName: "c", File: { Name: "c" } },
            { ConfigID: "y", ConfigName: "d", File: { Name: "d" } },
          ],
        }),
      },
      `400 ${rpc("InvalidArgument", "configs not found: c, d")}`,
    ],
    [
      "missing network",
      aSpec("a", {
        TaskTemplate: { ContainerSpec: { Image: "app:1" }, Networks: [{ Target: "nosuch" }] },
      }),
      "500 network nosuch not found",
    ],
  ];
  for (const [what, spec, expected] of cases) {
    const args = { id: anId(), spec, fallbackName: "", registryAuth: "" };
    t.equal(await refusal(rig, "service.create", args), expected, what);
  }
});

t.test("two creations that want one port at once: one gets it", async t => {
  const rig = controlRig();
  const spec = (name: string) =>
    aSpec(name, { EndpointSpec: { Ports: [{ PublishedPort: 8080, TargetPort: 80 }] } });
  const results = await Promise.allSettled([create(rig, spec("a")), create(rig, spec("b"))]);
  t.same(results.map(result => result.status).sort(), ["fulfilled", "rejected"]);
});

t.test("networks are found by name and kept by id", async t => {
  const rig = controlRig();
  const { id } = await rig.client.call(
    "network.create",
    { id: anId(), spec: { Name: "back", Driver: "overlay" } },
    never,
  );
  const spec = aSpec("web", {
    TaskTemplate: {
      ContainerSpec: { Image: "app:1" },
      Networks: [{ Target: "back" }, { Target: "host" }],
    },
  });
  await create(rig, spec);
  const targets = rig.store.view.serviceByName("web")?.spec.TaskTemplate?.Networks;
  t.same(
    targets?.map(network => network.Target),
    [id, "host"],
  );
  t.equal(
    await refusal(rig, "network.remove", { ref: "back" }),
    `400 rpc error: code = FailedPrecondition desc = network ${id} is in use by service ${rig.store.view.serviceByName("web")?.id}`,
  );
  const serviceId = rig.store.view.serviceByName("web")?.id ?? "";
  const networks = [{ networkId: id, addresses: ["10.0.0.5/24"], aliases: [] }];
  const task = aTask({ id: "t1", serviceId, networks, status: aStatus("running") });
  rig.store.put({ op: "create", table: "tasks", row: task });
  await rig.client.call("service.remove", { ref: "web" }, never);
  t.equal(
    await refusal(rig, "network.remove", { ref: "back" }),
    "done",
    "its tasks are as good as removed, though nobody has told them yet",
  );
});

t.test("the network of a task of no service is in use", async t => {
  const rig = controlRig();
  const spec = { Name: "back", Driver: "overlay", Attachable: true };
  const { id } = await rig.client.call("network.create", { id: anId(), spec }, never);
  const networks = [{ networkId: id, addresses: ["10.0.0.5/24"], aliases: [] }];
  const task = aTask({ id: "t1", serviceId: "", networks, status: aStatus("running") });
  rig.store.put({ op: "create", table: "tasks", row: task });
  t.equal(
    await refusal(rig, "network.remove", { ref: "back" }),
    `400 rpc error: code = FailedPrecondition desc = network ${id} is in use by task t1`,
  );
});

t.test("an update is a new spec version with the one before to go back to", async t => {
  const rig = controlRig();
  const id = await create(rig, aSpec("web"));
  await update(rig, "web", { ...aSpec("web"), Labels: { v: "2" } });
  const two = rig.store.view.table("services").get(id);
  t.match(two, { specVersion: 2, previousSpecVersion: 1, updateStatus: null });
  t.same(two?.previousSpec?.Labels, undefined);
  await update(rig, "web", aSpec("web"), { rollback: "previous" });
  const three = rig.store.view.table("services").get(id);
  t.equal(three?.specVersion, 3, "a version is never used twice");
  t.same(three?.spec.Labels, undefined);
  t.same(three?.previousSpec?.Labels, { v: "2" });
  t.match(three?.updateStatus, {
    state: "rollback_started",
    message: "manually requested rollback",
  });
  t.ok(rig.store.view.table("serviceSpecs").get(`${id}.3`));
});

t.test("a service as large as swarm mode takes can be made, scaled and removed", async t => {
  const rig = controlRig();
  const large = (bytes: number, replicas: number) =>
    aSpec("large", {
      TaskTemplate: { ContainerSpec: { Image: "app:1", Env: [`A=${"x".repeat(bytes)}`] } },
      Mode: { Replicated: { Replicas: replicas } },
    });
  await create(rig, { ...large(1_450_000, 1), Name: "created" });
  await create(rig, large(1_000_000, 1));
  // Swarm mode ends at half of its 1.5 MB here: the spec and the one before are one object.
  await update(rig, "large", large(1_000_000, 0));
  t.equal(rig.store.view.serviceByName("large")?.spec.Mode?.Replicated?.Replicas, 0);
  t.match(await refused(create(rig, { ...large(1_600_000, 1), Name: "no" })), /^400 .* smaller/);
  await rig.client.call("service.remove", { ref: "large" }, never);
});

t.test("every update of a job is one more execution", async t => {
  const rig = controlRig();
  const job = aSpec("job", { Mode: { ReplicatedJob: { MaxConcurrent: 1, TotalCompletions: 2 } } });
  const id = await create(rig, job);
  t.equal(rig.store.view.table("services").get(id)?.jobIteration, 0);
  await update(rig, "job", job);
  t.equal(rig.store.view.table("services").get(id)?.jobIteration, 1);
});

t.test("what an update of a service refuses", async t => {
  const rig = controlRig();
  const id = await create(rig, aSpec("web"));
  const rpc = (code: string, text: string) => `rpc error: code = ${code} desc = ${text}`;
  const cases: readonly (readonly [
    string,
    object,
    Partial<OperationArgs<"service.update">>,
    string,
  ])[] = [
    ["stale", aSpec("web"), { version: 1 }, `500 ${rpc("Unknown", "update out of sequence")}`],
    ["unknown", aSpec("web"), { ref: "nosuch" }, "404 service nosuch not found"],
    [
      "rename",
      aSpec("other"),
      {},
      `501 ${rpc("Unimplemented", "renaming services is not supported")}`,
    ],
    [
      "mode",
      aSpec("web", { Mode: { Global: {} } }),
      {},
      `501 ${rpc("Unimplemented", "service mode change is not allowed")}`,
    ],
    [
      "nothing to go back to",
      aSpec("web"),
      { rollback: "previous" },
      `400 ${rpc("FailedPrecondition", `service ${id} does not have a previous spec`)}`,
    ],
    ["odd rollback", aSpec("web"), { rollback: "bogus" }, "500 unrecognized rollback option bogus"],
    [
      "odd auth",
      aSpec("web"),
      { registryAuthFrom: "bogus" },
      "500 unsupported registryAuthFrom value",
    ],
    [
      "no previous auth",
      aSpec("web"),
      { registryAuthFrom: "previous-spec" },
      "500 service does not have a previous spec",
    ],
  ];
  for (const [what, spec, more, expected] of cases) {
    const { version } = await rig.client.call("service.get", { ref: "web" }, never);
    const args = {
      ref: "web",
      spec,
      version,
      fallbackName: "",
      registryAuth: "",
      registryAuthFrom: "",
      rollback: "",
      ...more,
    };
    t.equal(await refusal(rig, "service.update", args), expected, what);
  }
  t.equal(rig.store.view.table("services").get(id)?.specVersion, 1, "nothing was written");
});

t.test("image credentials stay with the service until others are given", async t => {
  const rig = controlRig();
  const id = await create(rig, aSpec("web"), "c2VjcmV0");
  const auth = () =>
    rig.store.view.table("services").get(id)?.spec.TaskTemplate?.ContainerSpec?.PullOptions;
  t.same(auth(), { RegistryAuth: "c2VjcmV0" });
  await update(rig, "web", aSpec("web"));
  t.same(auth(), { RegistryAuth: "c2VjcmV0" }, "kept");
  await update(rig, "web", aSpec("web"), { registryAuth: "bmV3" });
  t.same(auth(), { RegistryAuth: "bmV3" });
  await update(rig, "web", aSpec("web"), { registryAuthFrom: "previous-spec" });
  t.same(auth(), { RegistryAuth: "c2VjcmV0" }, "of the spec before");
});

t.test("a removed service is gone for its users at once", async t => {
  const rig = controlRig();
  const id = await create(rig, aSpec("web"));
  await rig.client.call("service.remove", { ref: "web" }, never);
  t.equal(rig.store.view.table("services").get(id)?.pendingDelete, true);
  t.equal(
    await refusal(rig, "service.get", { ref: id }),
    "404 service web not found".replace("web", id),
  );
  t.equal(await refusal(rig, "service.remove", { ref: "web" }), "404 service web not found");
  t.same(await rig.client.call("service.list", { filters: {}, status: false }, never), []);
  const again = await create(rig, aSpec("web"));
  t.not(again, id, "its name is free");
  t.equal((await rig.client.call("service.get", { ref: "web" }, never)).id, again);
});

t.test("objects are found by id, name, then unique prefix", async t => {
  const rig = controlRig();
  const ids = ["abc1", "abd2", "abd"].map(text => text.padEnd(25, "z"));
  const names = ["one", "two", "abd"];
  for (const [i, id] of ids.entries()) {
    const args = { id, spec: aSpec(names[i] ?? ""), fallbackName: "", registryAuth: "" };
    await rig.client.call("service.create", args, never);
  }
  const find = async (ref: string) =>
    (await rig.client.call("service.get", { ref }, never)).spec.Name;
  t.equal(await find(ids[0] ?? ""), "one");
  t.equal(await find("two"), "two");
  t.equal(await refusal(rig, "service.get", { ref: "TWO" }), "404 service TWO not found");
  t.match(
    await refusal(rig, "service.create", {
      ...{ id: anId(), spec: aSpec("TWO"), fallbackName: "", registryAuth: "" },
    }),
    /^409 .*already exist/,
    "all the same, no two names differ in case alone",
  );
  t.equal(await find("abc"), "one");
  t.equal(await find("abd"), "abd", "a name goes before a prefix");
  t.equal(
    await refusal(rig, "service.get", { ref: "ab" }),
    "400 service ab is ambiguous (3 matches found)",
  );
  t.equal(await refusal(rig, "service.get", { ref: "" }), "404 service  not found");
});

const tasks: readonly Change[] = [
  ["t1", "running", "running", 1],
  ["t2", "running", "ready", 2],
  ["t3", "complete", "shutdown", 3],
].map(([id, state, desired, slot]) => ({
  op: "create",
  table: "tasks",
  row: aTask({
    id: String(id),
    serviceId: "s".padEnd(25, "0"),
    serviceName: "web",
    slot: Number(slot),
    nodeId: SELF_ID,
    status: aStatus(state as "running"),
    desiredState: desired as "running",
  }),
}));

t.test("task filters", async t => {
  const rig = controlRig();
  const args = {
    id: "s".padEnd(25, "0"),
    spec: aSpec("web", { Labels: { tier: "front" } }),
    fallbackName: "",
    registryAuth: "",
  };
  await rig.client.call("service.create", args, never);
  rig.store.put(...tasks);
  const list = async (filters: Record<string, string[]>) =>
    (await rig.client.call("task.list", { filters }, never)).map(view => view.task.id);
  t.same(await list({}), ["t1", "t2", "t3"]);
  t.same(await list({ service: ["web"], "desired-state": ["running"] }), ["t1"]);
  t.same(await list({ "desired-state": ["accepted"] }), ["t2"]);
  t.same(await list({ node: [SELF_ID.slice(0, 5)] }), ["t1", "t2", "t3"]);
  t.same(await list({ name: ["web.2"] }), ["t2"]);
  t.same(await list({ label: ["tier=front"], id: ["t3"] }), ["t3"]);
  t.same(await list({ label: ["tier=back"] }), []);
  t.same(await list({ "_up-to-date": ["true"] }), ["t1", "t2", "t3"]);
  t.same(await list({ runtime: ["plugin"] }), []);
  await update(rig, "web", aSpec("web", { Labels: { tier: "back" } }));
  t.same(await list({ "_up-to-date": ["true"] }), ["t1", "t2", "t3"], "the template is the same");
  await update(rig, "web", {
    ...aSpec("web"),
    TaskTemplate: { ContainerSpec: { Image: "app:2" } },
  });
  t.same(await list({ "_up-to-date": ["true"] }), []);
  const cases = [
    [{ foo: ["x"] }, "400 Invalid filter 'foo'"],
    [{ "desired-state": ["bogus"] }, "500 Invalid desired-state filter: 'bogus'"],
    [{ service: ["nosuch"] }, "404 service nosuch not found"],
    [{ node: ["self"] }, "404 node self not found"],
  ] as const;
  for (const [filters, expected] of cases) {
    t.equal(await refusal(rig, "task.list", { filters }), expected);
  }
});

t.test("service lists, with their counts", async t => {
  const rig = controlRig();
  const id = "s".padEnd(25, "0");
  const replicated = aSpec("web", { Mode: { Replicated: { Replicas: 5 } }, Labels: { a: "b" } });
  await rig.client.call(
    "service.create",
    { id, spec: replicated, fallbackName: "", registryAuth: "" },
    never,
  );
  await create(rig, aSpec("worker", { Mode: { Global: {} } }));
  rig.store.put(...tasks);
  const list = async (filters: Record<string, string[]>) =>
    (await rig.client.call("service.list", { filters, status: true }, never)).map(view => [
      view.service.spec.Name,
      view.status?.running,
      view.status?.desired,
    ]);
  t.same(await list({ name: ["we"] }), [["web", 2, 5]]);
  t.same(await list({ mode: ["global"] }), [["worker", 0, 0]]);
  t.same(await list({ mode: ["bogus"] }), []);
  t.same(await list({ label: ["a"], id: [id.slice(0, 3)] }), [["web", 2, 5]]);
  t.equal(
    await refusal(rig, "service.list", { filters: { foo: [] }, status: false }),
    "400 Invalid filter 'foo'",
  );
});

t.test("a conflict at the commit reads as one found before", async t => {
  const rig = controlRig();
  await create(rig, aSpec("web"));
  rig.store.failWith = new SwarmError("out_of_sequence", "row changed");
  t.equal(
    await refused(update(rig, "web", aSpec("web"))),
    "500 rpc error: code = Unknown desc = update out of sequence",
  );
});

t.test("only the leader writes", async t => {
  const rig = controlRig();
  rig.raft.leaderId = 2;
  const args = { id: anId(), spec: aSpec("web"), fallbackName: "", registryAuth: "" };
  await t.rejects(rig.service.run("service.create", args, never), { code: "not_leader" });
  rig.raft.leaderId = 1;
  rig.raft.term = 2;
  rig.raft.barrierError = new SwarmError("unavailable", "not yet");
  await t.rejects(rig.service.run("service.create", args, never), { code: "unavailable" });
  rig.raft.barrierError = null;
  await rig.service.run("service.create", args, never);
  const { barriers } = rig.raft;
  await rig.service.run("service.remove", { ref: "web" }, never);
  t.equal(rig.raft.barriers, barriers, "a term is caught up with once");
});
