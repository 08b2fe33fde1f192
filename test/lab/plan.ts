import { createHash } from "node:crypto";
import { join } from "node:path";

/**
 * What a lab is called and where its parts lie. Everything that is visible outside the lab's
 * folder carries a tag made from that folder's path, so two checkouts can have labs at once.
 */

export const MAX_MANAGERS = 9;
export const MAX_WORKERS = 100;
export const BRIDGE = "br0";
/** The underlay's own address: from it a client outside the cluster reaches every host. */
export const CLIENT_ADDR = "10.77.0.254";
export const CLIENT_ADDR6 = "fd77::fe";
export const CLUSTER_PORT = 2377;

const SUBNET = "10.77.0";
const SUBNET6 = "fd77::";
const FIRST_WORKER_INDEX = 100;
const TAG_LENGTH = 6;
/** `sun_path` of a Unix socket, less its closing zero. */
const MAX_SOCKET_PATH_BYTES = 107;

export type HostRole = "manager" | "worker";

export interface HostPlan {
  readonly name: string;
  readonly role: HostRole;
  /** Last byte of the address: managers 1.., workers 101... */
  readonly index: number;
  readonly addr: string;
  /** For clients of published ports; the hosts themselves speak IPv4 to each other. */
  readonly addr6: string;
  readonly mac: string;
}

export interface HostPaths {
  readonly dir: string;
  readonly data: string;
  readonly docker: string;
  readonly etc: string;
  readonly socket: string;
  readonly dockerSocket: string;
  readonly log: string;
  readonly dockerLog: string;
  readonly pid: string;
  readonly dockerPid: string;
  readonly init: string;
  readonly cutMark: string;
}

export function labTag(dir: string): string {
  return createHash("sha256").update(dir).digest("hex").slice(0, TAG_LENGTH);
}

/** Start of the names of the lab's network namespaces and cgroups. */
export function labPrefix(dir: string): string {
  return `swarmd-lab-${labTag(dir)}-`;
}

export function underlayName(dir: string): string {
  return `${labPrefix(dir)}net`;
}

/** Both the network namespace and the cgroup parent of a host. */
export function hostScope(dir: string, host: string): string {
  return `${labPrefix(dir)}${host}`;
}

export function planHost(name: string): HostPlan {
  const match = /^([mw])([1-9][0-9]{0,2})$/.exec(name);
  if (match === null) throw new RangeError(`"${name}" is no host name: hosts are m1.. and w1..`);
  const role = match[1] === "m" ? "manager" : "worker";
  const index = Number(match[2]) + (role === "manager" ? 0 : FIRST_WORKER_INDEX);
  const hex = index.toString(16).padStart(2, "0");
  const mac = `02:77:00:00:00:${hex}`;
  return { name, role, index, addr: `${SUBNET}.${index}`, addr6: SUBNET6 + hex, mac };
}

export function planHosts(managers: number, workers: number): HostPlan[] {
  const count = (n: number, letter: string): HostPlan[] =>
    Array.from({ length: n }, (_, i) => planHost(`${letter}${i + 1}`));
  return [...count(managers, "m"), ...count(workers, "w")];
}

export function hostPaths(labDir: string, host: string): HostPaths {
  const dir = join(labDir, host);
  return {
    dir,
    data: join(dir, "data"),
    docker: join(dir, "docker"),
    etc: join(dir, "etc"),
    socket: join(dir, "swarmd.sock"),
    dockerSocket: join(dir, "docker.sock"),
    log: join(dir, "swarmd.log"),
    dockerLog: join(dir, "dockerd.log"),
    pid: join(dir, "swarmd.pid"),
    dockerPid: join(dir, "dockerd.pid"),
    init: join(dir, "init.json"),
    cutMark: join(dir, "cut"),
  };
}

/** Null, or why the kernel would refuse the sockets of a lab in this folder. */
export function socketPathFault(labDir: string): string | null {
  const longest = hostPaths(labDir, "w100").socket;
  const bytes = Buffer.byteLength(longest);
  if (bytes <= MAX_SOCKET_PATH_BYTES) return null;
  return (
    `the path ${longest} has ${bytes} bytes; a Unix socket's path may have ` +
    `${MAX_SOCKET_PATH_BYTES}: use a checkout with a shorter path`
  );
}

/** nft set elements for packets from `from` to `to` (and back, unless one-way). */
export function blockedPairs(from: string, to: string, oneWay: boolean): string[] {
  const forward = `"${from}" . "${to}"`;
  return oneWay ? [forward] : [forward, `"${to}" . "${from}"`];
}
