import { createServer as createTcpServer, type Server } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { type ClientDuplexStream, makeClientConstructor } from "@grpc/grpc-js";
import t, { type Test } from "tap";
import { newDeferred } from "../../src/base/async.ts";
import { ERROR_CODES, SwarmError } from "../../src/base/errors.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { parseHostPort } from "../../src/rpc/address.ts";
import { RpcClients } from "../../src/rpc/clients.ts";
import { DirectBidi } from "../../src/rpc/direct-bidi.ts";
import type { Handlers } from "../../src/rpc/handlers.ts";
import { callLeader } from "../../src/rpc/leader-call.ts";
import type { RpcLimits } from "../../src/rpc/limits.ts";
import { CLIENT_LIMITS, type ClientLimits, PeerChannel } from "../../src/rpc/peer-channel.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { realClock } from "../../src/system/real.ts";
import { EchoService } from "../support/echo-service.ts";
import { eventually } from "../support/eventually.ts";
import { TestCa, TestIdentitySource } from "../support/test-ca.ts";

const signal = new AbortController().signal;
const ACCESS = { unary: "anyone", down: "node", up: "node", both: "node" } as const;
type EchoHandlers = Handlers<typeof EchoService>;

const PLAIN: EchoHandlers = {
  unary: async request => request,
  down: async function* (request) {
    for (const part of request.split(" ")) yield part;
  },
  up: async requests => {
    const parts: string[] = [];
    for await (const part of requests) parts.push(part);
    return parts.join(" ");
  },
  both: async function* (requests) {
    for await (const request of requests) yield request.toUpperCase();
  },
};

interface World {
  readonly ca: TestCa;
  readonly server: RpcServer;
  readonly addr: string;
  readonly removed: Set<string>;
  readonly serverIdentity: TestIdentitySource;
  readonly clientIdentity: TestIdentitySource;
  readonly clients: RpcClients;
}

async function world(
  test: Test,
  handlers: Partial<EchoHandlers> = {},
  limits: Partial<RpcLimits> = {},
  clientLimits: Partial<ClientLimits> = {},
): Promise<World> {
  const ca = await TestCa.create();
  const serverIdentity = new TestIdentitySource(await ca.identity("manager"));
  const clientIdentity = new TestIdentitySource(await ca.identity("worker"));
  const removed = new Set<string>();
  const deps = { clock: realClock, logger: silentLogger };
  const server = new RpcServer(
    { listenAddr: { host: "127.0.0.1", port: 0 }, limits },
    { ...deps, identity: serverIdentity, isRemoved: id => removed.has(id) },
  );
  server.addService(EchoService, { ...PLAIN, ...handlers }, ACCESS);
  const { port } = await server.start();
  const clients = new RpcClients({ limits: clientLimits }, { ...deps, identity: clientIdentity });
  test.teardown(async () => {
    clients.close();
    await server.close(0);
  });
  const addr = `127.0.0.1:${port}`;
  return { ca, server, addr, removed, serverIdentity, clientIdentity, clients };
}

async function collect(source: AsyncIterable<string>): Promise<readonly string[]> {
  const items: string[] = [];
  for await (const item of source) items.push(item);
  return items;
}

t.test("all four kinds of call carry messages", async t => {
  const { clients, addr } = await world(t);
  t.equal(await clients.unary(EchoService.unary, addr, "hello", { signal }), "hello");
  const down = clients.serverStream(EchoService.down, addr, "a b c", { signal });
  t.same(await collect(down), ["a", "b", "c"]);
  const parts = async function* (): AsyncGenerator<string> {
    yield "d";
    yield "e";
  };
  t.equal(await clients.clientStream(EchoService.up, addr, parts(), { signal }), "d e");
  const both = clients.duplex(EchoService.both, addr, { signal });
  await both.send("x");
  await both.send("y");
  both.end();
  t.same(await collect(both.responses), ["X", "Y"]);
});

t.test("a stream waits for a slow reader instead of buffering without end", async t => {
  let produced = 0;
  const { clients, addr } = await world(t, {
    down: async function* () {
      for (; produced < 2_000; produced += 1) yield "x".repeat(10_000);
    },
  });
  const down = clients.serverStream(EchoService.down, addr, "-", { signal });
  await down.next();
  const before = await eventually(() => produced, { what: "production began" });
  t.ok(before < 1_000, `${before} of 2000 produced while one was read`);
  let count = 1;
  for await (const _ of down) count += 1;
  t.equal(count, 2_000, "the rest follows as it is read");
});

t.test("a stream of requests ends when either side fails", async t => {
  const { clients, addr } = await world(t, {
    up: async requests => {
      for await (const request of requests) {
        if (request.startsWith("stop")) throw new SwarmError("resource_exhausted", "no more");
      }
      return "all";
    },
  });
  const endless = async function* (word: string): AsyncGenerator<string> {
    for (;;) yield word;
  };
  const refused = clients.clientStream(EchoService.up, addr, endless("stop".repeat(256)), {
    signal,
  });
  await t.rejects(refused, { code: "resource_exhausted", message: "no more" });
  const broken = async function* (): AsyncGenerator<string> {
    yield "one";
    throw new SwarmError("data_loss", "cannot read more");
  };
  const failed = clients.clientStream(EchoService.up, addr, broken(), { signal });
  await t.rejects(failed, { code: "data_loss", message: "cannot read more" });
  const controller = new AbortController();
  const sending = clients.clientStream(EchoService.up, addr, endless("go".repeat(512)), controller);
  controller.abort(new SwarmError("canceled", "enough"));
  await t.rejects(sending, { code: "canceled" });
});

t.test("a SwarmError arrives as it was thrown, whatever its code and text", async t => {
  const errors = new Map(
    ERROR_CODES.map(code => [
      code as string,
      new SwarmError(code, `ünïcode 100% "${code}"\n\ud800`, {
        leader: "1.2.3.4:5",
        n: 1,
        b: null,
      }),
    ]),
  );
  const fail = (name: string): never => {
    throw errors.get(name);
  };
  const { clients, addr } = await world(t, {
    unary: async request => fail(request),
    down: async function* (request) {
      yield "first";
      fail(request);
    },
    both: async function* (requests) {
      for await (const request of requests) yield fail(request);
    },
  });
  for (const code of ERROR_CODES) {
    const expected = {
      code,
      message: `ünïcode 100% "${code}"\n\ufffd`,
      details: { leader: "1.2.3.4:5", n: 1, b: null },
    };
    await t.rejects(clients.unary(EchoService.unary, addr, code, { signal }), expected);
    const down = clients.serverStream(EchoService.down, addr, code, { signal });
    t.equal((await down.next()).value, "first");
    await t.rejects(down.next(), expected);
    const both = clients.duplex(EchoService.both, addr, { signal });
    await both.send(code);
    await t.rejects(collect(both.responses), expected);
  }
});

t.test("a foreign error becomes internal and keeps its words to itself", async t => {
  const { clients, addr } = await world(t, {
    unary: async () => {
      throw new Error("password is hunter2");
    },
  });
  const call = clients.unary(EchoService.unary, addr, "-", { signal });
  await t.rejects(call, { code: "internal", message: "internal error" });
});

t.test("giving up on one side is seen on the other", async t => {
  const states = { unary: "", both: "" };
  const entered = newDeferred<void>();
  const { clients, addr } = await world(t, {
    unary: (_request, context) =>
      new Promise((_resolve, reject) => {
        entered.resolve();
        context.signal.addEventListener("abort", () => {
          states.unary = "aborted";
          reject(context.signal.reason);
        });
      }),
    both: async function* (_requests, context) {
      yield "open";
      await new Promise(resolve => context.signal.addEventListener("abort", resolve));
      states.both = "aborted";
    },
  });
  const controller = new AbortController();
  const call = clients.unary(EchoService.unary, addr, "-", { signal: controller.signal });
  await entered.promise;
  controller.abort(new SwarmError("canceled", "enough"));
  await t.rejects(call, { code: "canceled", message: "enough" });
  await eventually(() => states.unary === "aborted", { what: "unary handler aborted" });
  const late = clients.unary(EchoService.unary, addr, "-", { signal, timeoutMs: 50 });
  await t.rejects(late, { code: "deadline_exceeded", message: /127.0.0.1:\d+ did not answer/ });
  const both = clients.duplex(EchoService.both, addr, { signal });
  for await (const _ of both.responses) break;
  both.cancel();
  await eventually(() => states.both === "aborted", { what: "stream handler aborted" });
  await t.rejects(both.send("x"), SwarmError);
});

/** Answers each message at once, and notes how its calls ended. */
function directEcho(ended: string[]): DirectBidi<string, string> {
  return new DirectBidi(call => ({
    onMessage: message => {
      if (message === "end") call.end();
      else if (message === "refuse") {
        call.send("last");
        call.end(new SwarmError("failed_precondition", "refused", { n: 1 }));
        call.send("never");
      } else if (message === "throw") throw new SwarmError("data_loss", "thrown");
      else call.send(message.toUpperCase());
    },
    onHalfClose: () => {
      call.send("bye");
      call.end();
      call.end(new Error("twice"));
    },
    onEnd: () => void ended.push("over"),
  }));
}

t.test("a stream without iterators between carries messages, ends and errors", async t => {
  const ended: string[] = [];
  const { clients, addr } = await world(t, { both: directEcho(ended) });
  const begin = async (...words: string[]) => {
    const call = clients.duplex(EchoService.both, addr, { signal });
    for (const word of words) await call.send(word);
    return call;
  };
  const closed = await begin("x", "y");
  closed.end();
  t.same(await collect(closed.responses), ["X", "Y", "bye"]);
  t.same(await collect((await begin("a", "end", "b")).responses), ["A"]);
  const refused = (await begin("refuse")).responses[Symbol.asyncIterator]();
  t.equal((await refused.next()).value, "last", "what was sent before the end arrives");
  await t.rejects(refused.next(), {
    code: "failed_precondition",
    message: "refused",
    details: { n: 1 },
  });
  await t.rejects(collect((await begin("throw")).responses), { code: "data_loss" });
  await eventually(() => ended.length === 4, { what: "four ends" });
  t.same(ended, ["over", "over", "over", "over"], "each told once");
  const given = await begin("z");
  for await (const _ of given.responses) break;
  given.cancel();
  await eventually(() => ended.length === 5, { what: "the caller gave up" });
});

t.test("a removed node's stream without iterators is told why it ends", async t => {
  const ended: string[] = [];
  const w = await world(t, { both: directEcho(ended) });
  const call = w.clients.duplex(EchoService.both, w.addr, { signal });
  await call.send("a");
  const responses = call.responses[Symbol.asyncIterator]();
  t.equal((await responses.next()).value, "A");
  w.removed.add(w.clientIdentity.current().nodeId);
  w.server.recheck();
  await t.rejects(responses.next(), { code: "permission_denied" });
  await eventually(() => ended.length === 1, { what: "its end" });
});

t.test(
  "many that come together are greeted one after the other, and none is forgotten",
  async t => {
    const { clients, server, addr, ca, clientIdentity } = await world(
      t,
      {},
      { maxHandshakesPerTurn: 1 },
    );
    const caPem = ca.root.certPem;
    const own = clientIdentity.current();
    const limits = { ...CLIENT_LIMITS, connectTimeoutMs: 20_000, handshakeTimeoutMs: 20_000 };
    const channels = Array.from({ length: 20 }, () => {
      const tls = { caPem, own, verifyPeer: () => undefined };
      return new PeerChannel({ addr, tls, limits }, { clock: realClock });
    });
    t.teardown(() => {
      for (const channel of channels) channel.close();
    });
    const answers = channels.map(channel =>
      channel.unary(EchoService.unary, "hi", { signal, timeoutMs: 20_000 }),
    );
    t.same(await Promise.all(answers), new Array(20).fill("hi"));
    t.equal(server.connectionCount(), 20);
    const late = clients.unary(EchoService.unary, addr, "late", { signal });
    t.equal(await late, "late");
    await server.close(0);
  },
);

t.test("messages beyond the limit are refused, strangers' much earlier", async t => {
  const { ca, clients, addr } = await world(t, {}, { maxMessageBytes: 200_000 });
  const large = "x".repeat(100_000);
  t.equal((await clients.unary(EchoService.unary, addr, large, { signal })).length, 100_000);
  const call = clients.unary(EchoService.unary, addr, "x".repeat(300_000), { signal });
  await t.rejects(call, { code: "resource_exhausted" });
  const tls = { caPem: ca.root.certPem, own: null, verifyPeer: () => undefined };
  const stranger = new PeerChannel({ addr, tls, limits: CLIENT_LIMITS }, { clock: realClock });
  t.teardown(() => stranger.close());
  t.equal(await stranger.unary(EchoService.unary, "hi", { signal }), "hi");
  await t.rejects(stranger.unary(EchoService.unary, large, { signal }), {
    code: "resource_exhausted",
  });
});

t.test("a removed node loses its open connections, others keep theirs", async t => {
  const { ca, clients, addr, removed, server, clientIdentity } = await world(t);
  const stays = new TestIdentitySource(await ca.identity("worker"));
  const deps = { clock: realClock, logger: silentLogger, identity: stays };
  const other = new RpcClients({}, deps);
  t.teardown(() => other.close());
  const both = clients.duplex(EchoService.both, addr, { signal });
  const kept = other.duplex(EchoService.both, addr, { signal });
  await Promise.all([both.send("a"), kept.send("b")]);
  await eventually(() => server.connectionCount() === 2, { what: "two connections" });
  const { nodeId } = clientIdentity.current();
  removed.add(nodeId);
  server.recheck();
  await t.rejects(collect(both.responses), { code: "permission_denied" }, "and is told why");
  await eventually(() => server.connectionCount(nodeId) === 0, { what: "connections cut" });
  kept.end();
  t.same(await collect(kept.responses), ["B"]);
  await t.rejects(clients.unary(EchoService.unary, addr, "-", { signal }), {
    code: "permission_denied",
    message: `node ${nodeId} was removed from the swarm`,
  });
});

t.test("new certificates on both sides, with streams open across the change", async t => {
  const w = await world(t);
  const { ca, clients, addr } = w;
  const first = w.clientIdentity.current();
  const seen: string[] = [];
  w.server.removeService(EchoService);
  w.server.addService(
    EchoService,
    {
      ...PLAIN,
      unary: async (_request, { peer }) => {
        seen.push(`${peer?.nodeId} ${peer?.role}`);
        return "-";
      },
    },
    ACCESS,
  );
  const open = clients.duplex(EchoService.both, addr, { signal });
  await open.send("before");
  await clients.unary(EchoService.unary, addr, "-", { signal });
  const { nodeId } = w.serverIdentity.current();
  w.serverIdentity.replace(await ca.identity("manager", { nodeId }));
  w.clientIdentity.replace(await ca.identity("manager", { nodeId: first.nodeId }));
  await clients.unary(EchoService.unary, addr, "-", { signal, nodeId });
  await open.send("after");
  open.end();
  t.same(await collect(open.responses), ["BEFORE", "AFTER"], "the old stream goes on");
  t.same(seen, [`${first.nodeId} worker`, `${first.nodeId} manager`]);
  const next = await TestCa.create();
  w.serverIdentity.replace(await next.identity("manager"));
  w.clientIdentity.replace(await ca.identity("worker"));
  await t.rejects(clients.unary(EchoService.unary, addr, "-", { signal }), {
    code: "unavailable",
    message: /another cluster/,
  });
});

t.test("streams go on through renewals and pings, pooled and not", async t => {
  const keepaliveMs = 20;
  const { clients, addr, clientIdentity, ca } = await world(t, {}, {}, { keepaliveMs });
  const { nodeId } = clientIdentity.current();
  let failure: unknown = null;
  const answers = { pooled: 0, own: 0 };
  const pooled = clients.duplex(EchoService.both, addr, { signal });
  const read = async (): Promise<void> => {
    for await (const _ of pooled.responses) answers.pooled += 1;
  };
  const reading = read().catch((error: unknown) => {
    failure = error;
  });
  const client = clients.ownClient(makeClientConstructor(EchoService, "Echo"), addr);
  t.teardown(() => client.close());
  const both = client["both"]?.bind(client) as () => ClientDuplexStream<string, string>;
  const own = both();
  own.on("data", () => {
    answers.own += 1;
  });
  own.on("error", (error: Error) => {
    failure = error;
  });
  const exchange = async (): Promise<void> => {
    own.write("x");
    await pooled.send("x");
  };
  await exchange();
  await eventually(() => answers.own + answers.pooled === 2, { what: "the streams are open" });
  clientIdentity.replace(await ca.identity("manager", { nodeId }));
  await eventually(
    async () => {
      if (failure === null) await exchange();
      return failure !== null || (answers.own > 20 && answers.pooled > 20);
    },
    { what: "twenty answers later", everyMs: keepaliveMs },
  );
  t.equal(failure, null);
  own.cancel();
  pooled.end();
  await reading;
});

t.test("the server must be the node looked for", async t => {
  const { clients, ca, addr, serverIdentity } = await world(t);
  const call = (expected: object): Promise<string> =>
    clients.unary(EchoService.unary, addr, "-", { signal, ...expected });
  const { nodeId } = serverIdentity.current();
  t.equal(await call({ nodeId }), "-");
  await t.rejects(call({ nodeId: "x" }), { message: `${addr} answers, but not as the manager` });
  await t.rejects(call({ role: "worker" }), { message: /it is node \w+, a manager/ });
  serverIdentity.replace(await ca.identity("worker"));
  const fresh = new RpcClients(
    {},
    {
      clock: realClock,
      logger: silentLogger,
      identity: new TestIdentitySource(await ca.identity("worker")),
    },
  );
  t.teardown(() => fresh.close());
  await t.rejects(fresh.unary(EchoService.unary, addr, "-", { signal }), {
    message: /it is node \w+, a worker/,
  });
});

async function listening(test: Test, server: Server): Promise<string> {
  server.on("connection", socket => socket.on("error", () => undefined));
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  test.teardown(() => void server.close());
  const bound = server.address();
  return `127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`;
}

t.test("what is at the address is said when it is no manager", async t => {
  const { clients } = await world(t, {}, {}, { connectTimeoutMs: 300, handshakeTimeoutMs: 300 });
  const call = (addr: string): Promise<string> =>
    clients.unary(EchoService.unary, addr, "-", { signal });
  const closed = createTcpServer();
  const refused = await listening(t, closed);
  await new Promise(resolve => closed.close(resolve));
  await t.rejects(call(refused), {
    code: "unavailable",
    message: `cannot connect to ${refused}: nothing listens there`,
  });
  await t.rejects(call("no-such-host.invalid:1"), {
    code: "unavailable",
    message: "cannot connect to no-such-host.invalid:1: the name is not known",
  });
  const ssh = await listening(
    t,
    createTcpServer(socket => void socket.end("SSH-2.0-x\r\n")),
  );
  await t.rejects(call(ssh), {
    code: "unavailable",
    message: `${ssh} answers, but not as a swarm manager (it does not speak TLS)`,
  });
  await t.rejects(call(await listening(t, createTcpServer())), {
    message: /answers, but not as a swarm manager \(it takes connections and says nothing\)/,
  });
  const hangUp = await listening(
    t,
    createTcpServer(socket => void socket.destroy()),
  );
  await t.rejects(call(hangUp), { message: /not as a swarm manager \(it closed the connection\)/ });
  const foreign = await (await TestCa.create()).identity("manager");
  const pair = { cert: foreign.certPem, key: foreign.keyPem };
  await t.rejects(call(await listening(t, createTlsServer({ ...pair, ALPNProtocols: ["h2"] }))), {
    message: /another cluster: this cluster's root did not sign/,
  });
  for (const text of ["", "host:0", "host:99999", "a b", "[::1", "-x:1"]) {
    t.throws(() => parseHostPort(text), { code: "invalid_argument" }, text);
  }
  t.same(parseHostPort("[fe80::1]:9"), { host: "fe80::1", port: 9 });
  t.same(parseHostPort("manager-1"), { host: "manager-1", port: 2377 });
});

t.test("closing lets calls finish, ends streams and then cuts", async t => {
  const hold = newDeferred<void>();
  const inside = newDeferred<void>();
  const { clients, addr, server } = await world(t, {
    unary: async request => {
      inside.resolve();
      await hold.promise;
      return request;
    },
    both: async function* (requests, context) {
      yield "open";
      await new Promise((_resolve, reject) => {
        context.signal.addEventListener("abort", () => reject(context.signal.reason));
      });
      yield* requests;
    },
  });
  const stream = clients.duplex(EchoService.both, addr, { signal });
  const responses = stream.responses[Symbol.asyncIterator]();
  t.equal((await responses.next()).value, "open");
  const running = clients.unary(EchoService.unary, addr, "done", { signal });
  await inside.promise;
  const closing = server.close(10_000);
  await t.rejects(responses.next(), { code: "unavailable", message: /shutting down/ });
  hold.resolve();
  t.equal(await running, "done");
  clients.close();
  await closing;
  t.equal(server.connectionCount(), 0);
});

t.test("the leader is found through anyone who knows it", async t => {
  const asked: string[] = [];
  const answers: Record<string, () => string> = {
    a: () => {
      throw new SwarmError("unavailable", "a is down");
    },
    b: () => {
      throw new SwarmError("not_leader", "ask c", { leader: "c" });
    },
    c: () => "led",
    w: () => {
      throw new SwarmError("invalid_argument", "wrong");
    },
  };
  const call = async (addr: string): Promise<string> => {
    asked.push(addr);
    return answers[addr]?.() ?? "";
  };
  const deps = { clock: realClock, rng: new SeededRng(1) };
  const options = { signal, timeoutMs: 0 };
  t.equal(await callLeader(call, { ...options, addrs: ["a", "b", "d"] }, deps), "led");
  t.same(asked, ["a", "b", "c"]);
  await t.rejects(callLeader(call, { ...options, addrs: ["w", "c"] }, deps), { message: "wrong" });
  await t.rejects(callLeader(call, { ...options, addrs: [] }, deps), { code: "unavailable" });
  let tries = 0;
  const election = async (): Promise<string> => {
    tries += 1;
    if (tries < 3) throw new SwarmError("not_leader", "no leader yet", { leader: "" });
    return "elected";
  };
  t.equal(
    await callLeader(election, { ...options, addrs: ["a"], timeoutMs: 9_000 }, deps),
    "elected",
  );
});

t.test("a taken port is named", async t => {
  const { addr, serverIdentity } = await world(t);
  const deps = { clock: realClock, logger: silentLogger, isRemoved: () => false };
  const second = new RpcServer({ listenAddr: addr }, { ...deps, identity: serverIdentity });
  await t.rejects(second.start(), {
    code: "failed_precondition",
    message: `cannot listen on ${addr}: another program listens there`,
  });
});
