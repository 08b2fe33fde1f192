import t from "tap";
import { planNetwork } from "../../src/control/core/network-plan.ts";
import type { Network } from "../../src/model/rows.ts";
import { anId, aSpec, create, never, refusal } from "../support/control-calls.ts";
import { controlRig, SELF_ID } from "../support/control-rig.ts";
import { aCluster, aNetwork, aNode, aStatus, aTask } from "../support/rows.ts";

t.test("node roles change only while a quorum remains", async t => {
  const rig = controlRig();
  const version = async () =>
    (await rig.client.call("node.get", { ref: SELF_ID }, never)).node.version;
  const worker = { Role: "worker", Availability: "active" };
  const demote = async (ref = SELF_ID) =>
    refusal(rig, "node.update", { ref, spec: worker, version: await version() });
  const rpc = (text: string) => `400 rpc error: code = FailedPrecondition desc = ${text}`;
  t.equal(await demote(), rpc("attempting to demote the last manager of the swarm"));
  for (const raftId of [2, 3]) {
    const nodeId = String(raftId).repeat(25);
    const spec = { Role: "manager" as const, Availability: "active" as const };
    rig.store.put(
      { op: "create", table: "nodes", row: aNode({ id: nodeId, spec }) },
      { op: "create", table: "members", row: { id: String(raftId), nodeId, raftId, addr: "" } },
    );
  }
  rig.raft.voters = [1, 2, 3];
  rig.raft.unreachable.add(3);
  t.equal(
    await demote(),
    rpc(
      "can't remove member from the raft: this would result in a loss of quorum: " +
        "1 of the 2 other managers can be reached and 2 are needed",
    ),
  );
  rig.raft.unreachable.clear();
  t.equal(await demote(), "done");
  t.equal(rig.store.view.table("nodes").get(SELF_ID)?.spec.Role, "worker");
});

t.test("what an update of a node refuses", async t => {
  const rig = controlRig();
  const cases = [
    [{ Role: "boss", Availability: "active" }, 1, '400 invalid Role: "boss"'],
    [{ Role: "manager", Availability: "bogus" }, 1, '400 invalid Availability: "bogus"'],
    [
      { Role: "manager", Availability: "drain" },
      99,
      "500 rpc error: code = Unknown desc = update out of sequence",
    ],
  ] as const;
  for (const [spec, version, expected] of cases) {
    t.equal(await refusal(rig, "node.update", { ref: SELF_ID, spec, version }), expected);
  }
});

t.test("a node is removed when it is down, or by force, and its tasks are given up", async t => {
  const rig = controlRig();
  const id = "2".repeat(25);
  rig.store.put(
    { op: "create", table: "nodes", row: aNode({ id }) },
    {
      op: "create",
      table: "tasks",
      row: aTask({ id: "t1", serviceId: "web", nodeId: id, status: aStatus("running") }),
    },
    {
      op: "create",
      table: "tasks",
      row: aTask({ id: "t2", serviceId: "web", nodeId: id, status: aStatus("failed") }),
    },
    { op: "create", table: "networks", row: aNetwork({ id: "att" }) },
    {
      op: "create",
      table: "tasks",
      row: aTask({
        ...{ id: "t3", serviceId: "", nodeId: id, status: aStatus("running") },
        networks: [{ networkId: "att", addresses: ["10.0.9.2/24"], aliases: [] }],
      }),
    },
  );
  const rpc = (text: string) => `400 rpc error: code = FailedPrecondition desc = ${text}`;
  t.equal(
    await refusal(rig, "node.remove", { ref: SELF_ID, force: true }),
    rpc(
      `node ${SELF_ID} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal`,
    ),
  );
  t.equal(
    await refusal(rig, "node.remove", { ref: id, force: false }),
    rpc(`node ${id} is not down and can't be removed`),
  );
  t.equal(await refusal(rig, "node.remove", { ref: id, force: true }), "done");
  t.equal(rig.store.view.table("nodes").get(id), undefined);
  t.equal(rig.store.view.table("tasks").get("t1")?.status.state, "orphaned");
  t.equal(rig.store.view.table("tasks").get("t2")?.status.state, "failed");
  t.equal(
    await refusal(rig, "network.remove", { ref: "att" }),
    "done",
    "its plain containers keep no network",
  );
});

t.test("the swarm's spec and tokens", async t => {
  const rig = controlRig();
  const swarm = () => rig.client.call("swarm.get", {}, never);
  t.notOk("rootCa" in (await swarm()), "the root key stays");
  const change = async (spec: object, more = {}) => {
    const { version } = await swarm();
    const kept = { rotateWorkerToken: false, rotateManagerToken: false, rotateUnlockKey: false };
    const args = { spec, version, ...kept, ...more };
    return refusal(rig, "swarm.update", args);
  };
  t.equal(await change({ Orchestration: { TaskHistoryRetentionLimit: 0 } }), "done");
  const { spec, joinTokens } = await swarm();
  t.equal(spec.Orchestration.TaskHistoryRetentionLimit, 0);
  t.equal(spec.Raft.SnapshotInterval, 10_000, "what is not said is the default");
  t.equal(await change(spec, { rotateWorkerToken: true }), "done");
  const rotated = (await swarm()).joinTokens;
  const unlockKey = () => [...rig.store.view.table("cluster").all()][0]?.unlockKey;
  t.notOk(unlockKey());
  t.equal(await change({ EncryptionConfig: { AutoLockManagers: true } }), "done");
  t.equal(unlockKey(), "SWMKEY-1-1");
  t.equal(await change((await swarm()).spec), "done");
  t.equal(unlockKey(), "SWMKEY-1-1", "kept while autolock is on");
  t.equal(await change((await swarm()).spec, { rotateUnlockKey: true }), "done");
  t.equal(unlockKey(), "SWMKEY-1-2");
  t.notOk("unlockKey" in (await swarm()), "only asked for by itself");
  t.equal(await change({ EncryptionConfig: { AutoLockManagers: false } }), "done");
  t.equal(unlockKey(), "");
  t.not(rotated.worker, joinTokens.worker);
  t.equal(rotated.manager, joinTokens.manager);
  const rotation = () => {
    const [cluster] = rig.store.view.table("cluster").all();
    return [cluster?.rootRotationInProgress, cluster?.nextRoot?.certPem];
  };
  t.equal(await change({ CAConfig: { ForceRotate: 1 } }), "done");
  t.same(rotation(), [true, "next"]);
  t.match(await swarm(), { rootRotationInProgress: true, nextRootCertPem: "next" });
  t.notOk("nextRoot" in (await swarm()), "its key stays");
  const [{ id = "" } = {}] = [...rig.store.view.table("cluster").all()];
  const fields = { nextRoot: null, rootRotationInProgress: false };
  rig.store.put({ op: "patch", table: "cluster", id, fields });
  t.equal(await change({ Labels: {} }), "done");
  t.same(rotation(), [false, undefined], "not asked again by a client that says nothing of it");
  t.equal(await change((await swarm()).spec), "done");
  t.same(rotation(), [false, undefined]);
  t.match(
    await change({ CAConfig: { SigningCAKey: "key" } }),
    /400 .*if a signing CA key is provided, the signing CA cert must also be provided/,
  );
  t.match(
    await change({ CAConfig: { SigningCACert: "no PEM", SigningCAKey: "key" } }),
    /400 .*if a signing CA key is provided, the signing CA cert must also be provided/,
  );
  t.equal(
    await change({ CAConfig: { SigningCACert: "no PEM" } }),
    "done",
    "as if nothing was said",
  );
  t.same(rotation(), [false, undefined]);
  t.equal(await change({ CAConfig: { SigningCACert: pem("own"), SigningCAKey: "key2" } }), "done");
  t.same(rotation(), [true, "next"]);
  t.equal((await swarm()).spec.CAConfig.SigningCAKey, undefined);
  t.equal((await swarm()).spec.CAConfig.SigningCACert, undefined, "half a root is not sent back");
  rig.store.put({ op: "patch", table: "cluster", id, fields });
  t.equal(await change({ Name: "other" }), '400 swarm spec must be named "default"');
  t.equal(
    await change({ CAConfig: { NodeCertExpiry: 60e9 } }),
    "400 rpc error: code = InvalidArgument desc = minimum certificate expiry time is: 1h0m0s",
  );
  t.equal(
    await change({}, { version: 1_000 }),
    "500 rpc error: code = Unknown desc = update out of sequence",
  );
});

const pem = (name: string): string =>
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(name).toString("base64")}\n-----END CERTIFICATE-----\n`;

t.test("a root whose key an external CA has", async t => {
  let alive: readonly string[] = [];
  const rig = controlRig({ reachesCa: urls => urls.some(url => alive.includes(url)) });
  const row = () => {
    const [cluster] = rig.store.view.table("cluster").all();
    if (cluster === undefined) throw new Error("there is a cluster");
    return cluster;
  };
  const change = (CAConfig: object) => {
    const kept = { rotateWorkerToken: false, rotateManagerToken: false, rotateUnlockKey: false };
    const args = { spec: { CAConfig }, version: row().version, ...kept };
    return refusal(rig, "swarm.update", args);
  };
  const missing = (which: string) =>
    "400 rpc error: code = InvalidArgument desc = there must be at least one valid, reachable " +
    `external CA corresponding to the ${which} CA certificate`;
  const fields = { rootCa: { certPem: pem("a"), keyPem: "key" } };
  rig.store.put({ op: "patch", table: "cluster", id: row().id, fields });
  const [ofA, ofB, ofC] = ["a", "b", "c"].map(name => ({
    Protocol: "cfssl",
    URL: `https://${name}`,
    CACert: pem(name),
  }));

  t.equal(await change({ ExternalCAs: [ofA] }), "done", "a root with its key needs none");
  t.equal(await change({ SigningCACert: pem("b"), ExternalCAs: [ofB] }), missing("desired"));
  alive = ["https://b"];
  t.equal(await change({ SigningCACert: pem("b"), ExternalCAs: [ofA, ofB] }), "done");
  t.match(row(), { nextRoot: { certPem: "next" }, rootRotationInProgress: true });
  const next = { certPem: pem("b"), keyPem: "", crossSignedPem: "cross" };
  rig.store.put({ op: "patch", table: "cluster", id: row().id, fields: { nextRoot: next } });
  t.equal(await change({ ExternalCAs: [ofA] }), missing("next"), "it is needed until the end");
  t.equal(await change({ SigningCACert: pem("b"), SigningCAKey: "b's" }), "done");
  t.match(row(), { nextRoot: { certPem: pem("b"), keyPem: "b's" } }, "only who signs is another");
  t.equal(await change({ SigningCACert: pem("a"), SigningCAKey: "key" }), "done");
  t.match(row(), { nextRoot: null, rootRotationInProgress: false });
  t.equal(row().rootGeneration, 1, "what the next root has signed is renewed");

  const external = { rootCa: { certPem: pem("b"), keyPem: "" } };
  rig.store.put({ op: "patch", table: "cluster", id: row().id, fields: external });
  t.equal(await change({}), missing("current"));
  t.equal(await change({ ExternalCAs: [ofB] }), "done");
  alive = ["https://b", "https://c"];
  t.equal(
    await change({ SigningCACert: pem("c"), ExternalCAs: [ofB, ofC] }),
    "400 rpc error: code = InvalidArgument desc = rotating from one external CA to a different " +
      "external CA is not supported",
  );
  t.equal(await change({ SigningCACert: pem("b"), SigningCAKey: "b's" }), "done");
  t.match(row(), { rootCa: { certPem: pem("b"), keyPem: "b's" } }, "the key has come back");
  t.match(
    await change({ SigningCACert: pem("c"), SigningCAKey: "b's" }),
    /400 .*Cannot update to a cert with an identical key/,
  );
});

t.test("secrets and configs", async t => {
  const rig = controlRig();
  const rpc = (code: string, text: string) => `rpc error: code = ${code} desc = ${text}`;
  for (const noun of ["secret", "config"] as const) {
    const id = anId();
    const spec = { Name: "one", Data: "aHVudGVyMg==" };
    await rig.client.call(`${noun}.create`, { id, spec }, never);
    t.same(await rig.client.call(`${noun}.create`, { id, spec }, never), { id }, "again");
    const got = await rig.client.call(`${noun}.get`, { ref: "one" }, never);
    t.equal(got.spec.Data, noun === "secret" ? undefined : "aHVudGVyMg==");
    t.equal(
      await refusal(rig, `${noun}.create`, { id: anId(), spec }),
      `409 ${rpc("AlreadyExists", `${noun} one already exists`)}`,
    );
    t.equal(
      await refusal(rig, `${noun}.update`, {
        ref: id,
        spec: { ...spec, Data: "AAAA" },
        version: 1,
      }),
      `400 ${rpc("InvalidArgument", "only updates to Labels are allowed")}`,
    );
    t.equal(
      await refusal(rig, `${noun}.update`, { ref: id, spec, version: 1 }),
      `500 ${rpc("Unknown", "update out of sequence")}`,
    );
    const labelled = { Name: "one", Labels: { a: "b" } };
    await rig.client.call(
      `${noun}.update`,
      { ref: id, spec: labelled, version: got.version },
      never,
    );
    const list = await rig.client.call(`${noun}.list`, { filters: { label: ["a=b"] } }, never);
    t.same(
      list.map(row => row.spec.Name),
      ["one"],
    );
    const refs =
      noun === "secret"
        ? { Secrets: [{ SecretID: id, SecretName: "one", File: { Name: "x" } }] }
        : { Configs: [{ ConfigID: id, ConfigName: "one", File: { Name: "x" } }] };
    await create(rig, {
      Name: `uses-${noun}`,
      TaskTemplate: { ContainerSpec: { Image: "app:1", ...refs } },
    });
    t.equal(
      await refusal(rig, `${noun}.remove`, { ref: "one" }),
      `400 ${rpc("InvalidArgument", `${noun} 'one' is in use by the following service: uses-${noun}`)}`,
    );
    await rig.client.call("service.remove", { ref: `uses-${noun}` }, never);
    t.equal(await refusal(rig, `${noun}.remove`, { ref: "one" }), "done");
    t.equal(await refusal(rig, `${noun}.get`, { ref: "one" }), `404 ${noun} one not found`);
  }
});

t.test("one ingress network, and names once", async t => {
  const rig = controlRig();
  const make = (spec: object) => refusal(rig, "network.create", { id: anId(), spec });
  t.equal(await make({ Name: "ingress", Driver: "overlay", Ingress: true }), "done");
  t.equal(await make({ Name: "n1", Driver: "overlay" }), "done");
  t.equal(await make({ Name: "n1", Driver: "overlay" }), "409 network with name n1 already exists");
  t.match(
    await make({ Name: "n2", Ingress: true }),
    /^409 rpc error: code = AlreadyExists desc = ingress network \(.*\) is already present$/,
  );
  await create(
    rig,
    aSpec("web", { EndpointSpec: { Ports: [{ PublishedPort: 80, TargetPort: 80 }] } }),
  );
  t.match(
    await refusal(rig, "network.remove", { ref: "ingress" }),
    /^400 rpc error: code = FailedPrecondition desc = ingress network cannot be removed because service .* depends on it$/,
  );
});

t.test("networks get addresses and ids that nobody else has", async t => {
  const rig = controlRig();
  const make = async (spec: object) => {
    const { id } = await rig.client.call("network.create", { id: anId(), spec }, never);
    const { network } = await rig.client.call("network.get", { ref: id }, never);
    return [network.vni, ...network.subnets.flatMap(({ subnet, gateway }) => [subnet, gateway])];
  };
  const ipam = (...configs: object[]) => ({ IPAM: { Config: configs } });
  t.same(await make({ Name: "ingress", Ingress: true }), [4096, "10.0.0.0/24", "10.0.0.1"]);
  t.same(await make({ Name: "a" }), [4097, "10.0.1.0/24", "10.0.1.1"]);
  t.same(
    await make({ Name: "b", ...ipam({ Subnet: "10.0.2.7/16" }) }).catch(() => "refused"),
    "refused",
  );
  const wide = { Subnet: "10.0.2.0/23", Gateway: "10.0.2.9" };
  t.same(await make({ Name: "c", ...ipam(wide) }), [4098, "10.0.2.0/23", "10.0.2.9"]);
  t.same(await make({ Name: "d" }), [4099, "10.0.4.0/24", "10.0.4.1"], "after what is taken");
  await rig.client.call("network.remove", { ref: "a" }, never);
  t.same(await make({ Name: "f" }), [4097, "10.0.1.0/24", "10.0.1.1"], "freed with its network");
  t.equal(
    await refusal(rig, "network.create", {
      id: anId(),
      spec: { Name: "g", ...ipam({ Subnet: "10.0.3.0/24" }) },
    }),
    "400 rpc error: code = FailedPrecondition desc = subnet 10.0.3.0/24: Pool overlaps with other one on this address space",
  );
});

t.test("a network with IPv6 has a subnet of each family", async t => {
  const rig = controlRig();
  const id = "0123456789abcdefghijklmno";
  const row = { ...aCluster(), id, defaultAddrPool: ["10.0.0.0/8"] };
  const subnets = (spec: Network["spec"]): readonly string[] => {
    const found = planNetwork(rig.store.view, row, spec).subnets;
    return found.flatMap(({ subnet, gateway }) => [subnet, gateway]);
  };
  const own = (...Config: object[]): Network["spec"] => ({
    Name: "n",
    EnableIPv6: true,
    IPAM: { Config },
  });
  const [v4, gateway4, v6 = "", gateway6] = subnets(own());
  t.same([v4, gateway4], ["10.0.0.0/24", "10.0.0.1"]);
  t.match(v6, /^fd[0-9a-f]{2}:[0-9a-f:]+::\/64$/, "unique local, the cluster's own");
  t.equal(gateway6, `${v6.replace("/64", "")}1`);
  t.same(subnets(own({ Subnet: "fd00:1::5/64" })), [v4, gateway4, "fd00:1::/64", "fd00:1::1"]);
  const asked = [{ Subnet: "FD00:1:0::/64", Gateway: "fd00:1::00ff" }, { Subnet: "10.9.0.0/16" }];
  const both = ["10.9.0.0/16", "10.9.0.1", "fd00:1::/64", "fd00:1::ff"];
  t.same(subnets(own(...asked)), both, "IPv4 first, in whichever order they come");
  t.same(subnets(own({ Subnet: "10.9.0.0/16" })).slice(2), [v6, gateway6]);
  rig.store.put({
    op: "create",
    table: "networks",
    row: aNetwork({ id: "one", subnets: [{ subnet: v6, gateway: gateway6 ?? "" }] }),
  });
  const [, , second = ""] = subnets(own());
  t.not(second, v6, "each network another one");
  t.equal(second.slice(0, 14), v6.slice(0, 14), "of one site");
  t.throws(() => subnets(own({ Subnet: v6 })), /Pool overlaps/);
  const refused = (spec: object): Promise<string> =>
    refusal(rig, "network.create", { id: anId(), spec: { Name: "g", ...spec } });
  const subnet6 = { IPAM: { Config: [{ Subnet: "fd00:1::/64" }] } };
  t.match(
    await refused(subnet6),
    /subnet fd00:1::\/64 is IPv6, and the network is not: add --ipv6/,
  );
  t.match(await refused({ EnableIPv4: false }), /always has IPv4 addresses/);
  const tiny = { EnableIPv6: true, IPAM: { Config: [{ Subnet: "fd00:1::/127" }] } };
  t.match(await refused(tiny), /too small/);
  const mtu = (text: string): object => ({ Options: { "com.docker.network.driver.mtu": text } });
  for (const text of ["0", "67", "-1", "1450.5", "65486", "big", ""]) {
    t.match(await refused(mtu(text)), /invalid MTU .*: it must be from 68 to 65485/);
  }
  t.match(await refused({ ...mtu("1279"), EnableIPv6: true }), /from 1280 to/);
});

t.test("an address pool that is used up says so", async t => {
  const rig = controlRig();
  rig.store.put({
    op: "patch",
    table: "cluster",
    id: "cluster",
    fields: { defaultAddrPool: ["10.1.0.0/25"], subnetSize: 26 },
  });
  const make = (name: string) =>
    refusal(rig, "network.create", { id: anId(), spec: { Name: name } });
  t.equal(await make("a"), "done");
  t.equal(await make("b"), "done");
  t.match(await make("c"), /^503 could not find an available, non-overlapping IPv4 address pool/);
});
