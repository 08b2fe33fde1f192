import { X509Certificate } from "node:crypto";
import { createServer as createTcpServer } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import t, { type Test } from "tap";
import { SwarmError } from "../../src/base/errors.ts";
import { type Logger, silentLogger } from "../../src/base/logger.ts";
import type { NodeRole } from "../../src/model/rows.ts";
import { newJoinToken, type RootCa } from "../../src/pki/ca.ts";
import { validityOf } from "../../src/pki/certificate.ts";
import { makeCsr } from "../../src/pki/csr.ts";
import { newKeyPair } from "../../src/pki/keys.ts";
import { RpcClients } from "../../src/rpc/clients.ts";
import { CAService } from "../../src/rpc/gen/swarmd/v1/ca.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { realClock } from "../../src/system/real.ts";
import { CA_ACCESS, type CaServiceOptions, caHandlers } from "../../src/tls/ca-service.ts";
import { ExternalCa } from "../../src/tls/external-ca.ts";
import { type JoinOptions, joinRequest, renewThroughManagers } from "../../src/tls/join.ts";
import type { CaBackend, NewNode, RecordedCertificate } from "../../src/tls/ports.ts";
import { TestCa, TestIdentitySource, testIds, testRng } from "../support/test-ca.ts";

const signal = new AbortController().signal;
const HOUR_MS = 3_600_000;
const logger = silentLogger;
const external = new ExternalCa({ own: () => null, clock: realClock, logger });
const deps = { clock: realClock, rng: testRng, logger, external };

/** The cluster's state as the CA sees it, shared by the managers of a test. */
class FakeCluster implements CaBackend {
  readonly nodes = new Map<string, NewNode>();
  readonly recorded: string[] = [];
  readonly clusterId: string;
  readonly #root: RootCa;
  tokens: { worker: string; manager: string };
  roles = new Map<string, NodeRole>();
  registerFailures: SwarmError[] = [];

  constructor(ca: TestCa) {
    this.clusterId = ca.clusterId;
    this.#root = ca.root;
    this.tokens = { ...ca.tokens };
  }

  trustedRoots(): string {
    return this.#root.certPem;
  }
  signingRoot(): RootCa {
    return this.#root;
  }
  rootGeneration(): number {
    return 3;
  }
  externalCas(): readonly string[] {
    return [];
  }
  intermediates(): string {
    return "";
  }
  joinTokens(): { worker: string; manager: string } {
    return this.tokens;
  }
  certExpiryMs(): number {
    return 24 * HOUR_MS;
  }
  nodeRole(nodeId: string): NodeRole | null {
    return this.roles.get(nodeId) ?? this.nodes.get(nodeId)?.role ?? null;
  }
  assertLeader(): void {
    // This manager leads.
  }
  async registerNode(node: NewNode): Promise<void> {
    this.nodes.set(node.nodeId, node);
    const failure = this.registerFailures.shift();
    if (failure !== undefined) throw failure;
  }
  async recordCertificate(nodeId: string, cert: RecordedCertificate): Promise<void> {
    this.recorded.push(`${nodeId} ${cert.role} ${cert.rootGeneration}`);
  }
}

async function manager(
  test: Test,
  ca: TestCa,
  backend: CaBackend,
  options: CaServiceOptions & { readonly logger?: Logger } = {},
): Promise<string> {
  const identity = new TestIdentitySource(await ca.identity("manager"));
  const server = new RpcServer(
    { listenAddr: { host: "127.0.0.1", port: 0 } },
    { ...deps, identity, isRemoved: () => false },
  );
  const logger = options.logger ?? silentLogger;
  server.addService(CAService, caHandlers(options, { ...deps, backend, logger }), CA_ACCESS);
  const { port } = await server.start();
  test.teardown(() => server.close(0));
  return `127.0.0.1:${port}`;
}

/** The same cluster as a follower sees it. */
function followerOf(cluster: FakeCluster, leader: () => string): CaBackend {
  return new Proxy(cluster, {
    get: (target, name) => {
      if (name === "assertLeader") {
        return () => {
          throw new SwarmError("not_leader", "ask the leader", { leader: leader() });
        };
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function join(options: Omit<JoinOptions, "signal">): ReturnType<typeof joinRequest> {
  return joinRequest({ ...options, signal }, deps);
}

t.test("the token decides the role, the server the rest", async t => {
  const ca = await TestCa.create();
  const cluster = new FakeCluster(ca);
  const addr = await manager(t, ca, cluster);
  const worker = await join({ addr, token: ` ${ca.tokens.worker}\n`, hostname: "w1" });
  t.match(worker.identity, { role: "worker", clusterId: ca.clusterId, caPem: ca.root.certPem });
  t.match(cluster.nodes.get(worker.identity.nodeId), {
    role: "worker",
    availability: "active",
    remoteIp: "127.0.0.1",
    hostname: "w1",
    certificatePem: worker.identity.certPem,
  });
  const leaf = new X509Certificate(worker.identity.certPem);
  const left = validityOf(leaf).notAfterMs - realClock.nowMs();
  t.ok(left > 23 * HOUR_MS && left <= 24 * HOUR_MS, "valid for as long as the cluster says");
  const second = await join({
    addr,
    token: ca.tokens.manager,
    availability: "drain",
    advertiseAddr: "10.0.0.7",
  });
  t.equal(second.identity.role, "manager");
  t.not(second.identity.nodeId, worker.identity.nodeId);
  t.match(cluster.nodes.get(second.identity.nodeId), {
    availability: "drain",
    advertiseAddr: "10.0.0.7:2377",
  });
});

t.test("any manager leads to the leader", async t => {
  const ca = await TestCa.create();
  const cluster = new FakeCluster(ca);
  const leader = await manager(t, ca, cluster);
  let asked = 0;
  const known = (): string => {
    asked += 1;
    return asked === 1 ? "" : leader;
  };
  const follower = await manager(t, ca, followerOf(cluster, known));
  const { identity } = await join({ addr: follower, token: ca.tokens.worker });
  t.ok(cluster.nodes.has(identity.nodeId));
  t.equal(asked, 2, "the first answer, in an election, named no leader");
});

t.test("a join whose answer was lost admits one node", async t => {
  const ca = await TestCa.create();
  const cluster = new FakeCluster(ca);
  cluster.registerFailures.push(new SwarmError("unknown_outcome", "leadership lost"));
  const addr = await manager(t, ca, cluster);
  const { identity } = await join({ addr, token: ca.tokens.worker });
  t.same([...cluster.nodes.keys()], [identity.nodeId]);
});

t.test("tokens that are not the cluster's", async t => {
  const ca = await TestCa.create();
  const other = await TestCa.create();
  const cluster = new FakeCluster(ca);
  const lines: string[] = [];
  const note = (message: string, fields: object = {}): void => {
    lines.push(`${message} ${JSON.stringify(fields)}`);
  };
  const logger: Logger = { debug: note, info: note, warn: note, error: note, child: () => logger };
  const addr = await manager(t, ca, cluster, { logger });
  const rotated = ca.tokens.worker;
  cluster.tokens = { ...cluster.tokens, worker: newJoinToken(ca.root.certPem, testIds) };
  const needed = "A valid join token is necessary to join this cluster";
  await t.rejects(join({ addr, token: rotated }), { code: "invalid_argument", message: needed });
  await t.rejects(join({ addr, token: other.tokens.worker }), {
    code: "failed_precondition",
    message: /^remote CA does not match fingerprint. Expected: [0-9a-f]{64}$/,
  });
  await t.rejects(join({ addr, token: "SWMTKN-1-x" }), {
    code: "invalid_argument",
    message: /^invalid join token/,
  });
  t.equal(cluster.nodes.size, 0);
  t.ok(lines.some(line => line.startsWith("join refused")));
  t.notOk(
    lines.some(line => line.includes(rotated.slice(-25))),
    "tokens are not logged",
  );
});

t.test("requests that a valid token does not excuse", async t => {
  const ca = await TestCa.create();
  const cluster = new FakeCluster(ca);
  const addr = await manager(t, ca, cluster);
  await t.rejects(join({ addr, token: ca.tokens.manager }), {
    code: "invalid_argument",
    message: "a manager needs an advertised address",
  });
  await t.rejects(join({ addr, token: ca.tokens.worker, advertiseAddr: "a b" }), {
    code: "invalid_argument",
    message: /"a b" is no address/,
  });
  await t.rejects(join({ addr, token: ca.tokens.worker, hostname: "x".repeat(300) }), {
    code: "invalid_argument",
  });
  t.equal(cluster.nodes.size, 0);
});

t.test("what answers at the address is named", async t => {
  const ca = await TestCa.create();
  const token = ca.tokens.worker;
  const servers = [createTcpServer(s => void s.end("HTTP/1.1 400\r\n\r\n")), createTcpServer()];
  const foreign = await ca.identity("worker");
  const pair = { cert: foreign.certPem, key: foreign.keyPem };
  servers.push(createTlsServer({ ...pair, ALPNProtocols: ["http/1.1"] }));
  const addrs: string[] = [];
  for (const server of servers) {
    server.on("connection", socket => socket.on("error", () => undefined));
    await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
    const bound = server.address();
    addrs.push(`127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`);
  }
  t.teardown(() => servers.map(server => server.close()));
  const [http = "", gone = "", https = ""] = addrs;
  await new Promise(resolve => servers[1]?.close(resolve));
  await t.rejects(join({ addr: http, token }), {
    code: "unavailable",
    message: `${http} answers, but not as a swarm manager (it does not speak TLS)`,
  });
  await t.rejects(join({ addr: gone, token }), {
    code: "unavailable",
    message: `cannot connect to ${gone}: nothing listens there`,
  });
  await t.rejects(join({ addr: https, token }), {
    code: "unavailable",
    message: /answers, but not as a swarm manager/,
  });
  await t.rejects(join({ addr: "no such host", token }), { code: "invalid_argument" });
});

t.test("a worker that pretends to be a manager is not joined", async t => {
  const ca = await TestCa.create();
  const identity = new TestIdentitySource(await ca.identity("worker"));
  const server = new RpcServer(
    { listenAddr: { host: "127.0.0.1", port: 0 } },
    { ...deps, identity, isRemoved: () => false },
  );
  const backend = new FakeCluster(ca);
  server.addService(CAService, caHandlers({}, { ...deps, backend }), CA_ACCESS);
  const { port } = await server.start();
  t.teardown(() => server.close(0));
  await t.rejects(join({ addr: `127.0.0.1:${port}`, token: ca.tokens.worker }), {
    code: "failed_precondition",
    message: "the node at that address is not a manager",
  });
  t.equal(backend.nodes.size, 0, "the token was not sent to it");
});

t.test("a flood of requests is held back before it costs anything", async t => {
  const ca = await TestCa.create();
  const cluster = new FakeCluster(ca);
  let reads = 0;
  const counting = new Proxy(cluster, {
    get: (target, name) => {
      if (name === "joinTokens") reads += 1;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const perIp = { burst: 5, perSecond: 0.001 };
  const addr = await manager(t, ca, counting, { perIp });
  const clients = new RpcClients(
    {},
    { ...deps, identity: new TestIdentitySource(await ca.identity("worker")) },
  );
  t.teardown(() => clients.close());
  const request = { token: "x", csrPem: "", availability: "", advertiseAddr: "", hostname: "" };
  const outcomes = await Promise.all(
    Array.from({ length: 40 }, () =>
      clients.unary(CAService.issueCertificate, addr, request, { signal }).then(
        () => "issued",
        (error: unknown) => (error instanceof SwarmError ? error.code : "other"),
      ),
    ),
  );
  t.equal(outcomes.filter(code => code === "invalid_argument").length, 5);
  t.equal(outcomes.filter(code => code === "resource_exhausted").length, 35);
  t.equal(reads, 5);
});

t.test("renewal keeps the id and takes the role from the state", async t => {
  const ca = await TestCa.create();
  const cluster = new FakeCluster(ca);
  const leader = await manager(t, ca, cluster);
  const follower = await manager(
    t,
    ca,
    followerOf(cluster, () => leader),
  );
  const { identity } = await join({ addr: leader, token: ca.tokens.worker });
  const clients = new RpcClients({}, { ...deps, identity: new TestIdentitySource(identity) });
  t.teardown(() => clients.close());
  const renew = renewThroughManagers({ ...deps, clients, managerAddrs: () => [follower] });
  const { privateKey } = await newKeyPair();
  cluster.roles.set(identity.nodeId, "manager");
  const { certPem } = await renew(makeCsr(privateKey), signal);
  const leaf = new X509Certificate(certPem);
  t.equal(leaf.subject, `O=${ca.clusterId}\nOU=swarm-manager\nCN=${identity.nodeId}`);
  t.ok(leaf.checkPrivateKey(privateKey));
  t.same(cluster.recorded, [`${identity.nodeId} manager 3`]);
  cluster.roles.clear();
  cluster.nodes.clear();
  await t.rejects(renew(makeCsr(privateKey), signal), {
    code: "permission_denied",
    message: `node ${identity.nodeId} is not part of this swarm`,
  });
});
