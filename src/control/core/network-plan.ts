import { SwarmError } from "../../base/errors.ts";
import type { Change } from "../../model/change.ts";
import { type IpNetwork, networkContains, parseCidr } from "../../model/ip.ts";
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
const V4_MASK = 0xffff_ffffn;

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

/** Subnets as asked for, the rest from the cluster's pools; in order of request. */
export function planNetwork(
  view: StateView,
  cluster: Pick<Cluster, "defaultAddrPool" | "subnetSize">,
  spec: Network["spec"],
): NetworkPlan {
  const networks = [...view.table("networks").all()];
  const taken = networks.flatMap(network =>
    network.subnets.flatMap(({ subnet }) => parseCidr(subnet) ?? []),
  );
  const config = objectAt(spec, "IPAM")["Config"];
  const requested: readonly Requested[] = Array.isArray(config) ? config : [];
  const subnets: Subnet[] = [];
  for (const { Subnet: asked = "", Gateway = "" } of requested.length > 0 ? requested : [{}]) {
    const network = asked === "" ? freeSubnet(cluster, taken) : askedSubnet(asked, taken);
    taken.push(network);
    subnets.push({ subnet: cidrText(network), gateway: Gateway || firstAddress(network) });
  }
  return { vni: planVni(networks, spec), subnets };
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

function overlaps(a: IpNetwork, b: IpNetwork): boolean {
  return networkContains(a, b.base) || networkContains(b, a.base);
}

function askedSubnet(text: string, taken: readonly IpNetwork[]): IpNetwork {
  const parsed = parseCidr(text);
  if (parsed === null) throw rpcError("invalid_argument", `invalid subnet ${text}`);
  const hostBits = BigInt(ADDRESS_BITS - parsed.prefixBits);
  const network = { ...parsed, base: (parsed.base >> hostBits) << hostBits };
  if (taken.some(other => overlaps(other, network))) {
    const why = "Pool overlaps with other one on this address space";
    throw rpcError("failed_precondition", `subnet ${text}: ${why}`);
  }
  return network;
}

/** The first part of a pool, of the cluster's subnet size, that no network has. */
function freeSubnet(
  cluster: Pick<Cluster, "defaultAddrPool" | "subnetSize">,
  taken: readonly IpNetwork[],
): IpNetwork {
  const prefixBits = cluster.subnetSize + V4_OFFSET_BITS;
  const step = 1n << BigInt(ADDRESS_BITS - prefixBits);
  for (const text of cluster.defaultAddrPool) {
    const pool = parseCidr(text);
    if (pool === null || pool.prefixBits > prefixBits) continue;
    let base = (pool.base / step) * step;
    while (networkContains(pool, base)) {
      const candidate = { base, prefixBits };
      const other = taken.find(network => overlaps(network, candidate));
      if (other === undefined) return candidate;
      const pastOther = other.base + (1n << BigInt(ADDRESS_BITS - other.prefixBits));
      base = ((pastOther + step - 1n) / step) * step;
    }
  }
  throw new SwarmError(
    "resource_exhausted",
    "could not find an available, non-overlapping IPv4 address pool among the defaults to assign " +
      "to the network",
  );
}

function isV4(network: IpNetwork): boolean {
  return network.prefixBits >= V4_OFFSET_BITS && network.base >> 32n === 0xffffn;
}

function v4Text(address: bigint): string {
  const bits = address & V4_MASK;
  return [24n, 16n, 8n, 0n].map(shift => String((bits >> shift) & 0xffn)).join(".");
}

function v6Text(address: bigint): string {
  const groups = Array.from({ length: 8 }, (_, i) => (address >> BigInt(112 - 16 * i)) & 0xffffn);
  const text = groups.map(group => group.toString(16)).join(":");
  return text.replace(/(?:^|:)0(?::0)+(?:$|:)/, "::");
}

function cidrText(network: IpNetwork): string {
  return isV4(network)
    ? `${v4Text(network.base)}/${network.prefixBits - V4_OFFSET_BITS}`
    : `${v6Text(network.base)}/${network.prefixBits}`;
}

function firstAddress(network: IpNetwork): string {
  return isV4(network) ? v4Text(network.base + 1n) : v6Text(network.base + 1n);
}

/** The request that makes the cluster's ingress network, as swarm mode has it. */
const INGRESS_NETWORK_SPEC: Network["spec"] = {
  Name: "ingress",
  Driver: "overlay",
  Scope: "swarm",
  Ingress: true,
};

/** What creates the ingress network of a new cluster. */
export function createIngress(
  view: StateView,
  cluster: Pick<Cluster, "defaultAddrPool" | "subnetSize">,
  id: string,
): Change {
  const spec = INGRESS_NETWORK_SPEC;
  return {
    op: "create",
    table: "networks",
    row: { id, spec, ...planNetwork(view, cluster, spec) },
  };
}
