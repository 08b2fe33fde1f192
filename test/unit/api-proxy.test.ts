import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import net from "node:net";
import t from "tap";
import { apiRig, controlRig } from "../support/control-rig.ts";
import { eventually } from "../support/eventually.ts";
import { ask } from "../support/fake-engine.ts";
import { managerRig, message } from "../support/manager-rig.ts";

const MIB = 1024 * 1024;

t.test("answers pass through as they are", async t => {
  const { ask, engine } = await managerRig(t);
  engine.on("GET /images/json", (request, response) => {
    response.writeHead(206, "Some Of It", [
      "X-Multi",
      "a",
      "X-Multi",
      "b",
      "Content-Type",
      "application/x-thing",
      "X-Seen",
      String(request.headers["x-sent"]),
    ]);
    response.end(request.url);
  });
  const reply = await ask("GET", "/v1.41/images/json?all=0&x=%20", {
    headers: { "X-Sent": "hello" },
  });
  t.equal(reply.status, 206);
  t.match(reply.headers, {
    "x-multi": "a, b",
    "content-type": "application/x-thing",
    "x-seen": "hello",
  });
  t.equal(reply.text, "/v1.41/images/json?all=0&x=%20", "the URL is not touched");
  engine.on("DELETE /containers/a", (_request, response) => response.writeHead(204).end());
  t.equal((await ask("DELETE", "/containers/a")).status, 204);
});

t.test("bodies of any length stream both ways", async t => {
  const { api, engine } = await managerRig(t);
  engine.on("POST /images/load", (request, response) => {
    response.writeHead(200);
    request.pipe(response);
  });
  const sent = createHash("sha256");
  const got = createHash("sha256");
  let received = 0;
  await new Promise<void>((resolve, reject) => {
    const request = http.request(
      { socketPath: api.socketPath, method: "POST", path: "/images/load" },
      response => {
        response.on("data", (chunk: Buffer) => {
          received += chunk.length;
          got.update(chunk);
        });
        response.on("end", resolve);
      },
    );
    request.on("error", reject);
    const block = randomBytes(MIB);
    let left = 24;
    const write = (): void => {
      while (left > 0) {
        left -= 1;
        sent.update(block);
        if (!request.write(block)) {
          request.once("drain", write);
          return;
        }
      }
      request.end();
    };
    write();
  });
  t.equal(received, 24 * MIB);
  t.equal(got.digest("hex"), sent.digest("hex"));
});

t.test("an Engine that stops reading holds the client back", async t => {
  const { api, engine } = await managerRig(t);
  const got = createHash("sha256");
  let body: http.IncomingMessage | null = null;
  engine.on("POST /images/load", (request, response) => {
    body = request;
    request.on("end", () => response.end("loaded"));
  });
  const socket = net.connect(api.socketPath);
  const bytes = 64 * MIB;
  socket.write(`POST /images/load HTTP/1.1\r\nHost: a\r\nContent-Length: ${bytes}\r\n\r\n`);
  const block = randomBytes(MIB);
  const sent = createHash("sha256");
  for (let i = 0; i < bytes / MIB; i += 1) {
    sent.update(block);
    socket.write(block);
  }
  await eventually(() => body !== null, { what: "the request" });
  // As much as one turn of everything takes; the rest must not have left the client.
  for (let i = 0; i < 50; i += 1) await new Promise(resolve => setImmediate(resolve));
  t.ok(socket.writableLength > bytes / 2, "most of it waits where it is");
  const answer = new Promise<string>(resolve => socket.once("data", d => resolve(String(d))));
  const waiting = body as unknown as http.IncomingMessage;
  waiting.on("data", (chunk: Buffer) => got.update(chunk));
  t.match(await answer, /loaded/);
  t.equal(got.digest("hex"), sent.digest("hex"));
  socket.destroy();
});

t.test("a reader that stops holds the Engine back", async t => {
  const { api, engine } = await managerRig(t);
  let written = 0;
  let blocked = false;
  engine.on("GET /images/a/get", (_request, response) => {
    const more = (): void => {
      while (written < 256) {
        written += 1;
        if (!response.write(Buffer.alloc(MIB))) {
          blocked = true;
          response.once("drain", more);
          return;
        }
      }
      response.end();
    };
    more();
  });
  const request = http.get({ socketPath: api.socketPath, path: "/images/a/get" });
  const response = await new Promise<http.IncomingMessage>(resolve =>
    request.on("response", resolve),
  );
  response.pause();
  let before = -1;
  await eventually(
    () => {
      const still = written === before && blocked;
      before = written;
      return still;
    },
    { what: "the Engine to be held back", everyMs: 100 },
  );
  t.ok(written < 64, `${written} MiB are under way`);
  response.destroy();
});

t.test("headers arrive before the first byte, and each chunk at once", async t => {
  const { api, engine } = await managerRig(t);
  let source: http.ServerResponse | null = null;
  engine.on("GET /containers/a/logs", (_request, response) => {
    response.writeHead(200);
    response.flushHeaders();
    source = response;
  });
  const request = http.get({ socketPath: api.socketPath, path: "/containers/a/logs?follow=1" });
  const response = await new Promise<http.IncomingMessage>(resolve =>
    request.on("response", resolve),
  );
  t.equal(response.statusCode, 200);
  let text = "";
  response.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  response.on("error", () => undefined);
  const engineSide = await eventually(() => source, { what: "the Engine's end" });
  engineSide.write("one");
  await eventually(() => text === "one", { what: "the first chunk" });
  request.destroy();
  await eventually(() => engineSide.destroyed, { what: "the Engine's end to be given up" });
  t.pass("cancelled on both sides");
});

t.test("an Engine that breaks off breaks off for the client", async t => {
  const { api, engine } = await managerRig(t);
  engine.on("GET /containers/a/logs", (_request, response) => {
    response.writeHead(200, { "Content-Length": 10 });
    response.write("half", () => response.destroy());
  });
  await t.rejects(ask(api.socketPath, "GET", "/containers/a/logs"), /aborted|hang up|ECONNRESET/);
});

t.test("hijacked connections are tunnels, half-closes included", async t => {
  const { api, engine } = await managerRig(t);
  const socket = net.connect({ path: api.socketPath, allowHalfOpen: true });
  let text = "";
  let ended = false;
  socket.on("data", chunk => {
    text += chunk.toString();
  });
  socket.on("end", () => {
    ended = true;
  });
  socket.write(
    "POST /v1.41/exec/a/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\n{}",
  );
  await eventually(() => text.endsWith("\r\n\r\n{}"), { what: "the upgrade and the echoed body" });
  t.match(text, /^HTTP\/1\.1 101 UPGRADED\r\n/);
  t.ok(engine.requests.includes("UPGRADE /v1.41/exec/a/start"));
  socket.write("typed");
  await eventually(() => text.endsWith("typed"), { what: "the echo" });
  socket.end("last");
  await eventually(() => ended && text.endsWith("last"), { what: "the echo of what came last" });
  t.pass("the other half stayed open until it was done");
});

t.test("a client that would rather speak HTTP/2 is answered all the same", async t => {
  const { api, engine } = await managerRig(t);
  const headers = { Connection: "Upgrade, HTTP2-Settings", Upgrade: "h2c", "HTTP2-Settings": "" };
  const reply = await ask(api.socketPath, "GET", "/v1.41/services", { headers });
  t.same([reply.status, reply.body], [200, []]);
  t.notMatch(engine.requests.join(), /services/);
});

t.test("without an Engine the cluster is still answered", async t => {
  const rig = controlRig();
  const api = await apiRig(rig, "/nonexistent/docker.sock");
  t.teardown(() => api.close());
  const down =
    /^503 Cannot connect to the Docker Engine at unix:\/\/\/nonexistent\/docker\.sock .*Is the Engine running on this host\?/;
  for (const path of ["/containers/json", "/info", "/version", "/networks", "/events?until=1"]) {
    t.match(message(await ask(api.socketPath, "GET", path)), down, path);
  }
  const ping = await ask(api.socketPath, "GET", "/_ping");
  t.same([ping.status, ping.headers["api-version"]], [200, "1.41"]);
  t.equal((await ask(api.socketPath, "GET", "/services")).status, 200);
  const reply = await new Promise<http.IncomingMessage>((resolve, reject) => {
    const headers = { Connection: "Upgrade", Upgrade: "tcp" };
    const request = http.request({
      socketPath: api.socketPath,
      method: "POST",
      path: "/session",
      headers,
    });
    request.on("response", resolve).on("error", reject).end();
  });
  t.equal(reply.statusCode, 503);
  reply.resume();
});

t.test("a kept connection that died is not the client's concern", async t => {
  const { ask, engine } = await managerRig(t);
  let count = 0;
  engine.on("GET /containers/json", (request, response) => {
    count += 1;
    response.end("[]", () => {
      // The next request finds the connection closed.
      if (count === 1) request.socket.destroy();
    });
  });
  for (let i = 0; i < 5; i += 1) t.equal((await ask("GET", "/containers/json")).status, 200);
});

t.test("closing ends what is open", async t => {
  const { api, engine } = await managerRig(t);
  engine.on("GET /events", (_request, response) => response.writeHead(200).flushHeaders());
  const socket = net.connect(api.socketPath);
  const closed: string[] = [];
  socket
    .on("close", () => closed.push("tunnel"))
    .on("error", () => undefined)
    .resume();
  socket.write("POST /session HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
  const request = http.get({ socketPath: api.socketPath, path: "/events" });
  request.on("error", () => undefined);
  await new Promise<void>(resolve => {
    request.on("response", response => {
      response
        .on("error", () => undefined)
        .on("close", () => closed.push("stream"))
        .resume();
      resolve();
    });
  });
  await eventually(() => engine.requests.includes("UPGRADE /session"), { what: "the tunnel" });
  await api.server.close();
  await eventually(() => closed.length === 2, { what: "both to end" });
  t.same([...closed].sort(), ["stream", "tunnel"]);
});

t.test("containers are shown as swarm mode's", async t => {
  const { ask, engine } = await managerRig(t);
  const own = '"swarmd.cluster.id":"abc123"';
  const said = `{"a":"x","com.docker.swarm.task":"",${own}}`;
  const env = JSON.stringify(`A={"a":"x",${own}}`);
  const body = `{"Env":[${env}],"Labels":{"a":"x","com.docker.swarm.task":"",${own}}}`;
  engine.on("GET /containers/a/json", (_request, response) => {
    response.writeHead(200, { "Content-Type": "application/json" }).end(body);
  });
  const reply = await ask("GET", "/containers/a/json");
  t.same(reply.body, {
    Env: [`A={"a":"x",${own}}`],
    Labels: { a: "x", "com.docker.swarm.task": "" },
  });
  const list = `[{"Labels":{${own}}},{"Labels":{${own},"z":"1"}},{"Labels":${said}}]`;
  engine.on("GET /containers/json", (_request, response) => void response.end(list));
  t.same(
    (await ask("GET", "/containers/json?all=1")).text,
    '[{"Labels":{}},{"Labels":{"z":"1"}},{"Labels":{"a":"x","com.docker.swarm.task":""}}]',
  );
  engine.on("GET /containers/b/json", (_request, response) => {
    response.writeHead(404).end('{"message":"No such container: b"}');
  });
  t.equal(message(await ask("GET", "/containers/b/json")), "404 No such container: b");
});

t.test("a container on a network of the cluster", async t => {
  const { ask, engine, client, lifecycle } = await managerRig(t);
  const create = (Name: string, Attachable: boolean) =>
    client.call(
      "network.create",
      { id: `${Name}${"0".repeat(24)}`, spec: { Name, Driver: "overlay", Attachable } },
      new AbortController().signal,
    );
  await create("n", false);
  await create("m", true);
  const startOn = async (network: string): Promise<string> => {
    engine.on("POST /containers/a/start", (_request, response) => {
      response.writeHead(404).end(JSON.stringify({ message: `network ${network} not found` }));
    });
    return message(await ask("POST", "/containers/a/start"));
  };
  t.equal(
    await startOn("n"),
    "403 Could not attach to network n: rpc error: code = PermissionDenied desc = network n not " +
      "manually attachable",
  );
  lifecycle.asked.length = 0;
  t.equal(await startOn("m"), "404 network m not found", "the Engine's second answer counts");
  t.same(lifecycle.asked, [["attach", `m${"0".repeat(24)}`]], "it was given the network before");
  let created = "";
  engine.on("POST /containers/create", (request, response) => {
    request.on("data", (chunk: Buffer) => {
      created += chunk.toString();
    });
    request.on("end", () => response.writeHead(201).end('{"Id":"c"}'));
  });
  const json = { Image: "i", HostConfig: { NetworkMode: "m" } };
  await ask("POST", "/containers/create", { json });
  t.same(JSON.parse(created), {
    Image: "i",
    HostConfig: { NetworkMode: "m", Dns: ["10.0.1.1"] },
  });
  t.equal(await startOn("x"), "404 network x not found", "one that nobody knows");
  engine.on("POST /containers/a/start", (_request, response) => response.writeHead(304).end());
  t.equal((await ask("POST", "/containers/a/start")).status, 304);
});
