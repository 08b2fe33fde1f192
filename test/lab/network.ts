import { LabError } from "./errors.ts";
import {
  BRIDGE,
  blockedPairs,
  CLIENT_ADDR,
  CLIENT_ADDR6,
  type HostPlan,
  hostScope,
  planHosts,
  underlayName,
} from "./plan.ts";
import { describeFailure, must, run } from "./run.ts";

/**
 * The wires: a bridge in a network namespace of its own, a port on it per host. A host's port has
 * the host's name, so rules on ports outlive the host's power cycles as those of a switch do.
 */

const PREFIX_BITS = 24;
const PREFIX_BITS6 = 64;
const TABLE = "lab";

/** Frames of every protocol, ARP too, pass this chain on their way from port to port. */
const SWITCH_RULES = `table bridge ${TABLE} {
  set blocked { type ifname . ifname; }
  chain forward {
    type filter hook forward priority 0;
    iifname . oifname @blocked drop
  }
}
`;

export async function createUnderlay(dir: string): Promise<void> {
  const underlay = underlayName(dir);
  await must("lab", ["ip", "netns", "add", underlay]);
  await ipBatch(underlay, [
    "link set lo up",
    `link add ${BRIDGE} type bridge mcast_snooping 0`,
    `link set ${BRIDGE} up`,
    `addr add ${CLIENT_ADDR}/${PREFIX_BITS} dev ${BRIDGE}`,
    `addr add ${CLIENT_ADDR6}/${PREFIX_BITS6} dev ${BRIDGE} nodad`,
  ]);
  await inUnderlay(dir, "lab", ["nft", "-f", "-"], SWITCH_RULES);
}

/** Gives the host a fresh network namespace with eth0; its port stays down when `isCut`. */
export async function attachHost(dir: string, host: HostPlan, isCut: boolean): Promise<void> {
  const scope = hostScope(dir, host.name);
  await must(host.name, ["ip", "netns", "add", scope]);
  await ipBatch(underlayName(dir), [
    `link add ${host.name} type veth peer name eth0 netns ${scope}`,
    `link set ${host.name} master ${BRIDGE}`,
    `link set ${host.name} ${isCut ? "down" : "up"}`,
  ]);
  await ipBatch(scope, [
    "link set lo up",
    `link set eth0 address ${host.mac}`,
    `addr add ${host.addr}/${PREFIX_BITS} dev eth0`,
    `addr add ${host.addr6}/${PREFIX_BITS6} dev eth0 nodad`,
    "link set eth0 up",
  ]);
}

/** The host's namespace goes, with every device, address and rule in it. */
export async function detachHost(dir: string, host: string): Promise<void> {
  await must(host, ["ip", "-n", underlayName(dir), "link", "del", host]);
  await must(host, ["ip", "netns", "del", hostScope(dir, host)]);
}

export async function setLink(dir: string, host: string, state: "up" | "down"): Promise<void> {
  await must(host, ["ip", "-n", underlayName(dir), "link", "set", host, state]);
}

/** Null when the host has no port, as when it is powered off. */
export async function linkState(dir: string, host: string): Promise<"up" | "down" | null> {
  const result = await run(["ip", "-n", underlayName(dir), "-o", "link", "show", host]);
  if (result.code !== 0) return null;
  return /<[^>]*\bUP\b[^>]*>/.test(result.stdout) ? "up" : "down";
}

export async function block(
  dir: string,
  from: string,
  to: string,
  options: { readonly oneWay: boolean },
): Promise<void> {
  await inUnderlay(dir, `${from}, ${to}`, [
    "nft",
    `add element bridge ${TABLE} blocked { ${blockedPairs(from, to, options.oneWay).join(", ")} }`,
  ]);
}

/** Both ways; also when only one, or none, is blocked. */
export async function unblock(dir: string, a: string, b: string): Promise<void> {
  const pairs = blockedPairs(a, b, false).join(", ");
  // Deleting an absent element fails, and a transaction may add it first.
  const changes = ["add", "delete"].map(
    verb => `${verb} element bridge ${TABLE} blocked { ${pairs} }`,
  );
  await inUnderlay(dir, `${a}, ${b}`, ["nft", "-f", "-"], `${changes.join("\n")}\n`);
}

export async function unblockAll(dir: string): Promise<void> {
  await inUnderlay(dir, "lab", ["nft", `flush set bridge ${TABLE} blocked`]);
}

/** "A B" per blocked direction. */
export async function listBlocked(dir: string): Promise<string[]> {
  const text = await inUnderlay(dir, "lab", ["nft", "list", "set", "bridge", TABLE, "blocked"]);
  return [...text.matchAll(/"([mw][0-9]+)" \. "([mw][0-9]+)"/g)].map(m => `${m[1]} ${m[2]}`);
}

/** Prefix for commands of a client outside the cluster that can reach every host. */
export function clientPrefix(dir: string): string[] {
  return ["nsenter", `--net=/run/netns/${underlayName(dir)}`, "--"];
}

async function inUnderlay(
  dir: string,
  where: string,
  command: readonly string[],
  input?: string,
): Promise<string> {
  return must(where, [...clientPrefix(dir), ...command], input === undefined ? {} : { input });
}

async function ipBatch(namespace: string, lines: readonly string[]): Promise<void> {
  const command = ["ip", "-n", namespace, "-batch", "-"];
  const result = await run(command, { input: `${lines.join("\n")}\n` });
  if (result.code !== 0) {
    throw new LabError(describeFailure(lines.join("; "), command, result));
  }
}

/** A line of /etc/hosts per host, so that hosts know each other by name. */
export function hostsFile(managers: number, workers: number): string {
  const lines = planHosts(managers, workers).map(host => `${host.addr} ${host.name}`);
  return `127.0.0.1 localhost\n${lines.join("\n")}\n`;
}
