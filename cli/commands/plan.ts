import type { Command } from "commander";
import type { ServicePlan } from "../../src/model/service-plan.ts";
import type { CliContext } from "../context.ts";
import { CliError, EXIT_USAGE } from "../errors.ts";
import { formatTable } from "../format/table.ts";
import { addCreateFlags, addUpdateFlags, type Flags, isSet } from "../service/flags.ts";
import type { Draft } from "../service/spec.ts";
import type { ApiService } from "../types.ts";
import { editService, newService, servicePath } from "./service-write.ts";

async function planCreate(
  context: CliContext,
  image: string,
  args: readonly string[],
  flags: Flags,
): Promise<void> {
  await tell(context, await newService(context.client(), image, args, flags), {}, flags);
}

async function planUpdate(context: CliContext, ref: string, flags: Flags): Promise<void> {
  if (isSet(flags, "rollback")) {
    throw new CliError("--rollback cannot be planned: its spec is not the one given", EXIT_USAGE);
  }
  const client = context.client();
  const service = await client.get<ApiService>(servicePath(ref), { insertDefaults: false });
  const draft = structuredClone(service.Spec) as Draft;
  await editService(client, draft, flags);
  await tell(context, draft, { service: service.ID }, flags);
}

/** Exit code 1 when a task would find no node. */
async function tell(
  context: CliContext,
  draft: Draft,
  query: { readonly service?: string },
  flags: Flags,
): Promise<void> {
  const plan = await context.client().post<ServicePlan>("/swarmd/v1/plan", draft, query);
  context.out(isSet(flags, "json") ? `${JSON.stringify(plan)}\n` : planText(plan));
  const waiting = plan.waiting.reduce((sum, { tasks }) => sum + tasks, 0);
  if (waiting > 0) throw new CliError(`${countOf(waiting)} would wait`);
}

/** The plan as a person reads it. */
export function planText({ nodes, waiting, unfinished }: ServicePlan): string {
  const rows = nodes.map(({ hostname, kept, added, removed }) =>
    [hostname, kept, added, removed].map(String),
  );
  const table = formatTable(["NODE", "KEPT", "NEW", "REMOVED"], rows);
  const lines = waiting.map(({ tasks, reason, nodes: meant }) => {
    const where = meant.length === 0 ? "" : ` (${meant.join(", ")})`;
    return `${countOf(tasks)}${where}: ${reason}\n`;
  });
  if (unfinished) lines.push("the update would not go on until these tasks have a node\n");
  return [table, ...lines].join("");
}

function countOf(tasks: number): string {
  return tasks === 1 ? "1 task" : `${tasks} tasks`;
}

/** `plan create|update`: the flags of `service create|update`, and nothing is changed. */
export function addPlanCommands(program: Command, context: CliContext): void {
  const plan = program
    .command("plan")
    .description("Show where the tasks of a service would go, without changing anything");
  addCreateFlags(plan.command("create").description("Plan the creation of a service"))
    .option("--json", "the plan as JSON")
    .argument("<image>")
    .argument("[command...]")
    .passThroughOptions()
    .action((image: string, args: string[], flags: Flags) =>
      planCreate(context, image, args, flags),
    );
  addUpdateFlags(plan.command("update").description("Plan the update of a service"))
    .option("--json", "the plan as JSON")
    .argument("<service>")
    .action((ref: string, flags: Flags) => planUpdate(context, ref, flags));
}
