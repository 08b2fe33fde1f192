import { NS_PER_MS } from "../../../src/model/defaults.ts";
import type { ServiceSpec, UpdateConfig } from "../../../src/model/service-spec.ts";
import { parseGoDurationMs } from "../../../src/orchestrator/core/policy.ts";

/** `key=value` words of a script line; a word without `=` is a key with an empty value. */
export type Words = ReadonlyMap<string, string>;

export function wordsOf(parts: readonly string[]): Words {
  return new Map(
    parts.map(part => {
      const at = part.indexOf("=");
      return at < 0 ? [part, ""] : [part.slice(0, at), part.slice(at + 1)];
    }),
  );
}

export function durationMs(text: string): number {
  const ms = parseGoDurationMs(text);
  if (ms === null) throw new Error(`not a duration: ${text}`);
  return ms;
}

function ns(words: Words, key: string): { readonly ns: number } | null {
  const text = words.get(key);
  return text === undefined ? null : { ns: durationMs(text) * NS_PER_MS };
}

function oneOf<T extends string>(text: string, allowed: readonly T[]): T {
  const found = allowed.find(value => value === text);
  if (found === undefined) throw new Error(`${text} is none of ${allowed.join(", ")}`);
  return found;
}

function updateConfig(words: Words, prefix: string): UpdateConfig | undefined {
  const get = (key: string): string | undefined => words.get(prefix + key);
  const delay = ns(words, `${prefix}delay`);
  const monitor = ns(words, `${prefix}monitor`);
  const action = get("action");
  const order = get("order");
  const config: UpdateConfig = {
    ...(get("parallelism") === undefined ? {} : { Parallelism: Number(get("parallelism")) }),
    ...(delay === null ? {} : { Delay: delay.ns }),
    ...(monitor === null ? {} : { Monitor: monitor.ns }),
    ...(action === undefined
      ? {}
      : { FailureAction: oneOf(action, ["pause", "continue", "rollback"]) }),
    ...(get("ratio") === undefined ? {} : { MaxFailureRatio: Number(get("ratio")) }),
    ...(order === undefined ? {} : { Order: oneOf(order, ["stop-first", "start-first"]) }),
  };
  return Object.keys(config).length === 0 ? undefined : config;
}

function modeOf(words: Words): NonNullable<ServiceSpec["Mode"]> {
  if (words.has("global")) return { Global: {} };
  if (words.has("global-job")) return { GlobalJob: {} };
  if (words.has("job")) {
    const [concurrent = "1", total = concurrent] = (words.get("job") ?? "").split("/");
    return {
      ReplicatedJob: { MaxConcurrent: Number(concurrent), TotalCompletions: Number(total) },
    };
  }
  return { Replicated: { Replicas: Number(words.get("replicas") ?? "1") } };
}

function portsOf(words: Words): ServiceSpec["EndpointSpec"] {
  const text = words.get("port");
  if (text === undefined) return undefined;
  const [published = "0", target = "80", mode = "ingress"] = text.split(":");
  return {
    Ports: [
      {
        Protocol: "tcp",
        TargetPort: Number(target),
        ...(published === "0" ? {} : { PublishedPort: Number(published) }),
        PublishMode: oneOf(mode, ["ingress", "host"]),
      },
    ],
  };
}

/** The service spec that the words of a script say. */
export function specOf(name: string, words: Words): ServiceSpec {
  const delay = ns(words, "restart-delay");
  const window = ns(words, "window");
  const condition = words.get("restart");
  const attempts = words.get("attempts");
  const constraints = words.get("constraint");
  const deadline = words.get("deadline");
  const backoff = words.get("backoff");
  const update = updateConfig(words, "");
  const rollback = updateConfig(words, "rollback-");
  const ports = portsOf(words);
  const memory = words.get("memory");
  const network = words.get("network");
  return {
    Name: name,
    Labels: {
      ...(deadline === undefined ? {} : { "swarmd.update.deadline": deadline }),
      ...(backoff === undefined ? {} : { "swarmd.restart.backoff": backoff }),
    },
    TaskTemplate: {
      ContainerSpec: { Image: words.get("image") ?? "app:1" },
      RestartPolicy: {
        ...(condition === undefined
          ? {}
          : { Condition: oneOf(condition, ["none", "on-failure", "any"]) }),
        ...(delay === null ? {} : { Delay: delay.ns }),
        ...(attempts === undefined ? {} : { MaxAttempts: Number(attempts) }),
        ...(window === null ? {} : { Window: window.ns }),
      },
      ...(constraints === undefined ? {} : { Placement: { Constraints: constraints.split(",") } }),
      ...(memory === undefined
        ? {}
        : { Resources: { Reservations: { MemoryBytes: Number(memory) * 2 ** 20 } } }),
      ...(network === undefined ? {} : { Networks: [{ Target: network }] }),
      ForceUpdate: Number(words.get("force") ?? "0"),
    },
    Mode: modeOf(words),
    ...(update === undefined ? {} : { UpdateConfig: update }),
    ...(rollback === undefined ? {} : { RollbackConfig: rollback }),
    ...(ports === undefined ? {} : { EndpointSpec: ports }),
  };
}
