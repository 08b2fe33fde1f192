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
import type { InitRequest, JoinRequest } from "./ports.ts";

type Json = Readonly<Record<string, unknown>>;

const MIN_DATA_PATH_PORT = 1_024;
const MAX_DATA_PATH_PORT = 49_151;
const MAX_SUBNET_SIZE = 32;
const AVAILABILITIES: readonly Availability[] = ["active", "pause", "drain"];

function invalid(text: string): SwarmError {
  return new SwarmError("invalid_argument", text);
}

/** Docker answers these with 500, because they are plain errors there. */
function oddlyInternal(text: string): SwarmError {
  return new SwarmError("invalid_argument", text, { http: 500 });
}

function text(body: Json, name: string): string {
  const value = body[name];
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  throw wrongType(name, value, "string");
}

function flag(body: Json, name: string): boolean {
  const value = body[name];
  if (value === undefined || value === null) return false;
  if (typeof value === "boolean") return value;
  throw wrongType(name, value, "bool");
}

function count(body: Json, name: string): number {
  const value = body[name];
  if (value === undefined || value === null) return 0;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0) return value;
  throw wrongType(name, value, "uint32");
}

function texts(body: Json, name: string): readonly string[] {
  const value = body[name];
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every(item => typeof item === "string")) return value;
  throw wrongType(name, value, "[]string");
}

function wrongType(name: string, value: unknown, type: string): SwarmError {
  const kind = Array.isArray(value) ? "array" : typeof value;
  return invalid(`json: cannot unmarshal ${kind} into Go struct field ${name} of type ${type}`);
}

/** An address may be an IP, an interface or a name, each with an optional port. */
function address(field: string, value: string): string {
  if (value === "") throw invalid(`invalid ${field} "": invalid empty address`);
  return value;
}

function availability(body: Json): Availability {
  const value = text(body, "Availability").toLowerCase();
  if (value === "") return "active";
  const known = AVAILABILITIES.find(candidate => candidate === value);
  if (known === undefined) throw invalid(`invalid Availability: "${value}"`);
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
  const autoLock = flag(body, "AutoLockManagers") || spec.EncryptionConfig.AutoLockManagers;
  return {
    listenAddr,
    advertiseAddr: text(body, "AdvertiseAddr"),
    dataPathAddr: text(body, "DataPathAddr"),
    dataPathPort,
    defaultAddrPool: pool.length > 0 ? pool : DEFAULT_ADDR_POOL,
    subnetSize,
    forceNewCluster: flag(body, "ForceNewCluster"),
    autoLockManagers: autoLock,
    availability: availability(body),
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
      throw oddlyInternal(`invalid CIDR: "${cidr}". Subnet size is too small: ${subnetSize}`);
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
    availability: availability(body),
  };
}

function withPort(addr: string): string {
  if (isIP(addr) === 6) return `[${addr}]:${DEFAULT_CLUSTER_PORT}`;
  return /:\d+$/.test(addr) ? addr : `${addr}:${DEFAULT_CLUSTER_PORT}`;
}
