import { createPublicKey, X509Certificate } from "node:crypto";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import t from "tap";
import { isSwarmError, SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { decodePem, encodePem } from "../../src/pki/asn1.ts";
import { createRootCa, signNodeCertificate } from "../../src/pki/ca.ts";
import { describeTrust, rootDigestHex, validityOf } from "../../src/pki/certificate.ts";
import { makeCsr, publicKeyOfCsr } from "../../src/pki/csr.ts";
import { newKeyPair, spkiDer } from "../../src/pki/keys.ts";
import { type Credentials, IdentityStore } from "../../src/tls/identity-store.ts";
import { Renewer } from "../../src/tls/renewer.ts";
import { eventually } from "../support/eventually.ts";
import { TestCa, testIds, testRng } from "../support/test-ca.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const DAY_MS = 86_400_000;
const deps = { logger: silentLogger };

const RSA_CSR = `-----BEGIN CERTIFICATE REQUEST-----
MIIBSzCBtQIBADAMMQowCAYDVQQDDAF4MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCB
iQKBgQDIdM79nZ0/fzv2lJOwVEkKLA3F7H6oXcV/3o7xuCGRnJmrmwjWaB6Bsx56
ykTStBmxEobIWNv2OC7dLyaW/rt0rIre5PlR+phbOk6MSxg3PKMPlnhzbo2MpvhB
4R2evxYNEk0eGPpuWa0WGeF+XJUBK8qSezA4Wwjj6/3e66exvwIDAQABoAAwDQYJ
KoZIhvcNAQELBQADgYEARVX4Ne5FXCASs7dziRkdqHuWJ+OX+oco6W70eLxNflZ6
LGO+OyMtk664p07QF1v9SxFXa9ESGn6auC9F71iMxsRKyrxt3I9t1fdaxf8VginF
H8UCT61S/geF0wSDrdwqNvWOD5J46Y48ymnOMdGeChYmGJSyvZG6AM3nNTBuXic=
-----END CERTIFICATE REQUEST-----
`;

const P384_CSR = `-----BEGIN CERTIFICATE REQUEST-----
MIIBBTCBiwIBADAMMQowCAYDVQQDDAF4MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE
ltihZq9WkR43HVwsaTYyOOp6PWiOvWG5cWJEsULI/Uff/NTh+2RBeLxsnSWV52Qj
Q/dwGp3U8ZbouKVAwKayh4oegCIIEm9/0+MW/KoHSAhMV50GMWFN+x2CZQz5r74+
oAAwCgYIKoZIzj0EAwIDaQAwZgIxAI7fq95xv1OuZic7MRWuxh2wG81hJbkl+frO
SEdfoItzZBQ4ZWn1nqwgf5MUQlQWyQIxAMTjhew2X5nhC3hWpQeW6iflRCpb64uW
OVIN/gLlCpIMYzuCt6GG34oNp5e6iduaPw==
-----END CERTIFICATE REQUEST-----
`;

t.test("a root and the certificates it signs", async t => {
  const ca = await TestCa.create();
  const root = new X509Certificate(ca.root.certPem);
  t.ok(root.ca && root.verify(root.publicKey));
  t.equal(root.subject, "CN=swarm-ca");
  const years = (validityOf(root).notAfterMs - validityOf(root).notBeforeMs) / (365 * DAY_MS);
  t.equal(Math.round(years), 20);
  const identity = await ca.identity("worker");
  const leaf = new X509Certificate(identity.certPem);
  t.ok(leaf.verify(root.publicKey) && leaf.checkIssued(root) && !leaf.ca);
  t.equal(leaf.subject, `O=${ca.clusterId}\nOU=swarm-worker\nCN=${identity.nodeId}`);
  t.equal(leaf.subjectAltName, `DNS:swarm-worker, DNS:${identity.nodeId}`);
  const trust = describeTrust(ca.root.certPem);
  t.equal(trust.certIssuerSubject, "MBMxETAPBgNVBAMMCHN3YXJtLWNh");
  t.ok(Buffer.from(trust.certIssuerPublicKey, "base64").equals(spkiDer(root.publicKey)));
  t.equal(rootDigestHex(ca.root.certPem), root.fingerprint256.replaceAll(":", "").toLowerCase());
});

t.test("dates beyond 2049 are written so that they can be read", async t => {
  const ca = await TestCa.create();
  const { privateKey } = await newKeyPair();
  for (const iso of ["2049-12-31T23:59:59Z", "2050-01-01T00:00:00Z", "2099-02-03T04:05:06Z"]) {
    const nowMs = Date.parse(iso) - 20 * 365 * DAY_MS;
    const root = await createRootCa({ nowMs, rng: testRng });
    t.equal(validityOf(new X509Certificate(root.certPem)).notAfterMs, Date.parse(iso), iso);
  }
  const name = { nodeId: testIds.newId(), role: "worker", clusterId: ca.clusterId } as const;
  const request = { publicKey: createPublicKey(privateKey), name, expiryMs: DAY_MS };
  const late = Date.now() + 21 * 365 * DAY_MS;
  t.throws(() => signNodeCertificate({ ...request, nowMs: late }, ca.root, testRng), {
    code: "failed_precondition",
    message: /root certificate has expired/,
  });
});

t.test("requests give their key and nothing else", async t => {
  const { privateKey } = await newKeyPair();
  const csr = makeCsr(privateKey);
  t.ok(spkiDer(publicKeyOfCsr(csr)).equals(spkiDer(createPublicKey(privateKey))));
  const bytes = decodePem("CERTIFICATE REQUEST", csr, "request");
  const refused = (text: string, what: string): void => {
    try {
      publicKeyOfCsr(text);
      t.fail(what);
    } catch (error) {
      t.ok(isSwarmError(error, "invalid_argument"), `${what}: ${error}`);
    }
  };
  refused("", "empty");
  refused(csr.replaceAll("CERTIFICATE REQUEST", "CERTIFICATE"), "another kind of PEM");
  refused(encodePem("CERTIFICATE REQUEST", Buffer.concat([bytes, Buffer.of(0)])), "a byte more");
  refused(encodePem("CERTIFICATE REQUEST", Buffer.alloc(13_000, 0x30)), "deep nesting");
  refused(encodePem("CERTIFICATE REQUEST", Buffer.alloc(20_000)), "too large");
  refused(RSA_CSR, "an RSA key");
  refused(P384_CSR, "another curve");
  const flips = fc.record({ at: fc.nat(bytes.length - 1), bit: fc.nat(7) });
  fc.assert(
    fc.property(flips, ({ at, bit }) => {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(at) ^ (1 << bit), at);
      refused(encodePem("CERTIFICATE REQUEST", changed), `bit ${bit} of byte ${at}`);
    }),
    { numRuns: 150 },
  );
  const noise = fc.uint8Array({ maxLength: 300 });
  fc.assert(
    fc.property(noise, junk => refused(encodePem("CERTIFICATE REQUEST", junk), "noise")),
    { numRuns: 100 },
  );
});

async function credentials(ca: TestCa, nodeId?: string): Promise<Credentials & { nodeId: string }> {
  return ca.identity("worker", nodeId === undefined ? {} : { nodeId });
}

t.test("an identity is kept, replaced and forgotten", async t => {
  const dataDir = t.testdir();
  const ca = await TestCa.create();
  const empty = await IdentityStore.open({ dataDir }, deps);
  t.notOk(empty.present);
  t.throws(() => empty.current(), { code: "failed_precondition", message: /not part of a swarm/ });
  const first = await credentials(ca);
  const heard: string[] = [];
  const stop = empty.onChange(identity => heard.push(identity.nodeId));
  await empty.replace(first);
  const second = await credentials(ca);
  await Promise.all([empty.replace(second), empty.replace(first)]);
  stop();
  await empty.replace(second);
  t.same(heard, [first.nodeId, second.nodeId, first.nodeId]);
  const again = await IdentityStore.open({ dataDir }, deps);
  t.match(again.current(), { ...second, role: "worker", clusterId: ca.clusterId });
  const dir = join(dataDir, "certificates");
  t.equal((await fs.stat(dir)).mode & 0o777, 0o700);
  t.equal((await fs.stat(join(dir, "node.key"))).mode & 0o777, 0o600);
  t.equal(await fs.readFile(join(dir, "node.crt"), "utf8"), second.certPem);
  t.equal((await fs.readdir(dir)).filter(name => name.startsWith("generation-")).length, 1);
  await again.clear();
  t.notOk((await IdentityStore.open({ dataDir }, deps)).present);
});

t.test("a bundle that does not fit together changes nothing", async t => {
  const dataDir = t.testdir();
  const [ca, other] = await Promise.all([TestCa.create(), TestCa.create()]);
  const good = await credentials(ca);
  const store = await IdentityStore.open({ dataDir }, deps);
  await store.replace(good);
  const { keyPem } = await credentials(ca);
  const bad: readonly [Partial<Credentials>, RegExp][] = [
    [{ keyPem }, /is not the key of/],
    [{ caPem: other.root.certPem }, /is not signed by a root of/],
    [{ certPem: ca.root.certPem, keyPem: ca.root.keyPem }, /not the certificate of a node/],
    [{ certPem: "x" }, /no readable certificate/],
    [{ keyPem: "x" }, /no readable private key/],
  ];
  for (const [change, message] of bad) {
    await t.rejects(store.replace({ ...good, ...change }), { code: "data_loss", message });
  }
  t.equal(store.current().nodeId, good.nodeId);
  t.equal((await IdentityStore.open({ dataDir }, deps)).current().nodeId, good.nodeId);
});

/** A store with one identity, and its directory. */
async function oneGeneration(dataDir: string): Promise<{ dir: string; ca: TestCa; old: string }> {
  const ca = await TestCa.create();
  const store = await IdentityStore.open({ dataDir }, deps);
  const first = await credentials(ca);
  await store.replace(first);
  return { dir: join(dataDir, "certificates"), ca, old: first.nodeId };
}

async function writeGeneration(dir: string, name: string, parts: Credentials): Promise<void> {
  await fs.mkdir(join(dir, name), { mode: 0o700 });
  const files = { "node.crt": parts.certPem, "node.key": parts.keyPem, "ca.crt": parts.caPem };
  for (const [file, text] of Object.entries(files)) {
    await fs.writeFile(join(dir, name, file), text, { mode: 0o600 });
  }
}

t.test("a crash at any step leaves the old identity or the new one, whole", async t => {
  const { dir, ca, old } = await oneGeneration(t.testdir());
  const dataDir = join(dir, "..");
  const open = async (): Promise<IdentityStore> => IdentityStore.open({ dataDir }, deps);
  const next = await credentials(ca);
  await fs.mkdir(join(dir, "generation-2"), { mode: 0o700 });
  t.equal((await open()).current().nodeId, old, "an empty new generation");
  await fs.rm(join(dir, "generation-2"), { recursive: true });
  await writeGeneration(dir, "generation-2", next);
  await fs.rm(join(dir, "generation-2", "node.key"));
  t.equal((await open()).current().nodeId, old, "a new generation without key");
  await fs.rm(join(dir, "generation-2"), { recursive: true });
  await writeGeneration(dir, "generation-2", next);
  await fs.symlink("generation-2", join(dir, "current.tmp"));
  t.equal((await open()).current().nodeId, old, "the new link not yet in place");
  await fs.rename(join(dir, "current.tmp"), join(dir, "current"));
  await fs.rm(join(dir, "node.crt"));
  t.equal((await open()).current().nodeId, next.nodeId, "the new link in place");
  await fs.symlink("generation-1", join(dir, "current.tmp"));
  const last = await credentials(ca);
  await (await open()).replace(last);
  t.equal((await open()).current().nodeId, last.nodeId, "leftovers do not hinder the next");
  const names = (await fs.readdir(dir)).sort();
  t.same(names, ["ca.crt", "current", "generation-3", "node.crt", "node.key"]);
});

t.test("files that others could have touched are not used", async t => {
  const cases: readonly [string, (dir: string) => Promise<void>, string, RegExp][] = [
    [
      "directory open to the group",
      dir => fs.chmod(dir, 0o750),
      "failed_precondition",
      /others have access to it \(mode 0750\): set it to 0700/,
    ],
    [
      "key open to the world",
      dir => fs.chmod(join(dir, "generation-1", "node.key"), 0o604),
      "failed_precondition",
      /node.key cannot be trusted: others have access to it \(mode 0604\): set it to 0600/,
    ],
    [
      "key behind a link",
      async dir => {
        await fs.rename(join(dir, "generation-1", "node.key"), join(dir, "..", "elsewhere"));
        await fs.symlink(join(dir, "..", "elsewhere"), join(dir, "generation-1", "node.key"));
      },
      "failed_precondition",
      /node.key: ELOOP/,
    ],
    [
      "current leading out of the directory",
      async dir => {
        await fs.rm(join(dir, "current"));
        await fs.symlink("../elsewhere", join(dir, "current"));
      },
      "data_loss",
      /does not lead to a generation/,
    ],
    [
      "certificate gone",
      dir => fs.rm(join(dir, "generation-1", "node.crt")),
      "data_loss",
      /node.crt is missing/,
    ],
    [
      "certificate cut short",
      dir => fs.truncate(join(dir, "generation-1", "node.crt"), 100),
      "data_loss",
      /node.crt holds no readable certificate/,
    ],
    [
      "a file in place of the directory",
      async dir => {
        await fs.rm(dir, { recursive: true });
        await fs.writeFile(dir, "");
      },
      "failed_precondition",
      /it is not a directory/,
    ],
  ];
  for (const [what, damage, code, message] of cases) {
    const dataDir = t.testdir();
    const { dir } = await oneGeneration(dataDir);
    await damage(dir);
    await t.rejects(IdentityStore.open({ dataDir }, deps), { code, message }, what);
  }
});

/** A renewer over a real store, a virtual clock and a manager that answers as told. */
async function renewing(dataDir: string): Promise<{
  readonly clock: VirtualClock;
  readonly store: IdentityStore;
  readonly renewer: Renewer;
  readonly asked: string[];
  readonly manager: { role: "worker" | "manager"; nodeId: string; down: boolean };
}> {
  const ca = await TestCa.create();
  const clock = new VirtualClock();
  const issue = { issuedMs: clock.nowMs(), expiryMs: 90 * DAY_MS };
  const first = await ca.identity("worker", issue);
  const store = await IdentityStore.open({ dataDir }, deps);
  await store.replace(first);
  const manager: { role: "worker" | "manager"; nodeId: string; down: boolean } = {
    role: "worker",
    nodeId: first.nodeId,
    down: false,
  };
  const asked: string[] = [];
  const renew = async (csrPem: string): Promise<{ certPem: string; caPem: string }> => {
    asked.push(new Date(clock.nowMs()).toISOString());
    if (manager.down) throw new SwarmError("unavailable", "no manager answers");
    const { nodeId, role } = manager;
    const certPem = signNodeCertificate(
      {
        publicKey: publicKeyOfCsr(csrPem),
        name: { nodeId, role, clusterId: ca.clusterId },
        expiryMs: 90 * DAY_MS,
        nowMs: clock.nowMs(),
      },
      ca.root,
      testRng,
    );
    return { certPem, caPem: ca.root.certPem };
  };
  const rng = new SeededRng(3);
  const renewer = new Renewer({ store, renew, clock, rng, logger: silentLogger });
  return { clock, store, renewer, asked, manager };
}

/** Lets time pass in steps, each after the renewer has come to rest on its next timer. */
async function pass(clock: VirtualClock, ms: number, done: () => boolean): Promise<void> {
  const endMs = clock.monoMs() + ms;
  while (!done() && clock.monoMs() < endMs) {
    await eventually(() => done() || clock.pending > 0, { what: "the next timer", everyMs: 1 });
    const nextMs = clock.nextAtMs();
    if (nextMs !== null && !done()) clock.advance(nextMs - clock.monoMs());
  }
}

t.test("a certificate is renewed in time, again and again", async t => {
  const { clock, store, renewer, asked } = await renewing(t.testdir());
  const controller = new AbortController();
  const running = renewer.run(controller.signal);
  const before = store.current();
  const startMs = clock.nowMs();
  await pass(clock, 200 * DAY_MS, () => asked.length >= 1);
  const days = (clock.nowMs() - startMs) / DAY_MS;
  t.ok(days >= 45 && days <= 72.1, `renewed after ${days} days of 90`);
  await eventually(() => store.current().certPem !== before.certPem, { what: "stored" });
  t.not(store.current().keyPem, before.keyPem, "with a new key");
  t.equal(store.current().nodeId, before.nodeId);
  await pass(clock, 200 * DAY_MS, () => asked.length >= 2);
  t.equal(asked.length, 2);
  controller.abort();
  await running;
});

t.test("a changed role renews at once, also over failures", async t => {
  const { clock, store, renewer, asked, manager } = await renewing(t.testdir());
  const controller = new AbortController();
  const running = renewer.run(controller.signal);
  renewer.roleIs("worker");
  await eventually(() => clock.pending > 0, { what: "asleep" });
  t.equal(asked.length, 0);
  manager.down = true;
  renewer.roleIs("manager");
  await eventually(() => asked.length === 1, { what: "asked at once" });
  manager.down = false;
  await pass(clock, DAY_MS, () => asked.length >= 2);
  await eventually(() => clock.pending > 0, { what: "waiting: it still got a worker's" });
  t.equal(store.current().role, "worker");
  manager.role = "manager";
  await pass(clock, DAY_MS, () => store.current().role === "manager");
  t.equal(store.current().role, "manager");
  t.ok(asked.length < 6, `${asked.length} requests`);
  controller.abort();
  await running;
});

t.test("another node's certificate is not accepted", async t => {
  const { store, renewer, manager } = await renewing(t.testdir());
  const before = store.current().certPem;
  manager.nodeId = testIds.newId();
  const never = new AbortController().signal;
  await t.rejects(renewer.renewNow(never), { code: "data_loss", message: /another node's/ });
  t.equal(store.current().certPem, before);
});
