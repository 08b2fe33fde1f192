import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { errorMessage } from "../../src/base/errors.ts";
import { Lab } from "../lab/lab.ts";
import { buildSwarmd } from "../support/build.ts";

const HELP = `usage: npm run test:compat [-- flags]

Runs the conformance suite (what real Docker clients see) against three hosts of a lab. As root.

  --suite LIST   suites, by comma: api,cli,multi,restart (all of them)
  -k REGEX       only the cases whose names match
  --dir DIR      the suite (\${COMPAT_DIR}, ../shared/compat)
  --keep         leave the lab up
`;
const CHECKOUT = resolve(import.meta.dirname, "../..");
const SUITES = ["api", "cli", "multi", "restart"] as const;
const EXIT_USAGE = 2;
/** Suites that one host is enough for. */
const SINGLE: ReadonlySet<string> = new Set(["api", "cli"]);

interface Options {
  readonly suites: readonly string[];
  readonly only: string | undefined;
  readonly dir: string;
  readonly keep: boolean;
}

function readOptions(): Options | null {
  const { values } = parseArgs({
    options: {
      suite: { type: "string", default: SUITES.join(",") },
      k: { type: "string", short: "k" },
      dir: { type: "string", default: process.env["COMPAT_DIR"] ?? "../shared/compat" },
      keep: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return null;
  const suites = values.suite.split(",").filter(suite => suite !== "");
  return { suites, only: values.k, dir: resolve(CHECKOUT, values.dir), keep: values.keep };
}

/** Runs a program with its output shown; resolves with its exit status. */
function shown(command: string, args: readonly string[], cwd: string): Promise<number> {
  return new Promise((done, reject) => {
    const child = spawn(command, args, { cwd, stdio: "inherit" });
    child.on("error", reject);
    child.on("close", code => done(code ?? 1));
  });
}

/** The command that the restart suite stops and starts hosts with. */
function hookOf(lab: Lab): string {
  const script = join(CHECKOUT, "test/compat/hook.sh");
  return `sh ${script} ${CHECKOUT} ${lab.dir} {action} {n}`;
}

function argumentsFor(suite: string, lab: Lab, only: string | undefined): string[] {
  const hosts = SINGLE.has(suite) ? lab.hosts().slice(0, 1) : lab.hosts();
  const args = ["--suite", suite];
  for (const [i, host] of hosts.entries()) {
    const number = i === 0 ? "" : String(i + 1);
    args.push(`--host${number}`, `unix://${host.socketPath}`, `--addr${number}`, host.addr);
  }
  if (suite === "restart") args.push("--hook", hookOf(lab));
  if (only !== undefined) args.push("-k", only);
  return args;
}

/** Brings the hosts up, runs the suites one after the other, takes the hosts down. */
async function runSuites(options: Options): Promise<number> {
  const lab = Lab.open(process.env["SWARMD_LAB_DIR"] ?? "/tmp/swarmd-compat");
  const swarmdBin = await buildSwarmd();
  await lab.up({ managers: 3, workers: 0, mode: "bare", swarmdBin });
  let worst = 0;
  try {
    for (const host of lab.hosts()) {
      const images = join(options.dir, "engine/images.sh");
      worst ||= await shown("sh", [images, `unix://${host.dockerSocketPath}`], options.dir);
    }
    for (const suite of options.suites) {
      const args = argumentsFor(suite, lab, options.only);
      const status = await shown("./run", args, options.dir);
      worst ||= status;
    }
  } finally {
    if (!options.keep) await lab.down();
  }
  return worst;
}

async function main(): Promise<number> {
  const options = readOptions();
  if (options === null) {
    process.stdout.write(HELP);
    return 0;
  }
  if (!existsSync(join(options.dir, "run"))) {
    process.stdout.write(`no conformance suite in ${options.dir}: nothing to run\n`);
    return 0;
  }
  return runSuites(options);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`test:compat: ${errorMessage(error)}\n`);
  process.exitCode = EXIT_USAGE;
}
