import fc from "fast-check";
import t from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import { RngIdSource } from "../../src/base/ids.ts";
import { SeededRng } from "../../src/base/rng.ts";
import {
  CERT_BACKDATE_MS,
  MIN_CERT_EXPIRY_MS,
  planNodeCertificate,
} from "../../src/pki/core/csr-policy.ts";
import {
  formatJoinToken,
  parseJoinToken,
  roleOfToken,
  sameSecret,
} from "../../src/pki/core/join-token.ts";
import { nodeNameOf, roleOfUnit } from "../../src/pki/core/names.ts";
import { RateLimiter } from "../../src/tls/core/rate-limit.ts";
import { planRenewal } from "../../src/tls/core/renewal.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW_MS = 1_700_000_000_000;
const ids = new RngIdSource(new SeededRng(7));

const digests = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map(bytes => Buffer.from(bytes).toString("hex"));
const secrets = fc.integer().map(seed => new RngIdSource(new SeededRng(seed)).newId());
const tokens = fc.record({ rootDigestHex: digests, secret: secrets });

t.test("join tokens survive writing and reading", async t => {
  fc.assert(
    fc.property(tokens, token => {
      const text = formatJoinToken(token);
      t.match(text, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/);
      t.same(parseJoinToken(` ${text}\n`), token);
    }),
    { numRuns: 50 },
  );
  const zeros = { rootDigestHex: "0".repeat(64), secret: "0".repeat(25) };
  t.same(parseJoinToken(formatJoinToken(zeros)), zeros);
  const top = { rootDigestHex: "f".repeat(64), secret: "z".repeat(25) };
  t.same(parseJoinToken(formatJoinToken(top)), top);
});

t.test("a changed token is another token or none, and never quoted", async t => {
  const edit = fc.record({
    at: fc.nat(86),
    text: fc.string({ maxLength: 3 }),
    drop: fc.nat(3),
  });
  fc.assert(
    fc.property(tokens, edit, (token, { at, text, drop }) => {
      const original = formatJoinToken(token);
      const changed = original.slice(0, at) + text + original.slice(at + drop);
      const pair = {
        worker: original,
        manager: formatJoinToken({ ...token, secret: ids.newId() }),
      };
      if (changed === original) return;
      t.equal(roleOfToken(changed, pair), null);
      // Space around it, as of a line that was pasted, makes no difference to whoever reads it.
      if (changed.trim() === original) {
        t.same(parseJoinToken(changed), token);
        return;
      }
      try {
        t.not(formatJoinToken(parseJoinToken(changed)), original);
      } catch (error) {
        t.ok(error instanceof SwarmError && error.code === "invalid_argument");
        t.notOk(String(error).includes(token.secret.slice(0, 12)));
      }
    }),
    {
      numRuns: 200,
      examples: [
        [
          { rootDigestHex: "0".repeat(64), secret: "0".repeat(25) },
          { at: 85, text: " ", drop: 0 },
        ],
      ],
    },
  );
});

t.test("a bad token is told what is bad about it", async t => {
  const good = formatJoinToken({ rootDigestHex: "ab".repeat(32), secret: "x".repeat(25) });
  const cases: readonly [string, RegExp][] = [
    ["", /does not begin with SWMTKN-/],
    ["hello", /does not begin with SWMTKN-/],
    [good.replace("-1-", "-3-"), /only version 1/],
    ["SWMTKN-1", /four parts/],
    [`${good}-x`, /four parts/],
    [good.slice(0, -1), /last part is not 25/],
    [good.toUpperCase(), /third part is not 50/],
    [`SWMTKN-1-${"z".repeat(50)}-${"x".repeat(25)}`, /is no digest/],
  ];
  for (const [text, why] of cases) {
    const expected = { code: "invalid_argument", message: "invalid join token", details: { why } };
    t.throws(() => parseJoinToken(text), expected, text);
  }
});

t.test("secrets compare whole", async t => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => t.equal(sameSecret(a, b), a === b)),
    { numRuns: 100 },
  );
  const pair = { worker: "w".repeat(85), manager: "m".repeat(85) };
  t.equal(roleOfToken(pair.worker, pair), "worker");
  t.equal(roleOfToken(pair.manager, pair), "manager");
  t.equal(roleOfToken("", pair), null);
  t.equal(roleOfToken("w".repeat(84), pair), null);
});

t.test("only a whole and single subject names a node", async t => {
  const subject = { CN: ids.newId(), OU: "swarm-worker", O: ids.newId() };
  t.same(nodeNameOf(subject), { nodeId: subject.CN, role: "worker", clusterId: subject.O });
  for (const change of [
    { OU: "swarm-ca" },
    { OU: ["swarm-worker", "swarm-manager"] },
    { OU: "swarm-manager\nOU=x" },
    { CN: undefined },
    { CN: "../../etc" },
    { CN: [subject.CN] },
    { O: "" },
  ]) {
    t.equal(nodeNameOf({ ...subject, ...change }), null, JSON.stringify(change));
  }
  t.equal(roleOfUnit("manager"), null);
});

t.test("a certificate's plan stays in its bounds", async t => {
  const name = { nodeId: ids.newId(), role: "manager", clusterId: ids.newId() } as const;
  const plan = (expiryMs: number, rootNotAfterMs = NOW_MS + 1e12): { from: number; to: number } => {
    const made = planNodeCertificate({ name, nowMs: NOW_MS, expiryMs, rootNotAfterMs });
    t.same(made.dnsNames, ["swarm-manager", name.nodeId]);
    return { from: made.notBeforeMs, to: made.notAfterMs };
  };
  const from = NOW_MS - CERT_BACKDATE_MS;
  t.same(plan(90 * DAY_MS), { from, to: NOW_MS + 90 * DAY_MS });
  t.same(plan(5), { from, to: NOW_MS + MIN_CERT_EXPIRY_MS });
  t.same(plan(90 * DAY_MS, NOW_MS + DAY_MS), { from, to: NOW_MS + DAY_MS });
  t.throws(() => plan(DAY_MS, NOW_MS), { code: "failed_precondition" });
});

t.test("renewal falls between half and four fifths of the life", async t => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: HOUR_MS, max: 900 * DAY_MS }), (seed, lifeMs) => {
      const cert = { notBeforeMs: NOW_MS - CERT_BACKDATE_MS, notAfterMs: NOW_MS + lifeMs };
      const afterMs = planRenewal(cert, new SeededRng(seed)) - NOW_MS;
      t.ok(afterMs >= Math.floor(lifeMs * 0.5) && afterMs <= lifeMs * 0.8, `${afterMs}`);
    }),
    { numRuns: 100 },
  );
  const rng = new SeededRng(1);
  const cert = { notBeforeMs: NOW_MS, notAfterMs: NOW_MS + 90 * DAY_MS };
  const days = new Set(
    Array.from({ length: 50 }, () => Math.floor((planRenewal(cert, rng) - NOW_MS) / DAY_MS)),
  );
  t.ok(days.size > 10, `${days.size} different days of 50 nodes`);
});

t.test("rate limits hold per key, over all and in memory", async t => {
  const options = {
    perKey: { burst: 3, perSecond: 1 },
    global: { burst: 100, perSecond: 10 },
    maxKeys: 10,
  };
  const limiter = new RateLimiter(options);
  const takes = (key: string, nowMs: number, n: number): number =>
    Array.from({ length: n }, () => limiter.take(key, nowMs)).filter(Boolean).length;
  t.equal(takes("a", 0, 10), 3);
  t.equal(takes("b", 0, 10), 3, "others are not held back");
  t.equal(takes("a", 999, 5), 0);
  t.equal(takes("a", 1_000, 5), 1);
  t.equal(takes("a", 3_600_000, 50), 3, "idling saves up a burst and no more");
  let flood = 0;
  for (let i = 0; i < 500; i += 1) flood += takes(`ip-${i}`, 3_600_000, 3);
  t.equal(flood, 97, "what is left of the global burst");
  t.equal(limiter.size, 10);
  t.equal(takes("c", 3_600_000, 1), 0);
  t.equal(takes("c", 3_600_100, 1), 1);
});
