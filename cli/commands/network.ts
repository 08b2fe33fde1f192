import type { Command } from "commander";
import type { NetworkStatus } from "../../src/model/data-path-status.ts";
import { offSwitch } from "../argv.ts";
import { ApiError, filtersQuery } from "../client.ts";
import type { CliContext } from "../context.ts";
import { inspectObjects } from "../format/inspect.ts";
import { type Column, type ListFlags, printList } from "../format/list.ts";
import { type ApiNetwork, prettyNetwork } from "../format/pretty-network.ts";
import { addAttachCommands } from "./network-attach.ts";
import { networkDoctor } from "./network-doctor.ts";
import { labelText } from "./objects.ts";
import { rotateKeys } from "./rotate-keys.ts";
import { addListFlags, collect, eachOf, parseLabels } from "./shared.ts";

const COLUMNS: readonly Column<ApiNetwork>[] = [
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
  readonly auxAddress: readonly string[];
  readonly configFrom?: string;
  readonly configOnly?: boolean;
  readonly ipamDriver: string;
  readonly ipamOpt: readonly string[];
  readonly ipv4?: boolean;
  readonly ipv4Off?: boolean;
  readonly ipv6?: boolean;
  readonly scope?: string;
}

async function create(context: CliContext, name: string, flags: CreateFlags): Promise<void> {
  const auxiliary = parseLabels(flags.auxAddress);
  const Config = flags.subnet.map((Subnet, i) => ({
    Subnet,
    ...(flags.gateway[i] === undefined ? {} : { Gateway: flags.gateway[i] }),
    ...(flags.ipRange[i] === undefined ? {} : { IPRange: flags.ipRange[i] }),
    ...(i === 0 && flags.auxAddress.length > 0 ? { AuxiliaryAddresses: auxiliary } : {}),
  }));
  const isPlainIpam =
    Config.length === 0 && flags.ipamOpt.length === 0 && flags.ipamDriver === "default";
  const body = {
    Name: name,
    Driver: flags.driver,
    CheckDuplicate: true,
    Attachable: flags.attachable === true,
    Ingress: flags.ingress === true,
    Internal: flags.internal === true,
    Labels: parseLabels(flags.label),
    Options: parseLabels(flags.opt),
    ...(flags.scope === undefined ? {} : { Scope: flags.scope }),
    ...(flags.configOnly === true ? { ConfigOnly: true } : {}),
    ...(flags.configFrom === undefined ? {} : { ConfigFrom: { Network: flags.configFrom } }),
    ...(flags.ipv4Off === true ? { EnableIPv4: false } : {}),
    ...(flags.ipv6 === true ? { EnableIPv6: true } : {}),
    ...(isPlainIpam
      ? {}
      : { IPAM: { Driver: flags.ipamDriver, Config, Options: parseLabels(flags.ipamOpt) } }),
  };
  const { Id } = await context.client().post<{ readonly Id: string }>("/networks/create", body);
  context.out(`${Id}\n`);
}

async function list(
  context: CliContext,
  flags: ListFlags & { readonly filter: readonly string[]; readonly trunc: boolean },
): Promise<void> {
  const query = { filters: filtersQuery(flags.filter) };
  const networks = await context.client().get<ApiNetwork[]>("/networks", query);
  const byName = [...networks].sort((a, b) => a.Name.localeCompare(b.Name, "en"));
  const id = (network: ApiNetwork): string => (flags.trunc ? network.Id.slice(0, 12) : network.Id);
  printList(context, byName, [{ name: "ID", title: "NETWORK ID", of: id }, ...COLUMNS], flags, id);
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

function addCreateCommand(group: Command, context: CliContext): void {
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
    .option("--aux-address <name=ip>", "addresses that are taken, repeatable", collect, [])
    .option("--config-from <network>", "network to copy the configuration from")
    .option("--config-only", "create a network that is only copied from")
    .option("--ipam-driver <driver>", "IP address management driver", "default")
    .option("--ipam-opt <key=value>", "options of that driver, repeatable", collect, [])
    .option("--ipv4", "IPv4 address assignment (the default; =false is without)")
    .addOption(offSwitch("ipv4"))
    .option("--ipv6", "IPv6 address assignment")
    .option("--scope <scope>", "local, or swarm for a driver that has both")
    .action((name: string, flags: CreateFlags) => create(context, name, flags));
}

function addRemoveCommand(group: Command, context: CliContext): void {
  group
    .command("rm")
    .alias("remove")
    .description("Remove one or more networks")
    .argument("<network...>")
    .option("-f, --force", "do not fail for a network that does not exist")
    .action((refs: string[], flags: { readonly force?: boolean }) =>
      eachOf(context, refs, async ref => {
        try {
          await context.client().call("DELETE", `/networks/${encodeURIComponent(ref)}`);
        } catch (error) {
          const isGone = error instanceof ApiError && error.status === 404;
          if (flags.force === true && isGone) return;
          throw error;
        }
        context.out(`${ref}\n`);
      }),
    );
}

/** `swarmd network …`. */
export function addNetworkCommands(program: Command, context: CliContext): void {
  const group = program.command("network").description("Manage networks");
  addListFlags(group.command("ls").alias("list").description("List networks"))
    .option("--no-trunc", "do not truncate output")
    .action(flags => list(context, flags));
  addCreateCommand(group, context);
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
  addRemoveCommand(group, context);
  addAttachCommands(group, context);
  group
    .command("prune")
    .description("Remove all unused networks")
    .option("-f, --force", "nothing: there is no question to answer")
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
