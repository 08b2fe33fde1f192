import { familyOf, ipText, masked, networkContains, parseCidr, parseIp } from "./ip.ts";
import type { Labels, ServiceSpec } from "./service-spec.ts";
import { refusal } from "./validate-errors.ts";

/** Service label: the hosts' addresses at which its published ports answer. */
export const PUBLISH_ADDRESS_LABEL = "swarmd.publish.address";
/** Entries of one label. */
export const PUBLISH_ADDRESSES_MAX = 32;
const PORT_MAX = 65_535;
const FULL_BITS = 128;

export interface PublishAddresses {
  /** For the ports that have none of their own; empty: every address. */
  readonly general: readonly string[];
  /** By published port. */
  readonly byPort: ReadonlyMap<number, readonly string[]>;
}

const EVERYWHERE: PublishAddresses = { general: [], byPort: new Map() };

/**
 * Entries with commas between them: an address or a network (CIDR), for one published port with
 * its number and "=" before it ("127.0.0.1,8443=10.0.0.0/24,8443=::1"). Null when it is no such
 * list. Addresses come out as the kernel writes them, networks without the bits behind their
 * prefix.
 */
export function parsePublishAddresses(text: string): PublishAddresses | null {
  const entries = text.split(",").map(entry => entry.trim());
  if (entries.length > PUBLISH_ADDRESSES_MAX) return null;
  const general: string[] = [];
  const byPort = new Map<number, string[]>();
  for (const entry of entries) {
    const match = /^(?:([1-9][0-9]{0,4})=)?(\S+)$/.exec(entry);
    const place = match === null ? null : canonicalPlace(match[2] ?? "");
    const port = Number(match?.[1] ?? 0);
    if (place === null || port > PORT_MAX) return null;
    if (port === 0) general.push(place);
    else byPort.set(port, [...(byPort.get(port) ?? []), place]);
  }
  return {
    general: outermost(general),
    byPort: new Map([...byPort].map(([port, places]) => [port, outermost(places)])),
  };
}

function canonicalPlace(text: string): string | null {
  const address = parseIp(text);
  if (address !== null) return ipText(address);
  const network = parseCidr(text);
  if (network === null) return null;
  const { base, prefixBits } = masked(network);
  if (prefixBits === FULL_BITS) return ipText(base);
  const bits = text.includes(":") ? prefixBits : prefixBits - 96;
  return `${ipText(base)}/${bits}`;
}

function networkOf(place: string): { readonly base: bigint; readonly prefixBits: number } | null {
  const address = parseIp(place);
  return address === null ? parseCidr(place) : { base: address, prefixBits: FULL_BITS };
}

/** Without those that others of them hold: sets of the kernel take no overlaps. */
function outermost(places: readonly string[]): readonly string[] {
  const unique = [...new Set(places)].sort();
  return unique.filter(place => {
    const own = networkOf(place);
    return !unique.some(other => {
      const outer = networkOf(other);
      if (other === place || own === null || outer === null) return false;
      if (familyOf(other) !== familyOf(place) || outer.prefixBits >= own.prefixBits) return false;
      return networkContains(outer, own.base);
    });
  });
}

/** Where a published port of a service answers; empty: at every address of every host. */
export function publishAddresses(labels: Labels | undefined, published: number): readonly string[] {
  const text = labels?.[PUBLISH_ADDRESS_LABEL];
  const { general, byPort } =
    (text === undefined ? null : parsePublishAddresses(text)) ?? EVERYWHERE;
  return byPort.get(published) ?? general;
}

/** What the label says must be of ports the service has, in a form these take. Throws invalid_argument. */
export function validatePublishAddresses({ Labels, EndpointSpec }: ServiceSpec): void {
  const text = Labels?.[PUBLISH_ADDRESS_LABEL];
  const parsed = text === undefined ? null : parsePublishAddresses(text);
  if (parsed === null) return;
  const ports = EndpointSpec?.Ports ?? [];
  for (const number of parsed.byPort.keys()) {
    if (ports.some(({ PublishedPort }) => PublishedPort === number)) continue;
    throw refusal(`label ${PUBLISH_ADDRESS_LABEL}: the service publishes no port ${number}`);
  }
  for (const { PublishMode, PublishedPort = 0 } of ports) {
    if (PublishMode !== "host") continue;
    const network = publishAddresses(Labels, PublishedPort).find(place => place.includes("/"));
    if (network === undefined) continue;
    throw refusal(
      `label ${PUBLISH_ADDRESS_LABEL}: port ${PublishedPort} is published by its host alone ` +
        `(mode=host), which takes addresses, not the network ${network}`,
    );
  }
}
