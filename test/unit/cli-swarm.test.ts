import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import t from "tap";
import { plainSwitches } from "../../cli/argv.ts";
import { ApiError } from "../../cli/client.ts";
import { addNetworkCommands } from "../../cli/commands/network.ts";
import { addObjectCommands } from "../../cli/commands/objects.ts";
import { addServiceWriteCommands } from "../../cli/commands/service-write.ts";
import { addStackCommands } from "../../cli/commands/stack.ts";
import { addSwarmCommands } from "../../cli/commands/swarm.ts";
import { fakeDaemon, runProgram } from "../support/cli-rig.ts";

const KEY = "SWMKEY-1-abc";
const SPEC = { Name: "default", Raft: { SnapshotInterval: 10_000 }, CAConfig: { ForceRotate: 2 } };
const swarm = (more: object = {}): object => ({
  Version: { Index: 7 },
  Spec: SPEC,
  JoinTokens: { Worker: "w", Manager: "m" },
  TLSInfo: { TrustRoot: "ROOT\n" },
  ...more,
});
const info = (LocalNodeState: string): object => ({
  Swarm: { LocalNodeState, NodeID: "n", NodeAddr: "10.0.0.1", ControlAvailable: true },
});

t.test("init says what the flags say", async t => {
  const daemon = await fakeDaemon(t, {
    "GET /_ping": "OK",
    "POST /swarm/init": "node1",
    "GET /swarm": swarm(),
    "GET /info": info("active"),
    "GET /swarm/unlockkey": { UnlockKey: KEY },
  });
  const ran = await runProgram(
    daemon.socket,
    [
      ...["swarm", "init", "--autolock", "--cert-expiry", "48h", "--dispatcher-heartbeat", "2s"],
      ...["--external-ca", "protocol=cfssl,url=https://ca:1,profile=x", "--max-snapshots", "2"],
      ...["--snapshot-interval", "500", "--task-history-limit", "-1"],
    ],
    addSwarmCommands,
  );
  t.equal(ran.error, null);
  t.match(daemon.seen.find(({ url }) => url === "/swarm/init")?.body, {
    AutoLockManagers: true,
    Spec: {
      CAConfig: {
        NodeCertExpiry: 48 * 3.6e12,
        ExternalCAs: [{ Protocol: "cfssl", URL: "https://ca:1", Options: { profile: "x" } }],
      },
      Dispatcher: { HeartbeatPeriod: 2e9 },
      Raft: { KeepOldSnapshots: 2, SnapshotInterval: 500 },
      Orchestration: { TaskHistoryRetentionLimit: -1 },
    },
  });
  t.match(ran.out, KEY, "the key is handed out at once");
});

t.test("update keeps what it is not told of", async t => {
  const daemon = await fakeDaemon(t, {
    "GET /swarm": swarm(),
    "POST /swarm/update": {},
    "GET /swarm/unlockkey": { UnlockKey: KEY },
  });
  const run = (...words: string[]) => runProgram(daemon.socket, words, addSwarmCommands);
  const sent = () => daemon.seen.filter(({ url }) => url.startsWith("/swarm/update")).pop();
  t.match(await run("update", "--snapshot-interval", "9"), {
    error: null,
    out: "Swarm updated.\n",
  });
  t.match(sent(), {
    url: /version=7&rotateWorkerToken=false/,
    body: { ...SPEC, Raft: { SnapshotInterval: 9 } },
  });
  t.match(await run("update", "--autolock"), { out: new RegExp(KEY) });
  t.match(sent()?.body, { ...SPEC, EncryptionConfig: { AutoLockManagers: true } });
  t.match(await run("update", "--autolock=false"), { error: null, out: "Swarm updated.\n" });
  t.match(sent()?.body, { EncryptionConfig: { AutoLockManagers: false } });
  t.match((await run("update")).error, { message: /no flag given/ });
  t.match((await run("update", "--cert-expiry", "soon")).error, { message: /invalid argument/ });
  for (const [text, why] of [
    ["url=https://ca", /needs a protocol= parameter/],
    ["protocol=cfssl", /needs a url= parameter/],
    ["protocol=x,url=y", /unrecognized external CA protocol x/],
    ["protocol=cfssl,url=y,cacert=/nonexistent", /cannot read \/nonexistent/],
  ] as const) {
    t.match((await run("update", "--external-ca", text)).error, { message: why });
  }
});

t.test("keys of locked managers", async t => {
  const answers: Record<string, unknown> = {
    "GET /info": info("locked"),
    "POST /swarm/unlock": {},
    "GET /swarm": swarm(),
    "POST /swarm/update": {},
    "GET /swarm/unlockkey": { UnlockKey: KEY },
  };
  const daemon = await fakeDaemon(t, answers);
  const run = (words: string[], input = "") =>
    runProgram(daemon.socket, words, addSwarmCommands, Buffer.from(input));
  t.equal((await run(["unlock"], KEY)).error, null);
  t.same(daemon.seen.pop()?.body, { UnlockKey: KEY });
  answers["GET /info"] = info("active");
  t.match((await run(["unlock"], KEY)).error, { message: "swarm is not locked" });
  answers["GET /info"] = info("inactive");
  t.match((await run(["unlock"], KEY)).error, { message: "this node is not part of a swarm" });
  t.match(await run(["unlock-key", "-q"]), { out: `${KEY}\n` });
  const rotate = ["unlock-key", "--rotate", "-q"];
  t.match((await run(rotate)).error, { message: /autolock is not turned on/ });
  answers["GET /swarm"] = swarm({ Spec: { EncryptionConfig: { AutoLockManagers: true } } });
  t.match(await run(rotate), { error: null, out: `${KEY}\n` });
  t.match(daemon.seen.at(-2)?.url, /rotateManagerUnlockKey=true/);
  answers["GET /swarm/unlockkey"] = { UnlockKey: "" };
  t.match((await run(["unlock-key"])).error, { message: "no unlock key is set" });
});

t.test("the root certificate is shown, and replaced", async t => {
  const dir = mkdtempSync(join(tmpdir(), "cli-ca-"));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const pem = join(dir, "ca.pem");
  writeFileSync(pem, "PEM");
  const answers = { "GET /swarm": swarm(), "POST /swarm/update": {} };
  const daemon = await fakeDaemon(t, answers);
  const run = (...words: string[]) => runProgram(daemon.socket, ["ca", ...words], addSwarmCommands);
  const sent = () => daemon.seen.filter(({ url }) => url.startsWith("/swarm/update")).pop()?.body;
  t.match(await run(), { error: null, out: "ROOT\n" });
  t.match((await run("--ca-cert", pem)).error, { message: /requires the `--rotate` flag/ });
  t.match((await run("--rotate", "--ca-key", pem)).error, { message: /requires that a --ca-cert/ });
  t.match(await run("--rotate"), { error: null, out: "ROOT\n" });
  t.match(sent(), { CAConfig: { ForceRotate: 3, SigningCACert: "" } });
  t.match(await run("--rotate", "-d", "--ca-cert", pem, "--ca-key", pem), { error: null, out: "" });
  t.match(sent(), { CAConfig: { ForceRotate: 2, SigningCACert: "PEM", SigningCAKey: "PEM" } });
});

t.test("networks with all that Docker's can say", async t => {
  const daemon = await fakeDaemon(t, {
    "POST /networks/create": { Id: "id1" },
    "POST /networks/n/connect": {},
    "POST /networks/n/disconnect": {},
  });
  const run = (...words: string[]) =>
    runProgram(daemon.socket, ["network", ...words], addNetworkCommands);
  await run(
    ...["create", "--subnet", "10.1.0.0/16", "--aux-address", "r=10.1.0.9", "--ipam-opt", "a=b"],
    ...["--ipv6", "--ipv4=false", "--scope", "swarm", "--config-from", "base", "n"],
  );
  t.match(daemon.seen.pop()?.body, {
    Scope: "swarm",
    EnableIPv4: false,
    EnableIPv6: true,
    ConfigFrom: { Network: "base" },
    IPAM: {
      Driver: "default",
      Options: { a: "b" },
      Config: [{ Subnet: "10.1.0.0/16", AuxiliaryAddresses: { r: "10.1.0.9" } }],
    },
  });
  await run("connect", "--alias", "x", "--ip", "10.1.0.7", "--link", "db:db", "n", "web");
  t.same(daemon.seen.pop()?.body, {
    Container: "web",
    EndpointConfig: {
      IPAMConfig: { IPv4Address: "10.1.0.7" },
      Aliases: ["x"],
      Links: ["db:db"],
    },
  });
  await run("disconnect", "-f", "n", "web");
  t.same(daemon.seen.pop()?.body, { Container: "web", Force: true });
  t.match((await run("rm", "nosuch")).error, { message: /no such thing/ });
  t.equal((await run("rm", "-f", "nosuch")).error, null);
});

t.test("a driver has a secret's data", async t => {
  const daemon = await fakeDaemon(t, { "POST /secrets/create": { ID: "id1" } });
  const words = ["secret", "create", "-d", "vault", "key"];
  t.equal((await runProgram(daemon.socket, words, addObjectCommands)).error, null);
  t.same(daemon.seen.pop()?.body, { Name: "key", Labels: {}, Driver: { Name: "vault" } });
});

t.test("a stack's removal waits for its tasks when asked to", async t => {
  let left = 2;
  const daemon = await fakeDaemon(t, {
    "GET /services": [{ ID: "s1", Spec: { Name: "a_web" } }],
    "DELETE /services/s1": {},
    "GET /secrets": [],
    "GET /configs": [],
    "GET /networks": [],
    get "GET /tasks"() {
      left -= 1;
      return [{ Status: { State: left > 0 ? "running" : "shutdown" } }];
    },
  });
  const run = (...words: string[]) =>
    runProgram(daemon.socket, ["stack", "rm", ...words, "a"], addStackCommands);
  t.equal((await run()).error, null);
  t.equal(left, 2);
  t.equal((await run("--detach=false")).error, null);
  t.equal(left, 0);
});

t.test("what of a stack cannot be removed is told, and the rest goes", async t => {
  const daemon = await fakeDaemon(t, {
    "GET /services": [{ ID: "s1", Spec: { Name: "a_web" } }],
    "GET /secrets": [],
    "GET /configs": [],
    "GET /networks": [{ Id: "n1", Name: "a_net" }],
    "DELETE /networks/n1": {},
  });
  const ran = await runProgram(daemon.socket, ["stack", "rm", "a"], addStackCommands);
  t.equal(ran.error?.message, "failed to remove some resources from stack: a");
  t.match(ran.err, /^Failed to remove service s1: Error response from daemon: no such thing/);
  t.equal(ran.out, "Removing service a_web\nRemoving network a_net\n");
});

t.test("Docker's words for what to do name this program's commands too", t => {
  const docker = 'Use "docker swarm init" or "docker swarm join" to connect this node to swarm.';
  t.equal(
    new ApiError(503, docker).message,
    `Error response from daemon: ${docker}\n("swarmd init" or "swarmd join", that is: docker ` +
      "itself speaks to the Engine unless DOCKER_HOST is this socket)",
  );
  t.equal(new ApiError(404, "no such thing").message, "Error response from daemon: no such thing");
  t.end();
});

t.test("switches take a value as Docker's do", t => {
  const program = new Command("swarmd").enablePositionalOptions().option("-H, --host <host>");
  const service = program.command("service");
  addServiceWriteCommands(service, {} as never);
  const plain = (...words: string[]) => plainSwitches(program, words);
  const create = ["service", "create"];
  t.same(plain(...create, "--tty=true", "--read-only=0", "--detach=false", "i", "--tty=false"), [
    ...[...create, "--tty", "--read-only-off", "i", "--tty=false"],
  ]);
  t.same(plain("service", "update", "web", "--init=false", "--name=true"), [
    ...["service", "update", "web", "--init-off", "--name=true"],
  ]);
  t.same(plain("-H", "service", ...create, "--name", "--tty=true"), [
    ...["-H", "service", ...create, "--name", "--tty=true"],
  ]);
  t.end();
});
