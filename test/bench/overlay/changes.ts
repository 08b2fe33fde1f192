import { silentLogger } from "../../../src/base/logger.ts";
import { HostCommands } from "../../../src/overlay/commands.ts";
import { Conversations } from "../../../src/overlay/conversations.ts";
import type { NetworkPlan } from "../../../src/overlay/core/plan.ts";
import { diffNetwork, nothingYet } from "../../../src/overlay/core/program.ts";
import { Namespaces } from "../../../src/overlay/namespaces.ts";
import { realClock } from "../../../src/system/real.ts";

/** What it costs to load a network's rules, and to change one endpoint of them. */

const BACKENDS = 3;
const CHANGES = 30;
const NETWORK_ID = "benchoverlay0";
/** A number no cluster of this machine has. */
const VNI = 0xff_fffe;

export interface ChangeCost {
  readonly services: number;
  readonly loadMs: number;
  readonly changesMs: readonly number[];
}

function planOf(services: number, changed: boolean): NetworkPlan {
  const vips = new Map<string, readonly string[]>();
  for (let i = 0; i < services; i += 1) {
    const [high, low] = [Math.floor(i / 250), i % 250];
    const backends = Array.from({ length: BACKENDS }, (_, k) => `10.${k + 1}.${high}.${low}`);
    if (i === 0 && changed) backends.pop();
    vips.set(`10.9.${high}.${low}`, backends);
  }
  return {
    networkId: NETWORK_ID,
    tunnel: { vni: VNI, index: 1, localAddr: "127.0.0.1", port: 47_890, mtu: 1_450 },
    gateways: ["10.9.255.254"],
    families: ["ipv4"],
    ingress: false,
    peers: new Map(),
    routes: new Map(),
    locals: new Set(),
    vips,
    ports: new Map(),
  };
}

/** In a namespace of this machine's, made and removed. Needs root. */
export async function measureChanges(services: number): Promise<ChangeCost> {
  const commands = new HostCommands();
  const logger = silentLogger;
  const conversations = new Conversations({ programs: commands, clock: realClock, logger });
  const namespaces = new Namespaces({ commands, conversations, logger });
  const plan = planOf(services, false);
  try {
    await namespaces.create(plan);
    const loaded = diffNetwork(nothingYet(plan.tunnel), plan, true);
    const loadMs = await timed(() => namespaces.apply(NETWORK_ID, loaded.batch));
    let { next } = loaded;
    const changesMs: number[] = [];
    for (let i = 0; i < CHANGES; i += 1) {
      const step = diffNetwork(next, planOf(services, i % 2 === 0), false);
      changesMs.push(await timed(() => namespaces.apply(NETWORK_ID, step.batch)));
      next = step.next;
    }
    return { services, loadMs, changesMs };
  } finally {
    await namespaces.remove(NETWORK_ID);
    await conversations.close();
  }
}

async function timed(work: () => Promise<void>): Promise<number> {
  const since = performance.now();
  await work();
  return performance.now() - since;
}
