import type { Command } from "commander";
import { isTerminal, type TaskState } from "../../src/model/task-state.ts";
import { NAMESPACE_LABEL as NAMESPACE } from "../../src/stack/core/names.ts";
import { offSwitch } from "../argv.ts";
import { type ApiClient, ApiError, filtersQuery } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";
import { SERVICE_COLUMNS, taskColumns } from "../format/columns.ts";
import { type Column, type ListFlags, printList } from "../format/list.ts";
import { nameTasks } from "../tasks.ts";
import type { ApiService, ApiTask } from "../types.ts";
import { addListFlags, eachOf } from "./shared.ts";
import { addStackFileCommands } from "./stack-deploy.ts";

const GONE_POLL_MS = 250;
/** Docker's order of removal. */
const KINDS = ["services", "secrets", "configs", "networks"] as const;

type FilterFlags = ListFlags & { readonly filter: readonly string[] };
type PsFlags = FilterFlags & { readonly resolve: boolean; readonly trunc: boolean };

function ofStack(stack: string, more: readonly string[] = []): string | undefined {
  return filtersQuery([...more, `label=${NAMESPACE}=${stack}`]);
}

interface StackRow {
  readonly name: string;
  readonly services: number;
}

const STACK_COLUMNS: readonly Column<StackRow>[] = [
  { name: "Name", title: "NAME", of: stack => stack.name },
  { name: "Services", title: "SERVICES", of: stack => String(stack.services) },
];

async function list(context: CliContext, flags: ListFlags): Promise<void> {
  const filters = filtersQuery([`label=${NAMESPACE}`]);
  const services = await context.client().get<ApiService[]>("/services", { filters });
  const counts = new Map<string, number>();
  for (const { Spec } of services) {
    const name = Spec.Labels?.[NAMESPACE] ?? "";
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const rows = [...counts].map(([name, count]) => ({ name, services: count }));
  rows.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  printList(context, rows, STACK_COLUMNS, flags, stack => stack.name);
}

async function services(context: CliContext, stack: string, flags: FilterFlags): Promise<void> {
  const query = { filters: ofStack(stack, flags.filter), status: true };
  const found = await context.client().get<ApiService[]>("/services", query);
  if (found.length === 0) throw new CliError(`Nothing found in stack: ${stack}`);
  const byName = [...found].sort((a, b) => (a.Spec.Name ?? "").localeCompare(b.Spec.Name ?? ""));
  printList(context, byName, SERVICE_COLUMNS, flags, service => service.ID.slice(0, 12));
}

async function ps(context: CliContext, stack: string, flags: PsFlags): Promise<void> {
  const client = context.client();
  const filters = ofStack(stack, flags.filter);
  const tasks = await client.get<ApiTask[]>("/tasks", { filters });
  if (tasks.length === 0) throw new CliError(`nothing found in stack: ${stack}`);
  const named = await nameTasks(client, tasks, !flags.resolve);
  const columns = taskColumns({ nowMs: context.nowMs(), noTrunc: !flags.trunc });
  printList(context, named, columns, flags, ({ task }) => task.ID);
}

interface Member {
  readonly ID?: string;
  readonly Id?: string;
  readonly Name?: string;
  readonly Spec?: { readonly Name?: string };
}

async function remove(
  context: CliContext,
  stacks: readonly string[],
  waits: boolean,
): Promise<void> {
  await eachOf(context, stacks, async stack => {
    const removed = await removeStack(context, stack);
    if (removed === 0) context.warn(`Nothing found in stack: ${stack}`);
    else if (waits) await untilGone(context, stack);
  });
}

/** A service's tasks outlive it until their nodes have stopped them. */
async function untilGone(context: CliContext, stack: string): Promise<void> {
  const query = { filters: ofStack(stack) };
  const live = async (): Promise<boolean> => {
    const tasks = await context.client().get<ApiTask[]>("/tasks", query);
    return tasks.some(({ Status }) => !isTerminal(Status.State as TaskState));
  };
  while (!context.signal.aborted && (await live())) await context.sleep(GONE_POLL_MS);
}

/** What cannot be removed is told, and the rest goes; the members found. */
async function removeStack(context: CliContext, stack: string): Promise<number> {
  const client = context.client();
  let [found, failed] = [0, 0];
  for (const kind of KINDS) {
    const what = kind.slice(0, -1);
    for (const member of await membersOf(client, kind, stack)) {
      const id = member.ID ?? member.Id;
      found += 1;
      context.out(`Removing ${what} ${member.Spec?.Name ?? member.Name}\n`);
      try {
        await client.call("DELETE", `/${kind}/${id}`);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        context.warn(`Failed to remove ${what} ${id}: ${error.message}`);
        failed += 1;
      }
    }
  }
  if (failed > 0) throw new CliError(`failed to remove some resources from stack: ${stack}`);
  return found;
}

function membersOf(client: ApiClient, kind: string, stack: string): Promise<readonly Member[]> {
  return client.get<Member[]>(`/${kind}`, { filters: ofStack(stack) });
}

/** `swarmd stack …`. */
export function addStackCommands(program: Command, context: CliContext): void {
  const group = program.command("stack").description("Manage stacks of services");
  addListFlags(group.command("ls").alias("list").description("List stacks")).action(
    (flags: ListFlags) => list(context, flags),
  );
  addListFlags(group.command("services").description("List the services of a stack"))
    .argument("<stack>")
    .action((stack: string, flags: FilterFlags) => services(context, stack, flags));
  addListFlags(group.command("ps").description("List the tasks of a stack"))
    .argument("<stack>")
    .option("--no-resolve", "do not map IDs to names")
    .option("--no-trunc", "do not truncate output")
    .action((stack: string, flags: PsFlags) => ps(context, stack, flags));
  group
    .command("rm")
    .aliases(["remove", "down"])
    .description("Remove one or more stacks")
    .argument("<stack...>")
    .option("-d, --detach", "do not wait until the tasks are gone (the default; =false waits)")
    .addOption(offSwitch("detach"))
    .action((stacks: string[], flags: { readonly detachOff?: boolean }) =>
      remove(context, stacks, flags.detachOff === true),
    );
  addStackFileCommands(group, context);
}
