import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";
import type { Recorder } from "./samples.ts";

const QUIET_MS = 10_000;
const KB_PER_MB = 1_000_000 / 1_024;

/** Memory of each host's daemon after a quiet while. */
export async function measureMemory(
  cluster: Cluster,
  recorder: Recorder,
  when: "idle" | "after load",
): Promise<void> {
  await sleep(QUIET_MS);
  for (const host of cluster.hosts) {
    const pid = await cluster.system.pid(host);
    if (pid === null) throw new Error(`${host.name}: the daemon does not run`);
    recorder.add(`RSS of a ${host.role}, ${when}`, "MB", kilobytes(pid, "status", "VmRSS"));
    recorder.add(`PSS of a ${host.role}, ${when}`, "MB", kilobytes(pid, "smaps_rollup", "Pss"));
  }
}

/** A field of proc(5) that counts KiB, in MB. */
export function kilobytes(pid: number, file: string, field: string): number {
  const text = readFileSync(`/proc/${pid}/${file}`, "utf8");
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(text);
  if (match === null) throw new Error(`/proc/${pid}/${file} says no ${field}`);
  return Number(match[1]) / KB_PER_MB;
}
