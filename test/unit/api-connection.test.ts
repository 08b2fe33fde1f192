import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { apiRig, controlRig } from "../support/control-rig.ts";
import { eventually } from "../support/eventually.ts";
import { managerRig } from "../support/manager-rig.ts";
import { VirtualClock } from "../support/virtual-clock.ts";

const MIB = 1024 * 1024;

/** A client that keeps what it is told. */
function connect(socketPath: string) {
  const socket = net.connect(socketPath);
  const seen = { text: "", closed: false };
  socket.on("data", chunk => {
    seen.text += String(chunk);
  });
  socket
    .on("error", () => undefined)
    .on("close", () => {
      seen.closed = true;
    });
  return { socket, seen };
}

/**
 * An Engine as it was before upgrades: it leaves HTTP behind without a word. It gives back what it
 * gets, says something `last`, and closes.
 */
async function hijackingEngine(
  t: Test,
  last = Buffer.alloc(0),
): Promise<{ socketPath: string; heads: string[]; closed: string[] }> {
  const dir = mkdtempSync(join(tmpdir(), "hijacking-engine-"));
  const socketPath = join(dir, "docker.sock");
  const heads: string[] = [];
  const closed: string[] = [];
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    socket.on("error", () => socket.destroy());
    socket.once("data", (start: Buffer) => {
      const [head = "", body = ""] = start.toString().split("\r\n\r\n");
      if (head.startsWith("GET")) {
        socket.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK");
        return;
      }
      heads.push(head);
      socket.write(`HTTP/1.1 200 OK\r\nContent-Type: ${RAW_STREAM}\r\n\r\n${body}`);
      socket.pipe(socket, { end: false });
      socket.on("end", () => socket.end(last)).on("close", () => closed.push(head));
    });
  });
  await new Promise<void>(resolve => server.listen(socketPath, resolve));
  t.teardown(() => {
    server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return { socketPath, heads, closed };
}

const RAW_STREAM = "application/vnd.docker.raw-stream";

t.test("a client that takes the connection over without asking is joined to it", async t => {
  const engine = await hijackingEngine(t);
  const api = await apiRig(controlRig(), engine.socketPath);
  t.teardown(() => api.close());
  for (const path of ["/v1.12/containers/a/attach?stdin=1", "/exec/b/start"]) {
    const client = net.connect({ path: api.socketPath, allowHalfOpen: true });
    const text: Promise<string> = new Promise(resolve => {
      let got = "";
      client.on("data", chunk => {
        got += String(chunk);
        if (got.endsWith("body")) client.write("typed");
        if (got.endsWith("typed")) client.end();
      });
      client.on("end", () => resolve(got));
    });
    client.write(`POST ${path} HTTP/1.1\r\nHost: d\r\nConnection: keep-alive\r\n`);
    await new Promise<void>(resolve => setImmediate(resolve));
    client.write("Content-Length: 4\r\n\r\nbody");
    t.equal(await text, `HTTP/1.1 200 OK\r\nContent-Type: ${RAW_STREAM}\r\n\r\nbodytyped`, path);
    const head = `POST ${path} HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\nConnection: close`;
    t.equal(engine.heads.at(-1), head, "nothing else goes past us on this connection");
  }
});

t.test("a slow reader that has closed its half gets all that the Engine has said", async t => {
  const last = randomBytes(MIB - MIB / 8);
  const engine = await hijackingEngine(t, last);
  const api = await apiRig(controlRig(), engine.socketPath);
  t.teardown(() => api.close());
  for (const upgrade of ["", "Connection: Upgrade\r\nUpgrade: tcp\r\n"]) {
    const client = net.connect({ path: api.socketPath, allowHalfOpen: true });
    client.pause();
    client.end(`POST /exec/b/start HTTP/1.1\r\nHost: d\r\n${upgrade}\r\n`);
    await eventually(() => engine.closed.length > 0, { what: "the Engine to have closed" });
    engine.closed.length = 0;
    const chunks: Buffer[] = [];
    client.on("data", (chunk: Buffer) => chunks.push(chunk));
    client.resume();
    await new Promise<void>(resolve => client.on("end", resolve).on("close", () => resolve()));
    client.destroy();
    t.ok(Buffer.concat(chunks).subarray(-last.length).equals(last), upgrade);
  }
});

t.test("so is one that asked for other things before", async t => {
  const engine = await hijackingEngine(t);
  const api = await apiRig(controlRig(), engine.socketPath);
  t.teardown(() => api.close());
  const client = net.connect({ path: api.socketPath, allowHalfOpen: true });
  let got = "";
  client.on("data", chunk => {
    got += String(chunk);
  });
  const until = (end: string) => eventually(() => got.endsWith(end), { what: end });
  client.write("GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n");
  await until("OK");
  client.write("POST /v1.41/services/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n\r\n{");
  client.write("[");
  await until("}\n");
  t.match(got, /HTTP\/1\.1 400 Bad Request/);
  client.write("POST /exec/b/start HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\n\r\nbody");
  await until("body");
  client.end("typed");
  await until("typed");
  t.equal(engine.heads.at(-1)?.split("\r\n")[0], "POST /exec/b/start HTTP/1.1");
});

t.test("what a body says is no request", async t => {
  const { api, engine } = await managerRig(t);
  const client = net.connect({ path: api.socketPath, allowHalfOpen: true });
  let got = "";
  client.on("data", chunk => {
    got += String(chunk);
  });
  const inner = "POST /exec/b/start HTTP/1.1\r\nHost: d\r\n\r\n";
  for (const [length, what] of [
    [`Content-Length: ${inner.length}\r\n`, inner],
    ["Transfer-Encoding: chunked\r\n", `${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`],
  ]) {
    got = "";
    client.write(`POST /v1.41/secrets/create HTTP/1.1\r\nHost: d\r\n${length}\r\n`);
    await new Promise<void>(resolve => setImmediate(resolve));
    client.write(what ?? "");
    await eventually(() => got.includes("invalid character 'P'"), { what: "the refusal" });
  }
  t.notMatch(engine.requests.join(), /exec/);
  got = "";
  const next = "GET /v1.41/nodes HTTP/1.1\r\nHost: d\r\n\r\n";
  client.write(`${next}POST /exec/b/start HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n`);
  await eventually(() => got.includes("page not found"), { what: "both answers" });
  t.match(got, /^HTTP\/1\.1 200 OK/);
  client.destroy();
});

t.test("every request of a connection is looked at, also when they come at once", async t => {
  const engine = await hijackingEngine(t);
  const clock = new VirtualClock();
  const api = await apiRig(controlRig(), engine.socketPath, clock);
  t.teardown(() => api.close());
  const create = "POST /v1.41/secrets/create HTTP/1.1\r\nHost: d\r\n";
  const chunked = `${create}Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n0\r\nTrailer: x\r\n\r\n`;
  const plain = `${create}Content-Length: 1\r\n\r\n{`;
  const exec = "POST /exec/b/start HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\n\r\nbody";
  const open = () => connect(api.socketPath);
  const answers = (text: string) => text.split("HTTP/1.1 ").map(part => part.slice(0, 3));

  for (const size of [1, 7, 10_000]) {
    const { socket, seen } = open();
    const all = Buffer.from(chunked + plain + chunked + exec);
    for (let at = 0; at < all.length; at += size) {
      socket.write(all.subarray(at, at + size));
      if (size < all.length) await new Promise<void>(resolve => setImmediate(resolve));
    }
    await eventually(() => seen.text.endsWith("body"), { what: "what the Engine gives back" });
    t.same(answers(seen.text), ["", "400", "400", "400", "200"], `in pieces of ${size} bytes`);
    socket.end("typed");
    await eventually(() => seen.text.endsWith("typed"), { what: "the joined connection" });
    socket.destroy();
  }

  const large = open();
  const declared = `${create}Content-Length: 999999999\r\n\r\nx`;
  large.socket.write(chunked + plain + declared);
  await eventually(() => large.seen.text.includes("413"), { what: "the limit of a later body" });
  large.socket.destroy();

  const slow = open();
  slow.socket.write(`${chunked}POST /services/create HTTP/1.1\r\nHost`);
  await eventually(() => slow.seen.text.includes("unexpected EOF"), { what: "the first answer" });
  await eventually(() => clock.pending > 0, { what: "the limit of the next head" });
  clock.advance(60_000);
  await eventually(() => slow.seen.closed, { what: "the end" });
  t.match(slow.seen.text, /HTTP\/1\.1 408 /);
});

t.test("a client that is too slow is let go", async t => {
  const { engine } = await managerRig(t);
  const clock = new VirtualClock();
  const rig = controlRig();
  const api = await apiRig(rig, engine.socketPath, clock);
  t.teardown(() => api.close());
  const open = async (start: string) => {
    const { socket, seen } = connect(api.socketPath);
    const timers = clock.pending;
    socket.write(start);
    await eventually(() => clock.pending > timers, { what: "a limit" });
    return { socket, seen };
  };
  const gone = (seen: { closed: boolean }) => eventually(() => seen.closed, { what: "the end" });

  const head = await open("POST /services/create HTTP/1.1\r\nHost");
  clock.advance(59_000);
  head.socket.write(": d\r\n");
  await new Promise<void>(resolve => setImmediate(resolve));
  clock.advance(1_000);
  await gone(head.seen);
  t.match(head.seen.text, /^HTTP\/1\.1 408 /, "a head has a minute, however it trickles");

  const create = "POST /services/create HTTP/1.1\r\nHost: d\r\n";
  const silent = await open(`${create}Content-Length: 9\r\n\r\n`);
  await eventually(() => clock.pending >= 2, { what: "the limits of the body" });
  clock.advance(10_000);
  await gone(silent.seen);
  t.match(silent.seen.text, /^HTTP\/1\.1 408 .*the request body did not arrive within 30 s/s);

  const trickling = await open(`${create}Content-Length: 900\r\n\r\n`);
  await eventually(() => clock.pending >= 2, { what: "the limits of the body" });
  for (let i = 0; i < 6 && !trickling.seen.closed; i += 1) {
    trickling.socket.write(" ");
    await new Promise<void>(resolve => setImmediate(resolve));
    await new Promise<void>(resolve => setImmediate(resolve));
    clock.advance(5_000);
  }
  await gone(trickling.seen);
  t.match(trickling.seen.text, /^HTTP\/1\.1 408 /);

  const large = await open(`${create}Content-Length: 999999999\r\n\r\nx`);
  await eventually(() => large.seen.text.includes("413"), { what: "the refusal" });
  await eventually(() => clock.pending > 0, { what: "the limit of the rest" });
  clock.advance(5_000);
  await gone(large.seen);
  t.equal(clock.pending, 0, "nothing is held");
});

t.test("requests that arrive in pieces are requests", async t => {
  const { api } = await managerRig(t);
  const client = net.connect({ path: api.socketPath, allowHalfOpen: true });
  let got = "";
  client.on("data", chunk => {
    got += String(chunk);
  });
  for (const piece of ["PO", "ST /services/cr", "eate HTTP/1.1\r\nHost: d\r\n"]) {
    client.write(piece);
    await new Promise<void>(resolve => setImmediate(resolve));
  }
  client.write("Content-Length: 1\r\n\r\n{");
  await eventually(() => got.includes("unexpected EOF"), { what: "the answer" });
  client.write("GET /v1.41/nodes HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  await eventually(() => got.includes("HTTP/1.1 200 OK"), { what: "the next answer" });
  client.destroy();
});
