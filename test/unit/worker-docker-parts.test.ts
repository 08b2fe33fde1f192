import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import fc from "fast-check";
import t from "tap";
import { LogDecoder, type LogRecord, parseTimestampNs } from "../../src/worker/core/log-frames.ts";
import { planAssignments, planOwnership } from "../../src/worker/core/reconcile.ts";
import { containerView, nodeDescription } from "../../src/worker/docker/answers.ts";
import { DockerEngine } from "../../src/worker/docker/engine.ts";
import { engineError } from "../../src/worker/docker/engine-error.ts";
import { pullQuery } from "../../src/worker/docker/image-ref.ts";
import { readJsonLines } from "../../src/worker/docker/json-lines.ts";
import { TaskFileStore } from "../../src/worker/docker/task-files.ts";
import { LevelLocalStore } from "../../src/worker/local-store.ts";
import { Semaphore } from "../../src/worker/semaphore.ts";
import { assign, aTask, unassign } from "../support/tasks.ts";
import { VirtualClock } from "../support/virtual-clock.ts";
import { settle } from "../support/virtual-run.ts";

function text(record: LogRecord): string {
  return `${record.stream} ${record.timestampNs} ${new TextDecoder().decode(record.data)}`;
}

function frame(stream: number, payload: string): Uint8Array {
  const body = Buffer.from(payload);
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

t.test("log frames, however they are cut", async t => {
  const stream = Buffer.concat([
    frame(1, "2023-11-14T22:13:20.000000001Z a=b,c=d%20e hello world\n"),
    frame(2, "2023-11-14T22:13:21.5Z  oops\n"),
    frame(1, "no stamp"),
  ]);
  const expected = [
    "stdout 1700000000000000001 hello world\n",
    "stderr 1700000001500000000 oops\n",
    "stdout 0 no stamp",
  ];
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length), { maxLength: 8 }), cuts => {
      const decoder = new LogDecoder({ tty: false });
      const ends = [...cuts].sort((a, b) => a - b).concat(stream.length);
      const records: LogRecord[] = [];
      let from = 0;
      for (const to of ends) {
        records.push(...decoder.push(stream.subarray(from, to)));
        from = to;
      }
      return (
        JSON.stringify(records.map(text)) === JSON.stringify(expected) &&
        JSON.stringify(records[0]?.attrs) === '{"a":"b","c":"d e"}'
      );
    }),
  );
  const tty = new LogDecoder({ tty: true });
  const lines = tty.push(Buffer.from("2023-11-14T22:13:20Z  one\r\n2023-11-14T22:13:20Z  tw"));
  t.strictSame([...lines, ...tty.end()].map(text), [
    "stdout 1700000000000000000 one\r\n",
    "stdout 1700000000000000000 tw",
  ]);
  const huge = Buffer.alloc(8);
  huge.writeUInt32BE(0xff000000, 4);
  t.throws(() => new LogDecoder({ tty: false }).push(huge), { code: "data_loss" });
});

t.test("timestamps agree with the platform's", async t => {
  fc.assert(
    fc.property(fc.date({ noInvalidDate: true, min: new Date(0) }), date => {
      if (date.getUTCFullYear() > 9999) return true;
      return parseTimestampNs(date.toISOString()) === String(BigInt(date.getTime()) * 1_000_000n);
    }),
  );
  t.equal(parseTimestampNs("1970-01-01T01:00:00+01:00"), "0");
  t.equal(parseTimestampNs("yesterday"), null);
});

t.test("what a pull asks for", async t => {
  t.strictSame(pullQuery("busybox"), { fromImage: "busybox", tag: "latest" });
  t.strictSame(pullQuery("host:5000/a/b"), { fromImage: "host:5000/a/b", tag: "latest" });
  t.strictSame(pullQuery("host:5000/a/b:v1"), { fromImage: "host:5000/a/b", tag: "v1" });
  t.strictSame(pullQuery("a:v1@sha256:00"), { fromImage: "a:v1@sha256:00" });
});

function httpError(statusCode: number, message: string): Error {
  return Object.assign(new Error("(HTTP code)"), { statusCode, json: { message } });
}

t.test("what the Engine's errors mean", async t => {
  const of = (error: unknown): string => {
    const { code, message, details } = engineError(error, "/run/x.sock");
    return [code, details["missing"] ?? "", message].join("|");
  };
  t.equal(of(httpError(404, "No such image: a:1")), "not_found|image|No such image: a:1");
  t.equal(of(httpError(404, "No such container: b")), "not_found|container|No such container: b");
  t.equal(of(httpError(404, "network x not found")), "not_found|other|network x not found");
  t.equal(of(httpError(400, "bad mount")), "invalid_argument||bad mount");
  t.equal(of(httpError(409, "name in use")), "already_exists||name in use");
  t.equal(of(httpError(500, "oci error")), "internal||oci error");
  t.match(of(httpError(409, "removal of container a is already in progress")), /^unavailable/);
  t.match(of(httpError(503, "busy")), /^unavailable/);
  const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  t.match(of(refused), /^unavailable\|\|the Docker Engine does not answer at \/run\/x.sock/);
  const streamed = Object.assign(new Error("(HTTP code 404) unexpected - No such image: c "), {
    statusCode: 404,
  });
  t.equal(of(streamed), "not_found|image|No such image: c");
});

t.test("answers of the Engine", async t => {
  const view = containerView({
    Id: "c1",
    State: {
      Status: "running",
      Pid: 9,
      ExitCode: 0,
      OOMKilled: false,
      Error: "",
      FinishedAt: "0001-01-01T00:00:00Z",
      Health: { Status: "healthy" },
    },
    Config: { Labels: {}, Tty: false },
    NetworkSettings: {
      Ports: {
        "80/tcp": [
          { HostIp: "0.0.0.0", HostPort: "8080" },
          { HostIp: "::", HostPort: "8080" },
        ],
        "53/udp": null,
      },
    },
  });
  t.match(view, { phase: "running", health: "healthy", pid: 9, finishedAtMs: 0 });
  t.strictSame(view.ports, [
    { Protocol: "tcp", TargetPort: 80, PublishedPort: 8080, PublishMode: "host" },
  ]);
  const description = nodeDescription({
    Name: "h",
    Architecture: "x86_64",
    OSType: "linux",
    NCPU: 2,
    MemTotal: 5,
    ServerVersion: "20.10.24",
    Labels: ["disk=ssd", "bare", "a=b=c"],
    Plugins: { Volume: ["local"], Log: ["syslog", "json-file"], Authorization: null },
    GenericResources: [{ DiscreteResourceSpec: { Kind: "fpga", Value: 2 } }],
  });
  t.strictSame(description.engineLabels, { disk: "ssd", bare: "", a: "b=c" });
  t.strictSame(
    description.plugins.map(({ type, name }) => `${type}/${name}`),
    ["Log/json-file", "Log/syslog", "Volume/local"],
  );
  t.equal(description.resources.nanoCpus, 2e9);
});

t.test("JSON lines across chunks", async t => {
  const values: unknown[] = [];
  const chunks = ['{"a":', "1}\n\n{", '"b":"é"}', "\n", "[3]"].map(part => Buffer.from(part));
  for await (const value of readJsonLines(Readable.from(chunks))) values.push(value);
  t.strictSame(values, [{ a: 1 }, { b: "é" }, [3]]);
});

t.test("reconciliation", async t => {
  const kinds = (known: string[], complete: boolean): string[] =>
    planAssignments(
      new Set(known),
      [assign(aTask({ id: "a" })), assign(aTask({ id: "b" })), unassign("b"), unassign("x")],
      complete,
    ).map(
      action => `${action.kind} ${"taskId" in action ? action.taskId : action.assigned.task.id}`,
    );
  t.strictSame(kinds(["b", "c"], false), ["add a", "drop b"], "the last word on a task counts");
  t.strictSame(kinds(["a", "c"], true), ["update a", "drop c"]);
  const found = (id: string, taskId: string, phase: "running" | "exited") => {
    return { id, name: id, taskId, phase };
  };
  const { containers, orphans } = planOwnership(new Set(["a"]), [
    found("1", "a", "exited"),
    found("2", "a", "running"),
    found("3", "ghost", "running"),
  ]);
  t.equal(containers.get("a")?.id, "2", "the one that runs");
  t.strictSame(orphans.map(({ id }) => id).sort(), ["1", "3"]);
});

t.test("a semaphore lets in what it has room for, in order", async t => {
  const semaphore = new Semaphore({ slots: 2 });
  const never = new AbortController().signal;
  const order: number[] = [];
  const open: (() => void)[] = [];
  const enter = (n: number, signal = never): Promise<void> =>
    semaphore.use(signal, async () => {
      order.push(n);
      await new Promise<void>(resolve => open.push(resolve));
    });
  const leaving = new AbortController();
  const all = [enter(1), enter(2), enter(3, leaving.signal), enter(4)];
  await settle();
  t.strictSame(order, [1, 2]);
  leaving.abort(new Error("not any more"));
  await t.rejects(all[2] ?? Promise.resolve(), { message: "not any more" });
  open[0]?.();
  await settle();
  t.strictSame(order, [1, 2, 4]);
  for (const leave of open) leave();
  await Promise.all([all[0], all[1], all[3]]);
});

t.test("files of a task", async t => {
  const dir = await mkdtemp(join(tmpdir(), "swarmd-files-"));
  t.teardown(() => rm(dir, { recursive: true }));
  const store = new TaskFileStore({ dir: join(dir, "tasks") });
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  const file = {
    kind: "secret",
    id: "s",
    target: "/run/secrets/k",
    uid,
    gid,
    mode: 0o440,
  } as const;
  for (const data of ["one", "two"]) {
    const [mount] = await store.write("t1", [{ ...file, data: Buffer.from(data) }]);
    t.equal(mount?.target, "/run/secrets/k");
    t.equal(await readFile(mount?.hostPath ?? "", "utf8"), data);
    t.equal((await stat(mount?.hostPath ?? "")).mode & 0o777, 0o440);
  }
  t.equal((await stat(join(dir, "tasks/t1"))).mode & 0o777, 0o700);
  await store.remove("t1");
  await t.rejects(stat(join(dir, "tasks/t1")), { code: "ENOENT" });
});

t.test("the worker's database", async t => {
  const dir = await mkdtemp(join(tmpdir(), "swarmd-worker-"));
  t.teardown(() => rm(dir, { recursive: true }));
  const path = join(dir, "worker");
  const store = await LevelLocalStore.open(path);
  await t.rejects(LevelLocalStore.open(path), { code: "data_loss", message: /worker/ });
  const assigned = aTask({ id: "a" });
  const record = {
    assigned,
    goal: "running",
    status: assigned.task.status,
    stopReason: null,
  } as const;
  const other = { ...record, assigned: aTask({ id: "b" }) };
  const writes = ["accepted", "preparing", "ready"].map(state => {
    const status = { ...record.status, state: state as "ready" };
    return store.save([{ ...record, status }], []);
  });
  await Promise.all([...writes, store.save([other], []), store.save([], ["b"])]);
  await store.close();
  const again = await LevelLocalStore.open(path);
  t.match(
    await again.load(),
    [{ goal: "running", status: { state: "ready" } }],
    "the last of each",
  );
  t.equal(await again.loadDescription(), null);
  await again.clear();
  t.strictSame(await again.load(), []);
  await again.close();
});

/** An HTTP server on a unix socket in place of the Engine. */
async function fakeEngine(
  handler: RequestListener,
): Promise<{ path: string; close(): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), "swarmd-fake-"));
  const path = join(dir, "docker.sock");
  const server = createServer(handler);
  await new Promise<void>(resolve => server.listen(path, resolve));
  return {
    path,
    close: async () => {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
      await rm(dir, { recursive: true });
    },
  };
}

t.test("the API version follows the Engine's", async t => {
  let version = { ApiVersion: "1.41", MinAPIVersion: "1.12" };
  const seen: string[] = [];
  const fake = await fakeEngine((request, response) => {
    seen.push(request.url ?? "");
    if (request.url === "/version") response.end(JSON.stringify(version));
    else if (request.url?.endsWith("/busy")) response.writeHead(503).end('{"message":"busy"}');
    else response.end('{"ok":true}');
  });
  t.teardown(() => fake.close());
  const clock = new VirtualClock();
  const signal = new AbortController().signal;
  const engine = new DockerEngine({ socketPath: fake.path }, { clock });
  const ask = (path: string): Promise<unknown> => engine.call({ method: "GET", path }, signal);
  t.strictSame(await ask("/info"), { ok: true });
  await ask("/info");
  await t.rejects(ask("/busy"), { code: "unavailable", message: "busy" });
  version = { ApiVersion: "1.52", MinAPIVersion: "1.44" };
  await ask("/info");
  t.strictSame(seen, [
    "/version",
    "/v1.41/info",
    "/v1.41/info",
    "/v1.41/busy",
    "/version",
    "/v1.44/info",
  ]);
  const old = new DockerEngine({ socketPath: fake.path }, { clock });
  version = { ApiVersion: "1.40", MinAPIVersion: "1.12" };
  await t.rejects(old.call({ method: "GET", path: "/info" }, signal), {
    code: "failed_precondition",
    message: /speaks API 1.40, swarmd needs 1.41/,
  });
  const nowhere = new DockerEngine({ socketPath: join(fake.path, "no") }, { clock });
  await t.rejects(nowhere.call({ method: "GET", path: "/info" }, signal), { code: "unavailable" });
});
