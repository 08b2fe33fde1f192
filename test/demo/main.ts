import { existsSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { errorMessage } from "../../src/base/errors.ts";
import { Lab } from "../lab/lab.ts";
import { buildSwarmd } from "../support/build.ts";
import { Board } from "./board.ts";
import { explainFailures, summaryOf } from "./results.ts";
import { LiveScreen, LogScreen, type Screen } from "./screen.ts";
import { Story } from "./story.ts";
import { glyphsFor, type Line, paint, span, wantsColour } from "./text.ts";
import { Traffic } from "./traffic.ts";
import { Watcher } from "./watcher.ts";

const HELP = `usage: npm run demo [-- flags]

A cluster of five Docker hosts on this machine, and what it does when things go wrong. As root.

  --once     take the hosts down at the end
  --fast     without pauses for the reader
`;
const CHECKOUT = resolve(import.meta.dirname, "../..");
const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;
/** In a lab that the demonstration made, so that the next one may take it down. */
const MARK = "demo";

interface Options {
  readonly once: boolean;
  readonly fast: boolean;
}

const coloured = process.stdout.isTTY === true && wantsColour(process.env);

function print(line: Line | string = ""): void {
  const text = typeof line === "string" ? line : paint(line, coloured);
  process.stdout.write(`${text}\n`);
}

function readOptions(): Options | "help" {
  const { values } = parseArgs({
    options: {
      once: { type: "boolean", default: false },
      fast: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  return values.help ? "help" : { once: values.once, fast: values.fast };
}

/** A lab of an earlier demonstration goes; anybody else's stays. */
async function makeRoom(lab: Lab): Promise<boolean> {
  if (!lab.isUp()) return true;
  if (!existsSync(join(lab.dir, MARK))) {
    print(`A lab that the demonstration did not make is up in ${lab.dir}.`);
    print("Take it down with `npm run lab -- down`, or give this one another folder:");
    print("SWARMD_LAB_DIR=/tmp/swarmd-demo npm run demo");
    return false;
  }
  print("Taking the hosts of the last demonstration down...");
  await lab.down();
  return true;
}

function openScreen(board: Board): Screen {
  const { stdout, env } = process;
  if (stdout.isTTY !== true || env["TERM"] === "dumb") {
    return new LogScreen({ board, write: print });
  }
  return new LiveScreen({ coloured, glyphs: glyphsFor(env) }, { out: stdout, board });
}

/** The command for the lab, which knows its folder if it is the usual one. */
function labCommand(lab: Lab, verb: string): string {
  const usual = lab.dir === join(CHECKOUT, ".lab");
  return `${usual ? "" : `SWARMD_LAB_DIR=${lab.dir} `}npm run lab -- ${verb}`;
}

async function play(lab: Lab, options: Options, swarmdBin: string): Promise<string[]> {
  const board = new Board();
  const ending = new AbortController();
  const screen = openScreen(board);
  let traffic: Traffic | null = null;
  const onInterrupt = (): void => {
    screen.close();
    print("Interrupted.");
    if (lab.isUp())
      print(`The hosts may still be up; take them down with: ${labCommand(lab, "down")}`);
    process.exit(EXIT_INTERRUPTED);
  };
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, onInterrupt);
  try {
    const watcher = new Watcher({
      lab,
      board,
      onBackends: backends => traffic?.setBackends(backends),
    });
    const story = new Story({ lab, board, watcher, fast: options.fast, swarmdBin });
    await story.hosts();
    writeFileSync(join(lab.dir, MARK), "");
    traffic = new Traffic({ lab, board });
    const watching = watcher.run(ending.signal);
    await story.cluster();
    await story.deploy();
    await story.scale();
    await story.update();
    await story.powerOff();
    const results = await story.powerOn();
    const { totals } = traffic;
    ending.abort();
    await watching;
    const causes = explainFailures(totals.failedTries, {
      tasks: watcher.seen,
      hostOf: task => watcher.hostOf(task),
      outages: story.outages,
    });
    return summaryOf(results, totals, causes);
  } finally {
    ending.abort();
    traffic?.stop();
    screen.close();
  }
}

async function main(): Promise<number> {
  const options = readOptions();
  if (options === "help") {
    print(HELP);
    return 0;
  }
  const lab = Lab.open();
  if (!(await makeRoom(lab))) return EXIT_FAILURE;
  print("Building swarmd...");
  const swarmdBin = await buildSwarmd();
  try {
    const summary = await play(lab, options, swarmdBin);
    print([span("What was measured", "bold")]);
    for (const line of summary) print(line);
    print();
  } catch (error) {
    print([span("The demonstration failed: ", "bad"), span(errorMessage(error))]);
    print(
      `The hosts stay up. Logs: ${labCommand(lab, "logs HOST")}; end: ${labCommand(lab, "down")}`,
    );
    return EXIT_FAILURE;
  }
  if (options.once) {
    await lab.down();
    print("The hosts are down, and nothing of them is left.");
  } else sayNext(lab);
  return 0;
}

function sayNext(lab: Lab): void {
  print([span("The cluster stays up. Try:", "bold")]);
  const commands = [
    labCommand(lab, "exec m1 -- swarmd node ls"),
    labCommand(lab, "exec m1 -- swarmd service ps web"),
    `docker -H unix://${join(lab.dir, "m1/swarmd.sock")} service ls`,
    labCommand(lab, "kill m1"),
    labCommand(lab, "status"),
    labCommand(lab, "down"),
  ];
  for (const command of commands) print(`  ${command}`);
}

process.exitCode = await main().catch((error: unknown) => {
  print(`demo: ${errorMessage(error)}`);
  return EXIT_USAGE;
});
