import fc from "fast-check";
import t from "tap";
import { errorMessage } from "../../src/base/errors.ts";
import { matchesConstraints, parseConstraints } from "../../src/model/constraint.ts";
import { ipText, networkContains, parseCidr, parseHostIp, parseIp } from "../../src/model/ip.ts";
import { parseDurationMs } from "../../src/model/labels.ts";
import { isImageReference, parseImageReference } from "../../src/model/reference.ts";
import { formatBytes, formatCpus, GIB, parseBytes, parseCpus } from "../../src/model/resources.ts";
import type { Node } from "../../src/model/rows.ts";
import { aNode } from "../support/rows.ts";

function messageOf(work: () => unknown): string {
  try {
    work();
    return "accepted";
  } catch (error) {
    return errorMessage(error);
  }
}

function node(fields: Partial<Node> = {}): Node {
  const draft = aNode({ id: "n1", ...fields });
  return { ...draft, version: 1, createdAtMs: 0, updatedAtMs: 0 };
}

t.test("constraints match as swarm mode's", async t => {
  const base = node();
  const labelled = node({
    spec: {
      Role: "worker",
      Availability: "active",
      Labels: { zone: "A", "a.b-c": "x", empty: "", ["__proto__"]: "p" },
    },
    description: {
      hostname: "Host1",
      architecture: "x86_64",
      os: "linux",
      resources: { nanoCpus: 0, memoryBytes: 0, generic: [] },
      engineVersion: "",
      engineLabels: { disk: "ssd" },
      plugins: [],
    },
    status: { state: "ready", message: "", addr: "10.1.2.3" },
    certRole: "manager",
  });
  const yes = [
    ...["node.id==n1", "node.id == N1", "NODE.ID==n1", "node.hostname==host1"],
    ...["node.role==manager", "node.role!=worker", "node.platform.os==Linux"],
    ...["node.platform.arch==x86_64", "node.labels.zone==a", "node.labels.zone!=b"],
    ...["node.labels.a.b-c == x", "engine.labels.disk==SSD", "engine.labels.none!=x"],
    ...["node.labels.Zone!=a", "Node.Labels.zone==a", "node.labels.toString!=x"],
    ...["node.ip==10.1.2.3", "node.ip==10.1.0.0/16", "node.ip!=10.2.0.0/16"],
    ...["node.ip!=10.1.2.4", "node.ip==::ffff:10.1.2.3", "node.labels.__proto__==p"],
  ];
  const no = [
    ...["node.id!=n1", "node.labels.Zone==a", "node.labels.zone!=A", "node.platform.arch==amd64"],
    ...["node.foo==x", "node.foo!=x", "foo!=bar", "node.labels.!=x", "engine.labels!=x"],
    ...["node.ip==10.1.2.4", "node.ip!=10.1.0.0/16", "node.ip==bogus", "node.ip!=bogus"],
    ...["node.ip==10.1.2.3/33", "node.hostname==*", "node.labels.zone==[a]"],
  ];
  for (const text of yes) t.ok(matchesConstraints(parseConstraints([text]), labelled), text);
  for (const text of no) t.notOk(matchesConstraints(parseConstraints([text]), labelled), text);
  t.notOk(matchesConstraints(parseConstraints(["node.id==n1", "node.id==n2"]), base), "all must");
  t.ok(matchesConstraints([], base));
  const silent = node({ description: null, status: { state: "ready", message: "", addr: "" } });
  t.ok(matchesConstraints(parseConstraints(["node.hostname!=x", "node.ip!=10.0.0.1"]), silent));
  t.notOk(matchesConstraints(parseConstraints(["node.ip==10.0.0.0/8"]), silent));
});

t.test("constraints are refused in swarm mode's words", async t => {
  const refused: readonly (readonly [string, string])[] = [
    ["node.role=manager", "constraint expected one operator from ==, !="],
    ["", "constraint expected one operator from ==, !="],
    ["==x", "key '' is invalid"],
    ["a==x", "key 'a' is invalid"],
    ["node id==x", "key 'node id' is invalid"],
    ["node.id==", "value '' is invalid"],
    ["node.id==a~b", "value 'a~b' is invalid"],
    ["node.id!=a=b", "value 'a=b' is invalid"],
    ["node.id==a>b", "value 'a>b' is invalid"],
  ];
  for (const [text, message] of refused) {
    t.equal(
      messageOf(() => parseConstraints(["node.id==x", text])),
      message,
      text,
    );
  }
  t.same(parseConstraints([" node.labels.x  !=  a b "]), [
    { key: "node.labels.x", operator: "!=", value: "a b" },
  ]);
});

t.test("IP addresses", async t => {
  const same = [
    ["10.0.0.1", "::ffff:10.0.0.1"],
    ["::", "0:0:0:0:0:0:0:0"],
    ["2001:db8::1", "2001:0DB8:0:0::0:1"],
    ["::1.2.3.4", "::102:304"],
  ] as const;
  for (const [a, b] of same) {
    t.not(parseIp(a), null, a);
    t.equal(parseIp(a), parseIp(b), `${a} ${b}`);
  }
  const bad = ["", "10.0.0", "10.0.0.256", "010.0.0.1", "1::2::3", "1:2:3:4:5:6:7", ":", "g::"];
  for (const text of [...bad, "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7::8", "1.2.3.4:80"]) {
    t.equal(parseIp(text), null, text);
  }
  t.equal(parseHostIp("10.0.0.1:2377"), parseIp("10.0.0.1"));
  t.equal(parseHostIp("[2001:db8::1]:2377"), parseIp("2001:db8::1"));
  t.equal(parseHostIp("host:2377"), null);
  const inside = (network: string, address: string) => {
    const [cidr, ip] = [parseCidr(network), parseIp(address)];
    return cidr !== null && ip !== null && networkContains(cidr, ip);
  };
  t.ok(inside("10.0.0.0/8", "10.255.0.1"));
  t.ok(inside("0.0.0.0/0", "10.255.0.1"));
  t.ok(inside("2001:db8::/32", "2001:db8:ffff::1"));
  t.notOk(inside("10.0.0.0/8", "11.0.0.1"));
  t.notOk(inside("0.0.0.0/0", "2001:db8::1"));
  for (const text of ["10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/-1"]) {
    t.equal(parseCidr(text), null, text);
  }
});

t.test("addresses are written as RFC 5952 has it, and read back", async t => {
  for (const [text, canonical] of [
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["fd00:0:0:0:8000::", "fd00::8000:0:0:0"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
  ] as const) {
    t.equal(ipText(parseIp(text) ?? 0n), canonical);
  }
  const group = fc.oneof(fc.constant(0), fc.nat(0xffff));
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), groups => {
      const address = groups.reduce((sum, one) => (sum << 16n) | BigInt(one), 0n);
      t.equal(parseIp(ipText(address)), address);
      t.notMatch(ipText(address), /::.*::/);
    }),
  );
});

t.test("amounts", async t => {
  t.same([0, 1023, 1024, 1.5 * GIB, 12.399 * GIB, 64 * GIB, 2 ** 52].map(formatBytes), [
    ...["0 B", "1023 B", "1 KiB", "1.5 GiB", "12.3 GiB", "64 GiB", "4 PiB"],
  ]);
  t.same([0, 1e9, 5e8, 1_500_600_000, 1e12].map(formatCpus), [
    ...["0 CPUs", "1 CPU", "0.5 CPUs", "1.5 CPUs", "1000 CPUs"],
  ]);
  t.same(["0", "1k", "64m", "1.5GiB", "32 MB", "7b", "1TB"].map(parseBytes), [
    0,
    1024,
    64 * 2 ** 20,
    1.5 * GIB,
    32 * 2 ** 20,
    7,
    2 ** 40,
  ]);
  for (const text of ["", "-1", "1x", "NaN", "1e3", "m", "9999999p"]) {
    t.match(
      messageOf(() => parseBytes(text)),
      /^invalid size/,
      text,
    );
  }
  t.same(["1", "0.5", ".25", "2.", "0.000000001"].map(parseCpus), [1e9, 5e8, 25e7, 2e9, 1]);
  t.equal(
    messageOf(() => parseCpus("0.5.5")),
    "failed to parse 0.5.5 as a rational number",
  );
  t.equal(
    messageOf(() => parseCpus("0.0000000001")),
    "value is too precise",
  );
  t.match(
    messageOf(() => parseCpus("9999999999")),
    /too large/,
  );
  t.match(
    messageOf(() => parseCpus(".")),
    /failed to parse/,
  );
  t.same(["90s", "1h30m", "500ms", "1.5s"].map(parseDurationMs), [90e3, 5400e3, 500, 1500]);
  t.same(
    ["", "10", "-1s", "1d", "5us", "9e9s", "99999999999h"].map(parseDurationMs),
    Array(7).fill(null),
  );
});

t.test("image references", async t => {
  const digest = `sha256:${"a".repeat(64)}`;
  const parsed: readonly (readonly [string, string])[] = [
    ["nginx", "docker.io library/nginx  "],
    ["nginx:1.25", "docker.io library/nginx 1.25 "],
    ["compat/app:1", "docker.io compat/app 1 "],
    ["index.docker.io/nginx", "docker.io library/nginx  "],
    ["localhost/x", "localhost x  "],
    ["localhost:5000/a/b:t", "localhost:5000 a/b t "],
    ["Registry/x", "Registry x  "],
    ["reg.example.com/a_b/c--d__e.f:T_1.-", "reg.example.com a_b/c--d__e.f T_1.- "],
    [`[2001:db8::1]:5000/x@${digest}`, `[2001:db8::1]:5000 x  ${digest}`],
    [`nginx:1@${digest}`, `docker.io library/nginx 1 ${digest}`],
  ];
  for (const [text, expected] of parsed) {
    const { domain, path, tag, digest: pin } = parseImageReference(text);
    t.equal(`${domain} ${path} ${tag} ${pin}`, expected, text);
  }
  const bad = ["", ":1", "a//b", "a_", "_a", "a:", "a:b:c", "a@", "a@b@c", "-a", "a..b", "a/"];
  const odd = ["a:-t", `a@sha256:${"a".repeat(63)}`, "a@md5:aa", "a b", "a\n", "a.-b", "a___b"];
  for (const text of [...bad, ...odd, `a:${"t".repeat(129)}`, "a".repeat(256), "é"]) {
    t.notOk(isImageReference(text), JSON.stringify(text));
  }
  t.equal(
    messageOf(() => parseImageReference("UPPER:1")),
    "invalid reference format: repository name (library/UPPER) must be lowercase",
  );
  t.match(
    messageOf(() => parseImageReference("a".repeat(64))),
    /64-byte hexadecimal/,
  );
  const started = process.hrtime.bigint();
  for (const text of [
    `${"a".repeat(1000)}!`,
    "a-".repeat(500),
    "a.".repeat(500),
    "_".repeat(1000),
  ]) {
    t.notOk(isImageReference(text));
  }
  t.ok(process.hrtime.bigint() - started < 500_000_000n, "no pattern backtracks for long");
});
