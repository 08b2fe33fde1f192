import { spawn } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { add, NOTHING, type Outcome, sumInLanes } from "./outcome.ts";

/**
 * Runs every level of tests, cheapest first, and ends with one line `N passed, N failed`. Each test
 * file is a process of its own; what a failing one printed is shown whole.
 *
 *   tsx scripts/test.ts [--only check,unit,integration,e2e,chaos]
 */
interface Stage {
  readonly name: string;
  run(): Promise<Outcome>;
}

const PARALLEL_UNIT_FILES = 2;
/** Longer than any file gives itself. */
const FILE_TIMEOUT_MS = 16 * 60_000;
/** For a file and its tests, unless they say otherwise: a busy machine is no failure. */
const TAP_TIMEOUT_S = "300";
/** tap's closing line at the top level of its output. */
const TAP_TOTALS = /^# \{ (.*) \}$/m;

interface Run {
  readonly code: number;
  readonly output: string;
  readonly ms: number;
}

function run(command: string, args: readonly string[], live = false): Promise<Run> {
  const startedMs = performance.now();
  return new Promise(resolve => {
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, TAP: "1", FORCE_COLOR: "0", TAP_TIMEOUT: TAP_TIMEOUT_S },
    });
    const chunks: Buffer[] = [];
    const keep = (chunk: Buffer): void => {
      chunks.push(chunk);
      if (live) process.stdout.write(chunk);
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    const timer = setTimeout(() => {
      keep(Buffer.from(`\nstopped: did not end within ${FILE_TIMEOUT_MS / 60_000} minutes\n`));
      child.kill("SIGKILL");
    }, FILE_TIMEOUT_MS);
    child.on("close", code => {
      clearTimeout(timer);
      const output = Buffer.concat(chunks).toString("utf8");
      resolve({ code: code ?? 1, output, ms: performance.now() - startedMs });
    });
  });
}

function totals(result: Run): Outcome {
  const line = TAP_TOTALS.exec(result.output)?.[1] ?? "";
  const number = (name: string): number =>
    Number(new RegExp(`\\b${name}: (\\d+)`).exec(line)?.[1] ?? 0);
  const failed = number("fail");
  const passed = number("pass");
  // A file that dies, or runs nothing, has failed, whatever it counted; to skip is to say why.
  const nothing = passed + failed + number("skip") === 0;
  const broken = (result.code !== 0 && failed === 0) || nothing;
  return { passed, failed: failed + (broken ? 1 : 0) };
}

function report(name: string, outcome: Outcome, result: Run): Outcome {
  const verdict = outcome.failed === 0 ? "ok  " : "FAIL";
  const seconds = (result.ms / 1_000).toFixed(1);
  process.stdout.write(`${verdict} ${name}  ${outcome.passed} passed  ${seconds} s\n`);
  if (outcome.failed > 0) process.stdout.write(`${result.output}\n`);
  return outcome;
}

async function testFile(path: string): Promise<Outcome> {
  const result = await run(process.execPath, ["--import=tsx", path]);
  return report(path, totals(result), result);
}

async function step(name: string, command: string, args: readonly string[]): Promise<Outcome> {
  const result = await run(command, args);
  const good = result.code === 0;
  return report(name, { passed: good ? 1 : 0, failed: good ? 0 : 1 }, result);
}

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter(name => name.endsWith(".test.ts"))
    .sort()
    .map(name => `${folder}/${name}`);
}

async function inTurn(steps: readonly (() => Promise<Outcome>)[]): Promise<Outcome> {
  let sum = NOTHING;
  for (const next of steps) sum = add(sum, await next());
  return sum;
}

async function chaos(): Promise<Outcome> {
  const result = await run("npm", ["run", "-s", "chaos", "--", "--minutes", "3"], true);
  const good = result.code === 0;
  return report("chaos, 3 minutes", { passed: good ? 1 : 0, failed: good ? 0 : 1 }, result);
}

const bin = (name: string): string => `node_modules/.bin/${name}`;

const STAGES: readonly Stage[] = [
  {
    name: "check",
    run: () =>
      inTurn([
        () => step("biome", bin("biome"), ["check"]),
        () => step("types", bin("tsc"), ["-p", "."]),
        () =>
          step("layers", bin("depcruise"), [
            "--config",
            ".dependency-cruiser.cjs",
            "src",
            "cli",
            "test",
          ]),
      ]),
  },
  { name: "unit", run: () => sumInLanes(filesOf("test/unit"), PARALLEL_UNIT_FILES, testFile) },
  {
    name: "integration",
    run: () =>
      inTurn([
        () => step("build", process.execPath, ["--import=tsx", "scripts/build.ts"]),
        () => sumInLanes(filesOf("test/integration"), 1, testFile),
      ]),
  },
  { name: "e2e", run: () => sumInLanes(filesOf("test/e2e"), 1, testFile) },
  { name: "chaos", run: chaos },
];

function wantedStages(args: readonly string[]): readonly Stage[] {
  const at = args.indexOf("--only");
  if (at < 0) return STAGES;
  const names = (args[at + 1] ?? "").split(",");
  for (const name of names) {
    if (!STAGES.some(stage => stage.name === name)) {
      process.stderr.write(
        `unknown stage '${name}': use ${STAGES.map(stage => stage.name).join(", ")}\n`,
      );
      process.exit(2);
    }
  }
  return STAGES.filter(stage => names.includes(stage.name));
}

// A run that was stopped leaves its files there, sockets among them.
rmSync(".tap/fixtures", { recursive: true, force: true });
let sum = NOTHING;
for (const stage of wantedStages(process.argv.slice(2))) {
  process.stdout.write(`\n== ${stage.name}\n`);
  sum = add(sum, await stage.run());
}
process.stdout.write(`\n${sum.passed} passed, ${sum.failed} failed\n`);
process.exitCode = sum.failed === 0 ? 0 : 1;
