import { X509Certificate } from "node:crypto";
import t, { type Test } from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import { externalCaUrls, normalizePem } from "../../src/model/external-ca.ts";
import type { NodeRole } from "../../src/model/rows.ts";
import { nextRoot, type RootCa } from "../../src/pki/ca.ts";
import { nodeNameOfCertificate } from "../../src/pki/certificate.ts";
import { makeCsr, publicKeyOfCsr } from "../../src/pki/csr.ts";
import { newKeyPair } from "../../src/pki/keys.ts";
import { CAService } from "../../src/rpc/gen/swarmd/v1/ca.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { realClock } from "../../src/system/real.ts";
import { CA_ACCESS, caHandlers } from "../../src/tls/ca-service.ts";
import { certificateOfAnswer } from "../../src/tls/core/sign-request.ts";
import { ExternalCa } from "../../src/tls/external-ca.ts";
import { joinRequest } from "../../src/tls/join.ts";
import type { CaBackend, NewNode } from "../../src/tls/ports.ts";
import { CfsslStandIn } from "../support/cfssl.ts";
import { TestCa, TestIdentitySource, testIds, testRng } from "../support/test-ca.ts";

const { signal } = new AbortController();
const logger = silentLogger;

async function standIn(t: Test, root: RootCa): Promise<CfsslStandIn> {
  const server = await CfsslStandIn.start(root);
  t.teardown(() => server.close());
  return server;
}

async function asking(ca: TestCa): Promise<ExternalCa> {
  const own = await ca.identity("manager");
  return new ExternalCa({ own: () => own, clock: realClock, logger });
}

async function request(ca: TestCa, role: NodeRole) {
  const { privateKey } = await newKeyPair();
  const csrPem = makeCsr(privateKey);
  const name = { nodeId: testIds.newId(), role, clusterId: ca.clusterId };
  return { csrPem, publicKey: publicKeyOfCsr(csrPem), name };
}

t.test("an external CA signs for the node and the role that it is told", async t => {
  const ca = await TestCa.create();
  const server = await standIn(t, ca.root);
  const external = await asking(ca);
  const at = { urls: ["https://127.0.0.1:1/", server.url], caPem: ca.root.certPem };
  for (const role of ["worker", "manager"] as const) {
    const asked = await request(ca, role);
    const certPem = await external.signNode(asked, ca.root.certPem, at, signal);
    const cert = new X509Certificate(certPem);
    t.same(nodeNameOfCertificate(cert), asked.name);
    t.ok(cert.verify(new X509Certificate(ca.root.certPem).publicKey), "of the cluster's root");
    const hosts = [`swarm-${role}`, asked.name.nodeId];
    t.match(server.requests.at(-1), {
      hosts: role === "manager" ? [...hosts, "swarm-ca"] : hosts,
      certificate_request: asked.csrPem,
      subject: { CN: asked.name.nodeId, names: [{ OU: `swarm-${role}`, O: ca.clusterId }] },
      profile: "",
    });
  }
  t.match(server.clients.at(-1), /swarm-manager/, "this manager shows its certificate");
});

t.test("what an external CA may not do", async t => {
  const ca = await TestCa.create();
  const server = await standIn(t, ca.root);
  const external = await asking(ca);
  const sign = async (): Promise<string> => {
    const at = { urls: [server.url], caPem: ca.root.certPem };
    return external.signNode(await request(ca, "worker"), ca.root.certPem, at, signal);
  };
  server.subject = `/O=${ca.clusterId}/OU=swarm-manager/CN=${testIds.newId()}`;
  await t.rejects(sign(), { code: "failed_precondition", message: /names another node, role/ });
  server.subject = null;
  server.answer = { status: 503, body: "busy" };
  await t.rejects(sign(), { code: "unavailable", message: /status 503: busy/ });
  server.answer = { status: 200, body: "<html>" };
  await t.rejects(sign(), { code: "unavailable", message: /no JSON/ });
  server.answer = { status: 200, body: '{"success":false,"errors":[{"message":"policy"}]}' };
  await t.rejects(sign(), { code: "failed_precondition", message: /refused: .*policy/ });
  const foreign = await TestCa.create();
  const { certPem: certificate } = await foreign.identity("worker");
  server.answer = { status: 200, body: JSON.stringify({ success: true, result: { certificate } }) };
  await t.rejects(sign(), { message: /not signed by the cluster's root/ });
  const { certPem: other } = await ca.identity("worker");
  const result = { certificate: other };
  server.answer = { status: 200, body: JSON.stringify({ success: true, result }) };
  await t.rejects(sign(), { message: /is for another key/ });
  server.answer = { status: 200, body: "x".repeat(300 * 1024) };
  await t.rejects(sign(), { code: "unavailable", message: /too long/ });
  const outside = await standIn(t, foreign.root);
  const at = { urls: [outside.url], caPem: ca.root.certPem };
  await t.rejects(external.signNode(await request(ca, "worker"), ca.root.certPem, at, signal), {
    code: "unavailable",
  });
  t.equal(outside.requests.length, 0, "a server of another root is told nothing");
  const plain = { urls: ["http://127.0.0.1:1/"], caPem: ca.root.certPem };
  await t.rejects(external.signNode(await request(ca, "worker"), ca.root.certPem, plain, signal), {
    message: /invalid HTTP scheme/,
  });
  t.equal(await external.reaches([server.url], ca.root.certPem, signal), true);
  t.equal(await external.reaches([outside.url], ca.root.certPem, signal), false);
  t.equal(await external.reaches([], ca.root.certPem, signal), false);
});

t.test("an external CA vouches for the next root", async t => {
  const ca = await TestCa.create();
  const server = await standIn(t, ca.root);
  const external = await asking(ca);
  const keyless = { certPem: ca.root.certPem, keyPem: "" };
  const next = await nextRoot(keyless, null, {
    ...{ clock: realClock, rng: testRng },
    crossSign: next => external.crossSign(next, ca.root.certPem, [server.url], signal),
  });
  const cross = new X509Certificate(next.crossSignedPem);
  t.ok(cross.ca);
  t.ok(cross.verify(new X509Certificate(ca.root.certPem).publicKey));
  t.ok(cross.publicKey.equals(new X509Certificate(next.certPem).publicKey));
  t.match(server.requests.at(-1), {
    profile: "CA",
    subject: { CN: "swarm-ca" },
    extensions: [{ id: "2.5.29.19", critical: true, value: "30030101ff" }],
  });
});

class KeylessCluster implements CaBackend {
  readonly nodes: NewNode[] = [];
  readonly clusterId: string;
  urls: readonly string[] = [];
  #generation = 0;
  readonly #ca: TestCa;
  readonly #keyPem: string;

  constructor(ca: TestCa, keyPem = "") {
    this.#ca = ca;
    this.#keyPem = keyPem;
    this.clusterId = ca.clusterId;
  }
  trustedRoots(): string {
    return this.#ca.root.certPem;
  }
  signingRoot(): RootCa {
    return { certPem: this.#ca.root.certPem, keyPem: this.#keyPem };
  }
  rootGeneration(): number {
    return this.#generation;
  }
  externalCas(): readonly string[] {
    // A root goes while the external CA is at work.
    this.#generation = 1;
    return this.urls;
  }
  intermediates(): string {
    return "";
  }
  joinTokens(): { worker: string; manager: string } {
    return this.#ca.tokens;
  }
  certExpiryMs(): number {
    return 86_400_000;
  }
  nodeRole(nodeId: string): NodeRole | null {
    return this.nodes.find(node => node.nodeId === nodeId)?.role ?? null;
  }
  assertLeader(): void {
    // This manager leads.
  }
  async registerNode(node: NewNode): Promise<void> {
    this.nodes.push(node);
  }
  async recordCertificate(): Promise<void> {
    // Nobody looks.
  }
}

t.test("nodes join through an external CA, and through nothing else", async t => {
  const ca = await TestCa.create();
  const server = await standIn(t, ca.root);
  for (const keyPem of ["", ca.root.keyPem]) {
    const cluster = new KeylessCluster(ca, keyPem);
    const identity = new TestIdentitySource(await ca.identity("manager"));
    const rpc = new RpcServer(
      { listenAddr: { host: "127.0.0.1", port: 0 } },
      { identity, clock: realClock, logger, isRemoved: () => false },
    );
    const external = new ExternalCa({ own: () => identity.current(), clock: realClock, logger });
    const deps = { backend: cluster, external, clock: realClock, rng: testRng, logger };
    rpc.addService(CAService, caHandlers({}, deps), CA_ACCESS);
    const { port } = await rpc.start();
    t.teardown(() => rpc.close(0));
    const join = () =>
      joinRequest(
        { addr: `127.0.0.1:${port}`, token: ca.tokens.worker, signal },
        { clock: realClock, rng: testRng, logger },
      );
    cluster.urls = [server.url];
    server.answer = null;
    const before = server.requests.length;
    const joined = await join();
    t.equal(joined.identity.role, "worker");
    t.equal(server.requests.length, before + 1, "it was asked");
    t.match(cluster.nodes, [{ rootGeneration: 0 }], "that of the roots it was signed for");
    t.equal(cluster.nodes.length, 1);
    server.answer = { status: 200, body: '{"success":false,"errors":["no"]}' };
    await t.rejects(join(), { message: /external CA at .* gave no certificate: it refused/ });
    t.equal(cluster.nodes.length, 1, "and nobody signs in its place");
  }
});

t.test("which URLs sign for which root", async t => {
  const { root: present } = await TestCa.create();
  const { root: next } = await TestCa.create();
  const list = [
    { Protocol: "cfssl", URL: "https://a" },
    {
      Protocol: "cfssl",
      URL: "https://b",
      CACert: `\n${present.certPem.replaceAll("\n", "\r\n")}`,
    },
    { Protocol: "cfssl", URL: "https://c", CACert: next.certPem },
  ];
  t.same(externalCaUrls(list, present.certPem, present.certPem), ["https://a", "https://b"]);
  t.same(externalCaUrls(list, next.certPem, present.certPem), ["https://c"]);
  t.same(externalCaUrls(undefined, next.certPem, present.certPem), []);
  t.equal(normalizePem("bogus"), "");
  t.equal(normalizePem(present.certPem), present.certPem);
  const answer = '{"success":true,"result":{"certificate":"x"}}';
  t.equal(certificateOfAnswer(200, answer), "x");
});
