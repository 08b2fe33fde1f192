import { createReadStream } from "node:fs";
import { open, readFile, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";
import { ensureDaemon } from "./swarm.ts";

const OWNER_ONLY = 0o600;
const BYTES_PER_KIB = 1_024;

interface PassphraseFlags {
  readonly passphraseFile?: string;
}

interface RestoreFlags extends PassphraseFlags {
  readonly advertiseAddr?: string;
  readonly listenAddr?: string;
  readonly dataPathAddr?: string;
  readonly force?: boolean;
}

/** The first line of the file; it travels in a header, never in a command line. */
async function passphraseHeaders(flags: PassphraseFlags): Promise<Record<string, string>> {
  if (flags.passphraseFile === undefined) return {};
  const [passphrase = ""] = (await readFile(flags.passphraseFile, "utf8")).split(/\r?\n/);
  if (passphrase === "") throw new CliError(`${flags.passphraseFile}: its first line is empty`, 2);
  return { "X-Swarmd-Passphrase": Buffer.from(passphrase).toString("base64") };
}

/** Written beside and renamed: a backup that is cut short never takes the place of a whole one. */
async function backup(context: CliContext, file: string, flags: PassphraseFlags): Promise<void> {
  const headers = await passphraseHeaders(flags);
  const { signal } = context;
  const answer = await context.client().open("GET", "/swarmd/v1/backup", { headers, signal });
  const temporary = `${file}.partial`;
  await rm(temporary, { force: true });
  const handle = await open(temporary, "wx", OWNER_ONLY);
  let bytes = 0;
  try {
    for await (const chunk of answer) {
      await handle.writeFile(chunk as Buffer);
      bytes += (chunk as Buffer).length;
    }
    if (!answer.complete) throw new CliError("the daemon ended the backup before its end");
    await handle.sync();
    await rename(temporary, file);
    await syncDirectory(dirname(file));
  } finally {
    await handle.close();
    await rm(temporary, { force: true });
  }
  const size = `${Math.ceil(bytes / BYTES_PER_KIB)} KiB`;
  const secrecy =
    flags.passphraseFile === undefined
      ? "It is not encrypted and holds the cluster's root key and every secret: keep it as one."
      : "It is encrypted; without the passphrase it is worth nothing.";
  context.out(`Backup written to ${file} (${size}). ${secrecy}\n`);
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function restore(context: CliContext, file: string, flags: RestoreFlags): Promise<void> {
  const headers = await passphraseHeaders(flags);
  // A file that is not there is told before a daemon is started for it.
  await (await open(file, "r")).close();
  await ensureDaemon(context);
  const answer = await context.client().open("POST", "/swarmd/v1/restore", {
    query: {
      listenAddr: flags.listenAddr,
      advertiseAddr: flags.advertiseAddr,
      dataPathAddr: flags.dataPathAddr,
      force: flags.force === true,
    },
    headers: { "Content-Type": "application/octet-stream", ...headers },
    stream: createReadStream(file),
    signal: context.signal,
  });
  let text = "";
  for await (const chunk of answer) text += String(chunk);
  const nodeId = String(JSON.parse(text));
  context.out(
    `Cluster restored: current node (${nodeId}) is its only manager. The other nodes of the backup ` +
      "are down until they come back or join again with `swarmd join`; remove those that will not " +
      "with `swarmd node rm`.\n",
  );
}

/** `backup` and `restore`: what docker has no word for. */
export function addBackupCommands(program: Command, context: CliContext): void {
  program
    .command("backup")
    .description("Write the cluster's whole state to a file, from any manager")
    .argument("<file>", "the file to write")
    .option("--passphrase-file <path>", "encrypt with the passphrase in this file's first line")
    .action((file: string, flags: PassphraseFlags) => backup(context, file, flags));
  program
    .command("restore")
    .description("Make a cluster of one out of a backup, on this host")
    .argument("<file>", "a file that `swarmd backup` wrote")
    .option("--passphrase-file <path>", "the passphrase it was encrypted with")
    .option("--advertise-addr <addr>", "advertised address (ip|interface)[:port]")
    .option("--listen-addr <addr>", "listen address (ip|interface)[:port]")
    .option("--data-path-addr <addr>", "address or interface for data path traffic")
    .option("--force", "even if managers of the backup's cluster answer")
    .action((file: string, flags: RestoreFlags) => restore(context, file, flags));
}
