import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { connect as connectTls } from "node:tls";

import t, { type Test } from "tap";

import { isSwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import type { CallContext } from "../../src/rpc/call.ts";
import { CAService } from "../../src/rpc/gen/swarmd/v1/ca.ts";
import { CLIENT_LIMITS, PeerChannel } from "../../src/rpc/peer-channel.ts";
import type { Access, Identity } from "../../src/rpc/ports.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { realClock } from "../../src/system/real.ts";
import { eventually } from "../support/eventually.ts";
import { TestCa, TestIdentitySource } from "../support/test-ca.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const signal = new AbortController().signal;

interface Site {
  readonly server: RpcServer;
  readonly addr: string;
  readonly source: TestIdentitySource;
  readonly removed: Set<string>;
  readonly demoted: Set<string>;
  readonly seen: CallContext[];
}

type Handle = (context: CallContext) => Promise<string>;

/** A manager that serves the CA service: each method answers with what it saw of its caller. */
async function site(
  test: Test,
  ca: TestCa,
  access: Readonly<Record<string, Access>>,
  handle: Handle = async ({ peer }) => peer?.nodeId ?? "nobody",
): Promise<Site> {
  const source = new TestIdentitySource(await ca.identity("manager"));
  const removed = new Set<string>();
  const demoted = new Set<string>();
  const seen: CallContext[] = [];
  const server = new RpcServer(
    { listenAddr: { host: "127.0.0.1", port: 0 } },
    {
      identity: source,
      clock: realClock,
      logger: silentLogger,
      isRemoved: id => removed.has(id),
      isDemoted: id => demoted.has(id),
    },
  );
  const answer = async (context: CallContext): Promise<string> => {
    seen.push(context);
    return handle(context);
  };
  server.addService(
    CAService,
    {
      getRootCa: async (_request, context) => ({ caPem: await answer(context) }),
      issueCertificate: async (_request, context) => ({
        nodeId: await answer(context),
        clusterId: "",
        role: "",
        certPem: "",
        caPem: "",
      }),
      renewCertificate: async (_request, context) => ({
        certPem: await answer(context),
        caPem: "",
      }),
    },
    access,
  );
  const { port } = await server.start();
  test.teardown(() => server.close(0));
  return { server, addr: `127.0.0.1:${port}`, source, removed, demoted, seen };
}

function channel(test: Test, addr: string, caPem: string, own: Identity | null): PeerChannel {
  const tls = { caPem, own, verifyPeer: () => undefined };
  const opened = new PeerChannel({ addr, tls, limits: CLIENT_LIMITS }, { clock: realClock });
  test.teardown(() => opened.close());
  return opened;
}

/** "ok" or the code of the error a call of that access level ends with. */
async function outcome(opened: PeerChannel, level: Access | "none"): Promise<string> {
  const options = { signal, timeoutMs: 5_000 };
  try {
    if (level === "anyone") await opened.unary(CAService.getRootCa, {}, options);
    else if (level === "manager") {
      const request = { token: "", csrPem: "", availability: "", advertiseAddr: "", hostname: "" };
      await opened.unary(CAService.issueCertificate, request, options);
    } else await opened.unary(CAService.renewCertificate, { csrPem: "" }, options);
    return "ok";
  } catch (error) {
    return isSwarmError(error) ? error.code : String(error);
  }
}

t.test("every access level against every kind of caller", async t => {
  const ca = await TestCa.create();
  const other = await TestCa.create();
  const place = await site(t, ca, {
    getRootCa: "anyone",
    renewCertificate: "node",
    issueCertificate: "manager",
  });
  const unlisted = await site(t, ca, { getRootCa: "anyone" });
  const nowMs = realClock.nowMs();
  const removed = await ca.identity("worker");
  const removedManager = await ca.identity("manager");
  const demoted = await ca.identity("manager");
  for (const where of [place, unlisted]) {
    where.removed.add(removed.nodeId).add(removedManager.nodeId);
    where.demoted.add(demoted.nodeId);
  }
  const expired = await ca.identity("manager", { issuedMs: nowMs - 9 * DAY_MS, expiryMs: DAY_MS });
  const future = await ca.identity("manager", { issuedMs: nowMs + 9 * DAY_MS });
  const wrongCluster = await ca.identity("manager", { clusterId: other.clusterId });
  // Anyone, node, manager, a method without an entry.
  const cut = ["unavailable", "unavailable", "unavailable", "unavailable"];
  const told = ["permission_denied", "permission_denied", "permission_denied", "permission_denied"];
  const table: readonly [string, Identity | null, readonly string[]][] = [
    ["no certificate", null, ["ok", "unauthenticated", "unauthenticated", "permission_denied"]],
    ["worker", await ca.identity("worker"), ["ok", "ok", "permission_denied", "permission_denied"]],
    ["manager", await ca.identity("manager"), ["ok", "ok", "ok", "permission_denied"]],
    ["demoted manager", demoted, ["ok", "ok", "permission_denied", "permission_denied"]],
    ["certificate of another cluster", await other.identity("manager"), cut],
    ["our root, another cluster's id", wrongCluster, cut],
    ["expired certificate", expired, cut],
    ["certificate of the future", future, cut],
    ["removed worker", removed, told],
    ["removed manager", removedManager, told],
    ["the root's own certificate", { ...expired, ...asNode(ca) }, cut],
  ];
  for (const [who, own, expected] of table) {
    const opened = channel(t, place.addr, ca.root.certPem, own);
    const elsewhere = channel(t, unlisted.addr, ca.root.certPem, own);
    const found = [
      await outcome(opened, "anyone"),
      await outcome(opened, "node"),
      await outcome(opened, "manager"),
      await outcome(elsewhere, "node"),
    ];
    t.same(found, expected, who);
  }
});

function asNode(ca: TestCa): Pick<Identity, "certPem" | "keyPem"> {
  return { certPem: ca.root.certPem, keyPem: ca.root.keyPem };
}

t.test("the peer is the one of the certificate, whatever the metadata says", async t => {
  const ca = await TestCa.create();
  const place = await site(t, ca, { getRootCa: "anyone", renewCertificate: "node" });
  const worker = await ca.identity("worker");
  const opened = channel(t, place.addr, ca.root.certPem, worker);
  const { certPem } = await opened.unary(CAService.renewCertificate, { csrPem: "" }, { signal });
  t.equal(certPem, worker.nodeId);
  t.match(place.seen[0], {
    peer: { role: "worker", clusterId: ca.clusterId },
    remoteIp: "127.0.0.1",
  });
});

t.test("nothing but TLS with HTTP/2 gets through", async t => {
  const ca = await TestCa.create();
  const place = await site(t, ca, { getRootCa: "anyone" });
  const port = Number(place.addr.split(":")[1]);
  const received: Buffer[] = [];
  const plain = connectTcp(port, "127.0.0.1", () => {
    plain.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
  });
  plain.on("data", data => received.push(data)).on("error", () => undefined);
  await eventually(() => plain.destroyed, { what: "plain text cut off" });
  const frames = Buffer.concat(received).filter((byte, i) => i === 0 && byte === 0);
  t.equal(frames.length, 0, "no HTTP/2 frame was answered to plain text");
  for (const options of [{ ALPNProtocols: ["http/1.1"] }, {}, { maxVersion: "TLSv1.1" as const }]) {
    const socket = connectTls({ port, rejectUnauthorized: false, ...options });
    socket.on("error", () => undefined);
    await eventually(() => socket.destroyed, { what: JSON.stringify(options) });
  }
  t.equal(place.server.connectionCount(), 0);
});

t.test("a handshake that never ends is cut off, and addresses have a quota", async t => {
  const ca = await TestCa.create();
  const server = new RpcServer(
    {
      listenAddr: { host: "127.0.0.1", port: 0 },
      limits: { handshakeMs: 150, maxStrangersPerIp: 3 },
    },
    {
      identity: new TestIdentitySource(await ca.identity("manager")),
      clock: realClock,
      logger: silentLogger,
      isRemoved: () => false,
    },
  );
  const { port } = await server.start();
  t.teardown(() => server.close(0));
  const sockets = Array.from({ length: 5 }, () => connectTcp(port, "127.0.0.1"));
  for (const socket of sockets) socket.on("error", () => undefined).resume();
  await eventually(() => sockets.filter(s => s.destroyed || s.readableEnded).length >= 2, {
    what: "two over the quota refused",
  });
  await eventually(() => sockets.every(s => s.destroyed || s.readableEnded), {
    what: "silent ones cut off",
  });
});

t.test("a certificate that ends while its connection is open", async t => {
  const ca = await TestCa.create();
  const clock = new VirtualClock(realClock.nowMs());
  const server = new RpcServer(
    { listenAddr: { host: "127.0.0.1", port: 0 } },
    {
      identity: new TestIdentitySource(await ca.identity("manager")),
      clock,
      logger: silentLogger,
      isRemoved: () => false,
    },
  );
  const answer = { certPem: "", caPem: "" };
  server.addService(
    CAService,
    {
      getRootCa: async () => ({ caPem: "" }),
      issueCertificate: async () => ({ ...answer, nodeId: "", clusterId: "", role: "" }),
      renewCertificate: async () => answer,
    },
    { renewCertificate: "node" },
  );
  const { port } = await server.start();
  t.teardown(() => server.close(0));
  const brief = await ca.identity("worker", { expiryMs: 2 * HOUR_MS });
  const opened = channel(t, `127.0.0.1:${port}`, ca.root.certPem, brief);
  t.equal(await outcome(opened, "node"), "ok");
  clock.advance(HOUR_MS);
  t.equal(await outcome(opened, "node"), "ok");
  t.equal(server.connectionCount(brief.nodeId), 1);
  clock.advance(2 * HOUR_MS);
  await eventually(() => server.connectionCount() === 0, { what: "cut by the sweep" });
  t.equal(await outcome(opened, "node"), "unauthenticated", "and refused at each call");
});

t.test("strangers may not linger", async t => {
  const ca = await TestCa.create();
  const source = new TestIdentitySource(await ca.identity("manager"));
  const server = new RpcServer(
    {
      listenAddr: { host: "127.0.0.1", port: 0 },
      limits: { maxStrangerIdleMs: 200, maxStrangerAgeMs: 60_000 },
    },
    { identity: source, clock: realClock, logger: silentLogger, isRemoved: () => false },
  );
  const { port } = await server.start();
  t.teardown(() => server.close(0));
  const own = await ca.identity("worker");
  const options = { port, ca: ca.root.certPem, ALPNProtocols: ["h2"], servername: "swarm-manager" };
  const member = connectTls({ ...options, cert: own.certPem, key: own.keyPem });
  const stranger = connectTls(options);
  for (const socket of [member, stranger]) socket.on("error", () => undefined).resume();
  await eventually(() => server.connectionCount() === 2, { what: "both are in" });
  await eventually(() => stranger.destroyed, { what: "the stranger was sent away" });
  t.equal(server.connectionCount(own.nodeId), 1);
  member.destroy();
});

t.test(
  "who only tries whether somebody listens is let go, and TLS hears nothing of it",
  async t => {
    const ca = await TestCa.create();
    const failures: string[] = [];
    const logger = { ...silentLogger, debug: (text: string) => void failures.push(text) };
    const server = new RpcServer(
      { listenAddr: { host: "127.0.0.1", port: 0 } },
      {
        identity: new TestIdentitySource(await ca.identity("manager")),
        clock: realClock,
        logger,
        isRemoved: () => false,
      },
    );
    const { port } = await server.start();
    t.teardown(() => server.close(0));
    const closed: Promise<void>[] = [];
    for (let i = 0; i < 20; i += 1) {
      const socket = connectTcp({ host: "127.0.0.1", port });
      closed.push(new Promise(resolve => void socket.once("close", () => resolve())));
      // The other end has to close too: it is not kept open half.
      socket.once("connect", () => socket.end());
      socket.resume();
    }
    await Promise.all(closed);
    t.same(failures, []);
  },
);

t.test("a channel that is closed gives up the handshake it is in", async t => {
  const ca = await TestCa.create();
  let [open, begun] = [0, 0];
  const silent = createServer(socket => {
    open += 1;
    // Not the connection that only tries: one that says its hello.
    socket.once("data", () => {
      begun += 1;
    });
    socket.on("error", () => undefined);
    socket.once("close", () => {
      open -= 1;
    });
  });
  await new Promise<void>(resolve => void silent.listen(0, "127.0.0.1", resolve));
  t.teardown(() => void silent.close());
  const { port } = silent.address() as AddressInfo;
  const limits = { ...CLIENT_LIMITS, handshakeTimeoutMs: 600_000 };
  const tls = { caPem: ca.root.certPem, own: null, verifyPeer: () => undefined };
  const opened = new PeerChannel({ addr: `127.0.0.1:${port}`, tls, limits }, { clock: realClock });
  const stop = new AbortController();
  const call = opened.unary(CAService.getRootCa, {}, { signal: stop.signal });
  await eventually(() => begun === 1, { what: "a handshake" });
  opened.close();
  stop.abort(new Error("enough"));
  await t.rejects(call);
  await eventually(() => open === 0, { what: "the end of the connection" });
});
