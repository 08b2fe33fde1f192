import { SwarmError } from "../../base/errors.ts";
import { isId } from "../../base/ids.ts";
import type { Change } from "../../model/change.ts";
import {
  canonicalIp,
  cidrText,
  familyOf,
  type IpFamily,
  type IpNetwork,
  ipText,
  masked,
  networkContains,
  networksOverlap,
  parseCidr,
  sizeOf,
} from "../../model/ip.ts";
import type { Cluster, Network } from "../../model/rows.ts";
import type { StateView } from "../../model/view.ts";
import { rpcError } from "./errors.ts";

/** VXLAN ids start here, as swarm mode's; the first is the ingress network's. */
const FIRST_VNI = 4_096;
/** 24 bits (RFC 7348). */
const VNI_END = 1 << 24;
export const VNI_OPTION = "com.docker.network.driver.overlay.vxlanid_list";
/** IPv4 addresses are held in their 128-bit form. */
const V4_OFFSET_BITS = 96;
const ADDRESS_BITS = 128;
/** The size of every IPv6 network that the cluster chooses (RFC 4291 section 2.5.4). */
const V6_SUBNET_BITS = 64;
/** Unique local addresses of one site: fd, 40 bits of its own, 16 bits of subnet (RFC 4193). */
const ULA_SITE_BITS = 48;
const ULA_OWN_BITS = 40n;

type Json = Readonly<Record<string, unknown>>;
type Subnet = Network["subnets"][number];

/** What a new network is given: an id of its own on the wire, and addresses nobody else has. */
export interface NetworkPlan {
  readonly vni: number;
  readonly subnets: readonly Subnet[];
}

interface Requested {
  readonly Subnet?: string;
  readonly Gateway?: string;
}

function objectAt(spec: Json, name: string): Json {
  const value = spec[name];
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

/** What of the cluster decides on addresses. */
export type AddressPools = Pick<Cluster, "id" | "defaultAddrPool" | "subnetSize">;

/**
 * Subnets as asked for, the rest from the cluster's pools: an IPv4 one always, an IPv6 one with
 * EnableIPv6.
 */
export function planNetwork(
  view: StateView,
  cluster: AddressPools,
  spec: Network["spec"],
): NetworkPlan {
  const networks = [...view.table("networks").all()];
  const taken = networks.flatMap(network =>
    network.subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? []),
  );
  const subnets: Subnet[] = [];
  for (const { Subnet: asked = "", Gateway = "", family } of requestsOf(spec)) {
    const network = asked === "" ? freeSubnet(cluster, family, taken) : askedSubnet(asked, taken);
    taken.push(network);
    subnets.push({ subnet: cidrText(network), gateway: gatewayOf(network, Gateway) });
  }
  return { vni: planVni(networks, spec), subnets };
}

/**
 * IPv4 first, as the Engine has it: the docker command line sends subnets in an order that it draws
 * anew each time. In each family the order of the request.
 */
function requestsOf(spec: Network["spec"]): readonly (Requested & { readonly family: IpFamily })[] {
  const config = objectAt(spec, "IPAM")["Config"];
  const list: readonly Requested[] = Array.isArray(config) ? config : [];
  const asked = list.map(one => ({ ...one, family: familyOf(one.Subnet ?? "") }));
  const wanted: readonly IpFamily[] = spec["EnableIPv6"] === true ? ["ipv4", "ipv6"] : ["ipv4"];
  return wanted.flatMap((family): readonly (Requested & { readonly family: IpFamily })[] => {
    const own = asked.filter(one => one.family === family);
    return own.length > 0 ? own : [{ family }];
  });
}

/** In the form that the kernel and the Engine write it. */
function gatewayOf(network: IpNetwork, asked: string): string {
  return asked === "" ? ipText(network.base + 1n) : (canonicalIp(asked) ?? asked);
}

function planVni(networks: readonly Network[], spec: Network["spec"]): number {
  const taken = new Set(networks.map(network => network.vni));
  const asked = Number(String(objectAt(spec, "Options")[VNI_OPTION] ?? "").split(",")[0]);
  if (Number.isInteger(asked) && asked > 0) {
    if (asked >= VNI_END || taken.has(asked)) {
      throw rpcError("invalid_argument", `VXLAN id ${asked} is taken or out of range`);
    }
    return asked;
  }
  let vni = spec["Ingress"] === true ? FIRST_VNI : FIRST_VNI + 1;
  while (taken.has(vni)) vni += 1;
  if (vni >= VNI_END) throw new SwarmError("resource_exhausted", "every VXLAN id is taken");
  return vni;
}

function askedSubnet(text: string, taken: readonly IpNetwork[]): IpNetwork {
  const parsed = parseCidr(text);
  if (parsed === null) throw rpcError("invalid_argument", `invalid subnet ${text}`);
  const network = masked(parsed);
  if (taken.some(other => networksOverlap(other, network))) {
    const why = "Pool overlaps with other one on this address space";
    throw rpcError("failed_precondition", `subnet ${text}: ${why}`);
  }
  return network;
}

/** The first part of a pool, of the size that its family's subnets have, that no network has. */
function freeSubnet(
  cluster: AddressPools,
  family: IpFamily,
  taken: readonly IpNetwork[],
): IpNetwork {
  const prefixBits = family === "ipv4" ? cluster.subnetSize + V4_OFFSET_BITS : V6_SUBNET_BITS;
  const step = 1n << BigInt(ADDRESS_BITS - prefixBits);
  for (const pool of poolsOf(cluster, family)) {
    if (pool.prefixBits > prefixBits) continue;
    let base = (pool.base / step) * step;
    while (networkContains(pool, base)) {
      const candidate = { base, prefixBits };
      const other = taken.find(network => networksOverlap(network, candidate));
      if (other === undefined) return candidate;
      const pastOther = other.base + sizeOf(other);
      base = ((pastOther + step - 1n) / step) * step;
    }
  }
  throw new SwarmError(
    "resource_exhausted",
    `could not find an available, non-overlapping ${family === "ipv4" ? "IPv4" : "IPv6"} address ` +
      "pool among the defaults to assign to the network",
  );
}

function poolsOf(cluster: AddressPools, family: IpFamily): readonly IpNetwork[] {
  const given = cluster.defaultAddrPool.filter(text => familyOf(text) === family);
  const pools = given.flatMap(text => parseCidr(text) ?? []);
  return family === "ipv4" || pools.length > 0 ? pools : [uniqueLocalPool(cluster.id)];
}

/** A /48 of the cluster's own: its id is random, and so are the 40 bits made from it. */
function uniqueLocalPool(clusterId: string): IpNetwork {
  let bits = 0n;
  for (const char of isId(clusterId) ? clusterId : "") {
    bits = bits * 36n + BigInt(Number.parseInt(char, 36));
  }
  const own = bits % (1n << ULA_OWN_BITS);
  const site = (0xfdn << ULA_OWN_BITS) | own;
  return { base: site << BigInt(ADDRESS_BITS - ULA_SITE_BITS), prefixBits: ULA_SITE_BITS };
}

/** The request that makes the cluster's ingress network, as swarm mode has it. */
const INGRESS_NETWORK_SPEC: Network["spec"] = {
  Name: "ingress",
  Driver: "overlay",
  Scope: "swarm",
  Ingress: true,
  EnableIPv6: true,
};

/** What creates the ingress network of a new cluster. */
export function createIngress(view: StateView, cluster: AddressPools, id: string): Change {
  const spec = INGRESS_NETWORK_SPEC;
  return {
    op: "create",
    table: "networks",
    row: { id, spec, ...planNetwork(view, cluster, spec) },
  };
}
