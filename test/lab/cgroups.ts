import { existsSync, readdirSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";

const ROOT = "/sys/fs/cgroup";
const REMOVE_TIMEOUT_MS = 30_000;

/** Folders named `name...` directly in a hierarchy: of version 1, of version 2, or both. */
export function findCgroups(name: string): string[] {
  const hierarchies = [ROOT, ...subfolders(ROOT)];
  return hierarchies.flatMap(dir => subfolders(dir).filter(sub => isNamed(sub, name)));
}

function isNamed(path: string, name: string): boolean {
  const last = path.slice(path.lastIndexOf("/") + 1);
  return name.endsWith("-") ? last.startsWith(name) : last === name;
}

/**
 * Removes a cgroup and those in it; a name that ends in "-" stands for all that start with it. The
 * kernel says EBUSY for a moment after the last process has ended.
 */
export async function removeCgroups(name: string): Promise<void> {
  await eventually(
    () => {
      for (const dir of findCgroups(name)) removeTree(dir);
      return findCgroups(name).length === 0;
    },
    { what: `cgroups ${name} are removed`, timeoutMs: REMOVE_TIMEOUT_MS },
  );
}

function removeTree(dir: string): void {
  for (const sub of subfolders(dir)) removeTree(sub);
  if (existsSync(dir)) rmdirSync(dir);
}

function subfolders(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(entry => join(dir, entry.name));
  } catch {
    return []; // Another process removed it meanwhile.
  }
}
