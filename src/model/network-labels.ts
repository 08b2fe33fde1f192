import { canonicalIp, familyOf, type IpFamily } from "./ip.ts";
import { type Labels, modeKind, type ServiceSpec } from "./service-spec.ts";
import { refusal } from "./validate-errors.ts";

/** Labels of a service that fix addresses: `swarmd.network.NETWORK.KIND`. */
export const NETWORK_LABEL_PREFIX = "swarmd.network.";
const LABEL = /^swarmd\.network\.([^.]+)\.([a-z0-9]+)$/;

/** `ipv4`, `ipv6` and `mac` are the task's own; `vip` and `vip6` the service's virtual ones. */
export type NetworkLabelKind = "ipv4" | "ipv6" | "mac" | "vip" | "vip6";

interface KindRule {
  readonly allowed: string;
  /** The value as it is compared; null when it is none. */
  readonly read: (value: string) => string | null;
}

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
/** Set in the first byte of the addresses of groups (IEEE 802). */
const MULTICAST_BIT = 1;

function address(family: IpFamily): KindRule {
  return {
    allowed: `an ${family === "ipv4" ? "IPv4" : "IPv6"} address`,
    read: value => {
      const text = canonicalIp(value);
      return text !== null && familyOf(text) === family ? text : null;
    },
  };
}

const KINDS: Readonly<Record<NetworkLabelKind, KindRule>> = {
  ipv4: address("ipv4"),
  ipv6: address("ipv6"),
  vip: address("ipv4"),
  vip6: address("ipv6"),
  mac: {
    allowed: "the MAC address of one device, such as 02:00:00:12:34:56",
    read: value => {
      const text = value.toLowerCase();
      const first = Number.parseInt(text.slice(0, 2), 16);
      return MAC.test(text) && (first & MULTICAST_BIT) === 0 ? text : null;
    },
  },
};

export interface NetworkLabel {
  readonly key: string;
  readonly network: string;
  readonly kind: NetworkLabelKind;
  /** In the form in which values are compared. */
  readonly value: string;
}

function isKind(text: string): text is NetworkLabelKind {
  return Object.hasOwn(KINDS, text);
}

/** Those that fix addresses, in order of their keys; what is none of them, or wrong, is left out. */
export function networkLabelsOf(labels: Labels | undefined): readonly NetworkLabel[] {
  const found: NetworkLabel[] = [];
  for (const [key, text] of Object.entries(labels ?? {})) {
    const [, network = "", kind = ""] = LABEL.exec(key) ?? [];
    const value = isKind(kind) ? KINDS[kind].read(text) : null;
    if (isKind(kind) && value !== null) found.push({ key, network, kind, value });
  }
  return found.sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** Refuses a label of this kind that is none, or has a value it cannot have. */
export function validateNetworkLabel(key: string, text: string): void {
  const kind = LABEL.exec(key)?.[2] ?? "";
  if (!isKind(kind)) {
    const ends = Object.keys(KINDS).map(name => `.${name}`);
    throw refusal(
      `unknown label ${key}: it must be ${NETWORK_LABEL_PREFIX}NETWORK with ${ends.join(", ")}`,
    );
  }
  if (KINDS[kind].read(text) !== null) return;
  throw refusal(`invalid value '${text}' of label ${key}: it must be ${KINDS[kind].allowed}`);
}

/** What the labels ask of one task is possible when there is never a second one. */
export function validateNetworkLabels(spec: ServiceSpec): void {
  const asked = new Map<string, string>();
  for (const { key, kind, network, value } of networkLabelsOf(spec.Labels)) {
    const other = asked.get(`${network} ${value}`);
    if (other !== undefined) throw refusal(`labels ${other} and ${key} ask for the same address`);
    asked.set(`${network} ${value}`, key);
    if (kind === "vip" || kind === "vip6") {
      if (spec.EndpointSpec?.Mode !== "dnsrr") continue;
      throw refusal(`label ${key}: a service with endpoint mode dnsrr has no virtual address`);
    }
    const why = manyTasks(spec);
    if (why !== "") throw refusal(`label ${key} fixes what one task alone can have, ${why}`);
  }
}

function manyTasks(spec: ServiceSpec): string {
  const kind = modeKind(spec);
  if (kind.startsWith("global")) return "and a global service has one on every node";
  const job = spec.Mode?.ReplicatedJob;
  const count = kind === "replicated" ? spec.Mode?.Replicated?.Replicas : job?.MaxConcurrent;
  if ((count ?? 1) > 1) return `and the service wants ${count} at once`;
  const orders = [spec.UpdateConfig?.Order, spec.RollbackConfig?.Order];
  return orders.includes("start-first") ? "and order start-first has two for a while" : "";
}
