import t from "tap";
import type { LabHost } from "../lab/lab.ts";
import {
  labUnavailable,
  must,
  startLab,
  swarmd,
  tasksOf,
  until,
  untilRunning,
} from "../support/e2e.ts";
import { requestMany } from "../support/load.ts";
import { PAGE } from "../support/overlay-rig.ts";

/** Where published ports answer, and what stands in their way. */

const TIMEOUT_MS = 300_000;
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

t.test("published ports", { skip }, async t => {
  const lab = await startLab(t, "publish", { managers: 1, workers: 1 });
  const [m1, w1] = [lab.host("m1"), lab.host("w1")];
  const create = (name: string, ...args: string[]): Promise<string> =>
    must(m1, "service", "create", "-d", "--name", name, ...args, "swarmd/web:1");
  const fromOutside = async (host: LabHost, port: number): Promise<boolean> =>
    (await requestMany(lab, [`http://${host.addr}:${port}${PAGE}`], 1)).failed === 0;
  const onHost = async (host: LabHost, addr: string, port: number): Promise<boolean> => {
    const get = ["timeout", "5", "busybox", "wget", "-q", "-O", "-"];
    return (await host.tryExec([...get, `http://${addr}:${port}${PAGE}`])).code === 0;
  };

  await t.test("they answer at the addresses of the label only", async t => {
    const label = `swarmd.publish.address=${m1.addr},8081=127.0.0.1,8081=::1`;
    await create("web", "--replicas", "2", "-p", "8080:80", "-p", "8081:80", "--label", label);
    await untilRunning(m1, "web", 2);
    await until("m1 answers", () => fromOutside(m1, 8_080));
    t.equal(await fromOutside(w1, 8_080), false, "w1 has another address");
    t.equal(await onHost(w1, "127.0.0.1", 8_080), false);
    t.equal(await onHost(m1, m1.addr, 8_080), true);
    for (const host of [m1, w1]) {
      await until(`${host.name} answers itself`, () => onHost(host, "127.0.0.1", 8_081));
      t.equal(await fromOutside(host, 8_081), false, `${host.name}: nobody else`);
    }
    await must(
      m1,
      "service",
      "update",
      "-d",
      "--label-add",
      "swarmd.publish.address=10.77.0.0/16",
      "web",
    );
    await until("the network of all hosts", () => fromOutside(w1, 8_080));
    t.equal(await onHost(w1, "127.0.0.1", 8_080), false);
    await must(m1, "service", "update", "-d", "--label-rm", "swarmd.publish.address", "web");
    await until("everywhere", () => onHost(w1, "127.0.0.1", 8_080));
    const wrong = [
      "service",
      "create",
      "-d",
      "--label",
      "swarmd.publish.address=here",
      "swarmd/web:1",
    ];
    t.match(await swarmd(m1, wrong), { code: 1, stderr: /invalid value 'here'/ });
  });

  await t.test("a port in use is refused with its owner", async t => {
    const taken = ["service", "create", "-d", "--name", "second", "-p", "8080:80", "swarmd/web:1"];
    const refused = await swarmd(m1, taken);
    t.match(refused, { code: 1, stderr: /port '8080' is already in use by service 'web' \(\w+\)/ });
  });

  await t.test("a firewall that forwards nothing lets them through", async t => {
    for (const host of [m1, w1]) await host.exec(["iptables", "-w", "-P", "FORWARD", "DROP"]);
    await must(m1, "service", "scale", "-d", "web=1");
    await untilRunning(m1, "web", 1);
    for (const host of [m1, w1])
      await until(`${host.name} answers`, () => fromOutside(host, 8_080));
    // Docker's own chains are flushed by tools that think they own the firewall.
    await w1.exec(["iptables", "-w", "-F", "DOCKER-USER"]);
    await until("its rule is back", () => fromOutside(w1, 8_080));
    t.pass();
  });

  await t.test("pools that overlap and tunnels' numbers in use are refused", async t => {
    const network = (...args: string[]): Promise<{ code: number; stderr: string }> =>
      swarmd(m1, ["network", "create", "-d", "overlay", ...args]);
    const vni = ["--opt", "com.docker.network.driver.overlay.vxlanid_list=5001"];
    t.match(await network("--subnet", "10.9.0.0/24", ...vni, "one"), { code: 0 });
    t.match(await network("--subnet", "10.9.0.128/25", "two"), {
      code: 1,
      stderr: /Pool overlaps/,
    });
    t.match(await network(...vni, "three"), { code: 1, stderr: /VXLAN id 5001 is taken/ });
  });

  await t.test("a tunnel's number that others use on a host is said on the task", async t => {
    const foreign = ["type", "vxlan", "id", "5001", "local", w1.addr, "dstport", "4789"];
    await w1.exec(["ip", "link", "add", "foreign0", ...foreign]);
    await must(
      m1,
      ...["service", "create", "-d", "--name", "far", "--network", "one"],
      ...["--constraint", "node.hostname==w1", "swarmd/web:1"],
    );
    const [task] = await until("the task is rejected", async () => {
      const tasks = await tasksOf(m1, "far");
      return tasks.some(({ Status }) => Status.State === "rejected") ? tasks : null;
    });
    t.match(task?.Status.Err ?? "", /VXLAN id 5001 is in use on this host by the device foreign0/);
    t.match(await must(m1, "network", "inspect", "--pretty", "one"), /w1: .*foreign0/);
    await w1.exec(["ip", "link", "del", "foreign0"]);
    await untilRunning(m1, "far", 1);
  });
});
