import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import t, { type Test } from "tap";
import { addStackFileCommands } from "../../cli/commands/stack-deploy.ts";
import { printFile } from "../../src/stack/core/print.ts";
import {
  formatDuration,
  parseCpus,
  parseDuration,
  parseSize,
} from "../../src/stack/core/quantities.ts";
import { splitShell } from "../../src/stack/core/shell-words.ts";
import { loadStackFiles } from "../../src/stack/files.ts";
import { registryAuth } from "../../src/stack/registry-auth.ts";
import { readYaml } from "../../src/stack/yaml-read.ts";
import { writeYaml } from "../../src/stack/yaml-write.ts";
import { type Ran, runProgram } from "../support/cli-rig.ts";
import { RecordingSwarm, type SwarmWorld } from "../support/recording-swarm.ts";

/** What the comparison with docker (stack-golden.test.ts) does not show. */
function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), "swarmd-stack-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function deploy(
  t: Test,
  input: string,
  world: SwarmWorld = {},
  flags: readonly string[] = [],
): Promise<{ readonly swarm: RecordingSwarm; readonly ran: Ran }> {
  const dir = folder(t);
  const swarm = new RecordingSwarm(dir, world);
  await swarm.listen();
  t.teardown(() => swarm.close());
  const ran = await runProgram(
    swarm.socket,
    ["stack", "deploy", "-c", "-", ...flags, "st"],
    (program, context) =>
      addStackFileCommands(program.command("stack"), context, { environment: {}, cwd: dir }),
    Buffer.from(input),
  );
  return { swarm, ran };
}

t.test("what was done before a failure is told", async t => {
  const refused = { "POST /services/create": "no room" };
  const { ran } = await deploy(t, "services: {a: {image: a}}", { refused });
  t.equal(ran.error?.message, "failed to create service st_a: Error response from daemon: no room");
  t.match(ran.err, /^The stack is deployed in part\. Done: network st_default\. .*stack rm st$/m);
});

t.test("a fault of the file leaves the cluster alone", async t => {
  const input = "services: {a: {image: a}, b: {image: b, secrets: [none]}}";
  const { swarm, ran } = await deploy(t, input, {}, ["--prune"]);
  t.equal(ran.error?.message, 'service b: undefined secret "none"');
  t.same(swarm.requests, []);
});

t.test("docker's command line loses these, we do not", async t => {
  const input = "services: {a: {image: a, oom_score_adj: -5, ulimits: {core: 0}}}";
  const { swarm } = await deploy(t, input);
  const create = swarm.requests.find(({ path }) => path === "/services/create");
  t.match(create?.body, {
    TaskTemplate: {
      ContainerSpec: { OomScoreAdj: -5, Ulimits: [{ Name: "core", Soft: 0, Hard: 0 }] },
    },
  });
});

t.test("networks come before secrets, configs and services", async t => {
  const dir = folder(t);
  const path = join(dir, "f");
  writeFileSync(path, "x");
  const objects = `secrets: {s: {file: ${path}}}\nconfigs: {c: {file: ${path}}}`;
  const { swarm } = await deploy(
    t,
    `services: {a: {image: a, secrets: [s], configs: [c]}}\n${objects}`,
  );
  const made = swarm.requests.filter(({ method }) => method === "POST").map(({ path }) => path);
  t.same(made, ["/networks/create", "/secrets/create", "/configs/create", "/services/create"]);
});

t.test("YAML is read as docker reads it, and its faults have a line", async t => {
  const refuses = (text: string, why: RegExp): void => {
    t.throws(() => readYaml(text), { message: why });
  };
  refuses("services:\n\ta: b\n", /^yaml: line 2: found character that cannot start any token$/);
  refuses("a: b: c\n", /^yaml: line 1: mapping values are not allowed in this context$/);
  refuses("1: x\n", /^yaml: line 1: the key 1 is not a string: put it in quotes$/);
  refuses("a: [*b]\n", /unknown anchor 'b' referenced/);
  t.same(readYaml("{a: 0400, b: 0o17, c: 1_000, d: yes, e: .5, f: ~, g: !!str 5}"), {
    a: 256,
    b: 15,
    c: 1000,
    d: "yes",
    e: 0.5,
    f: null,
    g: "5",
  });
  t.same(readYaml("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], c: 3}\n")["z"], {
    a: 1,
    b: 1,
    c: 3,
  });
});

t.test("aliases cannot make a file grow without bound", async t => {
  const lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"];
  for (let i = 1; i < 9; i += 1) {
    lines.push(`a${i}: &a${i} [${Array.from({ length: 10 }, () => `*a${i - 1}`).join(",")}]`);
  }
  t.throws(() => readYaml(lines.join("\n")), { message: /excessive aliasing/ });
});

t.test("what is printed is read back as the same", async t => {
  const leaf = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null));
  const value = fc.letrec(tie => ({
    node: fc.oneof(
      { depthSize: "small" },
      leaf,
      fc.array(tie("node"), { maxLength: 3 }),
      fc.dictionary(fc.string({ minLength: 1 }), tie("node"), { maxKeys: 3 }),
    ),
  })).node;
  const file = {
    version: "3.13",
    services: {},
    networks: {},
    volumes: {},
    secrets: {},
    configs: {},
  };
  fc.assert(
    fc.property(value, one => {
      const text = writeYaml(printFile({ ...file, extras: { "x-a": one } }));
      t.same(readYaml(text)["x-a"], one);
    }),
    { numRuns: 300 },
  );
});

t.test("durations, sizes and processors", async t => {
  fc.assert(
    fc.property(fc.integer({ min: -1e15, max: 1e15 }), ns => {
      t.equal(parseDuration(formatDuration(ns)), ns);
    }),
  );
  t.equal(formatDuration(5_400e9), "1h30m0s");
  t.equal(parseSize("1.5 GiB"), 1_610_612_736);
  t.equal(parseCpus("0.001"), 1_000_000);
  t.equal(parseCpus("1e-3"), 1_000_000);
  t.throws(() => parseSize("1ZB"), { message: "invalid suffix: 'zb'" });
  t.throws(() => parseDuration("5"), { message: 'time: missing unit in duration "5"' });
});

t.test("words of a command", async t => {
  t.same(splitShell(`a "b \\" c"  'd e' f\\ g # said\nh`), ["a", 'b " c', "d e", "f g", "h"]);
  t.throws(() => splitShell("a\\"), { message: "EOF found after escape character" });
});

t.test("relative paths are seen from the first file, and input alone from here", async t => {
  const dir = folder(t);
  writeFileSync(join(dir, "one.yml"), "services: {a: {image: a, volumes: ['./x:/x']}}");
  const deps = {
    environment: {},
    cwd: "/somewhere",
    input: async () => Buffer.from("services: {b: {image: b, volumes: ['../y:/y']}}"),
    warn: () => t.fail("nothing to warn of"),
  };
  const one = join(dir, "one.yml");
  const both = await loadStackFiles({ files: [one, "-"], verb: "config" }, deps);
  t.match(both.services, {
    a: { volumes: [{ source: join(dir, "x") }] },
    b: { volumes: [{ source: join(dir, "../y") }] },
  });
  const alone = await loadStackFiles({ files: ["-"], verb: "config" }, deps);
  t.match(alone.services, { b: { volumes: [{ source: "/y" }] } });
});

t.test("credentials of a helper", async t => {
  const dir = folder(t);
  const program = join(dir, "docker-credential-test");
  const answer = JSON.stringify({ Username: "me", Secret: "word", ServerURL: "r.example" });
  writeFileSync(
    program,
    `#!/bin/sh\nread key\n[ "$key" = r.example ] && echo '${answer}' && exit 0\n` +
      "echo credentials not found in native keychain\nexit 1\n",
    { mode: 0o755 },
  );
  writeFileSync(join(dir, "config.json"), JSON.stringify({ credsStore: "test" }));
  const environment = { DOCKER_CONFIG: dir, PATH: `${dir}:/usr/bin:/bin` };
  const decode = async (image: string): Promise<unknown> =>
    JSON.parse(Buffer.from(await registryAuth(image, { environment }), "base64url").toString());
  t.same(await decode("r.example/x"), {
    username: "me",
    password: "word",
    serveraddress: "r.example",
  });
  t.same(await decode("other.example/x"), {});
});
