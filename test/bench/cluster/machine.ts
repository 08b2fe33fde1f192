import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { run } from "../../lab/run.ts";

const BYTES_PER_GB = 1e9;

/** Where and of what the figures are; one string a fact. */
export interface Machine {
  readonly cpu: string;
  readonly memory: string;
  readonly kernel: string;
  readonly engine: string;
  readonly node: string;
  readonly commit: string;
  readonly date: string;
}

export async function readMachine(engineVersion: string): Promise<Machine> {
  const [first] = cpus();
  const commit = await run(["git", "rev-parse", "--short", "HEAD"]);
  const changed = await run(["git", "status", "--porcelain", "--", "src", "cli", "package.json"]);
  return {
    cpu: `${cpus().length} cores, ${first?.model.trim() ?? "unknown"}`,
    memory: `${(totalmem() / BYTES_PER_GB).toFixed(0)} GB`,
    kernel: release(),
    engine: engineVersion,
    node: process.version,
    commit: commit.stdout.trim() + (changed.stdout.trim() === "" ? "" : ", with changes"),
    date: new Date().toISOString().slice(0, 10),
  };
}

/** How busy the machine is just now, with others' work as well. */
export function loadNow(): string {
  const [oneMinute = 0] = loadavg();
  const running = readFileSync("/proc/loadavg", "utf8").split(" ")[3]?.split("/")[0] ?? "?";
  return `load ${oneMinute.toFixed(1)} over the last minute, ${running} threads running`;
}
