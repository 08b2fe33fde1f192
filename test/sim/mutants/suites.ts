import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { buildSimulator, runNode } from "../bundle.ts";
import type { SeedsOutcome } from "../seeds.ts";

/** What a suite says of a mutant; null: nothing is wrong. */
export type Verdict = string | null;

export interface SimLimits {
  readonly seeds: number;
  readonly ticks: number;
}

/** A mutant may never come to an end. */
const SIM_TIMEOUT_MS = 600_000;
const GOLDEN_TIMEOUT_MS = 90_000;
const UNIT_TIMEOUT_MS = 300_000;
/** Unit tests of what the mutants are in. */
const UNIT_TESTS = /^(raft-core|raft-storage|raft-driver|state|allocator)[a-z-]*\.test\.ts$/;
const GOLDEN_TOTALS = /^(\d+) passed, (\d+) failed$/gm;

/** Runs seeds until one fails. */
export async function bySimulator(dir: string, { seeds, ticks }: SimLimits): Promise<Verdict> {
  const simulator = await buildSimulator(dir);
  try {
    const args = ["--seeds", String(seeds), "--ticks", String(ticks), "--until-failure"];
    const { output, timedOut } = await simulator.run(args, { timeoutMs: SIM_TIMEOUT_MS });
    if (timedOut) return "does not end";
    const last = output.trim().split("\n").at(-1) ?? "";
    if (!last.startsWith("{")) return "ends the simulator";
    const { ran, failed }: SeedsOutcome = JSON.parse(last);
    return failed === null ? null : `${ran} (${failed.violation?.checker})`;
  } finally {
    await simulator.remove();
  }
}

/** The data-driven scripts, of etcd/raft and our own. */
export async function byGolden(dir: string): Promise<Verdict> {
  const args = ["--import=tsx", "test/golden/main.ts"];
  const { code, output } = await runNode(args, { cwd: dir, timeoutMs: GOLDEN_TIMEOUT_MS });
  if (code === 0) return null;
  const failed = [...output.matchAll(GOLDEN_TOTALS)].reduce((sum, [, , n]) => sum + Number(n), 0);
  return failed > 0 ? `${failed} directives` : "does not end";
}

/** Unit and property tests, up to the first file that fails. */
export async function byUnitTests(dir: string): Promise<Verdict> {
  const files = (await readdir(join(dir, "test/unit"))).filter(name => UNIT_TESTS.test(name));
  for (const file of files.sort()) {
    const args = ["--import=tsx", join("test/unit", file)];
    const { code, timedOut } = await runNode(args, { cwd: dir, timeoutMs: UNIT_TIMEOUT_MS });
    if (timedOut) return `${file} does not end`;
    if (code !== 0) return file.replace(/\.test\.ts$/, "");
  }
  return null;
}
