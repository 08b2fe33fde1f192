import { SwarmError } from "../base/errors.ts";
import type { IpFamily } from "../model/ip.ts";
import type { Commands } from "./commands.ts";
import { halvesOf, hostPrefix } from "./core/names.ts";
import type { NetworkPlan } from "./core/plan.ts";
import { type LocalEnd, type Namespaces, namesOf, OF_FAMILY } from "./namespaces.ts";

/** Where a container's end goes when the Engine does not put it there. */
export interface RunningContainer {
  /** Path of its network namespace. */
  readonly sandbox: string;
  readonly prefixBits: number;
  /** Its default route; empty: it has another. */
  readonly gateway: string;
  /** Null: no IPv6. */
  readonly way6: Way6 | null;
}

/** How a container reaches its network by IPv6. */
export interface Way6 {
  readonly subnet: string;
  readonly gateway: string;
  readonly isDefault: boolean;
}

/** How a container answers what came by the ingress network. */
export interface IngressWay {
  readonly addr: string;
  readonly gateway: string;
  /** Both or none. */
  readonly addr6?: string | undefined;
  readonly gateway6?: string | undefined;
  readonly udpPorts: readonly number[];
}

function lines6({ addr6 }: LocalEnd, way6: Way6 | null, device: string): readonly string[] {
  if (addr6 === undefined || way6 === null) return [];
  const { subnet, gateway, isDefault } = way6;
  return [
    `addr add ${addr6}/${subnet.split("/")[1]} dev ${device} nodad`,
    `route replace ${hostPrefix(gateway)} dev ${device}`,
    ...halvesOf(subnet).map(half => `route replace ${half} via ${gateway} dev ${device}`),
    ...(isDefault ? [`route replace ::/0 via ${gateway} dev ${device}`] : []),
  ];
}

/** Routing table and rule in a container's own namespace. */
const INGRESS_RULE = 100;

function answerLines(way: {
  readonly gateway: string;
  readonly addr: string;
  readonly device: string;
  readonly udpPorts: readonly number[];
}): readonly string[] {
  const via = `default via ${way.gateway} dev ${way.device} src ${way.addr}`;
  const udp = way.udpPorts.map(
    port => `rule add pref ${INGRESS_RULE + 1} ipproto udp sport ${port} lookup ${INGRESS_RULE}`,
  );
  return [
    `route replace ${via} table ${INGRESS_RULE}`,
    `rule add pref ${INGRESS_RULE} from ${way.addr} lookup ${INGRESS_RULE}`,
    ...udp,
  ];
}

function deviceOf(addrs: string, addr: string): string {
  const rows = JSON.parse(addrs) as readonly {
    readonly ifname: string;
    readonly addr_info?: readonly { readonly local?: string }[];
  }[];
  return rows.find(row => row.addr_info?.some(({ local }) => local === addr))?.ifname ?? "";
}

function freeDevice(taken: ReadonlySet<string>): string {
  let number = 0;
  while (taken.has(`eth${number}`)) number += 1;
  return `eth${number}`;
}

/** What must be done inside of containers' own network namespaces, when the Engine does not. */
export class Sandboxes {
  readonly #commands: Commands;
  readonly #namespaces: Namespaces;
  #turn: Promise<void> = Promise.resolve();

  constructor(deps: { readonly commands: Commands; readonly namespaces: Namespaces }) {
    this.#commands = deps.commands;
    this.#namespaces = deps.namespaces;
  }

  /**
   * Gives a running container, whose end was lost with its network's namespace, another one. One
   * at a time: two networks of one container would choose the same name for their devices. What
   * was done by half is undone, so that it is seen to be missing.
   */
  plugInto(plan: NetworkPlan, end: LocalEnd, into: RunningContainer): Promise<void> {
    const done = this.#turn.then(() => this.#plugInto(plan, end, into));
    this.#turn = done.catch(async () => this.#namespaces.unplug(plan.networkId, end.device));
    return done;
  }

  async #plugInto(plan: NetworkPlan, end: LocalEnd, into: RunningContainer): Promise<void> {
    await this.#namespaces.plug(plan, end);
    const enter = ["nsenter", `--net=${into.sandbox}`];
    const outside = `${end.device}c`;
    await this.#commands.run(["ip", "link", "set", outside, "netns", into.sandbox]);
    const links = await this.#commands.run([...enter, "ip", "-j", "link", "show"]);
    const device = freeDevice(namesOf(links));
    if (into.way6 !== null) {
      const key = `/proc/sys/net/ipv6/conf/${outside}/disable_ipv6`;
      await this.#commands.run([...enter, "sh", "-c", `echo 0 >${key}`]);
    }
    const lines = [
      `link set ${outside} name ${device}`,
      `link set ${device} address ${end.mac}`,
      `addr add ${end.addr}/${into.prefixBits} dev ${device}`,
      `link set ${device} up`,
      ...(into.gateway === "" ? [] : [`route replace default via ${into.gateway} dev ${device}`]),
      ...lines6(end, into.way6, device),
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
    const ways: readonly (readonly [IpFamily, string, string | undefined])[] = [
      ["ipv4", way.gateway, way.addr],
      ["ipv6", way.gateway6 ?? "", way.addr6],
    ];
    for (const [family, gateway, addr] of ways) {
      if (addr === undefined) continue;
      const lines = answerLines({ gateway, addr, device, udpPorts: way.udpPorts });
      const how = ["ip", ...OF_FAMILY[family], "-batch", "-"];
      await this.#commands.run([...enter, ...how], `${lines.join("\n")}\n`);
    }
  }
}
