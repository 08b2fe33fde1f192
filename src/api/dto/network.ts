import { VNI_OPTION } from "../../control/core/network-plan.ts";
import type { NetworkPeer, NetworkView } from "../../control/operations.ts";
import { cidrText, familyOf, masked, parseCidr } from "../../model/ip.ts";
import type { Network } from "../../model/rows.ts";
import { metaDto, optional, timeText } from "./common.ts";
import { hostOf } from "./node.ts";

type Json = Readonly<Record<string, unknown>>;

/** Of Docker's name of a peer, which stands for a run of its daemon. */
const PEER_NAME_CHARS = 12;

function objectAt(spec: Json, name: string): Json {
  const value = spec[name];
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function isTrue(spec: Json, name: string): boolean {
  return spec[name] === true;
}

function askedConfigs(network: Network): readonly Json[] {
  const asked = objectAt(network.spec, "IPAM")["Config"];
  return Array.isArray(asked) ? asked : [];
}

/** The subnets asked for, or those the allocator chose. */
function ipamConfig(network: Network): readonly Json[] {
  const list = askedConfigs(network);
  if (network.subnets.length === 0) return list;
  return network.subnets.map(({ subnet, gateway }) => {
    const own = list.find(one => isSameNetwork(String(one["Subnet"] ?? ""), subnet));
    return { Subnet: subnet, ...optional("IPRange", own?.["IPRange"]), Gateway: gateway };
  });
}

/** The user's subnet may be written otherwise, with bits behind its prefix. */
function isSameNetwork(asked: string, subnet: string): boolean {
  const network = parseCidr(asked);
  return network !== null && cidrText(masked(network)) === subnet;
}

function options(network: Network): Json {
  const vni = network.vni > 0 ? { [VNI_OPTION]: String(network.vni) } : {};
  return { ...objectAt(network.spec, "Options"), ...vni };
}

/** What is asked of a network besides what its list shows. */
export interface NetworkDetail {
  /** The Engine's description of it; null while nothing of this node is on it. */
  readonly local?: Json | null;
  /** With the services on it, wherever their tasks are. */
  readonly verbose?: boolean;
}

/** Docker's `Network` resource, as of `GET /networks`. */
export function networkDto(view: NetworkView, detail: NetworkDetail = {}): object {
  const { network } = view;
  const { spec } = network;
  const labels = objectAt(spec, "Labels");
  const isHere = (detail.local ?? null) !== null;
  const containers = objectAt(detail.local ?? {}, "Containers");
  // What no task of this node is on is shown as it is in the state, where no labels are none.
  const isListed = isHere || Object.keys(labels).length > 0 || isTrue(spec, "Ingress");
  return {
    Name: spec.Name,
    Id: network.id,
    Created: timeText(network.createdAtMs),
    Scope: "swarm",
    Driver: "overlay",
    EnableIPv6: network.subnets.some(({ subnet }) => familyOf(subnet) === "ipv6"),
    IPAM: {
      Driver: String(objectAt(spec, "IPAM")["Driver"] || "default"),
      Options: null,
      Config: ipamConfig(network),
    },
    Internal: isTrue(spec, "Internal"),
    Attachable: isTrue(spec, "Attachable"),
    Ingress: isTrue(spec, "Ingress"),
    ConfigFrom: { Network: "" },
    ConfigOnly: false,
    Containers: detail.local?.["Containers"] ?? null,
    Options: options(network),
    Labels: isListed ? labels : null,
    ...(isHere ? optional("Peers", view.peers.map(peerDto)) : {}),
    ...(detail.verbose === true ? optional("Services", servicesDto(view, containers)) : {}),
  };
}

/** Docker's `PeerInfo`: names there are twelve characters that stand for the node. */
function peerDto({ nodeId, addr }: NetworkPeer): object {
  return { Name: nodeId.slice(0, PEER_NAME_CHARS), IP: hostOf(addr) };
}

/** The Engine's endpoint at an address, of its `Containers`; null when it is on another node. */
function endpointAt(containers: Json, addr: string): Json | null {
  const all = Object.values(containers) as readonly Json[];
  return all.find(one => String(one["IPv4Address"]).startsWith(`${addr}/`)) ?? null;
}

/** Docker's `ServiceInfo`, by name; plain containers are those of the service without one. */
function servicesDto({ services }: NetworkView, containers: Json): Json | null {
  if (services.length === 0) return null;
  const entries = services.map(({ name, vip, ports, tasks }) => [
    name,
    {
      VIP: vip || "<nil>",
      Ports: ports.map(
        ({ TargetPort: target = 0, PublishedPort: published = 0 }) =>
          `Target: ${target}, Publish: ${published}`,
      ),
      LocalLBIndex: 0,
      Tasks: tasks.map(task => {
        const endpoint = endpointAt(containers, task.addr);
        return {
          Name: name === "" ? String(endpoint?.["Name"] ?? task.name) : task.name,
          EndpointID: String(endpoint?.["EndpointID"] ?? ""),
          EndpointIP: task.addr,
          Info: { "Host IP": hostOf(task.hostAddr) },
        };
      }),
    },
  ]);
  return Object.fromEntries(entries) as Json;
}

/** A subnet as the `Network` object of swarm mode has it, which has another word for the range. */
function poolDto(config: Json): object {
  return {
    ...optional("Subnet", config["Subnet"]),
    ...optional("Range", config["IPRange"]),
    ...optional("Gateway", config["Gateway"]),
  };
}

/** Docker's swarm `Network` object, as tasks show it. */
export function networkObjectDto(network: Network): object {
  const { spec } = network;
  const configs = ipamConfig(network).map(poolDto);
  return {
    ...metaDto(network),
    Spec: {
      Name: spec.Name,
      Labels: objectAt(spec, "Labels"),
      DriverConfiguration: isTrue(spec, "Ingress") ? {} : { Name: "overlay" },
      ...optional("IPv6Enabled", isTrue(spec, "EnableIPv6")),
      ...optional("Internal", isTrue(spec, "Internal")),
      ...optional("Attachable", isTrue(spec, "Attachable")),
      ...optional("Ingress", isTrue(spec, "Ingress")),
      IPAMOptions: {
        Driver: isTrue(spec, "Ingress") ? {} : { Name: "default" },
        ...optional("Configs", askedConfigs(network).map(poolDto)),
      },
      Scope: "swarm",
    },
    DriverState: { Name: "overlay", Options: options(network) },
    IPAMOptions: { Driver: { Name: "default" }, ...optional("Configs", configs) },
  };
}
