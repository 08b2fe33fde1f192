import { UsageError } from "./errors.ts";
import { MAX_MANAGERS, MAX_WORKERS } from "./plan.ts";

/** The lab's command line, as data. */

type Values = Readonly<Record<string, string | true | readonly string[]>>;

export interface Command {
  readonly verb: string;
  /** Host names, in the order of the verb's usage. */
  readonly hosts: readonly string[];
  readonly flags: Values;
  /** What follows `--` (verb `exec` only). */
  readonly rest: readonly string[];
}

interface FlagSpec {
  readonly takes: "nothing" | "text" | "count" | "list";
  readonly min?: number;
  readonly max?: number;
  readonly help: string;
}

export interface VerbSpec {
  readonly hosts: readonly string[];
  readonly flags?: Readonly<Record<string, FlagSpec>>;
  readonly rest?: true;
  readonly help: string;
}

const host = (help: string): VerbSpec => ({ hosts: ["HOST"], help });

const MAX_LOG_LINES = 1_000_000;

export const VERBS: Readonly<Record<string, VerbSpec>> = {
  up: {
    hosts: [],
    flags: {
      managers: { takes: "count", min: 1, max: MAX_MANAGERS, help: "number of managers (3)" },
      workers: { takes: "count", min: 0, max: MAX_WORKERS, help: "number of workers (2)" },
      bare: { takes: "nothing", help: "leave the daemons running in no cluster" },
      "engines-only": { takes: "nothing", help: "start the Engines, no swarmd" },
      "engine-arg": { takes: "list", help: "one more argument for every dockerd; repeatable" },
      "daemon-arg": { takes: "list", help: "one more argument for every swarmd; repeatable" },
    },
    help: "start hosts, Engines and daemons, and form the cluster",
  },
  down: { hosts: [], help: "end everything and leave nothing" },
  status: {
    hosts: [],
    flags: { json: { takes: "nothing", help: "as JSON" } },
    help: "show every host",
  },
  exec: { hosts: ["HOST"], rest: true, help: "run a command on the host" },
  kill: host("SIGKILL swarmd"),
  start: host("start swarmd"),
  stop: host("SIGTERM swarmd and wait until it has ended"),
  pause: host("SIGSTOP swarmd"),
  resume: host("SIGCONT swarmd"),
  cut: host("take the host's network link away"),
  heal: host("give the link back"),
  partition: {
    hosts: ["A", "B"],
    flags: { "one-way": { takes: "nothing", help: "only packets from A to B are lost" } },
    help: "lose every packet between two hosts",
  },
  unpartition: { hosts: ["A", "B"], help: "undo partition, both ways" },
  poweroff: host("end everything on the host at once; its disk stays"),
  poweron: host("boot the host again"),
  "stop-engine": host("SIGTERM dockerd and wait until it has ended"),
  "start-engine": host("start dockerd"),
  "restart-engine": host("stop, then start dockerd"),
  logs: {
    hosts: ["HOST"],
    flags: {
      follow: { takes: "nothing", help: "go on as the log grows" },
      lines: { takes: "count", min: 0, max: MAX_LOG_LINES, help: "only the last N lines" },
      engine: { takes: "nothing", help: "dockerd's log" },
    },
    help: "show swarmd's log",
  },
};

const SHORT: Readonly<Record<string, string>> = { "-f": "--follow", "-n": "--lines" };

/** Reads the arguments after `lab`. Throws UsageError. */
export function parseArgs(argv: readonly string[]): Command {
  const verb = argv[0];
  if (verb === undefined) throw new UsageError("no verb given");
  const spec = Object.hasOwn(VERBS, verb) ? VERBS[verb] : undefined;
  if (spec === undefined) throw new UsageError(`unknown verb "${verb}"`);
  const dashes = argv.indexOf("--");
  const own = dashes < 0 ? argv.slice(1) : argv.slice(1, dashes);
  const rest = dashes < 0 ? [] : argv.slice(dashes + 1);
  if (spec.rest !== true && dashes >= 0) throw new UsageError(`${verb} takes no "--"`);
  const { hosts, flags } = parseOwn(verb, spec, own);
  if (hosts.length !== spec.hosts.length) {
    const wanted = spec.hosts.length === 0 ? "no host" : spec.hosts.join(" and ");
    throw new UsageError(`${verb} takes ${wanted}, ${hosts.length} given`);
  }
  if (spec.rest === true && rest.length === 0) {
    throw new UsageError(`${verb} needs a command: ${verb} HOST -- COMMAND`);
  }
  return { verb, hosts, flags, rest };
}

function parseOwn(
  verb: string,
  spec: VerbSpec,
  args: readonly string[],
): { hosts: string[]; flags: Values } {
  const hosts: string[] = [];
  const flags: Record<string, string | true | string[]> = {};
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    if (!arg.startsWith("-")) {
      hosts.push(arg);
      continue;
    }
    const [name, inline] = splitFlag(SHORT[arg] ?? arg);
    const flag = spec.flags?.[name];
    if (flag === undefined) throw new UsageError(`${verb} has no flag ${arg}`);
    if (flag.takes === "nothing") {
      if (inline !== undefined) throw new UsageError(`--${name} takes no value`);
      flags[name] = true;
      continue;
    }
    const value = inline ?? args[++i];
    if (value === undefined) throw new UsageError(`--${name} needs a value`);
    flags[name] = flag.takes === "list" ? addTo(flags[name], value) : checked(name, flag, value);
  }
  return { hosts, flags };
}

function splitFlag(arg: string): [name: string, value: string | undefined] {
  const body = arg.replace(/^--?/, "");
  const equals = body.indexOf("=");
  return equals < 0 ? [body, undefined] : [body.slice(0, equals), body.slice(equals + 1)];
}

function addTo(list: string | true | string[] | undefined, value: string): string[] {
  return Array.isArray(list) ? [...list, value] : [value];
}

function checked(name: string, flag: FlagSpec, value: string): string {
  if (flag.takes !== "count") return value;
  const min = flag.min ?? 0;
  const max = flag.max ?? Number.MAX_SAFE_INTEGER;
  const count = /^[0-9]+$/.test(value) ? Number(value) : Number.NaN;
  if (count >= min && count <= max) return value;
  throw new UsageError(`--${name} must be a whole number from ${min} to ${max}, not "${value}"`);
}

export function countFlag(flags: Values, name: string, fallback: number): number {
  const value = flags[name];
  return typeof value === "string" ? Number(value) : fallback;
}

export function listFlag(flags: Values, name: string): readonly string[] {
  const value = flags[name];
  return value !== undefined && value !== true && typeof value !== "string" ? value : [];
}

export function usage(): string {
  const lines = Object.entries(VERBS).flatMap(([verb, spec]) => {
    const words = [verb, ...spec.hosts, ...(spec.rest === true ? ["--", "COMMAND"] : [])];
    const flags = Object.entries(spec.flags ?? {}).map(
      ([name, flag]) =>
        `      --${name}${flag.takes === "nothing" ? "" : " X"}`.padEnd(30) + flag.help,
    );
    return [`  ${words.join(" ")}`.padEnd(30) + spec.help, ...flags];
  });
  return ["usage: npm run lab -- VERB", "", ...lines].join("\n");
}
