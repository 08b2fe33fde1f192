import type { Command } from "commander";
import type { NetworkStatus } from "../../src/model/data-path-status.ts";
import { filtersQuery } from "../client.ts";
import type { CliContext } from "../context.ts";
import { inspectObjects } from "../format/inspect.ts";
import { type Column, type ListFlags, printList } from "../format/list.ts";
import { type ApiNetwork, prettyNetwork } from "../format/pretty-network.ts";
import { networkDoctor } from "./network-doctor.ts";
import { labelText } from "./objects.ts";
import { rotateKeys } from "./rotate-keys.ts";
import { addListFlags, collect, eachOf, parseLabels } from "./shared.ts";

const COLUMNS: readonly Column<ApiNetwork>[] = [
  { name: "ID", title: "NETWORK ID", of: network => network.Id.slice(0, 12) },
  { name: "Name", title: "NAME", of: network => network.Name },
  { name: "Driver", title: "DRIVER", of: network => network.Driver },
  { name: "Scope", title: "SCOPE", of: network => network.Scope },
  { name: "Labels", title: "LABELS", of: network => labelText(network.Labels) },
];

interface CreateFlags {
  readonly driver: string;
  readonly attachable?: boolean;
  readonly ingress?: boolean;
  readonly internal?: boolean;
  readonly subnet: readonly string[];
  readonly gateway: readonly string[];
  readonly ipRange: readonly string[];
  readonly label: readonly string[];
  readonly opt: readonly string[];
}

async function create(context: CliContext, name: string, flags: CreateFlags): Promise<void> {
  const Config = flags.subnet.map((Subnet, i) => ({
    Subnet,
    ...(flags.gateway[i] === undefined ? {} : { Gateway: flags.gateway[i] }),
    ...(flags.ipRange[i] === undefined ? {} : { IPRange: flags.ipRange[i] }),
  }));
  const body = {
    Name: name,
    Driver: flags.driver,
    CheckDuplicate: true,
    Attachable: flags.attachable === true,
    Ingress: flags.ingress === true,
    Internal: flags.internal === true,
    Labels: parseLabels(flags.label),
    Options: parseLabels(flags.opt),
    ...(Config.length === 0 ? {} : { IPAM: { Driver: "default", Config } }),
  };
  const { Id } = await context.client().post<{ readonly Id: string }>("/networks/create", body);
  context.out(`${Id}\n`);
}

async function list(
  context: CliContext,
  flags: ListFlags & { readonly filter: readonly string[] },
): Promise<void> {
  const query = { filters: filtersQuery(flags.filter) };
  const networks = await context.client().get<ApiNetwork[]>("/networks", query);
  const byName = [...networks].sort((a, b) => a.Name.localeCompare(b.Name, "en"));
  printList(context, byName, COLUMNS, flags, network => network.Id.slice(0, 12));
}

async function prune(context: CliContext, flags: { filter: readonly string[] }): Promise<void> {
  const { NetworksDeleted } = await context
    .client()
    .post<{ readonly NetworksDeleted: readonly string[] | null }>("/networks/prune", undefined, {
      filters: filtersQuery(flags.filter),
    });
  for (const name of NetworksDeleted ?? []) context.out(`${name}\n`);
}

/** The Engine's view, and of a network of the cluster what every node has of it. */
async function inspected(
  context: CliContext,
  ref: string,
  verbose: boolean | undefined,
): Promise<ApiNetwork> {
  const client = context.client();
  const network = await client.get<ApiNetwork>(`/networks/${encodeURIComponent(ref)}`, { verbose });
  if (network.Scope !== "swarm" || network.Driver !== "overlay") return network;
  const path = `/swarmd/v1/networks/${encodeURIComponent(network.Id)}`;
  return { ...network, DataPath: await client.get<NetworkStatus>(path) };
}

/** `swarmd network …`. */
export function addNetworkCommands(program: Command, context: CliContext): void {
  const group = program.command("network").description("Manage networks");
  const path = (ref: string): string => `/networks/${encodeURIComponent(ref)}`;
  addListFlags(group.command("ls").alias("list").description("List networks")).action(flags =>
    list(context, flags),
  );
  group
    .command("create")
    .description("Create a network of the swarm")
    .argument("<network>")
    .option("-d, --driver <driver>", "driver to manage the network", "overlay")
    .option("--attachable", "let containers that are no tasks attach")
    .option("--ingress", "create the swarm's routing-mesh network")
    .option("--internal", "restrict external access to the network")
    .option("--subnet <cidr>", "subnet, repeatable", collect, [])
    .option("--gateway <ip>", "gateway of the subnet, repeatable", collect, [])
    .option("--ip-range <cidr>", "addresses of the subnet to use, repeatable", collect, [])
    .option("--label <key=value>", "labels, repeatable", collect, [])
    .option("-o, --opt <key=value>", "driver options, repeatable", collect, [])
    .action((name: string, flags: CreateFlags) => create(context, name, flags));
  group
    .command("inspect")
    .description("Display networks in detail: endpoints by node, and what each node programmed")
    .argument("<network...>")
    .option("-f, --format <template>", "format with a Go template")
    .option("--pretty", "print in a readable form")
    .option("-v, --verbose", "show the services on it")
    .action((refs: string[], flags) =>
      inspectObjects<ApiNetwork>(context, refs, flags, {
        fetch: ref => inspected(context, ref, flags.verbose),
        pretty: network => prettyNetwork(network, context.nowMs()),
      }),
    );
  group
    .command("rm")
    .alias("remove")
    .description("Remove one or more networks")
    .argument("<network...>")
    .action((refs: string[]) =>
      eachOf(context, refs, async ref => {
        await context.client().call("DELETE", path(ref));
        context.out(`${ref}\n`);
      }),
    );
  group
    .command("prune")
    .description("Remove all unused networks")
    .option("--filter <key=value>", "which of them, repeatable", collect, [])
    .action(flags => prune(context, flags));
  group
    .command("doctor")
    .description("Probe the ways between all hosts: control port, VXLAN, WireGuard, path MTU")
    .option("--json", "print the whole report as JSON")
    .action(flags => networkDoctor(context, flags));
  group
    .command("rotate-keys")
    .description("Give encrypted networks new keys now, without losing a packet")
    .option("-d, --detach", "do not wait until every host uses them")
    .action(flags => rotateKeys(context, flags));
}
