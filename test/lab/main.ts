import { spawn } from "node:child_process";
import { constants } from "node:os";
import { type Command, countFlag, listFlag, parseArgs, usage } from "./args.ts";
import type { LabMode } from "./context.ts";
import { LabError, UsageError } from "./errors.ts";
import { Lab, type LabHost } from "./lab.ts";
import { formatStatus, readStatus } from "./status.ts";

/** `npm run lab -- VERB`. Exits with 0, with 1 on a failure, with 2 on bad usage. */

type Handler = (lab: Lab, command: Command) => Promise<number>;

const EXIT_FAILURE = 1;
const EXIT_USAGE = 2;
const SIGNAL_CODE_BASE = 128;

/** A verb that is one call on one host. */
function onHost(done: string, act: (host: LabHost) => Promise<void>): Handler {
  return async (lab, command) => {
    const host = lab.host(command.hosts[0] ?? "");
    await act(host);
    console.log(`${host.name}: ${done}`);
    return 0;
  };
}

const HANDLERS: Readonly<Record<string, Handler>> = {
  up,
  status,
  exec,
  logs,
  partition,
  unpartition,
  down: async lab => {
    await lab.down();
    console.log("the lab is down");
    return 0;
  },
  kill: onHost("swarmd killed", host => host.kill()),
  start: onHost("swarmd started", host => host.start()),
  stop: onHost("swarmd stopped", host => host.stop()),
  pause: onHost("swarmd paused", host => host.pause()),
  resume: onHost("swarmd resumed", host => host.resume()),
  cut: onHost("link cut", host => host.cut()),
  heal: onHost("link healed", host => host.heal()),
  poweroff: onHost("powered off", host => host.poweroff()),
  poweron: onHost("powered on", host => host.poweron()),
  "stop-engine": onHost("Engine stopped", host => host.stopEngine()),
  "start-engine": onHost("Engine started", host => host.startEngine()),
  "restart-engine": onHost("Engine restarted", host => host.restartEngine()),
};

async function up(lab: Lab, { flags }: Command): Promise<number> {
  if (flags["bare"] && flags["engines-only"]) {
    throw new UsageError("--bare and --engines-only exclude each other");
  }
  const engines: LabMode = flags["engines-only"] ? "engines-only" : "cluster";
  await lab.up({
    ...{ managers: countFlag(flags, "managers", 3), workers: countFlag(flags, "workers", 2) },
    mode: flags["bare"] ? "bare" : engines,
    engineArgs: listFlag(flags, "engine-arg"),
    daemonArgs: listFlag(flags, "daemon-arg"),
    onProgress: line => console.log(line),
  });
  console.log(formatStatus(await readStatus(lab)));
  return 0;
}

async function status(lab: Lab, { flags }: Command): Promise<number> {
  const found = await readStatus(lab);
  console.log(flags["json"] ? JSON.stringify(found, null, 2) : formatStatus(found));
  return found.hosts.length > 0 ? 0 : EXIT_FAILURE;
}

async function exec(lab: Lab, { hosts, rest }: Command): Promise<number> {
  const host = lab.host(hosts[0] ?? "");
  return passThrough(host.execCommand(rest), host.loginEnv());
}

async function logs(lab: Lab, { hosts, flags }: Command): Promise<number> {
  const host = lab.host(hosts[0] ?? "");
  const path = flags["engine"] ? host.engineLogPath : host.logPath;
  const from = typeof flags["lines"] === "string" ? flags["lines"] : "+1";
  return passThrough(["tail", "-n", from, ...(flags["follow"] ? ["-F"] : []), path], process.env);
}

async function partition(lab: Lab, { hosts, flags }: Command): Promise<number> {
  const [a = "", b = ""] = hosts;
  const oneWay = flags["one-way"] === true;
  await lab.partition(a, b, { oneWay });
  console.log(oneWay ? `packets from ${a} to ${b} are lost` : `${a} and ${b} are partitioned`);
  return 0;
}

async function unpartition(lab: Lab, { hosts }: Command): Promise<number> {
  const [a = "", b = ""] = hosts;
  await lab.unpartition(a, b);
  console.log(`${a} and ${b} reach each other`);
  return 0;
}

/** Runs with this terminal; its exit code is ours. */
function passThrough(command: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  const [program = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: "inherit" });
    // The terminal sends ^C to the command as well; it decides what that means.
    const ignore = (): void => undefined;
    process.on("SIGINT", ignore);
    child.on("error", reject);
    child.on("exit", (code, name) => {
      process.off("SIGINT", ignore);
      resolve(code ?? SIGNAL_CODE_BASE + (name === null ? 0 : constants.signals[name]));
    });
  });
}

async function main(argv: readonly string[]): Promise<number> {
  if (argv.length === 0 || argv[0] === "help" || argv[0] === "--help") {
    console.log(usage());
    return argv.length === 0 ? EXIT_USAGE : 0;
  }
  const command = parseArgs(argv);
  const handler = HANDLERS[command.verb];
  if (handler === undefined) throw new UsageError(`unknown verb "${command.verb}"`);
  return handler(Lab.open(), command);
}

function report(error: unknown): number {
  const known = error instanceof LabError;
  console.error(`lab: ${known ? error.message : error instanceof Error ? error.stack : error}`);
  if (!(error instanceof UsageError)) return EXIT_FAILURE;
  console.error("Run `npm run lab -- help` for the verbs.");
  return EXIT_USAGE;
}

process.exitCode = await main(process.argv.slice(2)).catch(report);
