import { stat } from "node:fs/promises";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { familyOf, type IpFamily } from "../model/ip.ts";
import { addressesOf } from "../model/overlay.ts";
import type { Commands } from "./commands.ts";
import type { Conversations, Speaker } from "./conversations.ts";
import {
  parseFdb,
  parseLink,
  parseNeighbours,
  parseRoutes,
  parseVips,
  vxlanOf,
} from "./core/actual.ts";
import { hostMac, hostPrefix, namespaceOf, TUNNEL_DEVICE, UPLINK } from "./core/names.ts";
import { INGRESS_TABLE, tableFamily, VIP_TABLE } from "./core/nft.ts";
import type { NetworkPlan } from "./core/plan.ts";
import { type Batch, NO_RULES, type Programmed } from "./core/program.ts";

const NETNS_DIR = "/run/netns";

/** Routing, and an answer to every ARP request: containers see one flat network. */
const SYSCTLS = `cd /proc/sys/net/ipv4 || exit 1
echo 1 >ip_forward
for k in all default; do
  echo 0 >conf/$k/send_redirects; echo 0 >conf/$k/accept_redirects; echo 0 >conf/$k/rp_filter
done
echo 1 >conf/default/proxy_arp
`;
/** Every way is given, so nothing is learned from routers; no address is there twice. */
const SYSCTLS6 = `cd /proc/sys/net/ipv6/conf || exit 1
for k in all default; do
  echo 0 >$k/disable_ipv6; echo 0 >$k/accept_ra; echo 0 >$k/accept_redirects; echo 0 >$k/accept_dad
done
echo 1 >all/forwarding
`;
/** A host that routes forgets what routers tell it, unless it is told to listen on (accept_ra 2). */
const HOST_SYSCTLS6 = `cd /proc/sys/net/ipv6/conf || exit 1
if [ "$(cat all/forwarding)" = 0 ]; then
  for f in */accept_ra; do if [ "$(cat $f)" = 1 ]; then echo 2 >$f; fi; done
  echo 1 >all/forwarding
fi
`;
/** After every other way to ::1: for answers to this host itself, as route_localnet is for IPv4. */
const LOOPBACK_METRIC = 2_048;
const TUNNEL_SYSCTLS = `cd /proc/sys/net/ipv4/conf && echo 0 >${TUNNEL_DEVICE}/proxy_arp
echo 0 >${TUNNEL_DEVICE}/rp_filter
`;

/**
 * Asked of one program: these are looked at all the time, and its start costs most of it. After a
 * look at a link `ip` lists no addresses any more, so they come first.
 */
const LOOKS = [
  "addr show dev lo",
  "route show",
  `neigh show dev ${TUNNEL_DEVICE}`,
  `link show ${TUNNEL_DEVICE}`,
];

/** A container's end of a network, on this host. */
export interface LocalEnd {
  readonly device: string;
  readonly addr: string;
  readonly addr6?: string;
  readonly mac: string;
}

/** Options of `ip` for lines that name no address. */
export const OF_FAMILY: Readonly<Record<IpFamily, readonly string[]>> = { ipv4: [], ipv6: ["-6"] };

type ReadOf = Pick<NetworkPlan, "networkId" | "families" | "ingress">;

/** The end's addresses of the families that the network has here. */
function usable({ families }: NetworkPlan, end: LocalEnd): readonly string[] {
  return addressesOf(end).filter(addr => families.includes(familyOf(addr)));
}

/** Containers ask for the router of IPv6 on their own link; IPv4's is answered for by proxy ARP. */
function gatewaysAt({ gateways }: NetworkPlan, addr: string): readonly string[] {
  if (familyOf(addr) === "ipv4") return [];
  return gateways.filter(gateway => familyOf(gateway) === "ipv6").map(hostPrefix);
}

/** Devices that `ip -j link show` lists. */
export function namesOf(links: string): ReadonlySet<string> {
  const rows = JSON.parse(links) as readonly { readonly ifname?: string }[];
  return new Set(rows.map(({ ifname = "" }) => ifname));
}

export interface NamespacesDeps {
  readonly commands: Commands;
  /** Absent: a program is started for each change. */
  readonly conversations?: Conversations;
  readonly logger: Logger;
}

/** Network namespaces of overlay networks and what is in them, by the host's own programs. */
export class Namespaces {
  readonly #commands: Commands;
  readonly #conversations: Conversations | null;
  readonly #logger: Logger;

  constructor(deps: NamespacesDeps) {
    this.#commands = deps.commands;
    this.#conversations = deps.conversations ?? null;
    this.#logger = deps.logger;
  }

  async exists(networkId: string): Promise<boolean> {
    try {
      await stat(`${NETNS_DIR}/${namespaceOf(networkId)}`);
      // A name without a namespace behind it is what is left of one.
      await this.#ip(networkId, ["link", "show", "lo"]);
      return true;
    } catch {
      return false;
    }
  }

  async create(plan: NetworkPlan): Promise<void> {
    const ns = namespaceOf(plan.networkId);
    await this.#conversations?.forget(ns);
    await this.#quietly(["ip", "netns", "del", ns]);
    await this.#commands.run(["ip", "netns", "add", ns]);
    await this.prepare(plan);
    await this.makeTunnel(plan);
  }

  /** What holds for the namespace as a whole; also when it was only half made. */
  async prepare({ networkId, gateways, families }: NetworkPlan): Promise<void> {
    await this.#inside(networkId, ["sh", "-e", "-c", SYSCTLS]);
    if (families.includes("ipv6")) await this.#inside(networkId, ["sh", "-e", "-c", SYSCTLS6]);
    await this.#batch("ip", networkId, [
      "link set lo up",
      ...gateways.map(gateway => `addr replace ${hostPrefix(gateway)} dev lo`),
    ]);
  }

  /** Replaces the tunnel's end; with it go its routes, neighbours and forwarding entries. */
  async makeTunnel({ networkId, tunnel }: NetworkPlan): Promise<void> {
    const ns = namespaceOf(networkId);
    const outside = `vx${tunnel.vni}`;
    await this.#quietly(["ip", "-n", ns, "link", "del", TUNNEL_DEVICE]);
    await this.#quietly(["ip", "link", "del", outside]);
    const { vni, localAddr, port, mtu } = tunnel;
    // Made outside, so that its socket is the host's.
    await this.#batch("ip", null, [
      `link add ${outside} mtu ${mtu} type vxlan id ${vni} local ${localAddr} dstport ${port} nolearning`,
      `link set ${outside} netns ${ns}`,
    ]).catch((error: unknown) => this.#explain(error, vni));
    await this.#batch("ip", networkId, [
      `link set ${outside} name ${TUNNEL_DEVICE}`,
      `link set ${TUNNEL_DEVICE} address ${hostMac(tunnel.index)}`,
      `link set ${TUNNEL_DEVICE} up`,
    ]);
    await this.#inside(networkId, ["sh", "-e", "-c", TUNNEL_SYSCTLS]);
  }

  /** Who has the number is what there is to do something about. */
  async #explain(error: unknown, vni: number): Promise<never> {
    if (!errorMessage(error).includes("already exists")) throw error;
    const links = await this.#commands.run(["ip", "-j", "-d", "link", "show", "type", "vxlan"]);
    const holder = vxlanOf(links, vni) || "in a network namespace of others";
    throw new SwarmError(
      "failed_precondition",
      `VXLAN id ${vni} is in use on this host by the device ${holder}: delete that device, or ` +
        "create the network with another id " +
        "(--opt com.docker.network.driver.overlay.vxlanid_list=NUMBER)",
      {},
      error,
    );
  }

  async remove(networkId: string): Promise<void> {
    await this.#conversations?.forget(namespaceOf(networkId));
    await this.#quietly(["ip", "netns", "del", namespaceOf(networkId)]);
  }

  /** Link between the host and its ingress namespace; also when it is there already. */
  async makeUplink({ networkId, families }: NetworkPlan): Promise<void> {
    const ns = namespaceOf(networkId);
    const { hostDevice, innerDevice, hostAddr, innerAddr, prefixBits } = UPLINK;
    await this.#quietly(["ip", "link", "del", hostDevice]);
    await this.#batch("ip", null, [
      `link add ${hostDevice} type veth peer name ${innerDevice} netns ${ns}`,
      `addr add ${hostAddr}/${prefixBits} dev ${hostDevice}`,
      `link set ${hostDevice} up`,
    ]);
    await this.#batch("ip", networkId, [
      `addr add ${innerAddr}/${prefixBits} dev ${innerDevice}`,
      `link set ${innerDevice} up`,
      `route replace default via ${hostAddr}`,
    ]);
    await this.#inside(networkId, [
      "sh",
      "-e",
      "-c",
      `echo 0 >/proc/sys/net/ipv4/conf/${innerDevice}/proxy_arp`,
    ]);
    const host = "/proc/sys/net/ipv4";
    const keys = ["rp_filter", "send_redirects"].map(key => `echo 0 >conf/${hostDevice}/${key}`);
    const script = [
      `cd ${host}`,
      "echo 1 >ip_forward",
      `echo 1 >conf/${hostDevice}/route_localnet`,
      ...keys,
    ];
    await this.#commands.run(["sh", "-e", "-c", script.join("\n")]);
    if (families.includes("ipv6")) await this.#makeUplink6(networkId);
  }

  async #makeUplink6(networkId: string): Promise<void> {
    const { hostDevice, innerDevice, hostAddr6, innerAddr6, prefixBits6 } = UPLINK;
    await this.#commands.run(["sh", "-e", "-c", HOST_SYSCTLS6]);
    await this.#commands.run([
      "sh",
      "-c",
      `echo 0 >/proc/sys/net/ipv6/conf/${hostDevice}/disable_ipv6`,
    ]);
    await this.#batch("ip", null, [
      `addr add ${hostAddr6}/${prefixBits6} dev ${hostDevice} nodad`,
      `route replace local ::1/128 dev ${hostDevice} table local metric ${LOOPBACK_METRIC}`,
    ]);
    await this.#batch("ip", networkId, [
      `addr add ${innerAddr6}/${prefixBits6} dev ${innerDevice} nodad`,
      `route replace ::/0 via ${hostAddr6}`,
    ]);
  }

  async hasUplink(networkId: string): Promise<boolean> {
    try {
      await this.#ip(networkId, ["link", "show", UPLINK.innerDevice]);
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Runs a batch in its order: what new connections need comes before what sends them there. Flows
   * that are to be forgotten are left to the caller.
   */
  async apply(networkId: string, batch: Batch): Promise<void> {
    await this.#forced("ip", networkId, batch.ipEnsure, batch.families);
    await this.#change(networkId, batch.ipAdd);
    await this.#batch("bridge", networkId, batch.bridgeAdd);
    if (batch.nft !== "") await this.#changeRules(networkId, batch.nft);
    await this.#forced("ip", networkId, batch.ipForget, batch.families);
    await this.#changeQuietly(networkId, batch.ipDelete);
    await this.#forced("bridge", networkId, batch.bridgeDelete);
  }

  /** What is there, but for rules; null when the tunnel or the uplink has no end here. */
  async read({ networkId, families, ingress }: ReadOf): Promise<Programmed | null> {
    const looks = ingress ? [...LOOKS, `link show ${UPLINK.innerDevice}`] : LOOKS;
    const all = ["ip", "-n", namespaceOf(networkId), "-j", "-d", "-batch", "-"];
    const text = await this.#commands.run(all, `${looks.join("\n")}\n`).catch(() => "");
    const tunnel = parseLink(text);
    if (tunnel === null) return null;
    const routes = new Map(parseRoutes(text));
    if (families.includes("ipv6")) {
      const text6 = await this.#ip(networkId, ["-6", "-j", "route", "show"]);
      for (const [addr, index] of parseRoutes(text6)) routes.set(addr, index);
    }
    const bridge = ["bridge", "-n", namespaceOf(networkId), "-j", "fdb", "show"];
    const fdb = await this.#commands.run([...bridge, "dev", TUNNEL_DEVICE]);
    return {
      tunnel,
      peers: parseFdb(fdb, parseNeighbours(text, families)),
      routes,
      vips: parseVips(text),
      rules: NO_RULES,
    };
  }

  /** The pair of devices that joins a container; its end stays outside for the Engine to take. */
  async plug(plan: NetworkPlan, end: LocalEnd): Promise<void> {
    const { device, mac } = end;
    const { mtu } = plan.tunnel;
    const ns = namespaceOf(plan.networkId);
    await this.#quietly(["ip", "link", "del", `${device}c`]);
    await this.#batch("ip", null, [
      `link add ${device}c mtu ${mtu} type veth peer name ${device} mtu ${mtu} netns ${ns}`,
    ]);
    await this.#batch("ip", plan.networkId, [
      `link set ${device} up`,
      ...usable(plan, end).flatMap(addr => [
        ...gatewaysAt(plan, addr).map(gateway => `addr replace ${gateway} dev ${device} nodad`),
        `route replace ${hostPrefix(addr)} dev ${device}`,
        `neigh replace ${addr} lladdr ${mac} dev ${device} nud permanent`,
      ]),
    ]);
    const key = `/proc/sys/net/ipv4/neigh/${device}/proxy_delay`;
    await this.#inside(plan.networkId, ["sh", "-e", "-c", `echo 0 >${key}`]);
  }

  async unplug(networkId: string, device: string): Promise<void> {
    await this.#quietly(["ip", "-n", namespaceOf(networkId), "link", "del", device]);
  }

  /** Devices of containers in the namespace. */
  async devices(networkId: string): Promise<ReadonlySet<string>> {
    const text = await this.#ip(networkId, ["-j", "link", "show"]);
    return namesOf(text);
  }

  /** Its tables, as nft lists them. Throws when one is not there. */
  async rules({ networkId, ingress, families }: NetworkPlan): Promise<string> {
    const table = ingress ? INGRESS_TABLE : VIP_TABLE;
    let text = "";
    for (const family of families) {
      const which = ["table", tableFamily(family), table];
      text += await this.#inside(networkId, ["nft", "-s", "list", ...which]);
    }
    return text;
  }

  #ip(networkId: string, args: readonly string[]): Promise<string> {
    return this.#commands.run(["ip", "-n", namespaceOf(networkId), ...args]);
  }

  #inside(networkId: string, command: readonly string[], input?: string): Promise<string> {
    const enter = ["nsenter", `--net=${NETNS_DIR}/${namespaceOf(networkId)}`];
    return this.#commands.run([...enter, ...command], input);
  }

  async #change(networkId: string, lines: readonly string[]): Promise<void> {
    if (lines.length === 0 || (await this.#ask(networkId, "ip", lines.join("\n")))) return;
    await this.#batch("ip", networkId, lines);
  }

  async #changeQuietly(networkId: string, lines: readonly string[]): Promise<void> {
    try {
      if (lines.length === 0 || (await this.#ask(networkId, "ip", lines.join("\n")))) return;
    } catch (error) {
      this.#logger.debug("command failed", { error: errorMessage(error) });
      return;
    }
    await this.#forced("ip", networkId, lines);
  }

  /** One transaction; a line is one where a program listens, and whole tables are of many. */
  async #changeRules(networkId: string, script: string): Promise<void> {
    const line = script.trim().replaceAll("\n", "; ");
    if (!script.startsWith("table ") && (await this.#ask(networkId, "nft", line))) return;
    await this.#inside(networkId, ["nft", "-f", "-"], script);
  }

  async #ask(networkId: string, speaker: Speaker, commands: string): Promise<boolean> {
    return (await this.#conversations?.ask(namespaceOf(networkId), speaker, commands)) ?? false;
  }

  async #batch(
    program: "ip" | "bridge",
    networkId: string | null,
    lines: readonly string[],
  ): Promise<void> {
    if (lines.length === 0) return;
    const where = networkId === null ? [] : ["-n", namespaceOf(networkId)];
    await this.#commands.run([program, ...where, "-batch", "-"], `${lines.join("\n")}\n`);
  }

  /** Goes on when a line finds nothing to delete, or something there already. */
  async #forced(
    program: "ip" | "bridge",
    networkId: string,
    lines: readonly string[],
    families: readonly IpFamily[] = ["ipv4"],
  ): Promise<void> {
    if (lines.length === 0) return;
    for (const family of families) {
      const how = [...OF_FAMILY[family], "-force", "-n", namespaceOf(networkId), "-batch", "-"];
      await this.#quietly([program, ...how], `${lines.join("\n")}\n`);
    }
  }

  /** For what may well fail: there is nothing to delete. */
  async #quietly(command: readonly string[], input?: string): Promise<void> {
    try {
      await this.#commands.run(command, input);
    } catch (error) {
      this.#logger.debug("command failed", { error: errorMessage(error) });
    }
  }
}

/** Listing a hashed set again may give another order. */
export function inOrder(listing: string): string {
  const parts = listing.split(/[,\n{}]/).map(part => part.replace("elements =", "").trim());
  return parts
    .filter(part => part !== "")
    .sort()
    .join("\n");
}
