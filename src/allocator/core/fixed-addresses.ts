import type { IpFamily } from "../../model/ip.ts";
import { type NetworkLabelKind, networkLabelsOf } from "../../model/network-labels.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import type { StateView } from "../../model/view.ts";
import { networksOf } from "./networks.ts";

/** An address that a service's label asks for. */
export interface FixedAddress {
  readonly networkId: string;
  readonly family: IpFamily;
  readonly address: string;
  /** The service's virtual one; else its task's own. */
  readonly isVip: boolean;
}

const FAMILY_OF: Readonly<Partial<Record<NetworkLabelKind, IpFamily>>> = {
  ipv4: "ipv4",
  vip: "ipv4",
  ipv6: "ipv6",
  vip6: "ipv6",
};

/** Ids of a service's networks, by name. */
function networkIds(view: StateView, spec: ServiceSpec): ReadonlyMap<string, string> {
  const ids = new Map<string, string>();
  for (const { Target = "" } of networksOf(spec)) {
    const name = view.table("networks").get(Target)?.spec.Name;
    if (name !== undefined) ids.set(name, Target);
  }
  return ids;
}

/** Addresses that labels ask for on networks that the service is on. */
export function fixedOf(view: StateView, spec: ServiceSpec): readonly FixedAddress[] {
  const labels = networkLabelsOf(spec.Labels);
  if (labels.length === 0) return [];
  const ids = networkIds(view, spec);
  return labels.flatMap(({ network, kind, value }) => {
    const networkId = ids.get(network);
    const family = FAMILY_OF[kind];
    if (networkId === undefined || family === undefined) return [];
    return { networkId, family, address: value, isVip: kind.startsWith("vip") };
  });
}

/** The MAC address that a label asks for on a network. */
export function fixedMac(
  view: StateView,
  spec: ServiceSpec,
  networkId: string,
): string | undefined {
  const labels = networkLabelsOf(spec.Labels).filter(({ kind }) => kind === "mac");
  if (labels.length === 0) return undefined;
  const ids = networkIds(view, spec);
  return labels.find(({ network }) => ids.get(network) === networkId)?.value;
}

/** The labels whose network the service is not on, by key. */
export function strayLabels(view: StateView, spec: ServiceSpec): readonly string[] {
  const ids = networkIds(view, spec);
  return networkLabelsOf(spec.Labels)
    .filter(({ network }) => !ids.has(network))
    .map(({ key }) => key);
}
