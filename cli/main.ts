import { createInterface } from "node:readline";
import { Writable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { Command, CommanderError, Option } from "commander";
import { PRODUCT_VERSION } from "../src/base/version.ts";
import { plainSwitches } from "./argv.ts";
import { ApiClient } from "./client.ts";
import { addBackupCommands } from "./commands/backup.ts";
import { addCompletionCommand } from "./commands/completion.ts";
import { addDaemonCommand } from "./commands/daemon.ts";
import { addNetworkCommands } from "./commands/network.ts";
import { addNodeCommands } from "./commands/node.ts";
import { addObjectCommands } from "./commands/objects.ts";
import { addPlanCommands } from "./commands/plan.ts";
import { addServiceReadCommands } from "./commands/service-read.ts";
import { addServiceWriteCommands } from "./commands/service-write.ts";
import { addStackCommands } from "./commands/stack.ts";
import { addSwarmCommands } from "./commands/swarm.ts";
import { addSystemCommands } from "./commands/system.ts";
import type { CliContext } from "./context.ts";
import { CliError, EXIT_USAGE } from "./errors.ts";

const DEFAULT_HOST = "unix:///run/swarmd/swarmd.sock";
const EXIT_INTERRUPTED = 130;

function newContext(program: Command, signal: AbortSignal): CliContext & { close(): void } {
  let client: ApiClient | null = null;
  return {
    client: () => {
      client ??= new ApiClient(program.opts<{ host: string }>().host);
      return client;
    },
    out: text => void process.stdout.write(text),
    input: () => buffer(process.stdin),
    secret: askSecret,
    warn: line => void process.stderr.write(`${line}\n`),
    stdoutIsTty: process.stdout.isTTY === true,
    columns: process.stdout.columns ?? 80,
    nowMs: () => Date.now(),
    sleep: ms => new Promise(resolve => setTimeout(resolve, ms)),
    signal,
    close: () => client?.close(),
  };
}

/** The line is read by a terminal interface whose output goes nowhere, so nothing is echoed. */
async function askSecret(prompt: string): Promise<string> {
  const isTty = process.stdin.isTTY === true;
  if (isTty) process.stderr.write(prompt);
  const output = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output, terminal: isTty });
  try {
    for await (const line of lines) return line.trim();
    return "";
  } finally {
    lines.close();
    if (isTty) process.stderr.write("\n");
  }
}

function newProgram(): Command {
  return new Command("swarmd")
    .description("A swarm of Docker hosts: replicated services, rolling updates, high availability")
    .addOption(
      new Option("-H, --host <host>", "daemon socket to connect to")
        .env("SWARMD_HOST")
        .default(DEFAULT_HOST),
    )
    .version(PRODUCT_VERSION, "-v, --version", "print the version of this program")
    .showHelpAfterError("(add --help for what is accepted)")
    .enablePositionalOptions()
    .exitOverride();
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  return error instanceof CliError ? error.exitCode : 1;
}

async function main(): Promise<void> {
  const controller = new AbortController();
  process.once("SIGINT", () => controller.abort());
  const program = newProgram();
  const context = newContext(program, controller.signal);
  addDaemonCommand(program);
  addSwarmCommands(program, context);
  addNodeCommands(program, context);
  const service = program.command("service").description("Manage services");
  addServiceWriteCommands(service, context);
  addServiceReadCommands(service, context);
  addPlanCommands(program, context);
  addObjectCommands(program, context);
  addNetworkCommands(program, context);
  addStackCommands(program, context);
  addSystemCommands(program, context);
  addBackupCommands(program, context);
  addCompletionCommand(program, context);
  // Subcommands inherit exitOverride only when they are made after it; set it on all.
  for (const command of allCommands(program)) command.exitOverride();
  try {
    const [node = "", script = "", ...argv] = process.argv;
    await program.parseAsync([node, script, ...plainSwitches(program, argv)]);
  } catch (error) {
    process.exitCode = controller.signal.aborted ? EXIT_INTERRUPTED : exitCodeOf(error);
  }
  context.close();
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

await main();
