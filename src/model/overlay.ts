import { familyOf, type IpFamily } from "./ip.ts";
import type { MeshKey } from "./rows.ts";

/**
 * What a node is told of the overlay networks it takes part in: rows of the replicated state, cut
 * down to what the data path acts on. A node gets the networks of its own tasks, and of those only
 * (G9), and the ingress network, because every node answers for published ports.
 */

/** On the Engine's network for one of the cluster: the cluster's id of it, and whether all may join. */
export const NETWORK_ID_LABEL = "swarmd.network.id";
export const NETWORK_ATTACHABLE_LABEL = "swarmd.network.attachable";

/** Where a node is found by the others' data path. */
export interface OverlayHost {
  /** Node id. */
  readonly id: string;
  /** Small and unique among the nodes there are; it names the host in MACs, marks and tables. */
  readonly index: number;
  /** IP address of its tunnels' end. */
  readonly addr: string;
  /** WireGuard public key, base64; empty: it cannot take part in encrypted networks. */
  readonly publicKey: string;
  /** IPv6 addresses of its containers are there; absent: they are not, whatever the tables say. */
  readonly ipv6?: true;
  /** Its ends of the encrypted mesh that are up. */
  readonly meshKeys?: readonly MeshKey[];
}

/** The keys that encrypted networks use now; told to the nodes that have such a network. */
export interface OverlayMesh {
  readonly id: typeof MESH_ID;
  readonly generation: number;
  /** Base64; empty: none. */
  readonly psk: string;
  readonly previousPsk: string;
  /** The generation before is needed no more. */
  readonly settled: boolean;
}

/** There is one. */
export const MESH_ID = "mesh";

export interface OverlaySubnet {
  /** CIDR. */
  readonly subnet: string;
  readonly gateway: string;
}

export interface OverlayNetwork {
  readonly id: string;
  readonly name: string;
  readonly vni: number;
  readonly subnets: readonly OverlaySubnet[];
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly ingress: boolean;
  readonly encrypted: boolean;
  /** UDP port of its tunnels, unless it is encrypted. */
  readonly dataPathPort: number;
  /** The MTU asked for; absent: as large as fits between the hosts. */
  readonly mtu?: number;
}

/** Option of a network: the MTU of its containers' devices. */
export const MTU_OPTION = "com.docker.network.driver.mtu";
/** Smaller is not IP: RFC 791 section 3.2, RFC 8200 section 5. */
export const MTU_MIN = { ipv4: 68, ipv6: 1_280 } as const;
/** The largest IPv4 packet, less the headers of a tunnel. */
export const MTU_MAX = 65_485;

/** What the option asks for; null when it is no such number. */
export function parseMtu(text: string): number | null {
  const mtu = /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : 0;
  return mtu >= MTU_MIN.ipv4 && mtu <= MTU_MAX ? mtu : null;
}

export type PortProtocol = "tcp" | "udp" | "sctp";

export interface OverlayPort {
  readonly protocol: PortProtocol;
  readonly published: number;
  readonly target: number;
  /** The hosts' addresses, or networks of them, at which it answers; absent: all. */
  readonly at?: readonly string[];
}

/** A service as it is known on one network. */
export interface OverlayService {
  /** overlayItemId(networkId, serviceId). */
  readonly id: string;
  readonly networkId: string;
  readonly serviceId: string;
  readonly name: string;
  readonly aliases: readonly string[];
  /** Without prefix length; empty when the name resolves to the tasks. */
  readonly vip: string;
  /** The same of IPv6; absent also when the network has none. */
  readonly vip6?: string;
  /** Published through every node; on the ingress network only. */
  readonly ports: readonly OverlayPort[];
}

/** A task's (or plain container's) place on one network. */
export interface OverlayEndpoint {
  /** overlayItemId(networkId, taskId). */
  readonly id: string;
  readonly networkId: string;
  readonly taskId: string;
  /** Empty for a plain container. */
  readonly serviceId: string;
  /** The container's name. */
  readonly name: string;
  readonly nodeId: string;
  /** Without prefix length; empty: it has an IPv6 one alone. */
  readonly addr: string;
  /** IPv6, without prefix length; absent: it has none. */
  readonly addr6?: string;
  /** MAC address that its device is to have; absent: one made from its address. */
  readonly mac?: string;
  /** New connections to its service may go to it: it runs, is healthy and is to go on. */
  readonly serving: boolean;
}

export function overlayItemId(networkId: string, id: string): string {
  return `${networkId}/${id}`;
}

export type OverlayKind = "host" | "mesh" | "network" | "service" | "endpoint";

/** One change of a node's overlay tables. */
export type OverlayChange =
  | { readonly action: "update"; readonly kind: "host"; readonly item: OverlayHost }
  | { readonly action: "update"; readonly kind: "mesh"; readonly item: OverlayMesh }
  | { readonly action: "update"; readonly kind: "network"; readonly item: OverlayNetwork }
  | { readonly action: "update"; readonly kind: "service"; readonly item: OverlayService }
  | { readonly action: "update"; readonly kind: "endpoint"; readonly item: OverlayEndpoint }
  | { readonly action: "remove"; readonly kind: OverlayKind; readonly id: string };

const OVERLAY_KINDS: ReadonlySet<string> = new Set([
  "host",
  "mesh",
  "network",
  "service",
  "endpoint",
]);

export function isOverlayChange<T extends { readonly kind: string }>(
  change: T | OverlayChange,
): change is OverlayChange {
  return OVERLAY_KINDS.has(change.kind);
}

/** The address of a CIDR (or of a plain address). */
export function withoutPrefix(cidr: string): string {
  return cidr.split("/")[0] ?? "";
}

/** An address of each family out of a list of them, without prefix lengths. */
export function byFamily(addresses: readonly string[]): {
  readonly addr: string;
  readonly addr6?: string;
} {
  const of = (family: IpFamily): string =>
    withoutPrefix(addresses.find(text => text !== "" && familyOf(text) === family) ?? "");
  const addr6 = of("ipv6");
  return { addr: of("ipv4"), ...(addr6 !== "" && { addr6 }) };
}

/** Those of both families that there are. */
export function addressesOf(item: {
  readonly addr: string;
  readonly addr6?: string;
}): readonly string[] {
  return [item.addr, item.addr6 ?? ""].filter(addr => addr !== "");
}
