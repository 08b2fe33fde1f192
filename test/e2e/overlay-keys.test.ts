import t from "tap";
import type { MeshStatus } from "../../src/model/data-path-status.ts";
import type { LabHost } from "../lab/lab.ts";
import {
  api,
  type Container,
  containersOf,
  labUnavailable,
  must,
  startLab,
  swarmd,
  until,
  untilRunning,
} from "../support/e2e.ts";
import { startUdpEcho, startUdpFlow, type UdpFlow } from "../support/load.ts";

/** Keys of encrypted networks change while packets flow. */

const TIMEOUT_MS = 300_000;
const skip = labUnavailable() ?? false;
t.setTimeout(TIMEOUT_MS);

/** Counts what the hosts send each other over the switch. */
const SEEN_RULES = `table bridge seen {
  counter plain { }
  counter sealed { }
  chain forward {
    type filter hook forward priority 1;
    udp dport { 4789, 4790 } counter name plain
    udp dport { 51820, 51821 } counter name sealed
  }
}
`;
const ROTATIONS = 3;
/** Enough that each change falls into a flow that goes on; how many it is depends on the machine. */
const MIN_PACKETS = 20 * ROTATIONS;
t.test("keys are changed without loss", { skip }, async t => {
  const lab = await startLab(t, "overlay-keys", { managers: 1, workers: 1 });
  const [m1, w1] = [lab.host("m1"), lab.host("w1")];
  const rules = await lab.asClient(["nft", "-f", "-"], { input: SEEN_RULES });
  t.equal(rules.code, 0, rules.stderr);
  const seen = async (name: string): Promise<number> => {
    const { stdout } = await lab.asClient(["nft", "list", "counter", "bridge", "seen", name]);
    return Number(/packets (\d+)/.exec(stdout)?.[1]);
  };
  const keysOf = async (host: LabHost): Promise<string> =>
    host.exec(["wg", "show", "all", "public-key"]);
  const mesh = (): Promise<MeshStatus> => api<MeshStatus>(m1, "GET", "/swarmd/v1/mesh");
  await m1.swarmDocker(["network", "create", "-d", "overlay", "--opt", "encrypted", "secret"]);
  await must(
    m1,
    ...["service", "create", "-d", "--name", "web", "--mode", "global"],
    ...["--network", "secret", "swarmd/web:1"],
  );
  await untilRunning(m1, "web", 2);
  const containerOn = async (host: LabHost): Promise<Container> => {
    const container = (await containersOf(host)).find(({ running }) => running);
    if (container === undefined) throw new Error(`web runs on ${host.name}`);
    return container;
  };
  const addressOf = async ({ host, id }: Container): Promise<string> => {
    const format = '{{(index .NetworkSettings.Networks "secret").IPAddress}}';
    return (await lab.host(host).docker(["inspect", "-f", format, id])).trim();
  };
  const [a, b] = [await containerOn(m1), await containerOn(w1)];
  for (const end of [a, b]) {
    const echo = await startUdpEcho(lab, end);
    t.teardown(() => echo.stop());
  }
  const there = async (): Promise<UdpFlow> => startUdpFlow(lab, a, await addressOf(b));
  const back = async (): Promise<UdpFlow> => startUdpFlow(lab, b, await addressOf(a));
  await until("the hosts have met", async () => (await (await there()).end()).received > 0);

  await t.test("every packet of a flow arrives, and none of them in the clear", async t => {
    const before = await keysOf(m1);
    const flows = [await there(), await back()];
    const sealed = await seen("sealed");
    const { generation } = await mesh();
    for (let i = 0; i < ROTATIONS; i += 1) {
      t.match(await must(m1, "network", "rotate-keys"), /every host uses generation/);
    }
    for (const flow of flows) {
      const { sent, received } = await flow.end();
      t.ok(sent > MIN_PACKETS, `${sent} packets were sent meanwhile`);
      t.equal(sent - received, 0, "none was lost");
    }
    t.ok((await seen("sealed")) - sealed > 2 * MIN_PACKETS, "by the mesh");
    t.equal(await seen("plain"), 0);
    t.match(await mesh(), { generation: generation + ROTATIONS, settled: true, waitingFor: [] });
    const after = await keysOf(m1);
    t.not(after, before, "the hosts' own keys are others too");
    t.equal(after.trim().split("\n").length, 1, "and the older ones are gone");
    t.match(await m1.exec(["wg", "show", "all", "preshared-keys"]), /\S{44}$/m);
  });

  await t.test("keys are not for everybody", async t => {
    const { JoinTokens, ...cluster } = await api<Record<string, unknown>>(m1, "GET", "/swarm");
    t.ok(JoinTokens);
    t.notMatch(JSON.stringify(cluster), /psk/i);
  });

  await t.test("when hosts cannot meet by the new keys the present ones go on", async t => {
    const { generation } = await mesh();
    const port = (generation + 1) % 2 === 1 ? 51_820 : 51_821;
    await w1.exec(["nft", "-f", "-"], {
      input: `table ip firewall {\n chain in {\n type filter hook input priority -10; udp dport ${port} drop\n }\n chain out {\n type filter hook output priority -10; udp dport ${port} drop\n }\n}\n`,
    });
    const flow = await there();
    await must(m1, "network", "rotate-keys", "--detach");
    await until(
      "both have the new end",
      async () => (await keysOf(w1)).trim().split("\n").length === 2,
    );
    const refused = await swarmd(m1, ["network", "rotate-keys", "--detach"]);
    t.equal(refused.code, 1);
    t.match(refused.stderr, /not in use everywhere yet: waiting for .*m1/);
    t.match(await mesh(), { generation: generation + 1, settled: false });
    await w1.exec(["nft", "delete", "table", "ip", "firewall"]);
    await until("it comes to its end", async () => (await mesh()).settled);
    const { sent, received } = await flow.end();
    t.equal(sent - received, 0, `of ${sent} packets none was lost`);
  });

  await t.test("a daemon that restarts takes its end up again", async t => {
    const flow = await there();
    await w1.kill();
    await w1.start();
    await until("its session is open", async () => {
      const { stdout } = await swarmd(m1, ["network", "inspect", "secret"]);
      return /"inStep": true/.test(stdout);
    });
    t.match(await must(m1, "network", "rotate-keys"), /every host uses generation/);
    const { sent, received } = await flow.end();
    t.equal(sent - received, 0, `of ${sent} packets none was lost`);
  });
});
