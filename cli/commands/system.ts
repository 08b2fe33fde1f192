import type { Command } from "commander";
import type { CliContext } from "../context.ts";
import { compileTemplate } from "../format/template.ts";
import type { ApiInfo } from "../types.ts";

interface FormatFlags {
  readonly format?: string;
  readonly json?: boolean;
}

interface Version {
  readonly Version: string;
  readonly ApiVersion: string;
  readonly Components?: readonly { readonly Name: string; readonly Version: string }[];
  readonly [key: string]: unknown;
}

const NS_PER_S = 1e9;

/** Prints `value` as asked; true when that was all. */
function printFormatted(context: CliContext, value: unknown, flags: FormatFlags): boolean {
  if (flags.json === true || flags.format === "json") {
    context.out(`${JSON.stringify(value)}\n`);
    return true;
  }
  if (flags.format === undefined) return false;
  context.out(`${compileTemplate(flags.format)(value)}\n`);
  return true;
}

async function info(context: CliContext, flags: FormatFlags): Promise<void> {
  const value = await context.client().get<ApiInfo>("/info");
  if (printFormatted(context, value, flags)) return;
  const { Swarm } = value;
  const lines = [
    `Name: ${value.Name}`,
    `Engine Version: ${value.ServerVersion}`,
    containersLine(value),
    `CPUs: ${value["NCPU"]}`,
    `Swarm: ${Swarm.LocalNodeState}`,
  ];
  if (Swarm.LocalNodeState !== "inactive") {
    lines.push(` NodeID: ${Swarm.NodeID}`);
    if (Swarm.Error !== undefined && Swarm.Error !== "") lines.push(` Error: ${Swarm.Error}`);
    lines.push(` Is Manager: ${Swarm.ControlAvailable}`);
    if (Swarm.Cluster !== undefined) {
      const { Cluster } = Swarm;
      lines.push(
        ` ClusterID: ${Cluster.ID}`,
        ` Managers: ${Swarm.Managers}`,
        ` Nodes: ${Swarm.Nodes}`,
        ` Default Address Pool: ${(Cluster.DefaultAddrPool ?? []).join(" ")}`,
        ` SubnetSize: ${Cluster.SubnetSize}`,
        ` Data Path Port: ${Cluster.DataPathPort}`,
        " Orchestration:",
        `  Task History Retention Limit: ${Cluster.Spec.Orchestration?.TaskHistoryRetentionLimit}`,
        " Dispatcher:",
        `  Heartbeat Period: ${(Cluster.Spec.Dispatcher?.HeartbeatPeriod ?? 0) / NS_PER_S} seconds`,
      );
    }
    lines.push(` Node Address: ${Swarm.NodeAddr}`, " Manager Addresses:");
    lines.push(...(Swarm.RemoteManagers ?? []).map(manager => `  ${manager.Addr}`).sort());
  }
  context.out(`${lines.join("\n")}\n`);
}

function containersLine(value: ApiInfo): string {
  const { Containers, ContainersRunning, ContainersStopped } = value;
  return `Containers: ${Containers} (running ${ContainersRunning}, stopped ${ContainersStopped})`;
}

async function version(context: CliContext, flags: FormatFlags): Promise<void> {
  const value = await context.client().get<Version>("/version");
  if (printFormatted(context, value, flags)) return;
  const own = value.Components?.find(component => component.Name === "swarmd");
  context.out(
    `swarmd: ${own?.Version ?? "unknown"}\nEngine: ${value.Version}\nAPI: ${value.ApiVersion}\n`,
  );
}

/** `info` and `version`. */
export function addSystemCommands(program: Command, context: CliContext): void {
  const add = (name: string, help: string, run: typeof info): void => {
    program
      .command(name)
      .description(help)
      .option("-f, --format <template>", "'json' or a Go template")
      .option("--json", "print JSON")
      .action((flags: FormatFlags) => run(context, flags));
  };
  add("info", "Show this node, its cluster and its Engine", info);
  add("version", "Show the versions of swarmd and the Engine", version);
}
