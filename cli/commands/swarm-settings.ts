import type { Command } from "commander";
import { offSwitch } from "../argv.ts";
import type { CliContext } from "../context.ts";
import { CliError, EXIT_USAGE } from "../errors.ts";
import { type ExternalCa, parseExternalCa, readPem } from "../service/external-ca.ts";
import { parseCount, parseDuration, parseInteger } from "../service/parse.ts";
import { collect } from "./shared.ts";

/** A cluster's settings as the API has them: what is not named here is passed on as it is. */
export interface SwarmSpec {
  readonly CAConfig?: {
    readonly NodeCertExpiry?: number;
    readonly ExternalCAs?: readonly ExternalCa[];
    readonly SigningCACert?: string;
    readonly SigningCAKey?: string;
    readonly ForceRotate?: number;
  };
  readonly Dispatcher?: { readonly HeartbeatPeriod?: number };
  readonly EncryptionConfig?: { readonly AutoLockManagers?: boolean };
  readonly Orchestration?: { readonly TaskHistoryRetentionLimit?: number };
  readonly Raft?: { readonly KeepOldSnapshots?: number; readonly SnapshotInterval?: number };
}

export interface Swarm {
  readonly Version: { readonly Index: number };
  readonly Spec: SwarmSpec;
  readonly JoinTokens: { readonly Worker: string; readonly Manager: string };
  readonly RootRotationInProgress?: boolean;
  readonly TLSInfo?: { readonly TrustRoot?: string };
}

export interface SpecFlags {
  readonly certExpiry?: string;
  readonly dispatcherHeartbeat?: string;
  readonly externalCa: readonly string[];
  readonly maxSnapshots?: string;
  readonly snapshotInterval?: string;
  readonly taskHistoryLimit?: string;
}

/** How often an unfinished rotation of the root certificate is asked after. */
const ROTATION_POLL_MS = 500;

export function addSpecFlags(command: Command): Command {
  return command
    .option("--cert-expiry <duration>", "validity period for node certificates (2160h)")
    .option("--dispatcher-heartbeat <duration>", "dispatcher heartbeat period (5s)")
    .option("--external-ca <spec>", "protocol=cfssl,url=…[,cacert=FILE], repeatable", collect, [])
    .option("--max-snapshots <n>", "number of additional Raft snapshots to retain")
    .option("--snapshot-interval <n>", "number of log entries between Raft snapshots (10000)")
    .option("--task-history-limit <n>", "task history retention limit (5)");
}

/** The spec with what the flags say; a part is only made when a flag is of it. */
export function withFlags(spec: SwarmSpec, flags: SpecFlags): SwarmSpec {
  const { certExpiry, dispatcherHeartbeat, maxSnapshots, snapshotInterval } = flags;
  const part = <K extends keyof SwarmSpec>(key: K, change: SwarmSpec[K] & object): SwarmSpec =>
    Object.keys(change).length === 0 ? {} : { [key]: { ...spec[key], ...change } };
  const said = <T>(text: string | undefined, name: string, read: () => T): object =>
    text === undefined ? {} : { [name]: read() };
  return {
    ...spec,
    ...part("CAConfig", {
      ...said(certExpiry, "NodeCertExpiry", () => parseDuration("cert-expiry", certExpiry ?? "")),
      ...(flags.externalCa.length === 0
        ? {}
        : { ExternalCAs: flags.externalCa.map(parseExternalCa) }),
    }),
    ...part(
      "Dispatcher",
      said(dispatcherHeartbeat, "HeartbeatPeriod", () =>
        parseDuration("dispatcher-heartbeat", dispatcherHeartbeat ?? ""),
      ),
    ),
    ...part("Raft", {
      ...said(maxSnapshots, "KeepOldSnapshots", () =>
        parseCount("max-snapshots", maxSnapshots ?? ""),
      ),
      ...said(snapshotInterval, "SnapshotInterval", () =>
        parseCount("snapshot-interval", snapshotInterval ?? ""),
      ),
    }),
    ...part(
      "Orchestration",
      said(flags.taskHistoryLimit, "TaskHistoryRetentionLimit", () =>
        parseInteger("task-history-limit", flags.taskHistoryLimit ?? ""),
      ),
    ),
  };
}

/** The words with which a new unlock key is handed out. */
export async function printUnlockKey(context: CliContext): Promise<void> {
  const key = await unlockKey(context);
  if (key === "") throw new CliError("no unlock key is set");
  context.out(
    "To unlock a swarm manager after it restarts, run the `swarmd unlock`\n" +
      `command and provide the following key:\n\n    ${key}\n\n` +
      "Remember to store this key in a password manager, since without it you\n" +
      "will not be able to restart the manager.\n",
  );
}

async function unlockKey(context: CliContext): Promise<string> {
  const answer = await context.client().get<{ readonly UnlockKey?: string }>("/swarm/unlockkey");
  return answer.UnlockKey ?? "";
}

type UpdateFlags = SpecFlags & { readonly autolock?: boolean; readonly autolockOff?: boolean };

async function post(
  context: CliContext,
  swarm: Swarm,
  spec: SwarmSpec,
  rotate: { readonly unlockKey?: boolean } = {},
): Promise<void> {
  await context.client().post("/swarm/update", spec, {
    version: swarm.Version.Index,
    rotateWorkerToken: false,
    rotateManagerToken: false,
    rotateManagerUnlockKey: rotate.unlockKey === true,
  });
}

async function update(context: CliContext, flags: UpdateFlags): Promise<void> {
  const isSaid = Object.values(flags).some(value => !Array.isArray(value) || value.length > 0);
  if (!isSaid) {
    throw new CliError("nothing to update: no flag given (see swarmd update --help)", EXIT_USAGE);
  }
  const swarm = await context.client().get<Swarm>("/swarm");
  const changed = withFlags(swarm.Spec, flags);
  const lock = flags.autolockOff === true ? false : (flags.autolock ?? null);
  await post(context, swarm, {
    ...changed,
    ...(lock === null ? {} : { EncryptionConfig: { AutoLockManagers: lock } }),
  });
  context.out("Swarm updated.\n");
  const wasLocked = swarm.Spec.EncryptionConfig?.AutoLockManagers === true;
  if (lock === true && !wasLocked) await printUnlockKey(context);
}

async function unlock(context: CliContext): Promise<void> {
  const client = context.client();
  const { Swarm: local } = await client.get<{
    readonly Swarm: { readonly LocalNodeState: string };
  }>("/info");
  if (local.LocalNodeState === "inactive") throw new CliError("this node is not part of a swarm");
  if (local.LocalNodeState !== "locked") throw new CliError("swarm is not locked");
  const key = await context.secret("Enter unlock key: ");
  await client.post("/swarm/unlock", { UnlockKey: key });
}

interface QuietFlags {
  readonly quiet?: boolean;
  readonly rotate?: boolean;
}

async function showUnlockKey(context: CliContext, flags: QuietFlags): Promise<void> {
  if (flags.rotate === true) {
    const swarm = await context.client().get<Swarm>("/swarm");
    if (swarm.Spec.EncryptionConfig?.AutoLockManagers !== true) {
      throw new CliError("cannot rotate because autolock is not turned on");
    }
    await post(context, swarm, swarm.Spec, { unlockKey: true });
    if (flags.quiet !== true) context.out("Successfully rotated manager unlock key.\n\n");
  }
  if (flags.quiet !== true) return printUnlockKey(context);
  const key = await unlockKey(context);
  if (key === "") throw new CliError("no unlock key is set");
  context.out(`${key}\n`);
}

interface CaFlags {
  readonly rotate?: boolean;
  readonly caCert?: string;
  readonly caKey?: string;
  readonly certExpiry?: string;
  readonly externalCa: readonly string[];
  readonly detach?: boolean;
  readonly quiet?: boolean;
}

async function ca(context: CliContext, flags: CaFlags): Promise<void> {
  const swarm = await context.client().get<Swarm>("/swarm");
  if (flags.rotate !== true) {
    for (const [name, value] of [
      ["ca-cert", flags.caCert],
      ["ca-key", flags.caKey],
      ["cert-expiry", flags.certExpiry],
      ["external-ca", flags.externalCa[0]],
    ] as const) {
      if (value === undefined) continue;
      throw new CliError(`\`--${name}\` flag requires the \`--rotate\` flag to update the CA`);
    }
    return printTrustRoot(context, swarm);
  }
  if (flags.caKey !== undefined && flags.caCert === undefined) {
    const needs = "a --ca-cert flag and/or --external-ca flag";
    throw new CliError(`the --ca-key flag requires that ${needs} be provided as well`);
  }
  const spec = withFlags(swarm.Spec, flags);
  const own = spec.CAConfig ?? {};
  const given = flags.caCert === undefined ? "" : readPem(flags.caCert);
  const CAConfig = {
    ...own,
    SigningCACert: given,
    SigningCAKey: flags.caKey === undefined ? "" : readPem(flags.caKey),
    ForceRotate: (own.ForceRotate ?? 0) + (given === "" ? 1 : 0),
  };
  await post(context, swarm, { ...spec, CAConfig });
  if (flags.detach === true) return;
  const rotated = await untilRotated(context, flags.quiet === true);
  if (flags.quiet !== true) printTrustRoot(context, rotated);
}

async function untilRotated(context: CliContext, quiet: boolean): Promise<Swarm> {
  let told = false;
  for (;;) {
    const swarm = await context.client().get<Swarm>("/swarm");
    if (swarm.RootRotationInProgress !== true) return swarm;
    if (!told && !quiet) context.warn("waiting until every node has a certificate of the new root");
    told = true;
    await context.sleep(ROTATION_POLL_MS);
    if (context.signal.aborted) throw new CliError("the rotation goes on in the background");
  }
}

function printTrustRoot(context: CliContext, swarm: Swarm): void {
  const root = swarm.TLSInfo?.TrustRoot ?? "";
  if (root === "") throw new CliError("No CA information available");
  context.out(`${root.trimEnd()}\n`);
}

/** `update`, `unlock`, `unlock-key`, `ca`: the settings of the cluster. */
export function addSettingsCommands(program: Command, context: CliContext): void {
  addSpecFlags(program.command("update").description("Update the swarm's settings"))
    .option("--autolock", "managers that restart need an unlock key; =false: no longer")
    .addOption(offSwitch("autolock"))
    .action((flags: UpdateFlags) => update(context, flags));
  program
    .command("unlock")
    .description("Unlock this manager; the key is read from standard input")
    .action(() => unlock(context));
  program
    .command("unlock-key")
    .description("Manage the unlock key")
    .option("-q, --quiet", "only display the key")
    .option("--rotate", "rotate the unlock key")
    .action((flags: QuietFlags) => showUnlockKey(context, flags));
  program
    .command("ca")
    .description("Display and rotate the root CA")
    .option("--rotate", "rotate the swarm CA; without a certificate, a new one is made")
    .option("--ca-cert <file>", "PEM file of the root certificate to use")
    .option("--ca-key <file>", "PEM file of its key")
    .option("--cert-expiry <duration>", "validity period for node certificates (2160h)")
    .option("--external-ca <spec>", "protocol=cfssl,url=…[,cacert=FILE], repeatable", collect, [])
    .option("-d, --detach", "exit without waiting until the rotation is complete")
    .option("-q, --quiet", "suppress progress output")
    .action((flags: CaFlags) => ca(context, flags));
}
