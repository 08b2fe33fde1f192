import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { findCgroups, removeCgroups } from "./cgroups.ts";
import { configPath } from "./context.ts";
import { LabError } from "./errors.ts";
import { labPrefix } from "./plan.ts";
import { killInit, runningInit } from "./power.ts";
import { pidsInNetworks, signal } from "./proc.ts";
import { must } from "./run.ts";

/**
 * Takes a lab away, whole, half-made or damaged. What belongs to it is known in two ways: by the
 * pid and start time recorded for each host, and by being in a network namespace that carries the
 * lab's tag. Nothing else is touched.
 */

const NETNS_DIR = "/run/netns";
const DEATH_TIMEOUT_MS = 60_000;
const MAX_SWEEPS = 3;

export async function removeLab(dir: string): Promise<void> {
  let left: string[] = [];
  // A killed `up` may have a command under way that adds something behind the first sweep.
  for (let sweeps = 0; sweeps < MAX_SWEEPS; sweeps++) {
    await sweep(dir);
    left = leftovers(dir);
    if (left.length === 0) return;
  }
  throw new LabError(`the lab is down, but left: ${left.join(", ")}`);
}

async function sweep(dir: string): Promise<void> {
  const prefix = labPrefix(dir);
  await Promise.all(recordedHosts(dir).map(host => killRecorded(dir, host)));
  const namespaces = networksOf(prefix);
  await killInNetworks(namespaces);
  for (const name of namespaces) await must("lab", ["ip", "netns", "del", name]);
  await removeCgroups(prefix);
  await unmountUnder(dir);
  await removeFolder(dir);
}

/** What `removeLab` should have removed and has not. */
export function leftovers(dir: string): string[] {
  const prefix = labPrefix(dir);
  return [
    ...networksOf(prefix).map(name => `network namespace ${name}`),
    ...findCgroups(prefix).map(path => `cgroup ${path}`),
    ...mountsUnder(dir).map(path => `mount ${path}`),
    ...(existsSync(dir) ? [`folder ${dir}`] : []),
  ];
}

function recordedHosts(dir: string): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true })
    .filter(entry => entry.isDirectory())
    .map(entry => entry.name);
}

async function killRecorded(dir: string, host: string): Promise<void> {
  const record = runningInit(dir, host);
  if (record !== null) await killInit(record, host);
}

function networksOf(prefix: string): string[] {
  if (!existsSync(NETNS_DIR)) return [];
  return readdirSync(NETNS_DIR).filter(name => name.startsWith(prefix));
}

/** Hosts whose pid 1 was not recorded, and clients left in the underlay. */
async function killInNetworks(names: readonly string[]): Promise<void> {
  const ids = new Set(names.map(name => `net:[${statSync(join(NETNS_DIR, name)).ino}]`));
  if (ids.size === 0) return;
  await eventually(
    () => {
      const pids = pidsInNetworks(ids);
      for (const pid of pids) signal(pid, "SIGKILL");
      return pids.length === 0;
    },
    { what: "every process of the lab has ended", timeoutMs: DEATH_TIMEOUT_MS },
  );
}

function mountsUnder(dir: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map(line => unescapeMount(line.split(" ")[4] ?? ""))
    .filter(path => path.startsWith(`${dir}/`));
}

/** proc(5): space, tab, newline and backslash are octal in mountinfo. */
function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

async function unmountUnder(dir: string): Promise<void> {
  for (const path of mountsUnder(dir).reverse()) await must("lab", ["umount", "-l", path]);
}

/** Only a folder that `up` has made is removed. */
async function removeFolder(dir: string): Promise<void> {
  if (!existsSync(dir)) return;
  const ours = existsSync(configPath(dir)) || basename(dir) === ".lab";
  const empty = (await readdir(dir)).length === 0;
  if (!ours && !empty) throw new LabError(`${dir} is not a lab's folder: it is left as it is`);
  await rm(dir, { recursive: true, force: true });
}
