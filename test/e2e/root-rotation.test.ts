import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { formCluster } from "../lab/cluster.ts";
import type { LabHost } from "../lab/lab.ts";
import {
  api,
  askAsStranger,
  census,
  disturbances,
  labUnavailable,
  must,
  nodesOf,
  startLab,
  swarmd,
  until,
  untilRunning,
} from "../support/e2e.ts";
import { removeWritten, SteadyWriter } from "../support/steady-writer.ts";

/** The root certificate is replaced under load: on real hosts, by the docker command line. */

const TIMEOUT_MS = 480_000;
const WRITE_EVERY_MS = 20;
/** No write waits longer than one that has to be sent to a new leader. */
const LONGEST_GAP_MS = 5_000;
const RENEW = "/swarmd.v1.CA/RenewCertificate";
const OPEN_TO_ALL = ["/swarmd.v1.CA/GetRootCA", "/swarmd.v1.CA/IssueCertificate"];
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

interface Swarm {
  readonly RootRotationInProgress: boolean;
  readonly TLSInfo: { readonly TrustRoot: string };
}

interface Certificates {
  readonly certPem: string;
  readonly keyPem: string;
  readonly caPem: string;
}

async function certificatesOf(host: LabHost): Promise<Certificates> {
  const read = (name: string): Promise<string> =>
    readFile(join(host.paths.data, "certificates/current", name), "utf8");
  return {
    certPem: await read("node.crt"),
    keyPem: await read("node.key"),
    caPem: await read("ca.crt"),
  };
}

const isOf = ({ certPem }: Certificates, rootPem: string): boolean =>
  new X509Certificate(certPem).verify(new X509Certificate(rootPem).publicKey);

t.test("rotation of the root", { skip }, async t => {
  const lab = await startLab(t, "rotation", { mode: "bare" });
  const [m1, m2, w2] = [lab.host("m1"), lab.host("m2"), lab.host("w2")];
  await formCluster(lab.hosts());
  await must(m1, "service", "create", "-d", "--name", "app", "--replicas", "6", "swarmd/app:1");
  await untilRunning(m1, "app", 6);
  const oldRoot = (await m1.swarmDocker(["swarm", "ca"])).trim();
  const oldToken = (await must(m1, "join-token", "-q", "worker")).trim();
  const oldW2 = await certificatesOf(w2);
  const before = await census(lab.hosts());

  const managers = lab.hosts().filter(({ role }) => role === "manager");
  const sockets = managers.map(({ socketPath }) => socketPath);
  const writer = new SteadyWriter({ sockets, everyMs: WRITE_EVERY_MS });
  const startMs = performance.now();
  writer.start();
  const printed = await m2.swarmDocker(["swarm", "ca", "--rotate"]);
  const tookMs = performance.now() - startMs;
  await until("every node trusts the new root only", async () => {
    const trusted = await Promise.all(lab.hosts().map(certificatesOf));
    return trusted.every(({ caPem }) => !caPem.includes(oldRoot));
  });
  const forgottenMs = performance.now() - startMs;
  await writer.stop();
  t.comment(
    `ca --rotate ${Math.round(tookMs)} ms, old root forgotten after ${Math.round(forgottenMs)} ms, ` +
      `longest time without a write ${Math.round(writer.longestGapAfter(startMs))} ms`,
  );

  await t.test("the command ends with the new root", async t => {
    const newRoot = printed.slice(printed.lastIndexOf("-----BEGIN")).trim();
    t.not(newRoot, oldRoot);
    const swarm = await api<Swarm>(m1, "GET", "/swarm");
    t.equal(swarm.RootRotationInProgress, false);
    t.equal(swarm.TLSInfo.TrustRoot.trim(), newRoot);
    for (const host of lab.hosts()) {
      const certificates = await certificatesOf(host);
      t.ok(isOf(certificates, newRoot), `${host.name} has a new certificate`);
      t.equal(certificates.caPem.trim(), newRoot, `${host.name} trusts it`);
    }
    const format = "{{.Hostname}} {{.TLSStatus}}";
    const rows = (await m1.swarmDocker(["node", "ls", "--format", format])).trim().split("\n");
    t.same(rows.sort(), ["m1 Ready", "m2 Ready", "m3 Ready", "w1 Ready", "w2 Ready"]);
  });

  await t.test("nobody was disturbed", async t => {
    t.ok(writer.acknowledged.length > 10, `${writer.acknowledged.length} writes`);
    t.ok(writer.longestGapAfter(startMs) < LONGEST_GAP_MS);
    t.same(await disturbances(lab, before), []);
    t.same(
      (await nodesOf(m1)).map(({ Status }) => Status.State),
      ["ready", "ready", "ready", "ready", "ready"],
    );
    await must(m1, "service", "scale", "app=8");
    await untilRunning(m1, "app", 8);
    await removeWritten(m1.socketPath);
  });

  await t.test("what the old root has signed is refused", async t => {
    const { caPem } = await certificatesOf(m1);
    const addr = `${m1.addr}:2377`;
    const own = { certPem: oldW2.certPem, keyPem: oldW2.keyPem };
    const told = await askAsStranger(lab, { addr, caPem, own });
    for (const [method, code] of Object.entries(told)) {
      const isOpen = OPEN_TO_ALL.includes(method);
      t.ok(isOpen || ["UNAUTHENTICATED", "UNAVAILABLE"].includes(code), `${method}: ${code}`);
    }
    const known = await askAsStranger(lab, { addr, caPem, own: await certificatesOf(w2) });
    t.notOk(["UNAUTHENTICATED", "UNAVAILABLE"].includes(known[RENEW] ?? ""), RENEW);
    const gone = (await nodesOf(m1)).find(({ Description }) => Description?.Hostname === "w2");
    await must(w2, "leave");
    await must(m1, "node", "rm", "--force", gone?.ID ?? "");
    const joined = await swarmd(w2, ["join", "--token", oldToken, addr]);
    t.match(joined, { code: 1, stderr: /Error response from daemon: / });
    const token = (await must(m1, "join-token", "-q", "worker")).trim();
    t.not(token, oldToken);
    await must(w2, "join", "--token", token, addr);
  });

  await t.test("a daemon that was down meanwhile renews when it is back", async t => {
    await w2.stop();
    await m1.swarmDocker(["swarm", "ca", "--rotate", "-d"]);
    t.equal((await api<Swarm>(m1, "GET", "/swarm")).RootRotationInProgress, true);
    await w2.start();
    await until("the rotation ends", async () => {
      return !(await api<Swarm>(m1, "GET", "/swarm")).RootRotationInProgress;
    });
  });
});
