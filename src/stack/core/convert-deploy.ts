import { type ApiObject, omitEmpty, told } from "./api-object.ts";
import { composeError } from "./errors.ts";
import type {
  DeploySettings,
  ReservedResources,
  RestartSettings,
  UpdateSettings,
} from "./model.ts";
import type { ServicePort } from "./ports.ts";
import { parseCpus } from "./quantities.ts";

/** The parts of a service's spec that its `deploy` section says, in docker's words when refused. */

export function convertMode({ mode = "", replicas }: DeploySettings): ApiObject {
  if (mode.startsWith("global") && replicas !== undefined && /^global(-job)?$/.test(mode)) {
    throw composeError("replicas can only be used with replicated or replicated-job mode");
  }
  switch (mode) {
    case "global-job":
      return { GlobalJob: {} };
    case "global":
      return { Global: {} };
    case "replicated-job":
      return {
        ReplicatedJob: {
          ...told("MaxConcurrent", replicas),
          ...told("TotalCompletions", replicas),
        },
      };
    case "replicated":
    case "":
      return { Replicated: told("Replicas", replicas) };
    default:
      throw composeError(`Unknown mode: ${mode}`);
  }
}

export function convertEndpoint(mode: string, ports: readonly ServicePort[]): ApiObject {
  const sorted = [...ports].sort((a, b) => (a.published ?? 0) - (b.published ?? 0));
  return omitEmpty({
    Mode: mode.toLowerCase(),
    Ports: sorted.map(port =>
      omitEmpty({
        Protocol: port.protocol,
        TargetPort: port.target,
        PublishedPort: port.published,
        PublishMode: port.mode,
      }),
    ),
  });
}

function limitsOf(said: ReservedResources): ApiObject {
  const { cpus = "" } = said;
  return omitEmpty({
    NanoCPUs: cpus === "" ? 0 : parseCpus(cpus),
    MemoryBytes: said.memory,
    Pids: said.pids,
    GenericResources: (said.generic_resources ?? []).map(({ discrete_resource_spec: spec }) =>
      spec === undefined
        ? {}
        : { DiscreteResourceSpec: omitEmpty({ Kind: spec.kind, Value: spec.value }) },
    ),
  });
}

export function convertResources({
  limits,
  reservations,
}: NonNullable<DeploySettings["resources"]>) {
  return {
    ...(limits && { Limits: limitsOf(limits) }),
    ...(reservations && { Reservations: limitsOf(reservations) }),
  };
}

export function convertRestart(
  legacy: string,
  policy: RestartSettings | undefined,
): ApiObject | undefined {
  if (policy !== undefined) {
    return {
      ...omitEmpty({ Condition: policy.condition }),
      ...told("Delay", policy.delay),
      ...told("MaxAttempts", policy.max_attempts),
      ...told("Window", policy.window),
    };
  }
  return legacyRestart(legacy);
}

function legacyRestart(said: string): ApiObject | undefined {
  const [name = "", count = ""] = said.split(/:(.*)/s);
  const format = "invalid restart policy format";
  if (said.includes(":") && name === "") {
    throw composeError(`${format}: no policy provided before colon`);
  }
  if (count !== "" && !/^[+-]?\d+$/.test(count)) {
    throw composeError(`${format}: maximum retry count must be an integer`);
  }
  switch (name) {
    case "":
    case "no":
      return undefined;
    case "always":
    case "unless-stopped":
      return { Condition: "any" };
    case "on-failure":
      return { Condition: "on-failure", MaxAttempts: Number(count) };
    default:
      throw composeError(`unknown restart policy: ${said}`);
  }
}

export function convertUpdate(said: UpdateSettings | undefined): ApiObject | undefined {
  if (said === undefined) return undefined;
  return {
    Parallelism: said.parallelism ?? 1,
    ...omitEmpty({
      Delay: said.delay,
      FailureAction: said.failure_action,
      Monitor: said.monitor,
    }),
    MaxFailureRatio: said.max_failure_ratio ?? 0,
    Order: said.order ?? "",
  };
}

export function placementOf(said: DeploySettings["placement"]): ApiObject {
  return omitEmpty({
    Constraints: said?.constraints,
    Preferences: (said?.preferences ?? []).map(({ spread = "" }) => ({
      Spread: { SpreadDescriptor: spread },
    })),
    MaxReplicas: said?.max_replicas_per_node,
  });
}
