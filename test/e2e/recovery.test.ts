import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import t, { type Test } from "tap";
import { formCluster } from "../lab/cluster.ts";
import type { Lab, LabHost } from "../lab/lab.ts";
import {
  api,
  census,
  disturbances,
  followersOf,
  labUnavailable,
  leaderOf,
  must,
  nodeOf,
  nodesOf,
  runningOf,
  startLab,
  swarmd,
  until,
  untilRunning,
  words,
} from "../support/e2e.ts";

/** What an operator does when hosts, disks and quorums are lost: on real hosts. */

const TIMEOUT_MS = 900_000;
const SMALL_DISK = "48m";
const NEW_ADDR = "10.77.0.33";
const BIG = 400_000;
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

interface Manager {
  readonly nodeId: string;
  readonly addr: string;
  readonly voter: boolean;
  readonly reachable: boolean;
}

interface Status {
  readonly raft: { readonly commit: number; readonly managers: readonly Manager[] } | null;
}

interface Versioned {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly Spec: { readonly Name: string };
}

function managersOf(host: LabHost): Promise<readonly Manager[]> {
  return api<Status>(host, "GET", "/swarmd/v1/status").then(({ raft }) => raft?.managers ?? []);
}

async function createSecret(host: LabHost, name: string, bytes = 8): Promise<void> {
  const Data = Buffer.alloc(bytes, "s").toString("base64");
  await api(host, "POST", "/secrets/create", { Name: name, Data });
}

async function secretsOf(host: LabHost): Promise<string[]> {
  return (await api<Versioned[]>(host, "GET", "/secrets")).map(({ Spec }) => Spec.Name).sort();
}

async function token(host: LabHost, role: string): Promise<string> {
  return (await must(host, "join-token", "-q", role)).trim();
}

async function logOf(host: LabHost): Promise<string> {
  return readFile(host.logPath, "utf8");
}

async function untilEnded(host: LabHost): Promise<void> {
  await until(`${host.name}'s daemon ends`, async () => (await host.pid()) === null);
}

/** A disk of its own, small, under the daemon's data. */
async function onSmallDisk(host: LabHost): Promise<void> {
  const { data } = host.paths;
  await host.stop();
  await host.exec(["mount", "-t", "tmpfs", "-o", `mode=700,size=${SMALL_DISK}`, "none", data]);
  await host.start();
}

async function untilManagers(host: LabHost, count: number): Promise<void> {
  await until(`${count} managers vote`, async () => {
    const managers = await managersOf(host);
    return (
      managers.length === count && managers.every(({ voter, reachable }) => voter && reachable)
    );
  });
}

t.test("recovery", { skip }, async t => {
  const lab = await startLab(t, "recovery", { mode: "bare" });
  const [m1, m2, m3] = [lab.host("m1"), lab.host("m2"), lab.host("m3")];
  const [w1, w2] = [lab.host("w1"), lab.host("w2")];
  await onSmallDisk(m1);
  await formCluster(lab.hosts());
  await must(m1, "service", "create", "-d", "--name", "app", "--replicas", "4", "swarmd/app:1");
  await createSecret(m1, "first");
  await untilRunning(m1, "app", 4);

  await t.test("a full disk ends the manager and not the cluster", t => fullDisk(t, lab));

  await t.test("a manager that has lost its log does not come back as itself", async t => {
    await m2.stop();
    await m2.exec(["rm", "-rf", join(m2.paths.data, "raft")]);
    // It may answer on its socket for a moment before it has read its disk.
    await m2.start().catch(() => undefined);
    await untilEnded(m2);
    t.match(await logOf(m2), /the Raft log of member \d+ is gone.*join it again/s);
    const old = await nodeOf(m1, "m2");
    await m2.exec(["find", m2.paths.data, "-mindepth", "1", "-delete"]);
    await m2.start();
    await must(m2, "join", "--token", await token(m1, "manager"), `${m1.addr}:2377`);
    await until("four managers are known", async () => (await managersOf(m1)).length === 4);
    t.equal((await managersOf(m2)).filter(({ voter }) => voter).length, 4, "the old one counts");
    await must(m1, "node", "demote", old.ID);
    await until("the old one is out", async () => (await managersOf(m1)).length === 3);
    await must(m1, "node", "rm", "--force", old.ID);
    await untilManagers(m1, 3);
  });

  await t.test("a dead manager is cleaned up, within the quorum", t => deadManager(t, lab));

  await t.test("a manager moves to another address", t => otherAddress(t, lab));

  const file = join(resolve(m1.paths.data, ".."), "cluster.backup");
  let versions = new Map<string, number>();
  await t.test("any manager writes a backup", async t => {
    const [follower] = await followersOf(lab);
    if (follower === undefined) throw new Error("no follower");
    t.match(await must(follower, "backup", file), /^Backup written to .* KiB\)\. It is not encr/);
    t.equal((await m1.exec(["stat", "-c", "%a", file])).trim(), "600");
    await m1.exec(["sh", "-c", `echo 'a passphrase' >${file}.pass`]);
    await must(follower, "backup", "--passphrase-file", `${file}.pass`, `${file}.sealed`);
    t.notOk((await readFile(`${file}.sealed`)).includes("SWMTKN"));
    await createSecret(m1, "after-the-backup");
    const secrets = await api<Versioned[]>(m1, "GET", "/secrets");
    versions = new Map(secrets.map(({ ID, Version }) => [ID, Version.Index]));
  });

  await t.test("a new cluster is made of what one manager has", t => newCluster(t, lab));

  await t.test("a backup becomes a cluster on another host", async t => {
    await must(w2, "leave", "--force");
    t.match(await swarmd(w2, ["restore", file, "--advertise-addr", w2.addr]), {
      code: 1,
      stderr: /the cluster of this backup is alive: its managers answer at 10\.77/,
    });
    for (const host of [m1, m2, m3]) await host.stop();
    await w2.exec(["sh", "-c", `head -c 2000 ${file} >${file}.cut`]);
    t.match(await swarmd(w2, ["restore", `${file}.cut`, "--advertise-addr", w2.addr]), {
      code: 1,
      stderr: /the backup is damaged at byte 2000: it is cut short/,
    });
    t.match(await must(w2, "info"), /^Swarm: inactive$/m, "nothing was done");
    const sealed = ["restore", `${file}.sealed`, "--advertise-addr", w2.addr];
    t.match(await swarmd(w2, sealed), { code: 1, stderr: /give its passphrase/ });
    t.match(await must(w2, ...sealed, "--passphrase-file", `${file}.pass`), /^Cluster restored/);
    const secrets = await api<Versioned[]>(w2, "GET", "/secrets");
    t.notOk(secrets.some(({ Spec }) => Spec.Name === "after-the-backup"));
    t.ok(secrets.some(({ Spec }) => Spec.Name === "first"));
    for (const { ID, Version } of secrets) {
      t.ok(Version.Index > (versions.get(ID) ?? 0), "no version goes back");
    }
    await must(w1, "leave", "--force");
    await must(w1, "join", "--token", await token(w2, "worker"), `${w2.addr}:2377`);
    await untilRunning(w2, "app", 4);
    t.equal((await managersOf(w2)).length, 1);
  });
});

async function fullDisk(t: Test, lab: Lab): Promise<void> {
  const [m1, m2] = [lab.host("m1"), lab.host("m2")];
  t.equal((await leaderOf(lab)).name, "m1");
  const before = await census(lab.hosts());
  const filler = join(m1.paths.data, "filler");
  await m1.tryExec(["dd", "if=/dev/zero", `of=${filler}`, "bs=64k"]);
  for (let i = 0; (await m1.pid()) !== null && i < 40; i += 1) {
    await createSecret(m2, `filling-${i}`, BIG).catch(() => undefined);
  }
  await untilEnded(m1);
  const log = words(await logOf(m1));
  t.match(
    log,
    /cannot write the Raft log in .*(ENOSPC|No space left).* Free space and start swarmd/,
  );
  const leader = await leaderOf(lab, [m2, lab.host("m3")]);
  t.not(leader.name, "m1");
  await createSecret(leader, "while-the-disk-is-full");
  t.same(await disturbances(lab, before), [], "no container noticed");
  await m1.exec(["rm", filler]);
  await m1.start();
  await untilManagers(leader, 3);
  await until("m1 has caught up", async () =>
    (await secretsOf(m1)).includes("while-the-disk-is-full"),
  );
}

async function deadManager(t: Test, lab: Lab): Promise<void> {
  const [m1, m2, m3] = [lab.host("m1"), lab.host("m2"), lab.host("m3")];
  await m3.poweroff();
  await until("m3 does not answer", async () => {
    const managers = await managersOf(await leaderOf(lab, [m1, m2]));
    return managers.some(({ reachable }) => !reachable);
  });
  for (const alive of ["m1", "m2"]) {
    const refused = await swarmd(m1, ["node", "demote", (await nodeOf(m1, alive)).ID]);
    t.equal(refused.code, 1);
    t.match(
      words(refused.stderr),
      /loss of quorum: 1 of the 2 other managers can be reached and 2 are needed/,
    );
  }
  const dead = await nodeOf(m1, "m3");
  t.match(await swarmd(m1, ["node", "rm", "--force", dead.ID]), {
    code: 1,
    stderr: /It must be demoted to worker before removal/,
  });
  await must(m1, "node", "demote", dead.ID);
  await until("m3 is out", async () => (await managersOf(m1)).length === 2);
  await must(m1, "node", "rm", "--force", dead.ID);
  t.notOk((await nodesOf(m1)).some(({ ID }) => ID === dead.ID));
  await m3.poweron();
  await until("m3 knows that it is out", async () =>
    /no manager any more|removed/.test(await must(m3, "info")),
  );
  t.not((await swarmd(m3, ["node", "ls"])).code, 0);
  await must(m3, "leave", "--force");
  await must(m3, "join", "--token", await token(m1, "manager"), `${m1.addr}:2377`);
  await untilManagers(m1, 3);
}

async function otherAddress(t: Test, lab: Lab): Promise<void> {
  const [m1, m2, m3, w1] = [lab.host("m1"), lab.host("m2"), lab.host("m3"), lab.host("w1")];
  const before = await census(lab.hosts());
  const move = async (from: string, to: string): Promise<void> => {
    await m3.stop();

    await m3.exec(["ip", "addr", "del", `${from}/24`, "dev", "eth0"]);
    await m3.exec(["ip", "addr", "add", `${to}/24`, "dev", "eth0"]);
    await m3.exec(["mkdir", "-p", "/etc/swarmd"]);
    const line = `echo 'advertise-addr: ${to}' >/etc/swarmd/swarmd.yaml`;
    await m3.exec(["sh", "-c", line]);
    await m3.start();
    await until(`the managers find m3 at ${to}`, async () => {
      const { ID } = await nodeOf(m1, "m3");
      const found = (await managersOf(await leaderOf(lab))).find(({ nodeId }) => nodeId === ID);
      return found?.addr === `${to}:2377` && found.reachable;
    });
  };
  await move(m3.addr, NEW_ADDR);
  await until("workers hear of it", async () => (await must(w1, "info")).includes(NEW_ADDR));
  const { Status } = await nodeOf(m1, "m3");
  t.match(Status, { State: "ready", Addr: NEW_ADDR });
  await m2.stop();
  await createSecret(await leaderOf(lab, [m1, m3]), "with-the-moved-one");
  await m2.start();
  t.same(await disturbances(lab, before), []);
  await move(NEW_ADDR, m3.addr);
  await m3.exec(["rm", "/etc/swarmd/swarmd.yaml"]);
  await untilManagers(m1, 3);
}

async function newCluster(t: Test, lab: Lab): Promise<void> {
  const [m1, m2, m3] = [lab.host("m1"), lab.host("m2"), lab.host("m3")];
  const [w1, w2] = [lab.host("w1"), lab.host("w2")];
  const force = ["init", "--force-new-cluster"];
  t.match(await swarmd(m1, force), {
    code: 1,
    stderr: /the quorum is not lost: 3 of the 3 managers answer/,
  });
  await m3.poweroff();
  t.match(await swarmd(m1, force), {
    code: 1,
    stderr: /the quorum is not lost: 2 of the 3 managers answer .*and 2 are enough/,
  });
  const secrets = await secretsOf(m1);
  const services = await must(m1, "service", "ls", "-q");
  await m2.poweroff();
  await until("nothing can be written", async () => (await swarmd(m1, ["node", "ls"])).code !== 0);
  const undisturbed = await census([m1, w1, w2]);
  t.match(await must(m1, ...force), /^Swarm initialized: current node \([0-9a-z]{25}\) is now/);
  t.same(await secretsOf(m1), secrets);
  t.equal(await must(m1, "service", "ls", "-q"), services);
  t.equal((await managersOf(m1)).length, 1);
  await createSecret(m1, "in-the-new-cluster");
  await until("the lost managers are down", async () => {
    const states = await Promise.all(["m2", "m3"].map(name => nodeOf(m1, name)));
    return states.every(({ Status, ManagerStatus, Spec }) => {
      return Status.State === "down" && !ManagerStatus && Spec.Role === "worker";
    });
  });
  await untilRunning(m1, "app", 4);
  t.same(await disturbances(lab, undisturbed), [], "what ran goes on");

  await Promise.all([m2.poweron(), m3.poweron()]);
  for (const host of [m2, m3]) {
    await until(`${host.name} is a worker`, async () => {
      const log = await logOf(host);
      return log.lastIndexOf("this node is a worker now") > log.lastIndexOf('"starting"');
    });
    t.match(await logOf(host), /this manager was retired while it was away/);
    t.match(await swarmd(host, ["service", "ls"]), {
      code: 1,
      stderr: /Worker nodes can't be used/,
    });
    await until(`${host.name} is ready`, async () => {
      return (await nodeOf(m1, host.name)).Status.State === "ready";
    });
  }
  t.equal((await leaderOf(lab, [m1])).name, "m1");
  t.equal((await runningOf(m1, "app")).length, 4);
  await must(m1, "node", "promote", (await nodeOf(m1, "m2")).ID, (await nodeOf(m1, "m3")).ID);
  await untilManagers(m1, 3);
  await until("m3 answers as a manager", async () =>
    (await secretsOf(m3)).includes("in-the-new-cluster"),
  );
}
