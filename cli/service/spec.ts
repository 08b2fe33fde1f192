import { SERVICE_DEFAULTS } from "../../src/model/defaults.ts";
import { modeKind, type ServiceSpec, type UpdateConfig } from "../../src/model/service-spec.ts";
import { CliError, EXIT_USAGE } from "../errors.ts";
import { type Flags, isSet, listOf, switchOf, textOf } from "./flags.ts";
import {
  parseBytes,
  parseCount,
  parseCpus,
  parseDuration,
  parseInteger,
  parseRatio,
  usage,
} from "./parse.ts";

export type Mutable<T> = T extends readonly (infer Item)[]
  ? Mutable<Item>[]
  : T extends object
    ? { -readonly [K in keyof T]: Mutable<T[K]> }
    : T;

/** A spec under construction. */
export type Draft = Mutable<ServiceSpec>;
export type TaskDraft = NonNullable<Draft["TaskTemplate"]>;
export type ContainerDraft = NonNullable<TaskDraft["ContainerSpec"]>;

export function taskOf(draft: Draft): TaskDraft {
  draft.TaskTemplate ??= {};
  return draft.TaskTemplate;
}

export function containerOf(draft: Draft): ContainerDraft {
  const task = taskOf(draft);
  task.ContainerSpec ??= {};
  return task.ContainerSpec;
}

const SWITCH_FIELDS = [
  ["init", "Init"],
  ["read-only", "ReadOnly"],
  ["tty", "TTY"],
] as const;

type Setter = (draft: Draft, value: string, flag: string) => void;

function limits(draft: Draft): Mutable<{ NanoCPUs?: number; MemoryBytes?: number; Pids?: number }> {
  const task = taskOf(draft);
  task.Resources ??= {};
  task.Resources.Limits ??= {};
  return task.Resources.Limits;
}

function reservations(draft: Draft): { NanoCPUs?: number; MemoryBytes?: number } {
  const task = taskOf(draft);
  task.Resources ??= {};
  task.Resources.Reservations ??= {};
  return task.Resources.Reservations;
}

function health(draft: Draft): NonNullable<ContainerDraft["Healthcheck"]> {
  const container = containerOf(draft);
  container.Healthcheck ??= {};
  return container.Healthcheck;
}

function restart(draft: Draft): NonNullable<TaskDraft["RestartPolicy"]> {
  const task = taskOf(draft);
  task.RestartPolicy ??= {};
  return task.RestartPolicy;
}

function oneOf<T extends string>(flag: string, value: string, accepted: readonly T[]): T {
  const found = accepted.find(item => item === value);
  if (found === undefined) throw usage(flag, value, `must be one of ${accepted.join(", ")}`);
  return found;
}

/** Words of a command line, quotes respected, as a shell would split them. */
export function splitCommand(text: string): string[] {
  const words = text.match(/(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'])+/g) ?? [];
  return words.map(word =>
    word.replace(/"((?:[^"\\]|\\.)*)"|'([^']*)'/g, (_all, double?: string, single?: string) =>
      double === undefined ? (single ?? "") : double.replace(/\\(.)/g, "$1"),
    ),
  );
}

/** Flags with one value, the same for create and update. */
const SETTERS: Readonly<Record<string, Setter>> = {
  hostname: (draft, value) => {
    containerOf(draft).Hostname = value;
  },
  entrypoint: (draft, value) => {
    containerOf(draft).Command = splitCommand(value);
  },
  workdir: (draft, value) => {
    containerOf(draft).Dir = value;
  },
  user: (draft, value) => {
    containerOf(draft).User = value;
  },
  "stop-signal": (draft, value) => {
    containerOf(draft).StopSignal = value;
  },
  "stop-grace-period": (draft, value, flag) => {
    containerOf(draft).StopGracePeriod = parseDuration(flag, value);
  },
  isolation: (draft, value) => {
    containerOf(draft).Isolation = value;
  },
  "oom-score-adj": (draft, value, flag) => {
    containerOf(draft).OomScoreAdj = parseInteger(flag, value);
  },
  "limit-cpu": (draft, value, flag) => {
    limits(draft).NanoCPUs = parseCpus(flag, value);
  },
  "limit-memory": (draft, value, flag) => {
    limits(draft).MemoryBytes = parseBytes(flag, value);
  },
  "limit-pids": (draft, value, flag) => {
    limits(draft).Pids = parseCount(flag, value);
  },
  "reserve-cpu": (draft, value, flag) => {
    reservations(draft).NanoCPUs = parseCpus(flag, value);
  },
  "reserve-memory": (draft, value, flag) => {
    reservations(draft).MemoryBytes = parseBytes(flag, value);
  },
  "memory-swap": (draft, value, flag) => {
    limits(draft);
    const task = taskOf(draft);
    if (task.Resources !== undefined) {
      task.Resources.SwapBytes = value === "-1" ? -1 : parseBytes(flag, value);
    }
  },
  "memory-swappiness": (draft, value, flag) => {
    limits(draft);
    const task = taskOf(draft);
    if (task.Resources !== undefined) task.Resources.MemorySwappiness = parseInteger(flag, value);
  },
  "health-cmd": (draft, value) => {
    health(draft).Test = value === "" ? [] : ["CMD-SHELL", value];
  },
  "health-interval": (draft, value, flag) => {
    health(draft).Interval = parseDuration(flag, value);
  },
  "health-timeout": (draft, value, flag) => {
    health(draft).Timeout = parseDuration(flag, value);
  },
  "health-retries": (draft, value, flag) => {
    health(draft).Retries = parseCount(flag, value);
  },
  "health-start-period": (draft, value, flag) => {
    health(draft).StartPeriod = parseDuration(flag, value);
  },
  "health-start-interval": (draft, value, flag) => {
    health(draft).StartInterval = parseDuration(flag, value);
  },
  "endpoint-mode": (draft, value, flag) => {
    draft.EndpointSpec = { ...draft.EndpointSpec, Mode: oneOf(flag, value, ["vip", "dnsrr"]) };
  },
  "log-driver": (draft, value) => {
    taskOf(draft).LogDriver = { ...taskOf(draft).LogDriver, Name: value };
  },
  "restart-condition": (draft, value, flag) => {
    restart(draft).Condition = oneOf(flag, value, ["none", "on-failure", "any"]);
  },
  "restart-delay": (draft, value, flag) => {
    restart(draft).Delay = parseDuration(flag, value);
  },
  "restart-max-attempts": (draft, value, flag) => {
    restart(draft).MaxAttempts = parseCount(flag, value);
  },
  "restart-window": (draft, value, flag) => {
    restart(draft).Window = parseDuration(flag, value);
  },
  "replicas-max-per-node": (draft, value, flag) => {
    taskOf(draft).Placement = {
      ...taskOf(draft).Placement,
      MaxReplicas: parseCount(flag, value),
    };
  },
  "credential-spec": (draft, value, flag) => {
    const match = /^(config|file|registry):\/\/(.+)$/.exec(value);
    if (match?.[1] === undefined || match[2] === undefined) {
      throw usage(flag, value, "use config://NAME, file://NAME or registry://NAME");
    }
    const kinds = { config: "Config", file: "File", registry: "Registry" } as const;
    const kind = kinds[match[1] as keyof typeof kinds];
    containerOf(draft).Privileges = {
      ...containerOf(draft).Privileges,
      CredentialSpec: { [kind]: match[2] },
    };
  },
};

/** One setting alone would leave the others 0, and parallelism 0 means all tasks at once. */
function updateDefaults(): Mutable<UpdateConfig> {
  const { parallelism, delayNs, monitorNs, failureAction, maxFailureRatio, order } =
    SERVICE_DEFAULTS.update;
  return {
    Parallelism: parallelism,
    Delay: delayNs,
    Monitor: monitorNs,
    FailureAction: failureAction,
    MaxFailureRatio: maxFailureRatio,
    Order: order,
  };
}

function updateConfig(draft: Draft, prefix: string): Mutable<UpdateConfig> {
  if (prefix === "update") {
    draft.UpdateConfig ??= updateDefaults();
    return draft.UpdateConfig;
  }
  draft.RollbackConfig ??= updateDefaults();
  return draft.RollbackConfig;
}

function applyUpdateFlags(draft: Draft, flags: Flags, prefix: "update" | "rollback"): void {
  const given = (name: string, use: (value: string, flag: string) => void): void => {
    const flag = `${prefix}-${name}`;
    const value = textOf(flags, flag);
    if (value !== undefined) use(value, flag);
  };
  const config = (): Mutable<UpdateConfig> => updateConfig(draft, prefix);
  given("parallelism", (value, flag) => {
    config().Parallelism = parseCount(flag, value);
  });
  given("delay", (value, flag) => {
    config().Delay = parseDuration(flag, value);
  });
  given("monitor", (value, flag) => {
    config().Monitor = parseDuration(flag, value);
  });
  given("failure-action", (value, flag) => {
    const actions = ["pause", "continue", "rollback"] as const;
    config().FailureAction = oneOf(
      flag,
      value,
      prefix === "update" ? actions : actions.slice(0, 2),
    );
  });
  given("max-failure-ratio", (value, flag) => {
    config().MaxFailureRatio = parseRatio(flag, value);
  });
  given("order", (value, flag) => {
    config().Order = oneOf(flag, value, ["start-first", "stop-first"]);
  });
}

/** Applies every flag with one value, and the switches. */
export function applyScalars(draft: Draft, flags: Flags): void {
  for (const [flag, set] of Object.entries(SETTERS)) {
    const value = textOf(flags, flag);
    if (value !== undefined) set(draft, value, flag);
  }
  applyUpdateFlags(draft, flags, "update");
  applyUpdateFlags(draft, flags, "rollback");
  for (const [name, field] of SWITCH_FIELDS) {
    const value = switchOf(flags, name);
    if (value !== undefined) containerOf(draft)[field] = value;
  }
  if (isSet(flags, "no-healthcheck")) {
    const others = ["cmd", "interval", "timeout", "retries", "start-period", "start-interval"];
    if (others.some(name => textOf(flags, `health-${name}`) !== undefined)) {
      throw new CliError("--no-healthcheck conflicts with --health-* options", EXIT_USAGE);
    }
    containerOf(draft).Healthcheck = { Test: ["NONE"] };
  }
  const options = listOf(flags, "log-opt");
  if (options.length > 0) {
    const pairs = options.map(option => {
      const at = option.indexOf("=");
      return at < 0 ? [option, ""] : [option.slice(0, at), option.slice(at + 1)];
    });
    taskOf(draft).LogDriver = {
      ...taskOf(draft).LogDriver,
      Options: Object.fromEntries(pairs) as Record<string, string>,
    };
  }
}

/** `--mode`, `--replicas` and `--max-concurrent` of a new service. */
export function applyMode(draft: Draft, flags: Flags): void {
  const mode = textOf(flags, "mode") ?? "replicated";
  const replicas = textOf(flags, "replicas");
  const count = replicas === undefined ? undefined : parseCount("replicas", replicas);
  const concurrent = textOf(flags, "max-concurrent");
  if (concurrent !== undefined && mode !== "replicated-job") {
    throw new CliError("max-concurrent can only be used with replicated-job mode", EXIT_USAGE);
  }
  if (count !== undefined && (mode === "global" || mode === "global-job")) {
    throw new CliError(
      `replicas can only be used with replicated or replicated-job mode`,
      EXIT_USAGE,
    );
  }
  if (mode === "replicated")
    draft.Mode = { Replicated: count === undefined ? {} : { Replicas: count } };
  else if (mode === "global") draft.Mode = { Global: {} };
  else if (mode === "global-job") draft.Mode = { GlobalJob: {} };
  else if (mode === "replicated-job") {
    const total = count ?? 1;
    const parallel = concurrent === undefined ? total : parseCount("max-concurrent", concurrent);
    draft.Mode = { ReplicatedJob: { MaxConcurrent: parallel, TotalCompletions: total } };
  } else {
    throw new CliError(`Unknown mode: ${mode}, only replicated and global supported`, EXIT_USAGE);
  }
}

/** Sets the number of replicas of an existing service, or says why it has none. */
export function setReplicas(draft: Draft, count: number): void {
  const kind = modeKind(draft);
  if (kind === "replicated") draft.Mode = { Replicated: { Replicas: count } };
  else if (kind === "replicated-job") {
    draft.Mode = { ReplicatedJob: { ...draft.Mode?.ReplicatedJob, TotalCompletions: count } };
  } else {
    throw new CliError("scale can only be used with replicated or replicated-job mode");
  }
}
