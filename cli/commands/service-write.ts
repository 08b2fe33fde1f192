import type { Command } from "commander";
import { type ApiClient, ApiError } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError, EXIT_USAGE } from "../errors.ts";
import { addCreateFlags, addUpdateFlags, type Flags, isSet, textOf } from "../service/flags.ts";
import { applyLists, createWords, updateWords } from "../service/lists.ts";
import { parseCount } from "../service/parse.ts";
import { waitForService } from "../service/progress.ts";
import {
  applyMode,
  applyScalars,
  containerOf,
  type Draft,
  setReplicas,
  splitCommand,
  taskOf,
} from "../service/spec.ts";
import type { ApiService } from "../types.ts";
import { eachOf } from "./shared.ts";

interface Written {
  readonly ID?: string;
  readonly Warnings?: readonly string[] | null;
}

export function servicePath(ref: string): string {
  return `/services/${encodeURIComponent(ref)}`;
}

function printWarnings(context: CliContext, answer: Written | undefined): void {
  for (const warning of answer?.Warnings ?? []) context.warn(warning);
}

/** The spec that the words of `service create` make. */
export async function newService(
  client: ApiClient,
  image: string,
  args: readonly string[],
  flags: Flags,
): Promise<Draft> {
  const draft: Draft = {};
  const name = textOf(flags, "name");
  if (name !== undefined) draft.Name = name;
  containerOf(draft).Image = image;
  if (args.length > 0) containerOf(draft).Args = [...args];
  applyMode(draft, flags);
  applyScalars(draft, flags);
  await applyLists(client, draft, flags, createWords(flags), false);
  return draft;
}

async function create(
  context: CliContext,
  image: string,
  args: readonly string[],
  flags: Flags,
): Promise<void> {
  const client = context.client();
  const draft = await newService(client, image, args, flags);
  const answer = await client.post<Written>("/services/create", draft);
  printWarnings(context, answer);
  context.out(`${answer.ID ?? ""}\n`);
  if (isSet(flags, "detach") || answer.ID === undefined) return;
  await waitForService(context, answer.ID, { quiet: isSet(flags, "quiet") });
}

/** Reads, edits and writes; once more when somebody else wrote in between. */
async function change(
  client: ApiClient,
  ref: string,
  edit: (draft: Draft) => Promise<void> | void,
  query: Readonly<Record<string, string>> = {},
): Promise<{ readonly service: ApiService; readonly answer: Written | undefined }> {
  for (let attempt = 0; ; attempt += 1) {
    const service = await client.get<ApiService>(servicePath(ref), { insertDefaults: false });
    const draft = structuredClone(service.Spec) as Draft;
    await edit(draft);
    try {
      const answer = await client.post<Written | undefined>(
        `/services/${service.ID}/update`,
        draft,
        { version: service.Version.Index, ...query },
      );
      return { service, answer };
    } catch (error) {
      const raced = error instanceof ApiError && error.message.includes("update out of sequence");
      if (!raced || attempt > 0) throw error;
    }
  }
}

/** Changes a spec as the words of `service update` say. */
export async function editService(client: ApiClient, draft: Draft, flags: Flags): Promise<void> {
  applyScalars(draft, flags);
  await applyLists(client, draft, flags, updateWords(flags), true);
  const image = textOf(flags, "image");
  if (image !== undefined) containerOf(draft).Image = image;
  const args = textOf(flags, "args");
  if (args !== undefined) containerOf(draft).Args = splitCommand(args);
  const replicas = textOf(flags, "replicas");
  if (replicas !== undefined) setReplicas(draft, parseCount("replicas", replicas));
  const concurrent = textOf(flags, "max-concurrent");
  if (concurrent !== undefined) {
    const job = draft.Mode?.ReplicatedJob;
    if (job === undefined) {
      throw new CliError("max-concurrent can only be used with replicated-job mode", EXIT_USAGE);
    }
    job.MaxConcurrent = parseCount("max-concurrent", concurrent);
  }
  if (isSet(flags, "force")) taskOf(draft).ForceUpdate = (taskOf(draft).ForceUpdate ?? 0) + 1;
}

const ROLLBACK_COMPANIONS = new Set(["rollback", "detach", "quiet"]);

function refuseOthersWithRollback(flags: Flags): void {
  const others = Object.entries(flags).filter(
    ([name, value]) =>
      !ROLLBACK_COMPANIONS.has(name) &&
      value !== undefined &&
      value !== true &&
      !(Array.isArray(value) && value.length === 0),
  );
  if (others.length > 0) {
    throw new CliError("other flags may not be combined with --rollback", EXIT_USAGE);
  }
}

async function update(context: CliContext, ref: string, flags: Flags): Promise<void> {
  if (isSet(flags, "rollback")) {
    refuseOthersWithRollback(flags);
    return rollback(context, ref, flags);
  }
  const client = context.client();
  const { service, answer } = await change(
    client,
    ref,
    draft => editService(client, draft, flags),
    { registryAuthFrom: "spec" },
  );
  printWarnings(context, answer);
  context.out(`${ref}\n`);
  if (!isSet(flags, "detach")) {
    await waitForService(context, service.ID, { quiet: isSet(flags, "quiet") });
  }
}

async function rollback(context: CliContext, ref: string, flags: Flags): Promise<void> {
  const { service, answer } = await change(context.client(), ref, () => undefined, {
    rollback: "previous",
  });
  printWarnings(context, answer);
  context.out(`${ref}\n`);
  if (isSet(flags, "detach")) return;
  await waitForService(context, service.ID, { quiet: isSet(flags, "quiet"), rollback: true });
}

async function scale(context: CliContext, words: readonly string[], flags: Flags): Promise<void> {
  const wanted = words.map(word => {
    const at = word.lastIndexOf("=");
    if (at <= 0) {
      throw new CliError(`invalid scale specifier "${word}": use SERVICE=REPLICAS`, EXIT_USAGE);
    }
    return { ref: word.slice(0, at), count: parseCount("replicas", word.slice(at + 1)) };
  });
  const scaled: string[] = [];
  await eachOf(
    context,
    wanted.map(({ ref }) => ref),
    async ref => {
      const count = wanted.find(item => item.ref === ref)?.count ?? 0;
      const { service, answer } = await change(context.client(), ref, draft =>
        setReplicas(draft, count),
      );
      printWarnings(context, answer);
      context.out(`${ref} scaled to ${count}\n`);
      scaled.push(service.ID);
    },
  );
  if (isSet(flags, "detach")) return;
  for (const id of scaled) await waitForService(context, id, { quiet: isSet(flags, "quiet") });
}

async function remove(context: CliContext, refs: readonly string[]): Promise<void> {
  await eachOf(context, refs, async ref => {
    await context.client().call("DELETE", servicePath(ref));
    context.out(`${ref}\n`);
  });
}

/** `service create|update|rollback|scale|rm`. */
export function addServiceWriteCommands(service: Command, context: CliContext): void {
  addCreateFlags(service.command("create").description("Create a new service"))
    .argument("<image>")
    .argument("[command...]")
    .passThroughOptions()
    .action((image: string, args: string[], flags: Flags) => create(context, image, args, flags));
  addUpdateFlags(service.command("update").description("Update a service"))
    .argument("<service>")
    .action((ref: string, flags: Flags) => update(context, ref, flags));
  service
    .command("rollback")
    .description("Revert changes to a service's configuration")
    .argument("<service>")
    .option("-d, --detach", "exit immediately instead of waiting for the service to converge")
    .option("-q, --quiet", "suppress progress output")
    .action((ref: string, flags: Flags) => rollback(context, ref, flags));
  service
    .command("scale")
    .description("Scale one or multiple replicated services")
    .argument("<service=replicas...>")
    .option("-d, --detach", "exit immediately instead of waiting for the service to converge")
    .action((words: string[], flags: Flags) => scale(context, words, flags));
  service
    .command("rm")
    .alias("remove")
    .description("Remove one or more services")
    .argument("<service...>")
    .action((refs: string[]) => remove(context, refs));
}
