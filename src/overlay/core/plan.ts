import { familyOf, type IpFamily } from "../../model/ip.ts";
import {
  addressesOf,
  type OverlayEndpoint,
  type OverlayNetwork,
  type OverlayService,
} from "../../model/overlay.ts";
import { ENCRYPTED_PORT, tunnelPort } from "./names.ts";
import type { HostRules } from "./nft.ts";
import type { NetworkTable, OverlayTable } from "./table.ts";

/** The tunnel end of a network on this host. */
export interface TunnelConfig {
  readonly vni: number;
  /** This host's index: its MAC address. */
  readonly index: number;
  /** The addresses tunnels come from and go to are of one family. */
  readonly localAddr: string;
  readonly port: number;
  readonly mtu: number;
}

/** Published port: where its connections go, and how they are shared out. */
export interface PublishedPort {
  readonly target: number;
  readonly backends: readonly string[];
  /** Addresses of hosts, or networks of them, at which it answers; empty: all. */
  readonly at: readonly string[];
}

/**
 * What a network's namespace on this host is to hold. Sets and maps only: two plans made from the
 * same tables are equal whatever the history that led to them. Addresses of both families are in
 * the same sets.
 */
export interface NetworkPlan {
  readonly networkId: string;
  readonly tunnel: TunnelConfig;
  readonly gateways: readonly string[];
  /** IPv4, and IPv6 when network and host have it. */
  readonly families: readonly IpFamily[];
  readonly ingress: boolean;
  /** Tunnel ends of the other hosts, by index. */
  readonly peers: ReadonlyMap<number, string>;
  /** Remote endpoints: address to index of the host. */
  readonly routes: ReadonlyMap<string, number>;
  /** Endpoints on this host that have joined. */
  readonly locals: ReadonlySet<string>;
  /** Virtual address to those of its family that serve it, sorted. */
  readonly vips: ReadonlyMap<string, readonly string[]>;
  /** "tcp . 8080" to what serves it; on the ingress network. */
  readonly ports: ReadonlyMap<string, PublishedPort>;
}

export interface PlanFacts {
  readonly nodeId: string;
  /** Addresses of endpoints that have joined here, by network. */
  readonly joined: ReadonlyMap<string, ReadonlySet<string>>;
  /** Networks that a container here is on, or about to join. */
  readonly used: ReadonlySet<string>;
  /** The host's kernel has IPv6. */
  readonly ipv6: boolean;
  /** Where plain tunnels come from, and what fits through them. */
  readonly underlay: { readonly mtu: number };
  /** Inner address of each host in the encrypted mesh, by index; null = not available here. */
  readonly mesh: MeshFacts | null;
}

export interface MeshFacts {
  readonly mtu: number;
  addrOf(index: number): string;
}

/** An endpoint's address of one family. */
type Place = Pick<OverlayEndpoint, "nodeId" | "serviceId" | "serving" | "addr">;

const FAMILIES: readonly IpFamily[] = ["ipv4", "ipv6"];
const NONE: ReadonlySet<string> = new Set();
/** Outer IPv4, UDP, VXLAN and inner Ethernet headers (RFC 7348). */
export const VXLAN_OVERHEAD_V4 = 50;
export const VXLAN_OVERHEAD_V6 = 70;

/**
 * The plan of a network; null when this host should have none of it: it is not told of it, or
 * cannot yet know its own place (no index so far).
 */
export function planNetwork(
  table: OverlayTable,
  networkId: string,
  facts: PlanFacts,
): NetworkPlan | null {
  const rows = table.network(networkId);
  const self = table.hosts.get(facts.nodeId);
  if (rows === undefined || self === undefined) return null;
  const locals = facts.joined.get(networkId) ?? NONE;
  if (rows.network.ingress && !facts.used.has(networkId) && !publishes(rows)) return null;
  const tunnel = tunnelConfig(rows.network, self, facts);
  if (tunnel === null) return null;
  const others = [...table.hosts.values()].filter(host => host.id !== facts.nodeId);
  const usable = others.filter(host => !rows.network.encrypted || host.publicKey !== "");
  const indexes = new Map(usable.map(host => [host.id, host.index]));
  const gateways = rows.network.subnets
    .map(({ gateway }) => gateway)
    .filter(gateway => facts.ipv6 || familyOf(gateway) === "ipv4");
  const there = new Set(gateways.map(familyOf));
  const families = FAMILIES.filter(family => there.has(family));
  const ipv4Only = new Set(others.filter(host => host.ipv6 !== true).map(host => host.id));
  const endpoints = placesOf(rows.endpoints.values(), there, ipv4Only);
  return {
    networkId,
    tunnel,
    gateways,
    families,
    ingress: rows.network.ingress,
    peers: new Map(usable.map(host => [host.index, vtepOf(rows.network, host, facts)])),
    routes: routesOf(endpoints, indexes, locals),
    locals,
    vips: vipsOf(rows, endpoints, there),
    ports: portsOf(rows, endpoints),
  };
}

function placesOf(
  endpoints: Iterable<OverlayEndpoint>,
  families: ReadonlySet<IpFamily>,
  ipv4Only: ReadonlySet<string>,
): readonly Place[] {
  const places: Place[] = [];
  for (const endpoint of endpoints) {
    const { nodeId, serviceId, serving } = endpoint;
    for (const addr of addressesOf(endpoint)) {
      const family = familyOf(addr);
      if (!families.has(family) || (family === "ipv6" && ipv4Only.has(nodeId))) continue;
      places.push({ nodeId, serviceId, serving, addr });
    }
  }
  return places;
}

function publishes({ services }: NetworkTable): boolean {
  return [...services.values()].some(({ ports }) => ports.length > 0);
}

function tunnelConfig(
  network: OverlayNetwork,
  self: { readonly index: number; readonly addr: string },
  { underlay, mesh }: PlanFacts,
): TunnelConfig | null {
  const { vni } = network;
  const common = { vni, index: self.index, port: tunnelPort(network) };
  // More than fits would be lost on the way, whoever asked for it.
  const atMost = (fits: number): number => Math.min(network.mtu ?? fits, fits);
  if (network.encrypted) {
    if (mesh === null) return null;
    const mtu = atMost(mesh.mtu - VXLAN_OVERHEAD_V4);
    return { ...common, localAddr: mesh.addrOf(self.index), mtu };
  }
  const overhead = self.addr.includes(":") ? VXLAN_OVERHEAD_V6 : VXLAN_OVERHEAD_V4;
  return { ...common, localAddr: self.addr, mtu: atMost(underlay.mtu - overhead) };
}

function vtepOf(
  network: OverlayNetwork,
  host: { readonly index: number; readonly addr: string },
  { mesh }: PlanFacts,
): string {
  return network.encrypted && mesh !== null ? mesh.addrOf(host.index) : host.addr;
}

function routesOf(
  endpoints: readonly Place[],
  indexes: ReadonlyMap<string, number>,
  locals: ReadonlySet<string>,
): ReadonlyMap<string, number> {
  const routes = new Map<string, number>();
  for (const { addr, nodeId } of endpoints) {
    const index = indexes.get(nodeId);
    if (index !== undefined && !locals.has(addr)) routes.set(addr, index);
  }
  return routes;
}

/** Addresses of what serves each service, sorted; one that moves may be there twice for a moment. */
function byService(endpoints: readonly Place[]): ReadonlyMap<string, string[]> {
  const servers = new Map<string, Set<string>>();
  for (const { serving, serviceId, addr } of endpoints) {
    if (!serving || serviceId === "") continue;
    const addrs = servers.get(serviceId) ?? new Set();
    servers.set(serviceId, addrs.add(addr));
  }
  return new Map([...servers].map(([serviceId, addrs]) => [serviceId, [...addrs].sort()]));
}

function vipsOf(
  rows: NetworkTable,
  endpoints: readonly Place[],
  families: ReadonlySet<IpFamily>,
): ReadonlyMap<string, readonly string[]> {
  const servers = byService(endpoints);
  const vips = new Map<string, readonly string[]>();
  if (rows.network.ingress) return vips;
  for (const { vip, vip6 = "", serviceId } of rows.services.values()) {
    for (const addr of addressesOf({ addr: vip, addr6: vip6 })) {
      const family = familyOf(addr);
      if (!families.has(family)) continue;
      vips.set(
        addr,
        (servers.get(serviceId) ?? []).filter(one => familyOf(one) === family),
      );
    }
  }
  return vips;
}

function portsOf(
  rows: NetworkTable,
  endpoints: readonly Place[],
): ReadonlyMap<string, PublishedPort> {
  const ports = new Map<string, PublishedPort>();
  if (!rows.network.ingress) return ports;
  const servers = byService(endpoints);
  for (const service of byAge(rows.services.values())) {
    for (const { protocol, published, target, at = [] } of service.ports) {
      const backends = servers.get(service.serviceId) ?? [];
      ports.set(`${protocol} . ${published}`, { target, backends, at });
    }
  }
  return ports;
}

/** A fixed order, so that what two services claimed at once would still end the same everywhere. */
function byAge(services: Iterable<OverlayService>): OverlayService[] {
  return [...services].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** What the host itself needs for the networks on it; `addr` is its address in the data path. */
export function planHostRules(plans: readonly NetworkPlan[], addr: string): HostRules {
  const ingress = plans.find(plan => plan.ingress);
  const ports = [...(ingress?.ports ?? [])]
    .map(([key, { at }]) => ({ key, at }))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  return {
    addr: ingress === undefined ? "" : addr,
    ipv6: ingress?.families.includes("ipv6") ?? false,
    ports,
    guardedPort: ENCRYPTED_PORT,
  };
}
