import { isIP } from "node:net";
import { SwarmError } from "../base/errors.ts";
import { mergeSwarmSpec } from "../control/core/swarm-spec.ts";
import {
  DEFAULT_ADDR_POOL,
  DEFAULT_CLUSTER_PORT,
  DEFAULT_DATA_PATH_PORT,
  DEFAULT_SUBNET_SIZE,
  DEFAULT_SWARM_SPEC,
} from "../model/defaults.ts";
import type { Availability } from "../model/rows.ts";
import { normalizeSwarmSpec, validateSwarmSpec } from "../model/validate-cluster.ts";
import { BOOL, decodeJson, STRING, STRINGS, struct, UINT32 } from "../model/validate-decode.ts";
import { oddlyInternal } from "../model/validate-errors.ts";
import { SWARM_SPEC_SHAPE } from "../model/validate-shapes.ts";
import type { InitRequest, JoinRequest } from "./ports.ts";

type Json = Readonly<Record<string, unknown>>;

const MIN_DATA_PATH_PORT = 1_024;
const MAX_DATA_PATH_PORT = 49_151;
const MAX_SUBNET_SIZE = 32;
const AVAILABILITIES: readonly Availability[] = ["active", "pause", "drain"];

const ADDRESSES = {
  ListenAddr: STRING,
  AdvertiseAddr: STRING,
  DataPathAddr: STRING,
  Availability: STRING,
};
const INIT_REQUEST_SHAPE = struct("swarm.InitRequest", {
  ...ADDRESSES,
  DataPathPort: UINT32,
  DefaultAddrPool: STRINGS,
  SubnetSize: UINT32,
  ForceNewCluster: BOOL,
  AutoLockManagers: BOOL,
  Spec: SWARM_SPEC_SHAPE,
});
const JOIN_REQUEST_SHAPE = struct("swarm.JoinRequest", {
  ...ADDRESSES,
  RemoteAddrs: STRINGS,
  JoinToken: STRING,
});

function invalid(text: string): SwarmError {
  return new SwarmError("invalid_argument", text);
}

function text(body: Json, name: string): string {
  return String(body[name] ?? "");
}

function count(body: Json, name: string): number {
  return Number(body[name] ?? 0);
}

function texts(body: Json, name: string): readonly string[] {
  const value = body[name];
  return Array.isArray(value) ? value : [];
}

/** The types of a SwarmInitRequest, before anything else is asked; its spec is read later. */
export function decodeInitRequest(value: unknown): Json {
  return (decodeJson(INIT_REQUEST_SHAPE, value) ?? {}) as Json;
}

export function decodeJoinRequest(value: unknown): Json {
  return (decodeJson(JOIN_REQUEST_SHAPE, value) ?? {}) as Json;
}

/** An address may be an IP, an interface or a name, each with an optional port. */
function address(field: string, value: string): string {
  if (value === "") throw invalid(`invalid ${field} "": invalid empty address`);
  return value;
}

function availability(body: Json, refuse: (text: string) => SwarmError): Availability {
  const value = text(body, "Availability").toLowerCase();
  if (value === "") return "active";
  const known = AVAILABILITIES.find(candidate => candidate === value);
  if (known === undefined) throw refuse(`invalid Availability: "${value}"`);
  return known;
}

/** Checks a SwarmInitRequest in Docker's order and words, and completes its spec. */
export function readInitRequest(body: Json): InitRequest {
  const listenAddr = address("ListenAddr", text(body, "ListenAddr"));
  const spec = mergeSwarmSpec(DEFAULT_SWARM_SPEC, normalizeSwarmSpec(body["Spec"]));
  const pool = texts(body, "DefaultAddrPool");
  const subnetSize = count(body, "SubnetSize") || DEFAULT_SUBNET_SIZE;
  checkPool(pool, subnetSize);
  const dataPathPort = count(body, "DataPathPort") || DEFAULT_DATA_PATH_PORT;
  if (dataPathPort < MIN_DATA_PATH_PORT || dataPathPort > MAX_DATA_PATH_PORT) {
    const range = `${MIN_DATA_PATH_PORT}-${MAX_DATA_PATH_PORT}`;
    throw oddlyInternal(`Datapath port number is not in valid range (${range}) : ${dataPathPort}`);
  }
  validateSwarmSpec(spec);
  const autoLock = body["AutoLockManagers"] === true || spec.EncryptionConfig.AutoLockManagers;
  return {
    listenAddr,
    advertiseAddr: text(body, "AdvertiseAddr"),
    dataPathAddr: text(body, "DataPathAddr"),
    dataPathPort,
    defaultAddrPool: pool.length > 0 ? pool : DEFAULT_ADDR_POOL,
    subnetSize,
    forceNewCluster: body["ForceNewCluster"] === true,
    autoLockManagers: autoLock,
    availability: availability(body, oddlyInternal),
    spec: { ...spec, EncryptionConfig: { AutoLockManagers: autoLock } },
  };
}

function checkPool(pool: readonly string[], subnetSize: number): void {
  if (subnetSize > MAX_SUBNET_SIZE) {
    throw oddlyInternal(`subnet size is out of range: ${subnetSize}`);
  }
  for (const cidr of pool) {
    const [ip = "", prefix = ""] = cidr.split("/");
    const bits = isIP(ip) === 6 ? 128 : 32;
    const ok = isIP(ip) !== 0 && /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits;
    if (!ok) throw oddlyInternal(`invalid base pool ${cidr}: invalid CIDR address: ${cidr}`);
    if (subnetSize < Number(prefix)) {
      throw oddlyInternal(
        `invalid CIDR: "${cidr}". Subnet size is too small for pool: ${subnetSize}`,
      );
    }
  }
}

/** Checks a SwarmJoinRequest; remote addresses without a port get the cluster port. */
export function readJoinRequest(body: Json): JoinRequest {
  const listenAddr = address("ListenAddr", text(body, "ListenAddr"));
  const remoteAddrs = texts(body, "RemoteAddrs");
  if (remoteAddrs.length === 0) throw invalid("at least 1 RemoteAddr is required to join");
  return {
    listenAddr,
    advertiseAddr: text(body, "AdvertiseAddr"),
    dataPathAddr: text(body, "DataPathAddr"),
    remoteAddrs: remoteAddrs.map(addr => withPort(address("remoteAddr", addr))),
    joinToken: text(body, "JoinToken"),
    availability: availability(body, invalid),
  };
}

function withPort(addr: string): string {
  if (isIP(addr) === 6) return `[${addr}]:${DEFAULT_CLUSTER_PORT}`;
  return /:\d+$/.test(addr) ? addr : `${addr}:${DEFAULT_CLUSTER_PORT}`;
}
