import fc from "fast-check";
import t from "tap";
import type { OverlayChange, OverlayEndpoint, OverlayHost } from "../../src/model/overlay.ts";
import {
  encodeAnswer,
  encodeName,
  parseQuery,
  RCODE,
  reverseAddress,
  TYPE,
} from "../../src/overlay/core/dns-message.ts";
import { meshMtu } from "../../src/overlay/core/mesh.ts";
import {
  containerMac,
  halvesOf,
  hostGateway,
  hostMac,
  hostMark,
  hostOfGateway,
  hostTable,
  indexOfMac,
  meshAddr,
} from "../../src/overlay/core/names.ts";
import { NetworkNames, resolve } from "../../src/overlay/core/names-index.ts";
import { hostTableScript } from "../../src/overlay/core/nft.ts";
import { type PlanFacts, planNetwork } from "../../src/overlay/core/plan.ts";
import { diffNetwork, nothingYet, type Programmed } from "../../src/overlay/core/program.ts";
import { nextSlots } from "../../src/overlay/core/slots.ts";
import { OverlayTable } from "../../src/overlay/core/table.ts";
import { FakeKernel } from "../support/fake-kernel.ts";

const SELF = "n1";
const FACTS: PlanFacts = {
  nodeId: SELF,
  joined: new Map(),
  used: new Set(),
  ipv6: true,
  underlay: { mtu: 1_500 },
  mesh: null,
};

const SUBNET = { subnet: "10.0.1.0/24", gateway: "10.0.1.1" };
const SUBNET6 = { subnet: "fd00:1::/64", gateway: "fd00:1::1" };

function network(id: string, ingress = false, subnets = [SUBNET]): OverlayChange {
  const flags = { internal: false, attachable: false, ingress, encrypted: false };
  const item = { id, name: id, vni: 4_097, subnets, ...flags, dataPathPort: 4_789 };
  return { action: "update", kind: "network", item };
}

function host(id: string, index: number, addr: string): OverlayChange {
  const item: OverlayHost = { id, index, addr, publicKey: "", ipv6: true };
  return { action: "update", kind: "host", item };
}

function endpoint(
  networkId: string,
  taskId: string,
  fields: Partial<OverlayEndpoint> = {},
): OverlayChange {
  const item: OverlayEndpoint = {
    id: `${networkId}/${taskId}`,
    networkId,
    taskId,
    serviceId: "s1",
    name: `web.1.${taskId}`,
    nodeId: "n2",
    addr: "10.0.1.9",
    serving: true,
    ...fields,
  };
  return { action: "update", kind: "endpoint", item };
}

function service(
  networkId: string,
  serviceId: string,
  vip: string,
  ports: readonly { protocol: "tcp" | "udp" | "sctp"; published: number; target: number }[] = [],
  vip6 = "",
): OverlayChange {
  const id = `${networkId}/${serviceId}`;
  const own = { vip, ...(vip6 !== "" && { vip6 }) };
  const item = { id, networkId, serviceId, name: "web", aliases: ["front"], ...own, ports };
  return { action: "update", kind: "service", item };
}

t.test("names and numbers of hosts can be told from each other", async t => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 16_383 }), index => {
      t.equal(indexOfMac(hostMac(index)), index);
      t.equal(hostOfGateway(hostGateway(index)), index);
      t.equal(hostOfGateway(hostGateway(index, "ipv6")), index);
      t.ok(hostMark(index) > 0xffff, "no slot has that number");
      t.ok(hostTable(index) < 32_766, "before the main table's rule");
    }),
    { numRuns: 50 },
  );
  t.equal(hostMac(300), "02:53:00:00:01:2c");
  t.equal(hostGateway(1), "169.254.64.1");
  t.equal(hostOfGateway("169.254.254.1"), null, "the uplink's is none");
  t.equal(containerMac("10.0.3.11"), "02:42:0a:00:03:0b");
  t.same(halvesOf("fd00:1::/64"), ["fd00:1::/65", "fd00:1:0:0:8000::/65"]);
});

t.test("slots hold just the wanted backends, and those that stay keep theirs", async t => {
  t.same(nextSlots(["a", "b", "c"], ["a", "c"]), ["a", "c"]);
  t.same(nextSlots(["a", "b", "c"], ["b", "c"]), ["c", "b"], "the last takes the empty place");
  t.same(nextSlots(["a", "b"], ["b", "d"]), ["d", "b"], "so does a new one");
  const names = fc.uniqueArray(fc.constantFrom(..."abcdefgh".split("")));
  fc.assert(
    fc.property(names, names, (current, wanted) => {
      const next = nextSlots(current, wanted);
      t.same([...next].sort(), [...wanted].sort());
      const changed = next.filter((one, i) => one !== current[i]).length;
      const gone = current.filter(one => !wanted.includes(one)).length;
      const fresh = wanted.filter(one => !current.includes(one)).length;
      t.ok(changed <= Math.max(gone, fresh), "no more than need be moved");
    }),
  );
});

t.test("an address that changes hands is served from once", async t => {
  const table = new OverlayTable();
  const own = host(SELF, 1, "192.0.2.1");
  const twice = ["t1", "t2"].map(taskId => endpoint("net", taskId));
  table.apply([own, network("net"), service("net", "s1", "10.0.1.202"), ...twice], true);
  t.same(planNetwork(table, "net", FACTS)?.vips, new Map([["10.0.1.202", ["10.0.1.9"]]]));
});

/** One change of the tables, as managers make them. */
const addr = fc.integer({ min: 2, max: 9 }).map(n => `10.0.1.${n}`);
const inIpv6 = (address: string): string => `fd00:1::${address.split(".")[3]}`;
const task = fc.constantFrom("t1", "t2", "t3", "t4", "t5");
const node = fc.constantFrom("n1", "n2", "n3");
const svc = fc.constantFrom("s1", "s2");
const changes = (ingress: boolean): fc.Arbitrary<OverlayChange> =>
  fc.oneof(
    fc
      .tuple(task, addr, node, svc, fc.boolean())
      .map(([taskId, address, nodeId, serviceId, serving]) =>
        endpoint("net", taskId, {
          addr: address,
          addr6: inIpv6(address),
          nodeId,
          serviceId,
          serving,
        }),
      ),
    task.map(id => ({ action: "remove", kind: "endpoint", id: `net/${id}` }) as const),
    fc.tuple(svc, fc.integer({ min: 8_080, max: 8_081 })).map(([id, published]) =>
      service(
        "net",
        id,
        ingress ? "" : `10.0.1.20${id.slice(1)}`,
        [
          { protocol: "tcp", published: ingress ? published : 0, target: 80 },
          { protocol: "udp", published: ingress ? published : 0, target: 53 },
        ],
        ingress ? "" : `fd00:1::20${id.slice(1)}`,
      ),
    ),
    svc.map(id => ({ action: "remove", kind: "service", id: `net/${id}` }) as const),
    fc
      .tuple(fc.constantFrom("n2", "n3"), fc.integer({ min: 2, max: 4 }), fc.boolean())
      .map(([id, index, moved]) => host(id, index, moved ? "10.77.0.99" : `10.77.0.${index}`)),
    fc.constantFrom("n2", "n3").map(id => ({ action: "remove", kind: "host", id }) as const),
  );

function observed(kernel: FakeKernel): object {
  return {
    routes: [...kernel.routes].sort(),
    neighbours: [...kernel.neighbours].sort(),
    fdb: [...kernel.fdb].sort(),
    addrs: [...kernel.addrs].sort(),
    rules: [...kernel.rules].sort(),
    balance: [...kernel.balance()].sort(),
    others: ["self", "hosts", "zones"].map(name => [
      [...kernel.map(name)].sort(),
      [...kernel.map(name, "ip6")].sort(),
    ]),
  };
}

for (const [ingress, dual] of [false, true].flatMap(a => [false, true].map(b => [a, b] as const))) {
  const which = `ingress: ${ingress}, IPv6: ${dual}`;
  t.test(`any history ends where the last tables alone lead (${which})`, async t => {
    const joins = fc.uniqueArray(addr, { maxLength: 3 });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.array(changes(ingress), { maxLength: 4 }), joins, fc.boolean()), {
          maxLength: 12,
        }),
        history => {
          const table = new OverlayTable();
          const subnets = dual ? [SUBNET, SUBNET6] : [SUBNET];
          table.apply([host(SELF, 1, "10.77.0.1"), network("net", ingress, subnets)], true);
          const kernel = new FakeKernel();
          let programmed: Programmed | null = null;
          let facts = { ...FACTS, used: new Set(["net"]) };
          for (const [batch, joined, lost] of history) {
            table.apply(batch, false);
            const own = new Set([...joined, ...joined.map(inIpv6)]);
            facts = { ...facts, joined: new Map([["net", own]]) };
            const plan = planNetwork(table, "net", facts);
            if (plan === null) throw new Error("there is a plan");
            // After a restart the rules are not known, and are loaded as a whole.
            const reload = lost || programmed === null;
            const step = diffNetwork(programmed ?? nothingYet(plan.tunnel), plan, reload);
            kernel.apply(step.batch);
            programmed = step.next;
          }
          const plan = planNetwork(table, "net", facts);
          if (plan === null) throw new Error("there is a plan");
          const scratch = new FakeKernel();
          scratch.apply(diffNetwork(nothingYet(plan.tunnel), plan, true).batch);
          t.same(observed(kernel), observed(scratch));
          const again = diffNetwork(programmed ?? nothingYet(plan.tunnel), plan, false);
          if (programmed !== null) t.match(again.batch, { nft: "", ipAdd: [], ipDelete: [] });
        },
      ),
      { numRuns: 100 },
    );
  });
}

t.test("a complete set replaces everything, whatever came before", async t => {
  fc.assert(
    fc.property(fc.array(changes(false)), fc.array(changes(false)), (before, complete) => {
      const base = [host(SELF, 1, "10.77.0.1"), network("net")];
      const old = new OverlayTable();
      old.apply([...base, ...before], true);
      old.apply([...base, ...complete], true);
      const fresh = new OverlayTable();
      fresh.apply([...base, ...complete], true);
      t.same(old.snapshot(), fresh.snapshot());
      const restored = new OverlayTable();
      restored.restore(fresh.snapshot());
      t.same(restored.snapshot(), fresh.snapshot(), "as does what is read from the disk");
    }),
  );
});

t.test("the plan of a network", async t => {
  const table = new OverlayTable();
  t.equal(planNetwork(table, "net", FACTS), null, "not told of it");
  table.apply([network("net")], true);
  t.equal(planNetwork(table, "net", FACTS), null, "without an index there is no place in it");
  table.apply(
    [
      host(SELF, 1, "10.77.0.1"),
      host("n2", 2, "10.77.0.2"),
      service("net", "s1", "10.0.1.2"),
      endpoint("net", "t1", { addr: "10.0.1.5" }),
      endpoint("net", "t2", { addr: "10.0.1.6", serving: false }),
      endpoint("net", "t3", { addr: "10.0.1.7", nodeId: SELF }),
    ],
    false,
  );
  const plan = planNetwork(table, "net", FACTS);
  t.match(plan?.tunnel, { vni: 4_097, index: 1, localAddr: "10.77.0.1", port: 4_789, mtu: 1_450 });
  t.same(
    plan?.routes,
    new Map([
      ["10.0.1.5", 2],
      ["10.0.1.6", 2],
    ]),
    "one that starts is reached",
  );
  t.same(plan?.vips, new Map([["10.0.1.2", ["10.0.1.5", "10.0.1.7"]]]), "but not sent to");
  t.same(plan?.peers, new Map([[2, "10.77.0.2"]]));
});

t.test("a network's own MTU holds, as far as it fits between the hosts", async t => {
  const plain = network("net");
  if (plain.action !== "update" || plain.kind !== "network") throw new Error("it is one");
  const mtuOf = (mtu: number, addr = "10.77.0.1"): number | undefined => {
    const table = new OverlayTable();
    table.apply([host(SELF, 1, addr), { ...plain, item: { ...plain.item, mtu } }], true);
    return planNetwork(table, "net", FACTS)?.tunnel.mtu;
  };
  t.equal(mtuOf(1_200), 1_200);
  t.equal(mtuOf(1_450), 1_450);
  t.equal(mtuOf(9_000), 1_450);
  t.equal(mtuOf(1_450, "fd00::1"), 1_430, "outer addresses of IPv6 leave less");
});

t.test("the ingress network is here only for published ports or containers", async t => {
  const table = new OverlayTable();
  table.apply([host(SELF, 1, "10.77.0.1"), network("net", true)], true);
  t.equal(planNetwork(table, "net", FACTS), null);
  t.ok(planNetwork(table, "net", { ...FACTS, used: new Set(["net"]) }));
  const ports = [{ protocol: "tcp", published: 8_080, target: 80 }] as const;
  table.apply([service("net", "s1", "", ports), endpoint("net", "t1")], false);
  t.same(
    planNetwork(table, "net", FACTS)?.ports,
    new Map([["tcp . 8080", { target: 80, backends: ["10.0.1.9"], at: [] }]]),
  );
});

t.test("published ports of all protocols", async t => {
  const table = new OverlayTable();
  const ports = [
    { protocol: "tcp", published: 80, target: 8_080 },
    { protocol: "udp", published: 53, target: 5_353 },
    { protocol: "sctp", published: 9_000, target: 9_001 },
  ] as const;
  const backend = endpoint("in", "t1", { addr: "10.0.1.5" });
  const hosts = [host(SELF, 1, "10.77.0.1"), host("n2", 2, "10.77.0.2")];
  table.apply([...hosts, network("in", true), service("in", "s1", "", ports), backend], true);
  const plan = planNetwork(table, "in", FACTS);
  if (plan === null) throw new Error("it has a plan");
  const { batch } = diffNetwork(nothingYet(plan.tunnel), plan, false);
  t.same(batch.nft.split("\n"), [
    "add chain ip swin n1",
    "flush chain ip swin n1",
    "add rule ip swin n1 meta mark set numgen random mod 1 " +
      "dnat ip to ip protocol . th dport . meta mark map @be",
    "add element ip swin hosts { 02:53:00:00:00:02 : 0x10002 }",
    "add element ip swin zones { 02:53:00:00:00:02 : 2 }",
    "add element ip swin svc { tcp . 80 : jump n1, udp . 53 : jump n1, sctp . 9000 : jump n1 }",
    "add element ip swin be { tcp . 80 . 0 : 10.0.1.5 . 8080, udp . 53 . 0 : 10.0.1.5 . 5353, " +
      "sctp . 9000 . 0 : 10.0.1.5 . 9001 }",
    "",
  ]);
});

t.test("UDP flows of a backend that left are to choose anew", async t => {
  const table = new OverlayTable();
  const base = [host(SELF, 1, "10.77.0.1"), network("net"), service("net", "s1", "10.0.1.2")];
  table.apply([...base, endpoint("net", "t1", { addr: "10.0.1.5" })], true);
  const before = planNetwork(table, "net", FACTS);
  table.apply([endpoint("net", "t1", { addr: "10.0.1.5", serving: false })], false);
  const after = planNetwork(table, "net", FACTS);
  if (before === null || after === null) throw new Error("there are plans");
  const { next } = diffNetwork(nothingYet(before.tunnel), before, true);
  t.same(diffNetwork(next, after, false).batch.stale, [
    { originalDst: "10.0.1.2", backend: "10.0.1.5" },
  ]);
});

t.test("the host's rules", async t => {
  const off = hostTableScript({
    addr: "",
    ipv6: false,
    ports: [],
    guardedPort: 0,
  });
  t.notMatch(off, /chain/);
  const rules = {
    addr: "10.77.0.1",
    ipv6: false,
    ports: [{ key: "tcp . 80", at: [] }],
    guardedPort: 4_790,
  };
  const on = hostTableScript(rules);
  t.notMatch(on, /ip6/);
  t.match(on, /elements = \{ tcp \. 80 \}/);
  t.match(on, /snat to 10\.77\.0\.1/);
  t.match(on, /udp dport 4790 oifname != "swg\*" counter drop/);
  const both = hostTableScript({ ...rules, ipv6: true });
  t.ok(both.startsWith(on), "IPv6 has a table of its own");
  t.match(both, /ip6 saddr ::1 snat to fd53:7761:726d::1/);
  const at = ["10.77.0.0/24", "127.0.0.1", "::1"];
  const placed = hostTableScript({ ...rules, ipv6: true, ports: [{ key: "tcp . 443", at }] });
  t.match(
    placed,
    /pub_at .*ipv4_addr; flags interval; elements = \{ tcp \. 443 \. 10\.77\.0\.0\/24, /,
  );
  t.match(placed, /pub_at .*ipv6_addr; flags interval; elements = \{ tcp \. 443 \. ::1 \}/);
  t.notMatch(placed, /elements = \{ tcp \. 443 \}/, "and nowhere else");
  t.match(placed, /th dport \. ip daddr @pub_at dnat to 169\.254\.254\.2/);
});

function query(name: string, type: number, extra: readonly number[] = []): Uint8Array {
  const header = [0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, extra.length > 0 ? 1 : 0];
  return Uint8Array.from([...header, ...encodeName(name), 0, type, 0, 1, ...extra]);
}

t.test("DNS messages", async t => {
  const parsed = parseQuery(query("Web", TYPE.a));
  t.match(parsed, { id: 0x1234, name: "web", type: TYPE.a, maxUdpBytes: 512 });
  if (parsed === null) throw new Error("it is a query");
  const records = [{ type: TYPE.a, addr: "10.0.1.2" }] as const;
  const answer = encodeAnswer(parsed, { rcode: RCODE.ok, ttlS: 1, records });
  t.equal(
    Buffer.from(answer).toString("hex"),
    "123485800001000100000000" +
      "0357656200" +
      "00010001" +
      "c00c00010001000000010004" +
      "0a000102",
    "the question as it came, then the answer",
  );
  const many = Array.from({ length: 60 }, (_, i) => ({ type: TYPE.a, addr: `10.0.1.${i}` }));
  const cut = encodeAnswer(parsed, { rcode: RCODE.ok, ttlS: 1, records: many }, 512);
  t.equal(cut[2], 0x87, "marked as truncated: TCP has it all");
  t.ok(cut.length <= 512);
  const edns = parseQuery(query("web", TYPE.a, [0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]));
  t.equal(edns?.maxUdpBytes, 1_232);
  t.equal(parseQuery(answer), null, "an answer is no query");
  t.equal(reverseAddress("5.1.0.10.in-addr.arpa"), "10.0.1.5");
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), bytes => {
      const result = parseQuery(bytes);
      if (result !== null) encodeAnswer(result, { rcode: 0, ttlS: 0, records: [] });
    }),
  );
});

t.test("names of a network", async t => {
  const table = new OverlayTable();
  table.apply(
    [
      network("net"),
      service("net", "s1", "10.0.1.2"),
      endpoint("net", "t1", { addr: "10.0.1.5" }),
      endpoint("net", "t2", { addr: "10.0.1.6", serving: false }),
    ],
    true,
  );
  const rows = table.network("net");
  if (rows === undefined) throw new Error("it is there");
  const names = [new NetworkNames(rows)];
  const ask = (name: string, type: number = TYPE.a): string[] | null => {
    const answer = resolve(names, { name, type });
    if (answer === null) return null;
    return answer.records.map(record => ("addr" in record ? record.addr : record.name));
  };
  t.same(ask("web"), ["10.0.1.2"]);
  t.same(ask("front"), ["10.0.1.2"], "an alias");
  t.same(ask("web.net"), ["10.0.1.2"], "with the network's name");
  t.same(ask("tasks.web"), ["10.0.1.5"], "those that serve");
  t.same(ask("web.1.t2"), ["10.0.1.6"], "a container by its name");
  t.same(ask("web", TYPE.aaaa), [], "known, without such an address");
  t.same(ask("2.1.0.10.in-addr.arpa", TYPE.ptr), ["web.net"]);
  t.same(ask("5.1.0.10.in-addr.arpa", TYPE.ptr), ["web.1.t1.net"]);
  t.equal(ask("elsewhere"), null);
  table.apply([service("net", "s1", "")], false);
  t.same(new NetworkNames(rows).addressesOf("web"), ["10.0.1.5"], "dnsrr: the tasks");
});

t.test("names on a network of both families", async t => {
  const table = new OverlayTable();
  const base = [network("net"), service("net", "s1", "10.0.1.2", [], "fd00:1::2")];
  const own = { addr: "10.0.1.5", addr6: "fd00:1::5" };
  table.apply([...base, endpoint("net", "t1", own)], true);
  const rows = table.network("net");
  if (rows === undefined) throw new Error("it is there");
  const ask = (name: string, type: number): string[] => {
    const records = resolve([new NetworkNames(rows)], { name, type })?.records ?? [];
    return records.map(record => ("addr" in record ? record.addr : record.name));
  };
  t.same(ask("web", TYPE.a), ["10.0.1.2"]);
  t.same(ask("web", TYPE.aaaa), ["fd00:1::2"]);
  t.same(ask("web", TYPE.any), ["10.0.1.2", "fd00:1::2"]);
  t.same(ask("tasks.web", TYPE.aaaa), ["fd00:1::5"]);
  t.same(ask("web.1.t1", TYPE.aaaa), ["fd00:1::5"]);
  const zeros = "0.".repeat(20);
  t.equal(reverseAddress(`5.0.0.0.${zeros}1.0.0.0.0.0.d.f.ip6.arpa`), "fd00:1::5");
  t.equal(reverseAddress(`5.0.0.${zeros}1.0.0.0.0.0.d.f.ip6.arpa`), null, "a digit is missing");
  t.same(ask(`5.0.0.0.${zeros}1.0.0.0.0.0.d.f.ip6.arpa`, TYPE.ptr), ["web.1.t1.net"]);
  t.same(ask(`2.0.0.0.${zeros}1.0.0.0.0.0.d.f.ip6.arpa`, TYPE.ptr), ["web.net"]);
});

t.test("both families are planned; one alone where the host has no IPv6", async t => {
  const table = new OverlayTable();
  table.apply(
    [
      host(SELF, 1, "10.77.0.1"),
      host("n2", 2, "10.77.0.2"),
      network("net", false, [SUBNET6, SUBNET]),
      service("net", "s1", "10.0.1.2", [], "fd00:1::2"),
      endpoint("net", "t1", { addr: "10.0.1.5", addr6: "fd00:1::5" }),
      endpoint("net", "t2", { addr: "", addr6: "fd00:1::6", serviceId: "" }),
    ],
    true,
  );
  const plan = planNetwork(table, "net", FACTS);
  t.same(plan?.families, ["ipv4", "ipv6"]);
  t.same([...(plan?.routes.keys() ?? [])], ["10.0.1.5", "fd00:1::5", "fd00:1::6"]);
  t.same(
    plan?.vips,
    new Map([
      ["10.0.1.2", ["10.0.1.5"]],
      ["fd00:1::2", ["fd00:1::5"]],
    ]),
  );
  if (plan === null) throw new Error("there is a plan");
  const { batch } = diffNetwork(nothingYet(plan.tunnel), plan, true);
  t.ok(batch.ipAdd.includes("route replace fd00:1::5/128 via fe80::53:ff:fe00:2 dev vx0 onlink"));
  t.ok(batch.ipAdd.includes("addr replace fd00:1::2/128 dev lo"));
  t.match(batch.nft, /add element ip6 sw be \{ fd00:1::2 \. 0 : fd00:1::5 \}/);
  const old: OverlayHost = { id: "n2", index: 2, addr: "10.77.0.2", publicKey: "" };
  table.apply([{ action: "update", kind: "host", item: old }], false);
  const there = planNetwork(table, "net", FACTS);
  t.same([...(there?.routes.keys() ?? [])], ["10.0.1.5"], "nor where the other host has none");
  t.same(there?.vips.get("fd00:1::2"), []);
  const without = planNetwork(table, "net", { ...FACTS, ipv6: false });
  t.same(without?.families, ["ipv4"]);
  t.same([...(without?.routes.keys() ?? [])], ["10.0.1.5"]);
  t.same([...(without?.vips.keys() ?? [])], ["10.0.1.2"]);
});

t.test("the encrypted mesh", async t => {
  const key = (letter: string): string => `${letter.repeat(43)}=`;
  const encrypted = network("net");
  if (encrypted.action !== "update" || encrypted.kind !== "network") throw new Error("it is one");
  const item = { ...encrypted.item, encrypted: true };
  const table = new OverlayTable();
  const hosts = [
    { id: SELF, index: 1, addr: "10.77.0.1", publicKey: key("A") },
    { id: "n2", index: 2, addr: "10.77.0.2", publicKey: key("B") },
    { id: "n3", index: 3, addr: "10.77.0.3", publicKey: "" },
  ];
  table.apply(
    [
      ...hosts.map(host => ({ action: "update", kind: "host", item: host }) as const),
      { action: "update", kind: "network", item },
      endpoint("net", "t1", { addr: "10.0.1.5" }),
      endpoint("net", "t2", { addr: "10.0.1.6", nodeId: "n3" }),
    ],
    true,
  );
  t.equal(planNetwork(table, "net", FACTS), null, "without the mesh there is no such network");
  const mesh = { mtu: 1_440, addrOf: meshAddr };
  const plan = planNetwork(table, "net", { ...FACTS, mesh });
  t.match(plan?.tunnel, { localAddr: "169.254.192.1", port: 4_790, mtu: 1_390 });
  t.same(plan?.peers, new Map([[2, "169.254.192.2"]]), "only to hosts that can encrypt");
  t.same(plan?.routes, new Map([["10.0.1.5", 2]]));
  t.equal(meshMtu(1_500, ["10.77.0.1"]), 1_440);
  t.equal(meshMtu(1_500, ["10.77.0.1", "fd00::1"]), 1_420);
});
