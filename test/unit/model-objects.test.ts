import t from "tap";
import { DEFAULT_SWARM_SPEC } from "../../src/model/defaults.ts";
import {
  normalizeSwarmSpec,
  validateNodeSpec,
  validateSwarmSpec,
} from "../../src/model/validate-cluster.ts";
import { goFloat, goQuote } from "../../src/model/validate-errors.ts";
import {
  normalizeConfigSpec,
  normalizeNetworkSpec,
  normalizeSecretSpec,
  validateConfigSpec,
  validateNetworkSpec,
  validateSecretSpec,
} from "../../src/model/validate-objects.ts";
import { refusalOf } from "../support/refusal.ts";

type Json = Record<string, unknown>;

const INVALID = "InvalidArgument: ";

t.test("secrets, configs and networks", async t => {
  const secret = (input: Json) => refusalOf(() => validateSecretSpec(normalizeSecretSpec(input)));
  const config = (input: Json) => refusalOf(() => validateConfigSpec(normalizeConfigSpec(input)));
  const network = (input: Json) =>
    refusalOf(() => validateNetworkSpec(normalizeNetworkSpec(input)));
  const name =
    `${INVALID}invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, ` +
    "and the start and end character must be [a-zA-Z0-9]";
  const size = (end: number) => `data must be larger than 0 and less than ${end} bytes`;
  const base64 = (bytes: number) => Buffer.alloc(bytes).toString("base64");
  t.equal(secret({ Name: "bad name", Data: "aA==" }), name);
  t.equal(secret({ Name: "-bad", Data: "aA==" }), name);
  t.equal(secret({ Name: "a".repeat(65), Data: "aA==" }), name);
  t.equal(secret({ Data: "aA==" }), `${INVALID}name must be provided`);
  t.equal(secret({ Name: "s2" }), `${INVALID}secret ${size(512_000)}`);
  t.equal(secret({ Name: "s", Data: base64(512_000) }), `${INVALID}secret ${size(512_000)}`);
  t.equal(secret({ Name: "s", Data: base64(511_999) }), "accepted");
  t.equal(secret({ Name: "s", Driver: {} }), `${INVALID}secret driver must have a name`);
  t.equal(secret({ Name: "s", Driver: { Name: "vault" } }), 'Unknown: plugin "vault" not found');
  t.equal(config({ Name: "c2" }), `${INVALID}config ${size(1_024_000)}`);
  t.equal(config({ Name: "c", Data: base64(1_023_999) }), "accepted");
  t.equal(
    network({ Name: "bad name", Driver: "overlay" }),
    `${INVALID}name must be valid as a DNS name component`,
  );
  const pool = (part: Json) => ({ Name: "n", IPAM: { Config: [part] } });
  t.equal(
    network(pool({ Subnet: "10.77.0.0/33" })),
    "Invalid subnet 10.77.0.0/33 : invalid CIDR address: 10.77.0.0/33",
  );
  t.equal(
    network(pool({ Subnet: "10.77.0.0/24", Gateway: "10.78.0.1" })),
    `${INVALID}ipam configuration: subnet 10.77.0.0/24 does not contain gateway 10.78.0.1`,
  );
  t.equal(
    network({ Name: "n", Driver: "overlay", IPAM: { Driver: "nosuch" } }),
    `${INVALID}error during lookup of plugin nosuch`,
  );
  t.equal(network(pool({ Subnet: "10.77.0.0/24", IPRange: "10.77.0.128/25" })), "accepted");
});

t.test("base64 is refused where Go refuses it", async t => {
  const decode = (Data: string) => refusalOf(() => normalizeSecretSpec({ Name: "s", Data }));
  const bad: readonly (readonly [string, number])[] = [
    ["not base64!", 3],
    ["AAA", 0],
    ["AAAAA", 4],
    ["A===", 1],
    ["AA=A", 2],
    ["AA==A", 4],
    ["AA=", 3],
    ["=", 0],
  ];
  for (const [data, at] of bad) {
    t.equal(decode(data), `illegal base64 data at input byte ${at}`, data);
  }
  t.equal(normalizeSecretSpec({ Name: "s", Data: "aHVu\r\ndGVyMg==\n" }).Data, "aHVudGVyMg==");
});

t.test("nodes and the swarm", async t => {
  const node = (input: Json) => refusalOf(() => validateNodeSpec(input));
  t.equal(node({ Role: "boss", Availability: "active" }), 'invalid Role: "boss"');
  t.equal(node({ Role: "worker", Availability: "bogus" }), 'invalid Availability: "bogus"');
  t.same(validateNodeSpec({ Role: "Manager", Availability: "DRAIN", Labels: { a: "b" } }), {
    Role: "manager",
    Availability: "drain",
    Labels: { a: "b" },
  });
  const swarm = (part: Partial<typeof DEFAULT_SWARM_SPEC>) =>
    refusalOf(() => validateSwarmSpec({ ...DEFAULT_SWARM_SPEC, ...part }));
  t.equal(swarm({}), "accepted");
  t.equal(
    swarm({ CAConfig: { NodeCertExpiry: 60e9 } }),
    `${INVALID}minimum certificate expiry time is: 1h0m0s`,
  );
  t.equal(
    swarm({ Dispatcher: { HeartbeatPeriod: -1 } }),
    `${INVALID}heartbeat time period cannot be a negative duration`,
  );
  t.match(swarm({ Raft: { ...DEFAULT_SWARM_SPEC.Raft, ElectionTick: 1 } }), /raft ticks/);
  t.equal(
    refusalOf(() => normalizeSwarmSpec({ Name: "other" })),
    'swarm spec must be named "default"',
  );
  t.equal(
    refusalOf(() => normalizeSwarmSpec({ CAConfig: { ExternalCAs: [{ Protocol: "x" }] } })),
    'invalid protocol: "x"',
  );
  t.match(
    refusalOf(() => normalizeSwarmSpec({ Raft: { SnapshotInterval: "x" } })),
    /string into Go struct field RaftConfig\.Raft\.SnapshotInterval of type uint64/,
  );
});

t.test("Go's formats", async t => {
  const floats = [0, 0.001, 0.0001, 0.00001, 1e-9, -1, 1.5, 999999, 1e6, -5e6, 1.25e30];
  t.same(floats.map(goFloat), [
    ...["0", "0.001", "0.0001", "1e-05", "1e-09", "-1", "1.5"],
    ...["999999", "1e+06", "-5e+06", "1.25e+30"],
  ]);
  t.equal(goQuote('a"b\\c\n\x01é\u200b😀'), '"a\\"b\\\\c\\n\\x01é\\u200b😀"');
});
