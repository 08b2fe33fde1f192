import { SwarmError } from "../base/errors.ts";
import { base64ByteLength } from "./base64.ts";
import { familyOf, networkContains, parseCidr, parseIp } from "./ip.ts";
import { validateLabelCount } from "./labels.ts";
import { MTU_MAX, MTU_MIN, MTU_OPTION, parseMtu } from "./overlay.ts";
import type { Config, Network, Secret } from "./rows.ts";
import type { Labels } from "./service-spec.ts";
import { decodeJson } from "./validate-decode.ts";
import { badRequest, goQuote, refusal } from "./validate-errors.ts";
import { validateDnsName, validateObjectName } from "./validate-names.ts";
import { CONFIG_SPEC_SHAPE, NETWORK_SPEC_SHAPE, SECRET_SPEC_SHAPE } from "./validate-shapes.ts";

/** Payloads must be smaller (SwarmKit api/validation/secrets.go, controlapi/config.go). */
export const SECRET_BYTES_END = 500 * 1024;
export const CONFIG_BYTES_END = 1000 * 1024;

type WithName = { readonly Name?: string };

/** The decoded document with the name it must have; absent = empty, which validation refuses. */
function withName<T extends WithName>(decoded: unknown): T & { readonly Name: string } {
  const spec = (decoded ?? {}) as T;
  return { ...spec, Name: spec.Name ?? "" };
}

/** Reads a SecretSpec from parsed JSON. Throws invalid_argument in Go's words. */
export function normalizeSecretSpec(input: unknown): Secret["spec"] {
  return withName<Secret["spec"]>(decodeJson(SECRET_SPEC_SHAPE, input));
}

/** Reads a ConfigSpec from parsed JSON. Throws invalid_argument in Go's words. */
export function normalizeConfigSpec(input: unknown): Config["spec"] {
  return withName<Config["spec"]>(decodeJson(CONFIG_SPEC_SHAPE, input));
}

/** Reads a NetworkCreateRequest from parsed JSON. Throws invalid_argument in Go's words. */
export function normalizeNetworkSpec(input: unknown): Network["spec"] {
  return withName<Network["spec"]>(decodeJson(NETWORK_SPEC_SHAPE, input));
}

/** A secret to be created. One with a driver would have its data from there. */
export function validateSecretSpec(spec: Secret["spec"]): void {
  validateObjectName(spec.Name);
  validateLabelCount(spec.Labels);
  if (spec.Driver !== undefined) {
    const { Name: driver = "" } = spec.Driver;
    if (driver === "") throw refusal("secret driver must have a name");
    // Managers run no plugins, so there is none that could give the data.
    const text = `plugin ${goQuote(driver)} not found`;
    throw new SwarmError("not_found", text, { rpc: "Unknown" });
  }
  validatePayload("secret", spec.Data, SECRET_BYTES_END);
}

/** A config to be created. */
export function validateConfigSpec(spec: Config["spec"]): void {
  validateObjectName(spec.Name);
  validateLabelCount(spec.Labels);
  validatePayload("config", spec.Data, CONFIG_BYTES_END);
}

function validatePayload(kind: string, data: string | undefined, end: number): void {
  const length = base64ByteLength(data ?? "");
  if (length < 1 || length >= end) {
    throw refusal(`${kind} data must be larger than 0 and less than ${end} bytes`);
  }
}

interface IpamConfig {
  readonly Subnet?: string;
  readonly IPRange?: string;
  readonly Gateway?: string;
}

/** The fields of a decoded network spec that have rules. */
interface NetworkRules extends WithName {
  readonly Driver?: string;
  readonly Attachable?: boolean;
  readonly Ingress?: boolean;
  readonly EnableIPv4?: boolean;
  readonly EnableIPv6?: boolean;
  readonly Labels?: Labels;
  readonly Options?: Labels;
  readonly IPAM?: { readonly Driver?: string; readonly Config?: readonly IpamConfig[] };
}

/** What a network of the cluster can be made with; empty means overlay. */
const SHARED_DRIVERS: ReadonlySet<string> = new Set(["", "overlay"]);

/** Who gives addresses on networks of the cluster. */
const IPAM_DRIVERS: ReadonlySet<string> = new Set(["", "default"]);

function pluginNotFound(driver: string): SwarmError {
  return new SwarmError("not_found", `plugin ${goQuote(driver)} not found`);
}

/** Name, driver, labels and address pools of a network to be created. */
export function validateNetworkSpec(spec: Network["spec"]): void {
  const rules = spec as NetworkRules;
  const { Driver: driver = "" } = rules;
  if (!SHARED_DRIVERS.has(driver)) throw pluginNotFound(driver);
  const { Driver: ipam = "" } = rules.IPAM ?? {};
  if (!IPAM_DRIVERS.has(ipam)) throw refusal(`error during lookup of plugin ${ipam}`);
  for (const config of rules.IPAM?.Config ?? []) validateIpam(config);
  validateFamilies(rules);
  validateMtu(rules);
  if (rules.Attachable === true && rules.Ingress === true) {
    throw refusal("ingress network cannot be attachable");
  }
  validateDnsName(spec.Name);
  validateLabelCount(rules.Labels);
}

/** A gateway, and addresses between the first and the last one. */
const V6_PREFIX_MAX = 126;

function validateFamilies({ EnableIPv4, EnableIPv6, IPAM }: NetworkRules): void {
  if (EnableIPv4 === false) {
    throw refusal("an overlay network always has IPv4 addresses: leave out --ipv4=false");
  }
  for (const { Subnet = "" } of IPAM?.Config ?? []) {
    if (familyOf(Subnet) === "ipv4") continue;
    if (EnableIPv6 !== true) {
      throw refusal(`subnet ${Subnet} is IPv6, and the network is not: add --ipv6`);
    }
    if (Number(Subnet.split("/")[1]) > V6_PREFIX_MAX) {
      throw refusal(`subnet ${Subnet} is too small: /${V6_PREFIX_MAX} is the smallest of IPv6`);
    }
  }
}

function validateMtu({ Options, EnableIPv6 }: NetworkRules): void {
  const asked = Options?.[MTU_OPTION];
  if (asked === undefined) return;
  const mtu = parseMtu(asked) ?? 0;
  const least = EnableIPv6 === true ? MTU_MIN.ipv6 : MTU_MIN.ipv4;
  if (mtu >= least) return;
  throw refusal(`invalid MTU ${asked} (${MTU_OPTION}): it must be from ${least} to ${MTU_MAX}`);
}

function validateIpam({
  Subnet = "",
  IPRange: range = "",
  Gateway: gateway = "",
}: IpamConfig): void {
  const subnet = parseCidr(Subnet);
  if (subnet === null) {
    throw badRequest(`Invalid subnet ${Subnet} : invalid CIDR address: ${Subnet}`);
  }
  const pool = range === "" ? null : parseCidr(range);
  if (range !== "" && (pool === null || !networkContains(subnet, pool.base))) {
    throw refusal(
      pool === null
        ? `ipam configuration: invalid range ${range}`
        : `ipam configuration: subnet ${Subnet} does not contain range ${range}`,
    );
  }
  const address = gateway === "" ? null : parseIp(gateway);
  if (gateway !== "" && (address === null || !networkContains(subnet, address))) {
    throw refusal(
      address === null
        ? `ipam configuration: invalid gateway ${gateway}`
        : `ipam configuration: subnet ${Subnet} does not contain gateway ${gateway}`,
    );
  }
}
