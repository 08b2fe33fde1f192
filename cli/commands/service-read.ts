import type { Command } from "commander";
import { ApiError, filtersQuery } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";
import { SERVICE_COLUMNS, taskColumns } from "../format/columns.ts";
import { inspectObjects } from "../format/inspect.ts";
import { type ListFlags, printList } from "../format/list.ts";
import { prettyService } from "../format/pretty-service.ts";
import { type LogFlags, printLogs } from "../service/logs.ts";
import { nameTasks } from "../tasks.ts";
import type { ApiService, ApiTask } from "../types.ts";
import { addListFlags } from "./shared.ts";

type ServiceListFlags = ListFlags & { readonly filter: readonly string[] };
type PsFlags = ServiceListFlags & { readonly resolve: boolean; readonly trunc: boolean };

async function list(context: CliContext, flags: ServiceListFlags): Promise<void> {
  const services = await context
    .client()
    .get<ApiService[]>("/services", { filters: filtersQuery(flags.filter), status: true });
  const byName = [...services].sort((a, b) =>
    (a.Spec.Name ?? "").localeCompare(b.Spec.Name ?? "", "en", { numeric: true }),
  );
  printList(context, byName, SERVICE_COLUMNS, flags, service => service.ID.slice(0, 12));
}

async function ps(context: CliContext, refs: readonly string[], flags: PsFlags): Promise<void> {
  const client = context.client();
  const found: string[] = [];
  const missing: string[] = [];
  for (const ref of refs) {
    try {
      found.push((await client.get<ApiService>(`/services/${encodeURIComponent(ref)}`)).ID);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      missing.push(`no such service: ${ref}`);
    }
  }
  if (found.length > 0) {
    const filters = filtersQuery([...flags.filter, ...found.map(id => `service=${id}`)]);
    const tasks = await client.get<ApiTask[]>("/tasks", { filters });
    const named = await nameTasks(client, tasks, !flags.resolve);
    const columns = taskColumns({ nowMs: context.nowMs(), noTrunc: !flags.trunc });
    printList(context, named, columns, flags, ({ task }) => task.ID);
  }
  if (missing.length > 0) throw new CliError(missing.join("\n"));
}

/** `service ls|ps|inspect|logs`. */
export function addServiceReadCommands(service: Command, context: CliContext): void {
  addListFlags(service.command("ls").alias("list").description("List services")).action(
    (flags: ServiceListFlags) => list(context, flags),
  );
  addListFlags(service.command("ps").description("List the tasks of one or more services"))
    .argument("<service...>")
    .option("--no-resolve", "do not map IDs to names")
    .option("--no-trunc", "do not truncate output")
    .action((refs: string[], flags: PsFlags) => ps(context, refs, flags));
  service
    .command("inspect")
    .description("Display detailed information on one or more services")
    .argument("<service...>")
    .option("-f, --format <template>", "format with a Go template")
    .option("--pretty", "print in a readable form")
    .action((refs: string[], flags) =>
      inspectObjects<ApiService>(context, refs, flags, {
        fetch: ref =>
          context
            .client()
            .get(`/services/${encodeURIComponent(ref)}`, { insertDefaults: flags.pretty === true }),
        pretty: prettyService,
      }),
    );
  service
    .command("logs")
    .description("Fetch the logs of a service or task")
    .argument("<service|task>")
    .option("--details", "show extra details provided to logs")
    .option("-f, --follow", "follow log output")
    .option("--no-resolve", "do not map IDs to names in output")
    .option("--no-task-ids", "do not include task IDs in output")
    .option("--no-trunc", "do not truncate output")
    .option("--raw", "do not neatly format logs")
    .option("--since <time>", "show logs since timestamp or relative (e.g. 42m)")
    .option("-n, --tail <n>", "number of lines to show from the end of the logs", "all")
    .option("-t, --timestamps", "show timestamps")
    .action((ref: string, flags: LogFlags) => printLogs(context, ref, flags));
}
