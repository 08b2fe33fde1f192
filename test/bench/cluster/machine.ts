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
  const git = ["git", "-C", import.meta.dirname];
  const commit = await run([...git, "rev-parse", "--short", "HEAD"]);
  const changed = await run([...git, "status", "--porcelain", "--", ":/src", ":/cli"]);
  return {
    cpu: `${cpus().length} cores, ${first?.model.trim() ?? "unknown"}`,
    memory: `${(totalmem() / BYTES_PER_GB).toFixed(0)} GB`,
    kernel: release(),
    engine: engineVersion,
    node: process.version,
    commit: commit.stdout.trim() + (changed.stdout.trim() === "" ? "" : " with changes"),
    date: new Date().toISOString().slice(0, 10),
  };
}

/** How busy the machine is, with others' work as well: 1 is one core's. */
export function loadNow(): string {
  return `load ${(loadavg()[0] ?? 0).toFixed(1)}`;
}
