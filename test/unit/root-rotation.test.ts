import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import type { AddressInfo } from "node:net";
import { connect, createServer, type TLSSocket } from "node:tls";
import t from "tap";
import { RngIdSource } from "../../src/base/ids.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { CertificateAudit, RootRotation } from "../../src/daemon/root-rotation.ts";
import { Dispatcher } from "../../src/dispatcher/dispatcher.ts";
import type { Cluster } from "../../src/model/rows.ts";
import { nextRoot, type RootCa, signNodeCertificate } from "../../src/pki/ca.ts";
import { checkBundle } from "../../src/pki/certificate.ts";
import { newKeyPair } from "../../src/pki/keys.ts";
import type { ManagerMessage } from "../../src/rpc/gen/swarmd/v1/dispatcher.ts";
import { realClock } from "../../src/system/real.ts";
import { eventually } from "../support/eventually.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { aCluster, aNode } from "../support/rows.ts";
import { TestCa, testRng } from "../support/test-ca.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const deps = { clock: realClock, rng: testRng };

type Issued = { readonly certPem: string; readonly keyPem: string };

async function issue(root: RootCa, clusterId: string, intermediates = ""): Promise<Issued> {
  const pair = await newKeyPair();
  const name = {
    nodeId: new RngIdSource(new SeededRng(realClock.nowMs())).newId(),
    role: "manager" as const,
    clusterId,
  };
  const publicKey = createPublicKey(pair.privateKey);
  const request = { publicKey, name, expiryMs: 86_400_000, nowMs: realClock.nowMs() };
  const certPem = signNodeCertificate(request, root, testRng) + intermediates;
  return { certPem, keyPem: pair.keyPem };
}

/** Whether a client that trusts `clientCa` and a server that trusts `serverCa` shake hands. */
async function meet(
  server: Issued & { readonly ca: string },
  client: Issued & { readonly ca: string },
): Promise<string> {
  const tls = createServer({
    cert: server.certPem,
    key: server.keyPem,
    ca: server.ca,
    requestCert: true,
    rejectUnauthorized: true,
  });
  await new Promise<void>(resolve => tls.listen(0, "127.0.0.1", resolve));
  const { port } = tls.address() as AddressInfo;
  try {
    return await new Promise<string>(resolve => {
      tls.on("secureConnection", (socket: TLSSocket) => socket.end("hello"));
      tls.on("tlsClientError", error => resolve(`server: ${error.message}`));
      const { certPem: cert, keyPem: key, ca } = client;
      const socket = connect({ port, host: "127.0.0.1", cert, key, ca, checkServerIdentity });
      socket.on("error", error => resolve(`client: ${error.message}`));
      socket.on("data", data => resolve(String(data)));
    });
  } finally {
    tls.close();
  }
}

const checkServerIdentity = (): undefined => undefined;

t.test("during a rotation nodes of the old and of the new root know each other", async t => {
  const ca = await TestCa.create();
  const next = await nextRoot(ca.root, null, deps);
  const cross = new X509Certificate(next.crossSignedPem);
  t.ok(cross.verify(new X509Certificate(ca.root.certPem).publicKey), "signed by the present root");
  t.ok(cross.publicKey.equals(new X509Certificate(next.certPem).publicKey));
  const old = { ...(await issue(ca.root, ca.clusterId)), ca: ca.root.certPem };
  const both = ca.root.certPem + next.certPem;
  const renewed = { ...(await issue(next, ca.clusterId, next.crossSignedPem)), ca: both };
  const bundle = { certPem: renewed.certPem, caPem: both };
  const parts = { cert: "cert", key: "key", ca: "ca" };
  t.equal(
    checkBundle(bundle, createPrivateKey(renewed.keyPem), parts).name.clusterId,
    ca.clusterId,
  );
  t.equal(await meet(old, renewed), "hello");
  t.equal(await meet(renewed, old), "hello");
  t.equal(await meet(renewed, renewed), "hello");
  const done = { ...(await issue(next, ca.clusterId)), ca: next.certPem };
  t.equal(await meet(done, renewed), "hello");
  t.equal(await meet(renewed, done), "hello");
  t.not(await meet(done, old), "hello", "the old root is nobody's any more");
});

t.test("a root of the user's own", async t => {
  const [ca, other] = [await TestCa.create(), await TestCa.create()];
  const given = await nextRoot(ca.root, other.root, deps);
  t.equal(given.certPem, other.root.certPem);
  const mixed = { certPem: other.root.certPem, keyPem: ca.root.keyPem };
  await t.rejects(nextRoot(ca.root, mixed, deps), {
    code: "invalid_argument",
    message: /its key is not that of its certificate/,
  });
  const leaf = await issue(ca.root, ca.clusterId);
  await t.rejects(nextRoot(ca.root, leaf, deps), { message: /no root certificate/ });
  await t.rejects(nextRoot(ca.root, { certPem: "x", keyPem: "y" }, deps), {
    code: "invalid_argument",
  });
});

t.test("nodes renew a few at a time, and the root changes when all have", async t => {
  const ca = await TestCa.create();
  const next = await nextRoot(ca.root, null, deps);
  const before = await issue(ca.root, ca.clusterId);
  const after = await issue(next, ca.clusterId, next.crossSignedPem);
  const clock = new VirtualClock(realClock.nowMs() + 60_000);
  const store = new MemoryStore(clock);
  const ids = new RngIdSource(new SeededRng(1));
  const logger = silentLogger;
  const row = aCluster({ rootCa: ca.root });
  store.put({ op: "create", table: "cluster", row });
  const names = Array.from({ length: 32 }, (_, i) => `n${String(i).padStart(2, "0")}`);
  for (const id of names) {
    const node = aNode({ id, certificatePem: before.certPem });
    store.put({ op: "create", table: "nodes", row: node });
  }
  const audit = new CertificateAudit();
  const needsRenewal = audit.needsRenewal.bind(audit);
  const dispatcher = new Dispatcher({ nodeId: "m" }, { store, clock, ids, logger, needsRenewal });
  const stop = new AbortController();
  const rotation = new RootRotation({ store, clock, ids, logger }, audit);
  const running = [dispatcher.run(stop.signal), rotation.run(stop.signal).catch(() => undefined)];
  t.teardown(async () => {
    stop.abort();
    await Promise.all(running);
  });
  const asked = new Set<string>();
  for (const nodeId of names) {
    const hear = ({ body }: ManagerMessage): void => {
      if (body?.$case === "managers" && body.value.renew) asked.add(nodeId);
    };
    const connection = { nodeId, send: hear, backlog: 0, close: () => undefined };
    const description = JSON.stringify(aNode({ id: nodeId }).description);
    const value = { descriptionJson: description, addr: "" };
    dispatcher.open(connection).onMessage({ body: { $case: "hello", value } });
  }
  await eventually(() => dispatcher.sessionCount === names.length, { what: "every session" });
  t.equal(asked.size, 0, "nothing to renew");

  const cluster = (): Cluster | undefined => [...store.view.table("cluster").all()][0];
  const rotate = { nextRoot: next, rootRotationInProgress: true };
  store.put({ op: "patch", table: "cluster", id: row.id, fields: rotate });
  t.equal(asked.size, 30);
  const renew = (id: string, certificatePem = after.certPem, rootGeneration = 0): void => {
    const fields = { certificatePem, rootGeneration };
    store.put({ op: "patch", table: "nodes", id, fields });
  };
  for (const id of names.slice(0, 31)) renew(id);
  t.equal(asked.size, 32, "who is done makes room");
  t.ok(cluster()?.rootRotationInProgress);
  asked.clear();
  renew("n31");
  await eventually(() => cluster()?.rootRotationInProgress === false, { what: "the end" });
  t.equal(cluster()?.rootCa.certPem, next.certPem);
  t.equal(cluster()?.nextRoot, null);
  t.notSame(cluster()?.joinTokens, row.joinTokens);
  await eventually(() => asked.size === 30, { what: "once more, to forget the old root" });

  asked.clear();
  const again = await issue(next, ca.clusterId);
  renew("n00", again.certPem, 0);
  t.same([...asked], ["n00"], "a renewal that a change of roots overtook does not count");
  const third = await nextRoot(next, null, deps);
  for (const id of names) renew(id, again.certPem, 1);
  asked.clear();
  store.put({ op: "patch", table: "cluster", id: row.id, fields: { nextRoot: third } });
  t.equal(asked.size, 30, "the next rotation follows at once");
});
