import { type ChildProcess, spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import t from "tap";
import { createRootCa, type RootCa } from "../../src/pki/ca.ts";
import { realClock } from "../../src/system/real.ts";
import type { Lab, LabHost } from "../lab/lab.ts";
import { api, labUnavailable, must, nodesOf, startLab, swarmd, until } from "../support/e2e.ts";
import { testRng } from "../support/test-ca.ts";

/** Node certificates from an external CA, which alone has the root's key: on real hosts. */

const TIMEOUT_MS = 480_000;
const CA_PORT = 8_888;
const PROGRAM = resolve(import.meta.dirname, "../support/cfssl-main.ts");
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

interface Swarm {
  readonly RootRotationInProgress: boolean;
  readonly TLSInfo: { readonly TrustRoot: string };
  readonly Spec: { readonly CAConfig: { readonly ExternalCAs?: readonly object[] } };
}

const swarmOf = (host: LabHost): Promise<Swarm> => api<Swarm>(host, "GET", "/swarm");

async function certificateOf(host: LabHost): Promise<X509Certificate> {
  const path = join(host.paths.data, "certificates/current/node.crt");
  return new X509Certificate(await readFile(path, "utf8"));
}

const isOf = (cert: X509Certificate, rootPem: string): boolean =>
  cert.verify(new X509Certificate(rootPem).publicKey);

/** The CA as a program on a host; `stop` ends it and its port is free again. */
class CaProgram {
  readonly asked: string[] = [];
  url = "";
  #child: ChildProcess | null = null;

  async start(host: LabHost, root: RootCa, clientsPem: string): Promise<void> {
    const node = [process.execPath, `--import=${import.meta.resolve("tsx")}`, PROGRAM];
    const [command = "", ...args] = host.execCommand(node);
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#child = child;
    this.url = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      for (const line of text.trim().split("\n")) {
        if (line.startsWith("https://")) this.url = line;
        else this.asked.push(line);
      }
    });
    child.stdin?.write(`${JSON.stringify({ root, host: host.addr, port: CA_PORT, clientsPem })}\n`);
    await until("the external CA listens", () => this.url !== "");
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null) return;
    const ended = new Promise<void>(done => child.once("close", () => done()));
    child.stdin?.end();
    await ended;
  }
}

async function joinAs(lab: Lab, name: string, role: string): Promise<ReturnType<typeof swarmd>> {
  const m1 = lab.host("m1");
  const token = (await must(m1, "join-token", "-q", role)).trim();
  const host = lab.host(name);
  const flags = ["--token", token, "--advertise-addr", host.addr];
  return swarmd(host, ["join", ...flags, `${m1.addr}:2377`]);
}

t.test("an external CA", { skip }, async t => {
  const lab = await startLab(t, "external-ca", { mode: "bare", managers: 2, workers: 2 });
  const m1 = lab.host("m1");
  const ca = new CaProgram();
  t.teardown(() => ca.stop());
  await must(m1, "init", "--advertise-addr", m1.addr);
  const ownRoot = (await swarmOf(m1)).TLSInfo.TrustRoot;
  const root = await createRootCa({ nowMs: realClock.nowMs(), rng: testRng });
  const rootFile = join(lab.dir, "external-root.pem");
  await writeFile(rootFile, root.certPem);
  await ca.start(m1, root, ownRoot);
  const option = `protocol=cfssl,url=${ca.url},cacert=${rootFile}`;

  await t.test("takes the cluster over", async t => {
    const unreachable = option.replace(String(CA_PORT), "1");
    const rotate = ["swarm", "ca", "--rotate", "--ca-cert", rootFile, "--external-ca"];
    await t.rejects(m1.swarmDocker([...rotate, unreachable]), {
      message: /at least one valid, reachable external CA corresponding to the desired CA/,
    });
    await m1.swarmDocker([...rotate, option]);
    await until("the rotation has ended", async () => {
      const swarm = await swarmOf(m1);
      return (
        !swarm.RootRotationInProgress && swarm.TLSInfo.TrustRoot.trim() === root.certPem.trim()
      );
    });
    t.ok(isOf(await certificateOf(m1), root.certPem), "this manager's certificate is of its root");
    t.match(ca.asked[0], /"OU":"swarm-manager"/);
  });

  await t.test("signs for every node that joins, in its role", async t => {
    for (const [name, role] of [
      ["w1", "worker"],
      ["m2", "manager"],
    ] as const) {
      const before = ca.asked.length;
      const joined = await joinAs(lab, name, role);
      t.equal(joined.code, 0, joined.stderr);
      t.ok(isOf(await certificateOf(lab.host(name)), root.certPem));
      t.match(ca.asked.slice(before).join(), `"OU":"swarm-${role}"`);
    }
    await until("all are ready", async () => {
      const nodes = await nodesOf(m1);
      return nodes.length === 3 && nodes.every(({ Status }) => Status.State === "ready");
    });
  });

  await t.test("nobody signs in its place, and it may come back", async t => {
    await ca.stop();
    const refused = await joinAs(lab, "w2", "worker");
    t.not(refused.code, 0);
    t.match(refused.stderr, /external CA at https:.* gave no certificate/);
    t.equal((await nodesOf(m1)).length, 3, "no node without a certificate");
    t.match(
      await swarmd(m1, ["update", "--external-ca", "protocol=cfssl,url=https://10.77.0.1:1"]),
      {
        stderr: /at least one valid, reachable external CA corresponding to the current CA/,
      },
    );
    await ca.start(m1, root, ownRoot);
    const joined = await joinAs(lab, "w2", "worker");
    t.equal(joined.code, 0, joined.stderr);
  });

  await t.test("vouches for a root of the cluster's own", async t => {
    await m1.swarmDocker(["swarm", "ca", "--rotate"]);
    const now = (await swarmOf(m1)).TLSInfo.TrustRoot;
    t.not(now.trim(), root.certPem.trim());
    t.match(ca.asked.join(), '"profile":"CA"');
    await ca.stop();
    for (const host of lab.hosts()) t.ok(isOf(await certificateOf(host), now), host.name);
    t.equal((await nodesOf(m1)).length, 4);
    t.ok((await nodesOf(m1)).every(({ Status }) => Status.State === "ready"));
  });
});
