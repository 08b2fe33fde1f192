import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { Command } from "commander";
import { ApiError, NoDaemonError } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError, EXIT_USAGE } from "../errors.ts";
import { collect } from "./shared.ts";
import {
  addSettingsCommands,
  addSpecFlags,
  printUnlockKey,
  type SpecFlags,
  type Swarm,
  withFlags,
} from "./swarm-settings.ts";

interface SwarmInfo {
  readonly NodeID: string;
  readonly NodeAddr: string;
  readonly LocalNodeState: string;
  readonly ControlAvailable: boolean;
  readonly RemoteManagers?: readonly { readonly NodeID: string; readonly Addr: string }[] | null;
}

const LOG_DIR = "/var/log/swarmd";
const START_TIMEOUT_MS = 15_000;
const START_POLL_MS = 50;
const DEFAULT_LISTEN = "0.0.0.0:2377";

interface InitFlags extends SpecFlags {
  readonly autolock?: boolean;
  readonly advertiseAddr?: string;
  readonly listenAddr: string;
  readonly dataPathAddr?: string;
  readonly dataPathPort?: string;
  readonly availability: string;
  readonly defaultAddrPool: readonly string[];
  readonly defaultAddrPoolMaskLength?: string;
  readonly forceNewCluster?: boolean;
}

interface JoinFlags {
  readonly token?: string;
  readonly advertiseAddr?: string;
  readonly listenAddr: string;
  readonly dataPathAddr?: string;
  readonly availability: string;
}

function wholeNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) {
    throw new CliError(
      `invalid argument "${text}" for "--${flag}" flag: a whole number is needed`,
      2,
    );
  }
  return value;
}

/** Starts the daemon detached when none answers; waits until it does. */
export async function ensureDaemon(context: CliContext): Promise<void> {
  const client = context.client();
  try {
    await client.ping();
    return;
  } catch (error) {
    if (!(error instanceof NoDaemonError) || !client.host.startsWith("unix://")) throw error;
  }
  await mkdir(LOG_DIR, { recursive: true, mode: 0o755 });
  const logFile = `${LOG_DIR}/swarmd.log`;
  const log = openSync(logFile, "a", 0o640);
  const entry = process.argv[1] ?? "swarmd";
  const args = [
    ...process.execArgv,
    "--",
    entry,
    "daemon",
    "--socket",
    client.host.slice("unix://".length),
  ];
  spawn(process.execPath, args, { detached: true, stdio: ["ignore", log, log] }).unref();
  context.warn(`started the swarmd daemon, logging to ${logFile}`);
  const deadlineMs = context.nowMs() + START_TIMEOUT_MS;
  while (context.nowMs() < deadlineMs) {
    await context.sleep(START_POLL_MS);
    try {
      await client.ping();
      return;
    } catch (error) {
      if (!(error instanceof NoDaemonError)) throw error;
    }
  }
  throw new CliError(
    `the daemon did not start within ${START_TIMEOUT_MS / 1_000} s: see ${logFile}`,
  );
}

async function init(context: CliContext, flags: InitFlags): Promise<void> {
  const Spec = withFlags({}, flags);
  await ensureDaemon(context);
  const client = context.client();
  const nodeId = await client.post<string>("/swarm/init", {
    ListenAddr: flags.listenAddr,
    AdvertiseAddr: flags.advertiseAddr ?? "",
    DataPathAddr: flags.dataPathAddr ?? "",
    DataPathPort: wholeNumber("data-path-port", flags.dataPathPort) ?? 0,
    DefaultAddrPool: flags.defaultAddrPool.length > 0 ? flags.defaultAddrPool : null,
    SubnetSize: wholeNumber("default-addr-pool-mask-length", flags.defaultAddrPoolMaskLength) ?? 0,
    ForceNewCluster: flags.forceNewCluster === true,
    AutoLockManagers: flags.autolock === true,
    Availability: flags.availability,
    Spec,
  });
  context.out(`Swarm initialized: current node (${nodeId}) is now a manager.\n\n`);
  await printJoinCommand(context, "worker");
  context.out(
    "To add a manager to this swarm, run 'swarmd join-token manager' and follow the instructions.\n\n",
  );
  if (flags.autolock === true) await printUnlockKey(context);
}

async function printJoinCommand(context: CliContext, role: "worker" | "manager"): Promise<void> {
  const client = context.client();
  const swarm = await client.get<Swarm>("/swarm");
  const { Swarm: local } = await client.get<{ readonly Swarm: SwarmInfo }>("/info");
  const own = local.RemoteManagers?.find(manager => manager.NodeID === local.NodeID);
  const addr = own?.Addr ?? `${local.NodeAddr}:2377`;
  const token = role === "worker" ? swarm.JoinTokens.Worker : swarm.JoinTokens.Manager;
  context.out(`To add a ${role} to this swarm, run the following command:\n\n`);
  context.out(`    swarmd join --token ${token} ${addr}\n\n`);
}

async function join(context: CliContext, remote: string, flags: JoinFlags): Promise<void> {
  if (flags.token === undefined) throw new CliError('required flag(s) "token" not set', 2);
  await ensureDaemon(context);
  const client = context.client();
  await client.post("/swarm/join", {
    RemoteAddrs: [remote],
    JoinToken: flags.token,
    ListenAddr: flags.listenAddr,
    AdvertiseAddr: flags.advertiseAddr ?? "",
    DataPathAddr: flags.dataPathAddr ?? "",
    Availability: flags.availability,
  });
  const { Swarm: local } = await client.get<{ readonly Swarm: SwarmInfo }>("/info");
  const role = local.ControlAvailable ? "manager" : "worker";
  context.out(`This node joined a swarm as a ${role}.\n`);
}

async function joinToken(
  context: CliContext,
  role: string,
  flags: { readonly quiet?: boolean; readonly rotate?: boolean },
): Promise<void> {
  if (role !== "worker" && role !== "manager") {
    throw new CliError(`unknown role ${role}: use worker or manager`, EXIT_USAGE);
  }
  const client = context.client();
  if (flags.rotate === true) {
    const swarm = await client.get<Swarm>("/swarm");
    await client.post("/swarm/update", swarm.Spec, {
      version: swarm.Version.Index,
      rotateWorkerToken: role === "worker",
      rotateManagerToken: role === "manager",
      rotateManagerUnlockKey: false,
    });
    if (flags.quiet !== true) context.out(`Successfully rotated ${role} join token.\n\n`);
  }
  if (flags.quiet !== true) return printJoinCommand(context, role);
  const { JoinTokens } = await client.get<Swarm>("/swarm");
  context.out(`${role === "worker" ? JoinTokens.Worker : JoinTokens.Manager}\n`);
}

async function leave(context: CliContext, flags: { readonly force?: boolean }): Promise<void> {
  try {
    await context.client().post("/swarm/leave", undefined, { force: flags.force === true });
  } catch (error) {
    if (error instanceof ApiError) throw new CliError(error.message);
    throw error;
  }
  context.out("Node left the swarm.\n");
}

/** Docker's `swarm` verbs at top level, and under `swarm` for who is used to that. */
export function addSwarmCommands(program: Command, context: CliContext): void {
  for (const to of [
    program,
    program.command("swarm").description("The same verbs as docker swarm"),
  ]) {
    addMemberCommands(to, context);
    addSettingsCommands(to, context);
  }
}

function addMemberCommands(program: Command, context: CliContext): void {
  addSpecFlags(program.command("init").description("Initialize a swarm on this host"))
    .option("--autolock", "managers that restart need an unlock key")
    .option("--advertise-addr <addr>", "advertised address (ip|interface)[:port]")
    .option("--listen-addr <addr>", "listen address (ip|interface)[:port]", DEFAULT_LISTEN)
    .option("--data-path-addr <addr>", "address or interface for data path traffic")
    .option("--data-path-port <port>", "port number for data path traffic (1024 - 49151)")
    .option("--availability <state>", "active, pause or drain", "active")
    .option("--default-addr-pool <cidr>", "default address pool, repeatable", collect, [])
    .option("--default-addr-pool-mask-length <n>", "default address pool subnet mask length")
    .option("--force-new-cluster", "make a new cluster of the state of this lost one")
    .action((flags: InitFlags) => init(context, flags));
  program
    .command("join")
    .description("Join a swarm as a node and/or manager")
    .argument("<addr>", "address of a manager, HOST:PORT")
    .option("--token <token>", "token for entry into the swarm")
    .option("--advertise-addr <addr>", "advertised address (ip|interface)[:port]")
    .option("--listen-addr <addr>", "listen address (ip|interface)[:port]", DEFAULT_LISTEN)
    .option("--data-path-addr <addr>", "address or interface for data path traffic")
    .option("--availability <state>", "active, pause or drain", "active")
    .action((remote: string, flags: JoinFlags) => join(context, remote, flags));
  program
    .command("join-token")
    .description("Manage join tokens")
    .argument("<role>", "worker or manager")
    .option("-q, --quiet", "only display token")
    .option("--rotate", "rotate join token")
    .action((role: string, flags) => joinToken(context, role, flags));
  program
    .command("leave")
    .description("Leave the swarm")
    .option("-f, --force", "force this node to leave the swarm, ignoring warnings")
    .action(flags => leave(context, flags));
}
