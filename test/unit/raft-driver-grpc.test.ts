import { connect, createServer, type Server, type Socket } from "node:net";
import { performance } from "node:perf_hooks";
import t, { type Test } from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import { SeededRng } from "../../src/base/rng.ts";
import { newMessage } from "../../src/raft/core/message.ts";
import type { Message } from "../../src/raft/core/types.ts";
import { MAX_ENTRY_BYTES } from "../../src/raft/driver/options.ts";
import { crc32c } from "../../src/raft/storage/crc32c.ts";
import { EntryPacker, encodeMessage, encodeMeta } from "../../src/raft/transport/codec.ts";
import { PeerSender } from "../../src/raft/transport/peer-sender.ts";
import type { SnapshotChunk } from "../../src/rpc/gen/swarmd/v1/raft.ts";
import { eventually } from "../support/eventually.ts";
import { dialPlainly, freePort, GRPC_CLUSTER_ID, GrpcNode } from "../support/raft-grpc-node.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const never = new AbortController().signal;

async function startVoters(t: Test, count: number, options = {}): Promise<GrpcNode[]> {
  const dir = t.testdir();
  const first = await GrpcNode.start({
    raftId: 1,
    start: "bootstrap",
    dir: `${dir}/1`,
    ...options,
  });
  const nodes = [first];
  await eventually(() => first.leads, { what: "the first member leads" });
  for (let raftId = 2; raftId <= count; raftId += 1) {
    const node = await GrpcNode.start({
      raftId,
      start: "join",
      dir: `${dir}/${raftId}`,
      knownPeers: [first.self],
      ...options,
    });
    await first.driver.addMember(node.self, never);
    nodes.push(node);
  }
  await eventually(() => nodes.every(n => n.driver.status().conf.voters.length === count), {
    what: `${count} voters`,
  });
  return nodes;
}

function at(nodes: readonly GrpcNode[], position: number): GrpcNode {
  const node = nodes[position];
  if (node === undefined) throw new Error(`no node at ${position}`);
  return node;
}

function agreed(nodes: readonly GrpcNode[]): boolean {
  return new Set(nodes.map(node => JSON.stringify(node.machine.texts))).size === 1;
}

t.test("three members on disk and network: failover, restart, handover", async t => {
  const nodes = await startVoters(t, 3);
  const [first, second, third] = [at(nodes, 0), at(nodes, 1), at(nodes, 2)];
  const writes = Array.from({ length: 200 }, (_, i) =>
    first.driver.propose(Buffer.from(`write ${i}`), never),
  );
  t.equal((await Promise.all(writes)).length, 200);
  await second.driver.readBarrier(never);
  t.equal(second.machine.texts.length, 200, "a follower's read sees every acknowledged write");
  const appends = first.driver.stats().storage.appends;
  t.ok(appends < 150, `${appends} synced writes for 200 entries`);

  const largest = Buffer.alloc(MAX_ENTRY_BYTES, "l");
  await Promise.all([1, 2, 3].map(() => first.driver.propose(largest, never)));
  await second.driver.readBarrier(never);
  t.equal(second.machine.texts.at(-1)?.length, MAX_ENTRY_BYTES, "the largest entry travels");

  const killedMs = performance.now();
  await first.kill();
  const survivors = [second, third];
  const leader = await eventually(() => survivors.find(node => node.leads), {
    what: "a new leader",
    everyMs: 2,
  });
  await leader.driver.propose(Buffer.from("after the kill"), never);
  t.comment(`next acknowledged write after ${Math.round(performance.now() - killedMs)} ms`);
  t.ok(survivors.some(node => node.driver.stats().quickElections > 0));

  const { addr } = first.self;
  const dir = `${t.testdirName}/1`;
  const back = await GrpcNode.start({ raftId: 1, start: "restart", dir, addr });
  await eventually(() => back.machine.texts.length === 204, { what: "it catches up" });
  t.equal(await leader.stop(), null);
  const rest = [second, third, back].filter(node => node !== leader);
  const successor = await eventually(() => rest.find(node => node.leads), { what: "a successor" });
  await successor.driver.propose(Buffer.from("after the handover"), never);
  await eventually(() => agreed(rest), { what: "agreement" });
  await Promise.all(rest.map(node => node.stop()));
});

t.test("a late joiner gets a snapshot of several megabytes", async t => {
  const options = { snapshotEntries: 20, logEntriesForSlowFollowers: 2 };
  const first = at(await startVoters(t, 1, options), 0);
  const text = "x".repeat(100_000);
  for (let i = 0; i < 45; i += 1) await first.driver.propose(Buffer.from(`${i}${text}`), never);
  await eventually(() => first.driver.stats().snapshotsTaken >= 1, { what: "a snapshot" });
  const dir = `${t.testdirName}/late`;
  const late = await GrpcNode.start({ raftId: 2, start: "join", dir, ...options });
  await first.driver.addMember(late.self, never);
  await eventually(() => first.driver.status().conf.voters.length === 2 && agreed([first, late]), {
    what: "the late joiner votes",
  });
  t.match(late.driver.stats(), { snapshotsReceived: 1 });
  t.match(first.driver.stats(), { snapshotsSent: 1, membersPromoted: 1 });
  await late.stop();
  await first.stop();
});

/** Passes connections on to a port, and cuts the first that has carried so many bytes. */
class CuttingProxy {
  readonly #server: Server;
  readonly #cutAfterBytes: number;
  bytes = 0;
  cuts = 0;

  constructor(toPort: number, cutAfterBytes: number) {
    this.#cutAfterBytes = cutAfterBytes;
    this.#server = createServer(client => this.#pass(client, connect(toPort, "127.0.0.1")));
  }

  async listen(): Promise<string> {
    await new Promise<void>(resolve => this.#server.listen(0, "127.0.0.1", resolve));
    const bound = this.#server.address();
    return `127.0.0.1:${typeof bound === "object" ? bound?.port : ""}`;
  }

  close(): void {
    this.#server.close();
  }

  #pass(client: Socket, server: Socket): void {
    let carried = 0;
    client.on("data", bytes => {
      carried += bytes.length;
      this.bytes += bytes.length;
      if (carried < this.#cutAfterBytes || this.cuts > 0) return;
      this.cuts += 1;
      client.destroy();
      server.destroy();
    });
    for (const [from, to] of [[client, server] as const, [server, client] as const]) {
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
      from.pipe(to);
    }
  }
}

t.test("a snapshot whose transfer breaks goes on where it was", async t => {
  const options = { snapshotEntries: 20, logEntriesForSlowFollowers: 2 };
  const first = at(await startVoters(t, 1, options), 0);
  const text = "x".repeat(400_000);
  for (let i = 0; i < 20; i += 1) await first.driver.propose(Buffer.from(`${i}${text}`), never);
  await eventually(() => first.driver.stats().snapshotsTaken >= 1, { what: "a snapshot" });
  const port = await freePort();
  const proxy = new CuttingProxy(port, 5_000_000);
  const late = await GrpcNode.start({
    raftId: 2,
    start: "join",
    dir: `${t.testdirName}/late`,
    addr: `127.0.0.1:${port}`,
    advertise: await proxy.listen(),
    ...options,
  });
  await first.driver.addMember(late.self, never);
  await eventually(() => first.driver.status().conf.voters.length === 2 && agreed([first, late]), {
    what: "the late joiner votes",
  });
  t.equal(proxy.cuts, 1, "the transfer was cut off");
  t.match(late.driver.stats(), { snapshotsReceived: 1 });
  t.match(first.driver.stats(), { snapshotsSent: 1, snapshotFailures: 0 });
  const sent = 20 * text.length;
  t.ok(proxy.bytes > sent && proxy.bytes < 1.3 * sent, `${proxy.bytes} bytes for ${sent}`);
  await late.stop();
  await first.stop();
  proxy.close();
});

/** Sends one call's worth of snapshot chunks; the status details it ends with, or "ok". */
function install(node: GrpcNode, bodies: readonly SnapshotChunk["body"][]): Promise<string> {
  const client = dialPlainly(node.self);
  return new Promise<string>(resolve => {
    const call = client.installSnapshot(error => resolve(error?.details ?? "ok"));
    for (const body of bodies) call.write({ body });
    call.end();
  }).finally(() => client.close());
}

/** How much of the snapshot of that index, term 9, the node says it has. */
function partAt(node: GrpcNode, index: number): Promise<number> {
  const client = dialPlainly(node.self);
  const { conf } = node.driver.status();
  const snapshot = encodeMeta({ index, term: 9, conf });
  return new Promise<number>((resolve, reject) => {
    client.probe({ clusterId: GRPC_CLUSTER_ID, snapshot }, (error, reply) => {
      if (error === null) resolve(reply.snapshotBytes);
      else reject(error);
    });
  }).finally(() => client.close());
}

t.test("strangers, wrong addressees and damaged snapshots are refused", async t => {
  const node = at(await startVoters(t, 1), 0);
  const conf = { ...node.driver.status().conf, voters: [1, 2] };
  const snap = newMessage("snap", {
    from: 2,
    to: 1,
    term: 9,
    snapshot: { index: 900, term: 9, conf },
  });
  const header = (
    message: Message,
    clusterId = GRPC_CLUSTER_ID,
    fromBytes = 0,
  ): SnapshotChunk["body"] => ({
    $case: "header",
    value: { clusterId, message: encodeMessage(message) ?? undefined, fromBytes },
  });
  const value = Buffer.from("state");
  const data: SnapshotChunk["body"] = { $case: "data", value };
  const trailer = (crc: number): SnapshotChunk["body"] => ({
    $case: "trailer",
    value: { bytes: value.length, crc32c: crc },
  });
  const good = trailer(crc32c(value));
  t.match(await install(node, [header(snap), data, trailer(1)]), /checksum is wrong/);
  t.match(await install(node, [header(snap), data]), /cut short/);
  t.match(await install(node, [data, good]), /not a snapshot stream/);
  t.match(await install(node, [header(snap, "other"), data, good]), /another cluster/);
  t.match(await install(node, [header({ ...snap, to: 3 }), data, good]), /3 does not live here/);
  t.equal(await partAt(node, 900), value.length, "what a cut call brought is kept");
  t.equal(await partAt(node, 901), 0);
  const at4 = header(snap, GRPC_CLUSTER_ID, 4);
  t.match(await install(node, [at4, data, good]), /has brought is gone/, "not where it ended");
  t.equal(await partAt(node, 900), 0);
  await install(node, [header(snap), data]);
  const at5 = header(snap, GRPC_CLUSTER_ID, value.length);
  t.match(await install(node, [at5, trailer(1)]), /checksum is wrong/);
  t.equal(await partAt(node, 900), 0, "and what proves wrong is not");
  const stale = { ...snap, term: 0 };
  t.equal(await install(node, [header(stale), data, good]), "ok", "an old one is only ignored");
  t.equal(node.driver.stats().snapshotsReceived, 0);

  const client = dialPlainly(node.self);
  const hello = (clusterId: string, to: number): Promise<string> =>
    new Promise(resolve => {
      const stream = client.stream();
      stream.on("error", (error: { details?: string }) => resolve(error.details ?? ""));
      stream.on("data", () => {
        resolve("welcome");
        stream.end();
      });
      const from = { raftId: 2, nodeId: "node-2", addr: "127.0.0.1:1" };
      stream.write({ hello: { clusterId, to, from }, messages: [] });
    });
  t.match(await hello("other", 1), /another cluster/);
  t.match(await hello(GRPC_CLUSTER_ID, 5), /member 1 lives here/);
  t.equal(await hello(GRPC_CLUSTER_ID, 1), "welcome");

  const spoofed = client.stream();
  spoofed.on("error", () => undefined);
  const from = { raftId: 2, nodeId: "node-2", addr: "127.0.0.1:1" };
  spoofed.write({ hello: { clusterId: GRPC_CLUSTER_ID, to: 1, from }, messages: [] });
  const { refusedMessages } = node.driver.stats().transport;
  const vote = newMessage("vote", { from: 3, to: 1, term: 99 });
  const wires = [vote, snap, { ...vote, from: 2, to: 7 }].map(message => encodeMessage(message));
  spoofed.write({ hello: undefined, messages: wires.filter(wire => wire !== null) });
  await eventually(() => node.driver.stats().transport.refusedMessages === refusedMessages + 3, {
    what: "all three are refused",
  });
  t.ok(node.driver.status().term < 99);
  client.close();

  const probed = await node.transport.probe(node.self, never);
  t.match(probed, { raftId: 1, nodeId: "node-1", clusterId: GRPC_CLUSTER_ID });
  await node.stop();
  await t.rejects(
    node.transport.probe({ ...node.self, addr: "127.0.0.1:1" }, AbortSignal.abort()),
    {
      code: "unavailable",
    },
  );
});

t.test("a silent peer is given up and dialled again", async t => {
  const clock = new VirtualClock();
  const peer = { raftId: 2, nodeId: "node-2", addr: "127.0.0.1:9" };
  const self = { raftId: 1, nodeId: "node-1", addr: "127.0.0.1:9" };
  const counters = { sentMessages: 0, sentBatches: 0, droppedMessages: 0, connects: 0 };
  let unreachable = 0;
  let refuse = true;
  const sender = new PeerSender(
    { clusterId: "c", self, peer },
    {
      dial: to => {
        if (refuse) throw new Error("shutting down");
        // Nothing listens, but the virtual clock is faster than the refusal.
        return dialPlainly(to);
      },
      clock,
      rng: new SeededRng(1),
      log: silentLogger,
      packer: new EntryPacker(),
      onUnreachable: () => {
        unreachable += 1;
      },
    },
    counters,
  );
  sender.send(newMessage("heartbeat", { from: 1, to: 2, term: 1 }));
  t.match({ unreachable, ...counters }, { unreachable: 1, droppedMessages: 1, connects: 1 });
  refuse = false;
  clock.advance(100);
  t.equal(counters.connects, 2);
  sender.send(newMessage("heartbeat", { from: 1, to: 2, term: 1 }));
  t.equal(counters.droppedMessages, 1, "queued while it connects");
  t.notOk(sender.reachable);
  clock.advance(3200);
  t.ok(counters.connects >= 3, `${counters.connects} connects`);
  sender.close();
  clock.advance(10_000);
  t.equal(clock.pending, 0, "nothing goes on after close");
});
