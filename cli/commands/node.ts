import type { Command } from "commander";
import { type ApiClient, ApiError, filtersQuery } from "../client.ts";
import type { CliContext } from "../context.ts";
import { CliError } from "../errors.ts";
import { nodeColumns, taskColumns } from "../format/columns.ts";
import { inspectObjects } from "../format/inspect.ts";
import { type ListFlags, printList } from "../format/list.ts";
import { prettyNode } from "../format/pretty-node.ts";
import { nameTasks } from "../tasks.ts";
import type { ApiInfo, ApiNode, ApiTask } from "../types.ts";
import { addListFlags, collect, eachOf, parseLabels } from "./shared.ts";

interface UpdateFlags {
  readonly availability?: string;
  readonly role?: string;
  readonly labelAdd: readonly string[];
  readonly labelRm: readonly string[];
}

async function selfId(client: ApiClient): Promise<string> {
  return (await client.get<ApiInfo>("/info")).Swarm.NodeID;
}

async function resolveSelf(client: ApiClient, ref: string): Promise<string> {
  if (ref !== "self") return ref;
  const id = await selfId(client);
  // On a node of no cluster the daemon words the error better than we could.
  if (id === "") await client.get("/nodes");
  return id;
}

async function list(
  context: CliContext,
  flags: ListFlags & { readonly filter: readonly string[] },
): Promise<void> {
  const client = context.client();
  const nodes = await client.get<ApiNode[]>("/nodes", { filters: filtersQuery(flags.filter) });
  const self = flags.quiet === true ? "" : await selfId(client);
  const byHostname = [...nodes].sort((a, b) =>
    (a.Description?.Hostname ?? "").localeCompare(b.Description?.Hostname ?? "", "en", {
      numeric: true,
    }),
  );
  printList(context, byHostname, nodeColumns(self), flags, node => node.ID);
}

async function inspect(
  context: CliContext,
  refs: readonly string[],
  flags: { readonly pretty?: boolean; readonly format?: string },
): Promise<void> {
  const client = context.client();
  await inspectObjects<ApiNode>(context, refs, flags, {
    fetch: async ref => client.get(`/nodes/${encodeURIComponent(await resolveSelf(client, ref))}`),
    pretty: prettyNode,
  });
}

async function ps(
  context: CliContext,
  refs: readonly string[],
  flags: ListFlags & {
    readonly filter: readonly string[];
    readonly resolve: boolean;
    readonly trunc: boolean;
  },
): Promise<void> {
  const client = context.client();
  const tasks: ApiTask[] = [];
  for (const ref of refs.length === 0 ? ["self"] : refs) {
    const path = `/nodes/${encodeURIComponent(await resolveSelf(client, ref))}`;
    const { ID } = await client.get<ApiNode>(path);
    const filters = filtersQuery([...flags.filter, `node=${ID}`]);
    tasks.push(...(await client.get<ApiTask[]>("/tasks", { filters })));
  }
  const named = await nameTasks(client, tasks, !flags.resolve);
  const columns = taskColumns({ nowMs: context.nowMs(), noTrunc: !flags.trunc });
  printList(context, named, columns, flags, ({ task }) => task.ID);
}

/** Reads, changes and writes a node; said again once when somebody else wrote in between. */
async function change(
  client: ApiClient,
  ref: string,
  edit: (spec: ApiNode["Spec"]) => ApiNode["Spec"],
): Promise<ApiNode> {
  const path = `/nodes/${encodeURIComponent(await resolveSelf(client, ref))}`;
  for (let attempt = 0; ; attempt += 1) {
    const node = await client.get<ApiNode>(path);
    try {
      await client.post(`/nodes/${node.ID}/update`, edit(node.Spec), {
        version: node.Version.Index,
      });
      return node;
    } catch (error) {
      const raced = error instanceof ApiError && error.message.includes("update out of sequence");
      if (!raced || attempt > 0) throw error;
    }
  }
}

async function update(context: CliContext, ref: string, flags: UpdateFlags): Promise<void> {
  const added = parseLabels(flags.labelAdd);
  await change(context.client(), ref, spec => {
    const labels = { ...spec.Labels, ...added };
    for (const key of flags.labelRm) {
      if (!(key in labels)) throw new CliError(`key ${key} doesn't exist in node's labels`);
      delete labels[key];
    }
    return {
      ...spec,
      Labels: labels,
      Availability: flags.availability ?? spec.Availability,
      Role: (flags.role ?? spec.Role) as ApiNode["Spec"]["Role"],
    };
  });
  context.out(`${ref}\n`);
}

async function setRole(
  context: CliContext,
  refs: readonly string[],
  role: "manager" | "worker",
): Promise<void> {
  const client = context.client();
  await eachOf(context, refs, async ref => {
    const id = await resolveSelf(client, ref);
    const node = await client.get<ApiNode>(`/nodes/${encodeURIComponent(id)}`);
    if (node.Spec.Role === role) {
      context.out(`Node ${ref} is already a ${role}.\n`);
      return;
    }
    await change(client, ref, spec => ({ ...spec, Role: role }));
    context.out(
      role === "manager"
        ? `Node ${ref} promoted to a manager in the swarm.\n`
        : `Manager ${ref} demoted in the swarm.\n`,
    );
  });
}

async function remove(
  context: CliContext,
  refs: readonly string[],
  flags: { readonly force?: boolean },
): Promise<void> {
  await eachOf(context, refs, async ref => {
    await context.client().call("DELETE", `/nodes/${encodeURIComponent(ref)}`, {
      query: { force: flags.force === true },
    });
    context.out(`${ref}\n`);
  });
}

/** `swarmd node …`. */
export function addNodeCommands(program: Command, context: CliContext): void {
  const node = program.command("node").description("Manage the swarm's nodes");
  addListFlags(node.command("ls").alias("list").description("List nodes in the swarm")).action(
    flags => list(context, flags),
  );
  node
    .command("inspect")
    .description("Display detailed information on one or more nodes")
    .argument("<node...>")
    .option("-f, --format <template>", "format with a Go template")
    .option("--pretty", "print in a readable form")
    .action((refs: string[], flags) => inspect(context, refs, flags));
  addListFlags(node.command("ps").description("List tasks running on one or more nodes"))
    .argument("[node...]")
    .option("--no-resolve", "do not map IDs to names")
    .option("--no-trunc", "do not truncate output")
    .action((refs: string[], flags) => ps(context, refs, flags));
  node
    .command("update")
    .description("Update a node")
    .argument("<node>")
    .option("--availability <state>", "active, pause or drain")
    .option("--role <role>", "worker or manager")
    .option("--label-add <key=value>", "add or update a node label", collect, [])
    .option("--label-rm <key>", "remove a node label if it exists", collect, [])
    .action((ref: string, flags: UpdateFlags) => update(context, ref, flags));
  node
    .command("promote")
    .description("Promote one or more nodes to manager in the swarm")
    .argument("<node...>")
    .action((refs: string[]) => setRole(context, refs, "manager"));
  node
    .command("demote")
    .description("Demote one or more nodes from manager in the swarm")
    .argument("<node...>")
    .action((refs: string[]) => setRole(context, refs, "worker"));
  node
    .command("rm")
    .alias("remove")
    .description("Remove one or more nodes from the swarm")
    .argument("<node...>")
    .option("-f, --force", "force remove a node from the swarm")
    .action((refs: string[], flags) => remove(context, refs, flags));
}
