import { stat } from "node:fs/promises";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Commands } from "./commands.ts";
import { parseFdb, parseLink, parseNeighbours, parseRoutes, parseVips } from "./core/actual.ts";
import { hostMac, namespaceOf, TUNNEL_DEVICE, UPLINK } from "./core/names.ts";
import { INGRESS_TABLE, VIP_TABLE } from "./core/nft.ts";
import type { NetworkPlan } from "./core/plan.ts";
import { type Batch, NO_RULES, type Programmed, type StaleFlows } from "./core/program.ts";

const NETNS_DIR = "/run/netns";

/** Routing, and an answer to every ARP request: containers see one flat network. */
const SYSCTLS = `cd /proc/sys/net/ipv4 || exit 1
echo 1 >ip_forward
for k in all default; do
  echo 0 >conf/$k/send_redirects; echo 0 >conf/$k/accept_redirects; echo 0 >conf/$k/rp_filter
done
echo 1 >conf/default/proxy_arp
`;
const TUNNEL_SYSCTLS = `cd /proc/sys/net/ipv4/conf && echo 0 >${TUNNEL_DEVICE}/proxy_arp
echo 0 >${TUNNEL_DEVICE}/rp_filter
`;

/** A container's end of a network, on this host. */
export interface LocalEnd {
  readonly device: string;
  readonly addr: string;
  readonly mac: string;
}

/** Where a container's end goes when the Engine does not put it there. */
export interface RunningContainer {
  /** Path of its network namespace. */
  readonly sandbox: string;
  readonly prefixBits: number;
  /** Its default route; empty: it has another. */
  readonly gateway: string;
}

/** How a container answers what came by the ingress network. */
export interface IngressWay {
  readonly addr: string;
  readonly gateway: string;
  readonly udpPorts: readonly number[];
}

/** Routing table and rule in a container's own namespace. */
const INGRESS_RULE = 100;

function deviceOf(addrs: string, addr: string): string {
  const rows = JSON.parse(addrs) as readonly {
    readonly ifname: string;
    readonly addr_info?: readonly { readonly local?: string }[];
  }[];
  return rows.find(row => row.addr_info?.some(({ local }) => local === addr))?.ifname ?? "";
}

function namesOf(links: string): ReadonlySet<string> {
  const rows = JSON.parse(links) as readonly { readonly ifname?: string }[];
  return new Set(rows.map(({ ifname = "" }) => ifname));
}

function freeDevice(taken: ReadonlySet<string>): string {
  let number = 0;
  while (taken.has(`eth${number}`)) number += 1;
  return `eth${number}`;
}

/** Network namespaces of overlay networks and what is in them, by the host's own programs. */
export class Namespaces {
  readonly #commands: Commands;
  readonly #logger: Logger;

  constructor(deps: { readonly commands: Commands; readonly logger: Logger }) {
    this.#commands = deps.commands;
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
    await this.#quietly(["ip", "netns", "del", ns]);
    await this.#commands.run(["ip", "netns", "add", ns]);
    await this.prepare(plan);
    await this.makeTunnel(plan);
  }

  /** What holds for the namespace as a whole; also when it was only half made. */
  async prepare({ networkId, gateways }: NetworkPlan): Promise<void> {
    await this.#inside(networkId, ["sh", "-e", "-c", SYSCTLS]);
    await this.#batch("ip", networkId, [
      "link set lo up",
      ...gateways.map(gateway => `addr replace ${gateway}/32 dev lo`),
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
    ]);
    await this.#batch("ip", networkId, [
      `link set ${outside} name ${TUNNEL_DEVICE}`,
      `link set ${TUNNEL_DEVICE} address ${hostMac(tunnel.index)}`,
      `link set ${TUNNEL_DEVICE} up`,
    ]);
    await this.#inside(networkId, ["sh", "-e", "-c", TUNNEL_SYSCTLS]);
  }

  async remove(networkId: string): Promise<void> {
    await this.#quietly(["ip", "netns", "del", namespaceOf(networkId)]);
  }

  /** Link between the host and its ingress namespace; also when it is there already. */
  async makeUplink(networkId: string): Promise<void> {
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
  }

  async hasUplink(networkId: string): Promise<boolean> {
    try {
      await this.#ip(networkId, ["link", "show", UPLINK.innerDevice]);
      return true;
    } catch {
      return false;
    }
  }

  /** Runs a batch in its order: what new connections need comes before what sends them there. */
  async apply(networkId: string, batch: Batch): Promise<void> {
    await this.#forced("ip", networkId, batch.ipEnsure);
    await this.#batch("ip", networkId, batch.ipAdd);
    await this.#batch("bridge", networkId, batch.bridgeAdd);
    if (batch.nft !== "") await this.#inside(networkId, ["nft", "-f", "-"], batch.nft);
    await this.#forced("ip", networkId, batch.ipDelete);
    await this.#forced("bridge", networkId, batch.bridgeDelete);
    for (const flows of batch.stale) await this.#forget(networkId, flows);
  }

  /** What is there, but for rules; null when the tunnel has no end here. */
  async read(networkId: string): Promise<Programmed | null> {
    const link = await this.#ip(networkId, ["-j", "-d", "link", "show", TUNNEL_DEVICE]).catch(
      () => "",
    );
    const tunnel = parseLink(link);
    if (tunnel === null) return null;
    const routes = await this.#ip(networkId, ["-j", "route", "show"]);
    const neighbours = await this.#ip(networkId, ["-j", "neigh", "show", "dev", TUNNEL_DEVICE]);
    const addrs = await this.#ip(networkId, ["-j", "addr", "show", "dev", "lo"]);
    const bridge = ["bridge", "-n", namespaceOf(networkId), "-j", "fdb", "show"];
    const fdb = await this.#commands.run([...bridge, "dev", TUNNEL_DEVICE]);
    return {
      tunnel,
      peers: parseFdb(fdb, parseNeighbours(neighbours)),
      routes: parseRoutes(routes),
      vips: parseVips(addrs),
      rules: NO_RULES,
    };
  }

  /** The pair of devices that joins a container; its end stays outside for the Engine to take. */
  async plug(plan: NetworkPlan, end: LocalEnd): Promise<void> {
    const { device, addr, mac } = end;
    const { mtu } = plan.tunnel;
    const ns = namespaceOf(plan.networkId);
    await this.#quietly(["ip", "link", "del", `${device}c`]);
    await this.#batch("ip", null, [
      `link add ${device}c mtu ${mtu} type veth peer name ${device} mtu ${mtu} netns ${ns}`,
    ]);
    await this.#batch("ip", plan.networkId, [
      `link set ${device} up`,
      `route replace ${addr}/32 dev ${device}`,
      `neigh replace ${addr} lladdr ${mac} dev ${device} nud permanent`,
    ]);
    const key = `/proc/sys/net/ipv4/neigh/${device}/proxy_delay`;
    await this.#inside(plan.networkId, ["sh", "-e", "-c", `echo 0 >${key}`]);
  }

  /** Gives a running container, whose end was lost with its network's namespace, another one. */
  async plugInto(plan: NetworkPlan, end: LocalEnd, into: RunningContainer): Promise<void> {
    await this.plug(plan, end);
    const enter = ["nsenter", `--net=${into.sandbox}`];
    const outside = `${end.device}c`;
    await this.#commands.run(["ip", "link", "set", outside, "netns", into.sandbox]);
    const links = await this.#commands.run([...enter, "ip", "-j", "link", "show"]);
    const device = freeDevice(namesOf(links));
    const lines = [
      `link set ${outside} name ${device}`,
      `link set ${device} address ${end.mac}`,
      `addr add ${end.addr}/${into.prefixBits} dev ${device}`,
      `link set ${device} up`,
      ...(into.gateway === "" ? [] : [`route replace default via ${into.gateway} dev ${device}`]),
    ];
    await this.#commands.run([...enter, "ip", "-batch", "-"], `${lines.join("\n")}\n`);
  }

  /**
   * In a container whose default route is the Engine's bridge: what came by the ingress network is
   * answered by it. A UDP server that is bound to no address would answer from the bridge's.
   */
  async answerBy(sandbox: string, way: IngressWay): Promise<void> {
    const enter = ["nsenter", `--net=${sandbox}`];
    const text = await this.#commands.run([...enter, "ip", "-j", "-4", "addr", "show"]);
    const device = deviceOf(text, way.addr);
    if (device === "") throw new SwarmError("unavailable", `no device has ${way.addr} yet`);
    const via = `default via ${way.gateway} dev ${device} src ${way.addr}`;
    const rules = [
      `rule add pref ${INGRESS_RULE} from ${way.addr} lookup ${INGRESS_RULE}`,
      ...way.udpPorts.map(
        port =>
          `rule add pref ${INGRESS_RULE + 1} ipproto udp sport ${port} lookup ${INGRESS_RULE}`,
      ),
    ];
    const lines = [`route replace ${via} table ${INGRESS_RULE}`, ...rules];
    await this.#commands.run([...enter, "ip", "-batch", "-"], `${lines.join("\n")}\n`);
  }

  async unplug(networkId: string, device: string): Promise<void> {
    await this.#quietly(["ip", "-n", namespaceOf(networkId), "link", "del", device]);
  }

  /** Devices of containers in the namespace. */
  async devices(networkId: string): Promise<ReadonlySet<string>> {
    const text = await this.#ip(networkId, ["-j", "link", "show"]);
    return namesOf(text);
  }

  /** TCP connections with an address that have neither ended nor begun to. */
  async connections(networkId: string, addr: string): Promise<number> {
    const command = ["conntrack", "-L", "-p", "tcp", "--state", "ESTABLISHED", "--reply-src", addr];
    const text = await this.#inside(networkId, command);
    return text.split("\n").filter(line => line !== "").length;
  }

  /** The rules of its table as text that is the same however the kernel orders elements. */
  async rules(networkId: string, ingress: boolean): Promise<string> {
    const table = ingress ? INGRESS_TABLE : VIP_TABLE;
    const text = await this.#inside(networkId, ["nft", "-s", "list", "table", "ip", table]);
    return inOrder(text);
  }

  #ip(networkId: string, args: readonly string[]): Promise<string> {
    return this.#commands.run(["ip", "-n", namespaceOf(networkId), ...args]);
  }

  #inside(networkId: string, command: readonly string[], input?: string): Promise<string> {
    const enter = ["nsenter", `--net=${NETNS_DIR}/${namespaceOf(networkId)}`];
    return this.#commands.run([...enter, ...command], input);
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
  ): Promise<void> {
    if (lines.length === 0) return;
    const command = [program, "-force", "-n", namespaceOf(networkId), "-batch", "-"];
    await this.#quietly(command, `${lines.join("\n")}\n`);
  }

  async #forget(networkId: string, { originalDst, backend }: StaleFlows): Promise<void> {
    const enter = ["nsenter", `--net=${NETNS_DIR}/${namespaceOf(networkId)}`];
    const flows = ["--orig-dst", originalDst, "--reply-src", backend];
    await this.#quietly([...enter, "conntrack", "-D", "-p", "udp", ...flows]);
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
