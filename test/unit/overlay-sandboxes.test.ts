import t from "tap";
import { silentLogger } from "../../src/base/logger.ts";
import type { Commands } from "../../src/overlay/commands.ts";
import type { NetworkPlan } from "../../src/overlay/core/plan.ts";
import { Namespaces } from "../../src/overlay/namespaces.ts";
import { Sandboxes } from "../../src/overlay/sandboxes.ts";

/** A container's devices, as far as `ip` in its namespace shows and names them. */
class OneContainer implements Commands {
  readonly devices = new Set<string>(["lo"]);
  readonly unplugged: string[] = [];
  fails = false;

  async run(command: readonly string[], input = ""): Promise<string> {
    // As a program takes its time, another one may be started meanwhile.
    await new Promise(resolve => setImmediate(resolve));
    const text = command.join(" ");
    if (text.includes("ip -j link show")) {
      return JSON.stringify([...this.devices].map(ifname => ({ ifname })));
    }
    if (/ link del v\w+$/.test(text) && text.includes("-n")) this.unplugged.push(text);
    const name = text.includes("nsenter")
      ? /^link set \w+ name (\w+)$/m.exec(input)?.[1]
      : undefined;
    if (name === undefined) return "";
    if (this.fails || this.devices.has(name)) throw new Error("RTNETLINK answers: File exists");
    this.devices.add(name);
    return "";
  }
}

function planOf(networkId: string): NetworkPlan {
  const tunnel = { vni: 4_097, index: 1, localAddr: "192.0.2.1", port: 4_789, mtu: 1_450 };
  const sets = { peers: new Map(), routes: new Map(), locals: new Set<string>() };
  const maps = { vips: new Map(), ports: new Map() };
  const families = ["ipv4"] as const;
  return { networkId, tunnel, gateways: [], families, ingress: false, ...sets, ...maps };
}

const into = { sandbox: "/run/ns", prefixBits: 24, gateway: "", way6: null };
const end = (device: string): { device: string; addr: string; mac: string } => ({
  device,
  addr: "10.0.1.2",
  mac: "02:42:0a:00:01:02",
});

t.test("two networks that plug into one container at once get two devices", async t => {
  const commands = new OneContainer();
  const namespaces = new Namespaces({ commands, logger: silentLogger });
  const sandboxes = new Sandboxes({ commands, namespaces });
  await Promise.all(["a", "b"].map(id => sandboxes.plugInto(planOf(id), end(`v${id}`), into)));
  t.same([...commands.devices], ["lo", "eth0", "eth1"]);
  t.same(commands.unplugged, []);
});

t.test("an end that could not be finished is taken away, and the next one is made", async t => {
  const commands = new OneContainer();
  const namespaces = new Namespaces({ commands, logger: silentLogger });
  const sandboxes = new Sandboxes({ commands, namespaces });
  commands.fails = true;
  await t.rejects(sandboxes.plugInto(planOf("a"), end("va"), into), /File exists/);
  commands.fails = false;
  await sandboxes.plugInto(planOf("b"), end("vb"), into);
  t.match(commands.unplugged, [/swarmd-a link del va$/]);
  t.same([...commands.devices], ["lo", "eth0"]);
});
