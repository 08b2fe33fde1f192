import { familyOf, type IpFamily } from "../../model/ip.ts";
import type { Network } from "../../model/rows.ts";
import type { NetworkAttachmentConfig, ServiceSpec } from "../../model/service-spec.ts";
import type { StateView } from "../../model/view.ts";

/** A network that a task is to be on, and the names it goes by there. */
export interface Attachment {
  readonly networkId: string;
  readonly aliases: readonly string[];
}

export type Allocation<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly message: string };

/** Networks that each Engine has of its own: nothing is allocated on them. */
const PREDEFINED: ReadonlySet<string> = new Set(["bridge", "host", "none"]);

/** A service that publishes ports through every node needs the ingress network. */
export function usesIngress(spec: ServiceSpec): boolean {
  return (spec.EndpointSpec?.Ports ?? []).some(port => port.PublishMode !== "host");
}

/** Whether the service has virtual addresses: not when its name resolves to its tasks. */
export function usesVips(spec: ServiceSpec): boolean {
  return spec.EndpointSpec?.Mode !== "dnsrr";
}

export const FAMILIES: readonly IpFamily[] = ["ipv4", "ipv6"];

/** What each owner has one address of on the network, IPv4 first. */
export function familiesOf(network: Network | undefined): readonly IpFamily[] {
  const there = new Set((network?.subnets ?? []).map(({ subnet }) => familyOf(subnet)));
  return FAMILIES.filter(family => there.has(family));
}

/** The same of virtual addresses: nothing is reached by one on the ingress network. */
export function vipFamiliesOf(network: Network | undefined): readonly IpFamily[] {
  return network?.spec["Ingress"] === true ? ["ipv4"] : familiesOf(network);
}

/**
 * The cluster's networks that a service is on: ingress when it publishes ports, then those of its
 * spec in their order (SwarmKit allocator taskCreateNetworkAttachments).
 */
export function attachmentsOf(
  view: StateView,
  spec: ServiceSpec,
): Allocation<readonly Attachment[]> {
  const value: Attachment[] = [];
  if (usesIngress(spec)) {
    const ingress = ingressNetwork(view);
    if (ingress === undefined) return { ok: false, message: "ingress network is missing" };
    value.push({ networkId: ingress.id, aliases: [] });
  }
  for (const { Target = "", Aliases = [] } of networksOf(spec)) {
    if (PREDEFINED.has(Target) || value.some(({ networkId }) => networkId === Target)) continue;
    if (view.table("networks").get(Target) === undefined) {
      return { ok: false, message: `network ${Target} not found` };
    }
    value.push({ networkId: Target, aliases: Aliases });
  }
  return { ok: true, value };
}

/** Of its task template, or of the older field. */
export function networksOf(spec: ServiceSpec): readonly NetworkAttachmentConfig[] {
  const own = spec.TaskTemplate?.Networks ?? [];
  return own.length > 0 ? own : (spec.Networks ?? []);
}

function ingressNetwork(view: StateView): Network | undefined {
  for (const network of view.table("networks").all()) {
    if (network.spec["Ingress"] === true) return network;
  }
  return undefined;
}
