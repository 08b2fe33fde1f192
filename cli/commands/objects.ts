import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { filtersQuery } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";
import { ago } from "../format/human.ts";
import { inspectObjects } from "../format/inspect.ts";
import { type Column, type ListFlags, printList } from "../format/list.ts";
import { addListFlags, collect, eachOf, parseLabels } from "./shared.ts";

/** A secret or a config as the API shows it. */
interface ApiObject {
  readonly ID: string;
  readonly CreatedAt: string;
  readonly UpdatedAt: string;
  readonly Spec: {
    readonly Name: string;
    readonly Labels?: Readonly<Record<string, string>>;
    readonly Data?: string;
  };
}

type Noun = "secret" | "config";
type FilterFlags = ListFlags & { readonly filter: readonly string[] };

export function labelText(labels: Readonly<Record<string, string>> | undefined | null): string {
  return Object.entries(labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .sort()
    .join(",");
}

function columns(nowMs: number): readonly Column<ApiObject>[] {
  return [
    { name: "ID", title: "ID", of: row => row.ID },
    { name: "Name", title: "NAME", of: row => row.Spec.Name },
    { name: "CreatedAt", title: "CREATED", of: row => ago(nowMs, row.CreatedAt) },
    { name: "UpdatedAt", title: "UPDATED", of: row => ago(nowMs, row.UpdatedAt) },
    { name: "Labels", title: "LABELS", of: row => labelText(row.Spec.Labels) },
  ];
}

async function list(context: CliContext, noun: Noun, flags: FilterFlags): Promise<void> {
  const query = { filters: filtersQuery(flags.filter) };
  const rows = await context.client().get<ApiObject[]>(`/${noun}s`, query);
  const byName = [...rows].sort((a, b) => a.Spec.Name.localeCompare(b.Spec.Name, "en"));
  printList(context, byName, columns(context.nowMs()), flags, row => row.ID);
}

interface CreateFlags {
  readonly label: readonly string[];
  readonly templateDriver?: string;
  readonly driver?: string;
}

/** `-` or no name reads standard input. */
async function payload(
  context: CliContext,
  noun: Noun,
  file: string | undefined,
): Promise<Uint8Array> {
  if (file === undefined || file === "-") return context.input();
  try {
    return await readFile(file);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(`Error reading content from "${file}" for the ${noun}: ${why}`);
  }
}

async function create(
  context: CliContext,
  noun: Noun,
  name: string,
  file: string | undefined,
  flags: CreateFlags,
): Promise<void> {
  const { templateDriver, driver } = flags;
  // A driver has the data, unless some is given.
  const hasData = driver === undefined || file !== undefined;
  const data = hasData ? await payload(context, noun, file) : null;
  const body = {
    Name: name,
    Labels: parseLabels(flags.label),
    ...(data === null ? {} : { Data: Buffer.from(data).toString("base64") }),
    ...(driver === undefined ? {} : { Driver: { Name: driver } }),
    ...(templateDriver === undefined ? {} : { Templating: { Name: templateDriver } }),
  };
  const { ID } = await context.client().post<{ readonly ID: string }>(`/${noun}s/create`, body);
  context.out(`${ID}\n`);
}

function pretty({ ID, Spec, CreatedAt, UpdatedAt }: ApiObject): string {
  const lines = [`ID:\t\t\t${ID}`, `Name:\t\t\t${Spec.Name}`];
  const labels = Object.entries(Spec.Labels ?? {});
  if (labels.length > 0) {
    lines.push("Labels:", ...labels.map(([key, value]) => ` - ${key}=${value}`));
  }
  lines.push(`Created at:            \t${CreatedAt}`, `Updated at:            \t${UpdatedAt}`);
  if (Spec.Data !== undefined) {
    lines.push("Data:", Buffer.from(Spec.Data, "base64").toString("utf8"));
  }
  return `${lines.join("\n")}\n`;
}

/** `swarmd secret …` and `swarmd config …`: the same verbs over two kinds of objects. */
export function addObjectCommands(program: Command, context: CliContext): void {
  for (const noun of ["secret", "config"] as const) {
    const path = (ref: string): string => `/${noun}s/${encodeURIComponent(ref)}`;
    const group = program.command(noun).description(`Manage the swarm's ${noun}s`);
    addListFlags(group.command("ls").alias("list").description(`List ${noun}s`)).action(
      (flags: FilterFlags) => list(context, noun, flags),
    );
    const createCommand = group
      .command("create")
      .description(`Create a ${noun} from a file or standard input`)
      .argument(`<${noun}>`)
      .argument("[file|-]")
      .option("-l, --label <key=value>", `${noun} labels, repeatable`, collect, [])
      .option("--template-driver <driver>", "fill placeholders in the data (golang)")
      .action((name: string, file: string | undefined, flags: CreateFlags) =>
        create(context, noun, name, file, flags),
      );
    if (noun === "secret") createCommand.option("-d, --driver <driver>", "secret driver");
    group
      .command("inspect")
      .description(`Display detailed information on one or more ${noun}s`)
      .argument(`<${noun}...>`)
      .option("-f, --format <template>", "format with a Go template")
      .option("--pretty", "print in a readable form")
      .action((refs: string[], flags) =>
        inspectObjects<ApiObject>(context, refs, flags, {
          fetch: ref => context.client().get(path(ref)),
          pretty,
        }),
      );
    group
      .command("rm")
      .alias("remove")
      .description(`Remove one or more ${noun}s`)
      .argument(`<${noun}...>`)
      .action((refs: string[]) =>
        eachOf(context, refs, async ref => {
          await context.client().call("DELETE", path(ref));
          context.out(`${ref}\n`);
        }),
      );
  }
}
