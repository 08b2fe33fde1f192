import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { parseInteger } from "../service/parse.ts";
import { collect, parseLabels } from "./shared.ts";

interface ConnectFlags {
  readonly alias: readonly string[];
  readonly driverOpt: readonly string[];
  readonly gwPriority?: string;
  readonly ip?: string;
  readonly ip6?: string;
  readonly link: readonly string[];
  readonly linkLocalIp: readonly string[];
}

/** Docker's `EndpointSettings` with what the flags say. */
function endpoint(flags: ConnectFlags): object {
  const { gwPriority } = flags;
  const IPAMConfig = {
    ...(flags.ip === undefined ? {} : { IPv4Address: flags.ip }),
    ...(flags.ip6 === undefined ? {} : { IPv6Address: flags.ip6 }),
    ...(flags.linkLocalIp.length === 0 ? {} : { LinkLocalIPs: flags.linkLocalIp }),
  };
  return {
    ...(Object.keys(IPAMConfig).length === 0 ? {} : { IPAMConfig }),
    ...(flags.alias.length === 0 ? {} : { Aliases: flags.alias }),
    ...(flags.link.length === 0 ? {} : { Links: flags.link }),
    ...(flags.driverOpt.length === 0 ? {} : { DriverOpts: parseLabels(flags.driverOpt) }),
    ...(gwPriority === undefined ? {} : { GwPriority: parseInteger("gw-priority", gwPriority) }),
  };
}

/** `network connect` and `network disconnect`. */
export function addAttachCommands(group: Command, context: CliContext): void {
  const post = (network: string, verb: string, body: object): Promise<void> =>
    context.client().post(`/networks/${encodeURIComponent(network)}/${verb}`, body);
  group
    .command("connect")
    .description("Connect a container to a network")
    .argument("<network>")
    .argument("<container>")
    .option("--alias <name>", "name of the container on the network, repeatable", collect, [])
    .option("--driver-opt <key=value>", "driver options, repeatable", collect, [])
    .option("--gw-priority <n>", "the network with the highest has the default gateway")
    .option("--ip <address>", "IPv4 address")
    .option("--ip6 <address>", "IPv6 address")
    .option("--link <container[:alias]>", "link to another container, repeatable", collect, [])
    .option("--link-local-ip <address>", "link-local address, repeatable", collect, [])
    .action((network: string, Container: string, flags: ConnectFlags) =>
      post(network, "connect", { Container, EndpointConfig: endpoint(flags) }),
    );
  group
    .command("disconnect")
    .description("Disconnect a container from a network")
    .argument("<network>")
    .argument("<container>")
    .option("-f, --force", "even if the container cannot be asked")
    .action((network: string, Container: string, flags: { readonly force?: boolean }) =>
      post(network, "disconnect", { Container, Force: flags.force === true }),
    );
}
