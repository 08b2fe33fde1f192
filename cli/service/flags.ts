import type { Command } from "commander";
import { offSwitch } from "../argv.ts";
import { collect } from "../commands/shared.ts";

/** What commander hands over: text, repeated text, or a switch; absent when not said. */
export type Flags = Readonly<Record<string, string | readonly string[] | boolean | undefined>>;

/** commander's key of a flag: `limit-cpu` is `limitCpu`. */
function keyOf(name: string): string {
  return name.replace(/-([a-z])/g, (_all, letter: string) => letter.toUpperCase());
}

export function textOf(flags: Flags, name: string): string | undefined {
  const value = flags[keyOf(name)];
  return typeof value === "string" ? value : undefined;
}

export function listOf(flags: Flags, name: string): readonly string[] {
  const value = flags[keyOf(name)];
  return Array.isArray(value) ? value : [];
}

/** A switch that is a field of the spec: true, false, or absent when not said. */
export function switchOf(flags: Flags, name: (typeof SPEC_SWITCHES)[number]): boolean | undefined {
  if (isSet(flags, `${name}-off`)) return false;
  return isSet(flags, name) ? true : undefined;
}

/** A switch; commander keeps `--no-x` as `x: false`. */
export function isSet(flags: Flags, name: string): boolean {
  return name.startsWith("no-")
    ? flags[keyOf(name.slice("no-".length))] === false
    : flags[keyOf(name)] === true;
}

/** One flag: its name, the placeholder of its value (empty = a switch), and its help. */
type FlagRow = readonly [name: string, value: string, help: string];

const TEXT: readonly FlagRow[] = [
  ["hostname", "string", "container hostname, may be a template"],
  ["entrypoint", "command", "overwrite the default ENTRYPOINT of the image"],
  ["workdir", "path", "working directory inside the container"],
  ["user", "user", "username or UID (format: <name|uid>[:<group|gid>])"],
  ["stop-signal", "signal", "signal to stop the container"],
  ["stop-grace-period", "duration", "time to wait before force killing a container (default 10s)"],
  ["isolation", "name", "service container isolation mode"],
  ["credential-spec", "spec", "credential spec for managed service account"],
  ["oom-score-adj", "n", "tune host's OOM preferences (-1000 to 1000)"],
  ["limit-cpu", "cpus", "limit CPUs"],
  ["limit-memory", "bytes", "limit memory"],
  ["limit-pids", "n", "limit maximum number of processes (0 = unlimited)"],
  ["memory-swap", "bytes", "swap bytes (-1 for unlimited)"],
  ["memory-swappiness", "n", "tune memory swappiness (0-100), -1 to reset"],
  ["reserve-cpu", "cpus", "reserve CPUs"],
  ["reserve-memory", "bytes", "reserve memory"],
  ["health-cmd", "command", "command to run to check health"],
  ["health-interval", "duration", "time between running the check"],
  ["health-timeout", "duration", "maximum time to allow one check to run"],
  ["health-retries", "n", "consecutive failures needed to report unhealthy"],
  ["health-start-period", "duration", "start period before counting retries towards unstable"],
  ["health-start-interval", "duration", "time between checks during the start period"],
  ["endpoint-mode", "mode", "endpoint mode: vip or dnsrr"],
  ["log-driver", "name", "logging driver for the service"],
  ["restart-condition", "condition", "none, on-failure or any (default any)"],
  ["restart-delay", "duration", "delay between restart attempts (default 5s)"],
  ["restart-max-attempts", "n", "maximum number of restarts before giving up"],
  ["restart-window", "duration", "window used to evaluate the restart policy"],
  ["replicas", "n", "number of tasks"],
  ["replicas-max-per-node", "n", "maximum number of tasks per node (0 = unlimited)"],
  ["max-concurrent", "n", "number of job tasks to run concurrently"],
  ["update-parallelism", "n", "tasks updated at once (0 = all, default 1)"],
  ["update-delay", "duration", "delay between updates (default 0s)"],
  ["update-monitor", "duration", "time after each task update to watch for failure (default 5s)"],
  ["update-failure-action", "action", "pause, continue or rollback (default pause)"],
  ["update-max-failure-ratio", "ratio", "failure rate to tolerate during an update (default 0)"],
  ["update-order", "order", "start-first or stop-first (default stop-first)"],
  ["rollback-parallelism", "n", "tasks rolled back at once (0 = all, default 1)"],
  ["rollback-delay", "duration", "delay between task rollbacks (default 0s)"],
  ["rollback-monitor", "duration", "time after each task rollback to watch for failure"],
  ["rollback-failure-action", "action", "pause or continue (default pause)"],
  ["rollback-max-failure-ratio", "ratio", "failure rate to tolerate during a rollback (default 0)"],
  ["rollback-order", "order", "start-first or stop-first (default stop-first)"],
];

const SWITCHES: readonly FlagRow[] = [
  ["init", "", "use an init inside each container to forward signals and reap processes"],
  ["read-only", "", "mount the container's root filesystem as read only"],
  ["tty", "", "allocate a pseudo-TTY"],
  ["no-healthcheck", "", "disable any container-specified HEALTHCHECK"],
  ["no-resolve-image", "", "do not query the registry to resolve image digest"],
  ["with-registry-auth", "", "send registry authentication details to swarm agents"],
];

export const SPEC_SWITCHES = ["init", "read-only", "tty"] as const;

/** Repeatable flags; `update` has each as NAME-add and NAME-rm. */
const LISTS: readonly FlagRow[] = [
  ["label", "key=value", "service labels"],
  ["container-label", "key=value", "container labels"],
  ["env", "KEY=value", "environment variables"],
  ["group", "group", "supplementary user groups for the container"],
  ["mount", "mount", "attach a filesystem mount to the service"],
  ["cap", "capability", "Linux capabilities"],
  ["sysctl", "key=value", "sysctl options"],
  ["ulimit", "name=soft[:hard]", "ulimit options"],
  ["generic-resource", "kind=value", "user defined resources"],
  ["constraint", "expression", "placement constraints"],
  ["placement-pref", "spread=label", "placement preferences"],
  ["network", "network", "network attachments"],
  ["publish", "port", "publish a port"],
  ["dns", "address", "custom DNS servers"],
  ["dns-option", "option", "DNS options"],
  ["dns-search", "domain", "custom DNS search domains"],
  ["host", "host:ip", "custom host-to-IP mappings"],
  ["secret", "secret", "secrets to expose to the service"],
  ["config", "config", "configurations to expose to the service"],
];

const SHORT: Readonly<Record<string, string>> = {
  workdir: "-w, ",
  user: "-u, ",
  tty: "-t, ",
  label: "-l, ",
  env: "-e, ",
  publish: "-p, ",
};

function addRows(command: Command, rows: readonly FlagRow[], list: boolean): Command {
  for (const [name, value, help] of rows) {
    const words = `${SHORT[name] ?? ""}--${name}${value === "" ? "" : ` <${value}>`}`;
    if (list) command.option(words, help, collect, []);
    else command.option(words, help);
  }
  return command;
}

function addSwitches(command: Command): void {
  addRows(command, SWITCHES, false);
  for (const name of SPEC_SWITCHES) command.addOption(offSwitch(name));
}

/** Flags of `service create`. */
export function addCreateFlags(command: Command): Command {
  addRows(command, TEXT, false);
  addSwitches(command);
  addRows(
    command,
    LISTS.filter(([name]) => name !== "cap"),
    true,
  );
  return addRows(
    command
      .option("--name <name>", "service name")
      .option("--mode <mode>", "replicated, global, replicated-job or global-job")
      .option("-d, --detach", "exit immediately instead of waiting for the service to converge")
      .option("-q, --quiet", "suppress progress output"),
    [
      ["env-file", "file", "read in a file of environment variables"],
      ["log-opt", "key=value", "logging driver options"],
      ["cap-add", "capability", "add Linux capabilities"],
      ["cap-drop", "capability", "drop Linux capabilities"],
    ],
    true,
  );
}

/** Flags of `service update`. */
export function addUpdateFlags(command: Command): Command {
  addRows(command, TEXT, false);
  addSwitches(command);
  const pairs = LISTS.flatMap(([name, value, help]): FlagRow[] => [
    [`${name}-add`, value, `add or update ${help}`],
    [name === "cap" ? "cap-drop" : `${name}-rm`, value, `remove ${help}`],
  ]);
  addRows(command, pairs, true);
  return addRows(
    command
      .option("--image <image>", "service image tag")
      .option("--args <command>", "service command args")
      .option("--force", "force update even if no changes require it")
      .option("--rollback", "rollback to previous specification")
      .option("-d, --detach", "exit immediately instead of waiting for the service to converge")
      .option("-q, --quiet", "suppress progress output"),
    [["log-opt", "key=value", "logging driver options"]],
    true,
  );
}
