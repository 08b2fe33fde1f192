import { VNI_OPTION } from "../../control/core/network-plan.ts";
import type { NetworkView } from "../../control/operations.ts";
import type { Network } from "../../model/rows.ts";
import { metaDto, optional, timeText } from "./common.ts";

type Json = Readonly<Record<string, unknown>>;

function objectAt(spec: Json, name: string): Json {
  const value = spec[name];
  return typeof value === "object" && value !== null ? (value as Json) : {};
}

function isTrue(spec: Json, name: string): boolean {
  return spec[name] === true;
}

/** The subnets asked for, or those the allocator chose. */
function ipamConfig(network: Network): readonly object[] {
  const asked = objectAt(network.spec, "IPAM")["Config"];
  const list: readonly Json[] = Array.isArray(asked) ? asked : [];
  if (network.subnets.length === 0) return list;
  return network.subnets.map(({ subnet, gateway }, i) => ({
    Subnet: subnet,
    ...optional("IPRange", list[i]?.["IPRange"]),
    Gateway: gateway,
  }));
}

function options(network: Network): Json {
  const vni = network.vni > 0 ? { [VNI_OPTION]: String(network.vni) } : {};
  return { ...objectAt(network.spec, "Options"), ...vni };
}

/** Docker's `Network` resource, as of `GET /networks`. */
export function networkDto({ network, tasks }: NetworkView): object {
  const { spec } = network;
  const labels = objectAt(spec, "Labels");
  return {
    Name: spec.Name,
    Id: network.id,
    Created: timeText(network.createdAtMs),
    Scope: "swarm",
    Driver: "overlay",
    EnableIPv6: isTrue(spec, "EnableIPv6"),
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
    Containers: containers(network, tasks),
    Options: options(network),
    Labels: Object.keys(labels).length > 0 ? labels : null,
  };
}

/** Tasks of the whole cluster that are on the network, by container. */
function containers(network: Network, tasks: NetworkView["tasks"]): object | null {
  const entries = tasks.map(task => {
    const attachment = task.networks.find(({ networkId }) => networkId === network.id);
    return [
      task.status.containerId,
      {
        Name: `${task.serviceName}.${task.slot || task.nodeId}.${task.id}`,
        EndpointID: "",
        MacAddress: "",
        IPv4Address: attachment?.addresses[0] ?? "",
        IPv6Address: "",
      },
    ] as const;
  });
  return entries.length === 0 ? null : Object.fromEntries(entries);
}

/** Docker's swarm `Network` object, as tasks show it. */
export function networkObjectDto(network: Network): object {
  const { spec } = network;
  const configs = ipamConfig(network);
  return {
    ...metaDto(network),
    Spec: {
      Name: spec.Name,
      Labels: objectAt(spec, "Labels"),
      DriverConfiguration: { Name: "overlay" },
      ...optional("Internal", isTrue(spec, "Internal")),
      ...optional("Attachable", isTrue(spec, "Attachable")),
      ...optional("Ingress", isTrue(spec, "Ingress")),
      IPAMOptions: { Driver: { Name: "default" }, ...optional("Configs", configs) },
      Scope: "swarm",
    },
    DriverState: { Name: "overlay", Options: options(network) },
    IPAMOptions: { Driver: { Name: "default" }, ...optional("Configs", configs) },
  };
}
