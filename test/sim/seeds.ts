import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { type RunResult, simulate } from "./run.ts";

const DEFAULT_TICKS = 3_000;
const PROGRESS_EVERY_MS = 10_000;
const SHOWN_LINES = 150;
const MS_PER_MINUTE = 60_000;

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

interface Arguments {
  readonly seed: number;
  readonly seeds: number;
  readonly ticks: number;
  readonly trace: boolean;
  readonly mutants: boolean;
}

function readArguments(): Arguments {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: "1" },
      seeds: { type: "string", default: "1" },
      ticks: { type: "string", default: String(DEFAULT_TICKS) },
      trace: { type: "boolean", default: false },
      mutants: { type: "boolean", default: false },
    },
  });
  const number = (text: string): number => {
    const value = Number(text);
    if (Number.isSafeInteger(value) && value > 0) return value;
    throw new Error(`${text} is not a whole number above 0`);
  };
  return {
    seed: number(values.seed),
    seeds: number(values.seeds),
    ticks: number(values.ticks),
    trace: values.trace,
    mutants: values.mutants,
  };
}

/** Runs the seed again with every message kept, and shows the end of it. */
async function explain(result: RunResult, ticks: number): Promise<void> {
  const { seed } = result;
  const again = await simulate({ seed, ticks, full: true, maxLines: SHOWN_LINES });
  for (const line of again.trace.slice(-SHOWN_LINES)) print(line);
  const { violation } = again;
  print(`seed ${seed} breaks ${violation?.checker}: ${violation?.text}`);
  print(`replay: npm run sim -- --seed ${seed} --ticks ${ticks} --trace`);
}

async function runSeeds({ seed: first, seeds, ticks, trace }: Arguments): Promise<number> {
  const startedMs = performance.now();
  let toldMs = startedMs;
  let simulatedMs = 0;
  let failed = 0;
  let unhealed = 0;
  let events = 0;
  for (let seed = first; seed < first + seeds; seed += 1) {
    const full = trace && seeds === 1;
    const maxLines = full ? Number.MAX_SAFE_INTEGER : undefined;
    const result = await simulate({ seed, ticks, full, ...(maxLines ? { maxLines } : {}) });
    simulatedMs += result.simulatedMs;
    events += result.events;
    if (!result.healed) unhealed += 1;
    if (full) for (const line of result.trace) print(line);
    if (seeds === 1) {
      const { trace: _, ...told } = result;
      print(JSON.stringify(told));
    }
    if (result.violation !== null) {
      failed += 1;
      await explain(result, ticks);
    }
    const nowMs = performance.now();
    if (nowMs - toldMs > PROGRESS_EVERY_MS) {
      toldMs = nowMs;
      print(`seed ${seed}: ${failed} failed, ${pace(simulatedMs, nowMs - startedMs)}`);
    }
  }
  const healed = unhealed === 0 ? "" : `, ${unhealed} without a quorum to heal`;
  print(`${seeds - failed} passed, ${failed} failed${healed}`);
  print(`${pace(simulatedMs, performance.now() - startedMs)}, ${events} events`);
  return failed;
}

function pace(simulatedMs: number, tookMs: number): string {
  const cpuMs = process.cpuUsage().user / 1_000 + process.cpuUsage().system / 1_000;
  const minutes = (simulatedMs / MS_PER_MINUTE).toFixed(0);
  const perMinute = (simulatedMs / cpuMs).toFixed(0);
  return `${minutes} simulated minutes in ${(tookMs / 1_000).toFixed(1)} s, ${perMinute} a CPU-minute`;
}

process.exitCode = (await runSeeds(readArguments())) === 0 ? 0 : 1;
