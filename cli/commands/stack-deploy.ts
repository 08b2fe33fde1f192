import { Argument, type Command, Option } from "commander";
import { checkStackName } from "../../src/stack/core/names.ts";
import { printFile } from "../../src/stack/core/print.ts";
import { type DeployOptions, deployStack, type StackApi } from "../../src/stack/deploy.ts";
import { loadStackFiles, readBytes, type StackFileDeps } from "../../src/stack/files.ts";
import { registryAuth } from "../../src/stack/registry-auth.ts";
import { writeYaml } from "../../src/stack/yaml-write.ts";
import { offSwitch } from "../argv.ts";
import { type ApiClient, ApiError } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";
import { waitForService } from "../service/progress.ts";

/** What compose files see of the caller. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
}

interface FileFlags {
  readonly composeFile: readonly string[];
}

interface DeployFlags extends FileFlags {
  readonly detachOff?: boolean;
  readonly prune?: boolean;
  readonly quiet?: boolean;
  readonly resolveImage: string;
  readonly withRegistryAuth?: boolean;
}

const RESOLVE_IMAGE: readonly DeployOptions["resolveImage"][] = ["always", "changed", "never"];

/** As docker's, the flag may be repeated and may hold several paths between commas. */
function morePaths(value: string, all: readonly string[]): readonly string[] {
  return [...all, ...value.split(",")];
}

function fileFlag(): Option {
  return new Option("-c, --compose-file <file>", 'compose file, or "-" for standard input')
    .argParser<readonly string[]>(morePaths)
    .default([], "none");
}

async function orNull(work: Promise<unknown>): Promise<unknown> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

function stackApi(client: ApiClient): StackApi {
  return {
    get: (path, query = {}) => client.get(path, query),
    find: (path, headers = {}) => orNull(client.call("GET", path, { headers })),
    post: (path, body, query = {}, headers = {}) =>
      client.call("POST", path, { body, query, headers }),
    remove: path => client.call("DELETE", path),
  };
}

function fileDeps(context: CliContext, surroundings: Surroundings): StackFileDeps {
  return {
    ...surroundings,
    input: () => context.input(),
    warn: line => context.warn(line),
  };
}

function resolveImageOf(said: string): DeployOptions["resolveImage"] {
  const found = RESOLVE_IMAGE.find(one => one === said);
  if (found === undefined) throw new CliError(`Invalid option ${said} for flag --resolve-image`);
  return found;
}

async function deploy(
  context: CliContext,
  surroundings: Surroundings,
  stack: string,
  flags: DeployFlags,
): Promise<void> {
  checkStackName(stack);
  const file = await loadStackFiles(
    { files: flags.composeFile, verb: "deploy" },
    fileDeps(context, surroundings),
  );
  const resolveImage = resolveImageOf(flags.resolveImage);
  const sendsAuth = flags.withRegistryAuth === true;
  const ids = await deployStack(
    file,
    { stack, prune: flags.prune === true, resolveImage },
    {
      api: stackApi(context.client()),
      out: text => context.out(text),
      warn: line => context.warn(line),
      readBytes,
      authOf: image => (sendsAuth ? registryAuth(image, surroundings) : Promise.resolve(null)),
    },
  );
  if (flags.detachOff === true) await waitForAll(context, ids, flags.quiet === true);
}

/** Each in turn; what did not come to rest is told at the end. */
async function waitForAll(
  context: CliContext,
  ids: readonly string[],
  quiet: boolean,
): Promise<void> {
  const failures: string[] = [];
  for (const id of ids) {
    try {
      await waitForService(context, id, { quiet });
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
      failures.push(`${id}: ${error.message}`);
    }
    if (context.signal.aborted) break;
  }
  if (failures.length > 0) throw new CliError(failures.join("\n"));
}

/** `swarmd stack deploy` and `swarmd stack config`. */
export function addStackFileCommands(
  group: Command,
  context: CliContext,
  surroundings: Surroundings = { environment: process.env, cwd: process.cwd() },
): void {
  group
    .command("deploy")
    .aliases(["up"])
    .description("Deploy a new stack or update an existing stack")
    .addArgument(new Argument("<stack>"))
    .addOption(fileFlag())
    .option(
      "-d, --detach",
      "do not wait until the services have converged (the default; =false waits)",
    )
    .addOption(offSwitch("detach"))
    .option("--prune", "remove services that are no longer in the file")
    .option("-q, --quiet", "suppress progress output")
    .option(
      "--resolve-image <when>",
      "ask the registry for digests: always, changed or never",
      "always",
    )
    .option("--with-registry-auth", "send registry credentials to the nodes")
    .action((stack: string, flags: DeployFlags) => deploy(context, surroundings, stack, flags));
  group
    .command("config")
    .description("Show the final compose file, merged and with its variables filled in")
    .addOption(fileFlag())
    .option("--skip-interpolation", "leave variables as they are")
    .action(async (flags: FileFlags & { readonly skipInterpolation?: boolean }) => {
      const interpolates = flags.skipInterpolation !== true;
      const file = await loadStackFiles(
        { files: flags.composeFile, verb: "config", interpolates },
        fileDeps(context, surroundings),
      );
      context.out(writeYaml(printFile(file)));
    });
}
