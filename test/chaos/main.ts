import { existsSync } from "node:fs";
import { cp, mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Lab } from "../lab/lab.ts";
import { type ChaosOptions, parseChaosArgs, USAGE } from "./args.ts";
import { formatTimeline, formatViolations, summary } from "./core/report.ts";
import { dropRecords, keepLogs, keepRecords } from "./records.ts";
import { ChaosRun, type RunResult } from "./run.ts";

/**
 * `npm run chaos`: a cluster of five hosts under a seeded mix of faults and requests, then the
 * judgement. Exits with 0, with 1 when something was wrong, with 2 on bad usage.
 */

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;
const MS_PER_MINUTE = 60_000;

const CHECKOUT = resolve(import.meta.dirname, "../..");
const CHAOS_DIR = join(CHECKOUT, ".chaos");
const LAB_DIR = process.env["SWARMD_CHAOS_LAB_DIR"] ?? join(CHAOS_DIR, "lab");

async function main(options: ChaosOptions, signal: AbortSignal): Promise<number> {
  const dir = join(CHAOS_DIR, String(options.seed));
  await mkdir(CHAOS_DIR, { recursive: true });
  await dropRecords(dir);
  const lab = Lab.open(LAB_DIR);
  await lab.down();
  try {
    return await onLab(lab, dir, options, signal);
  } finally {
    if (!options.keep) await lab.down();
  }
}

async function onLab(
  lab: Lab,
  dir: string,
  options: ChaosOptions,
  signal: AbortSignal,
): Promise<number> {
  const startedMs = Date.now();
  const say = (text: string): void =>
    console.log(`${((Date.now() - startedMs) / 1_000).toFixed(1).padStart(7)}  ${text}`);
  let run: ChaosRun | null = null;
  try {
    await lab.up({ swarmdBin: await copyOfBuild(dir) });
    say(`a cluster of ${lab.hosts().length} hosts is up, seed ${options.seed}`);
    signal.throwIfAborted();
    const faultMs = options.minutes * MS_PER_MINUTE;
    run = new ChaosRun({ seed: options.seed, faultMs }, { lab, onLine: say });
    const result = await run.run(signal);
    signal.throwIfAborted();
    return await report(lab, dir, options, result);
  } catch (error) {
    if (signal.aborted) return EXIT_INTERRUPTED;
    await keepLogs(dir, lab);
    console.error(error instanceof Error ? error.stack : error);
    console.error(failureAdvice(dir, options));
    return EXIT_FAILURE;
  }
}

/** A build made meanwhile must not change what the hosts run, nor take it away. */
async function copyOfBuild(dir: string): Promise<string> {
  const given = process.env["SWARMD_BIN"];
  if (given !== undefined) return given;
  const built = join(CHECKOUT, "dist");
  if (!existsSync(join(built, "swarmd.js"))) throw new Error("run `npm run build` first");
  await cp(built, join(dir, "dist"), { recursive: true });
  return join(dir, "dist/swarmd.js");
}

async function report(
  lab: Lab,
  dir: string,
  options: ChaosOptions,
  result: RunResult,
): Promise<number> {
  const { history, timeline, violations } = result;
  const originMs = timeline[0]?.atMs ?? 0;
  const good = violations.length === 0;
  await keepRecords(dir, result);
  if (!good || options.keep) await keepLogs(dir, lab);
  if (!good) console.log(`\n${formatTimeline(timeline, originMs)}`);
  console.log(`\n${summary(history, { seed: options.seed, ...result })}`);
  if (good) {
    console.log("nothing was wrong");
    return 0;
  }
  console.log(`${violations.length} violations:\n${formatViolations(violations, originMs)}`);
  console.log(failureAdvice(dir, options));
  return EXIT_FAILURE;
}

function failureAdvice(dir: string, { minutes, seed }: ChaosOptions): string {
  return (
    `seed ${seed}; again: npm run chaos -- --minutes ${minutes} --seed ${seed}\n` +
    `logs and history: ${dir}`
  );
}

function interruptible(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(EXIT_INTERRUPTED);
      console.error("ending; once more to leave everything as it is");
      controller.abort(new Error("interrupted"));
    });
  }
  return controller.signal;
}

function readOptions(): ChaosOptions | null {
  try {
    return parseChaosArgs(process.argv.slice(2));
  } catch (error) {
    console.error(`chaos: ${error instanceof Error ? error.message : error}\n${USAGE}`);
    return null;
  }
}

const options = readOptions();
process.exitCode = options === null ? EXIT_USAGE : await main(options, interruptible());
