import { NS_PER_S, SERVICE_DEFAULTS } from "../../model/defaults.ts";
import { shownTarget } from "../../model/predefined-networks.ts";
import type {
  ContainerSpec,
  EndpointSpec,
  NetworkAttachmentConfig,
  PortConfig,
  Privileges,
  RestartPolicy,
  ServiceMode,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from "../../model/service-spec.ts";

/**
 * Docker's Go types leave out most fields that are empty, zero or false. These keep them, because
 * there the value is a choice of its own (pointers and fields without `omitempty`).
 */
const KEPT_WHEN_ZERO: ReadonlySet<string> = new Set([
  "Delay",
  "Disable",
  "ForceUpdate",
  "GID",
  "Hard",
  "Init",
  "MaxAttempts",
  "MaxConcurrent",
  "MaxFailureRatio",
  "MemorySwappiness",
  "Mode",
  "Parallelism",
  "Replicas",
  "Soft",
  "StopGracePeriod",
  "SwapBytes",
  "TotalCompletions",
  "UID",
  "Window",
]);

/** Maps are left out when empty; objects such as `Limits` or `Global` are not. */
const MAPS: ReadonlySet<string> = new Set(["DriverOpts", "Labels", "Options", "Sysctls"]);

/** What a client sent, as Docker would give it back: without what Go would not print. */
export function asGoJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asGoJson);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value)
    .filter(([name, field]) => isPrinted(name, field))
    .map(([name, field]) => [name, MAPS.has(name) ? field : asGoJson(field)]);
  return Object.fromEntries(entries);
}

function isPrinted(name: string, field: unknown): boolean {
  if (field === undefined || field === null) return false;
  if (field === "" || field === 0 || field === false) return KEPT_WHEN_ZERO.has(name);
  if (Array.isArray(field)) return field.length > 0;
  if (typeof field === "object" && MAPS.has(name)) return Object.keys(field).length > 0;
  return true;
}

/** Specs do not change; their JSON form is worth keeping while they live. */
const SERVICE_SPECS = new WeakMap<ServiceSpec, object>();
const TASK_SPECS = new WeakMap<TaskSpec, object>();

function cached<K extends object>(cache: WeakMap<K, object>, key: K, make: () => object): object {
  const known = cache.get(key);
  if (known !== undefined) return known;
  const made = make();
  cache.set(key, made);
  return made;
}

export function serviceSpecDto(spec: ServiceSpec): object {
  return cached(SERVICE_SPECS, spec, () => buildServiceSpec(spec));
}

function buildServiceSpec(spec: ServiceSpec): object {
  return {
    Name: spec.Name ?? "",
    Labels: spec.Labels ?? {},
    TaskTemplate: {
      ...taskSpecFields(spec.TaskTemplate ?? {}),
      ForceUpdate: spec.TaskTemplate?.ForceUpdate ?? 0,
      Runtime: spec.TaskTemplate?.Runtime || "container",
    },
    Mode: modeDto(spec.Mode ?? {}),
    ...(spec.UpdateConfig ? { UpdateConfig: updateConfigDto(spec.UpdateConfig) } : {}),
    ...(spec.RollbackConfig ? { RollbackConfig: updateConfigDto(spec.RollbackConfig) } : {}),
    ...(spec.Networks?.length ? { Networks: networksDto(spec.Networks) } : {}),
    ...(spec.EndpointSpec ? { EndpointSpec: endpointSpecDto(spec.EndpointSpec) } : {}),
  };
}

/** A task's spec has no Runtime in Docker's answers. */
export function taskSpecDto(template: TaskSpec): object {
  return cached(TASK_SPECS, template, () => ({
    ...taskSpecFields(template),
    ForceUpdate: template.ForceUpdate ?? 0,
  }));
}

function taskSpecFields(template: TaskSpec): object {
  const {
    ContainerSpec,
    RestartPolicy,
    Networks,
    ForceUpdate: _f,
    Runtime: _r,
    ...rest
  } = template;
  return {
    ...(ContainerSpec ? { ContainerSpec: containerSpecDto(ContainerSpec) } : {}),
    ...(asGoJson(rest) as object),
    ...(Networks?.length ? { Networks: networksDto(Networks) } : {}),
    ...(RestartPolicy ? { RestartPolicy: restartPolicyDto(RestartPolicy) } : {}),
  };
}

function networksDto(networks: readonly NetworkAttachmentConfig[]): unknown {
  return networks.map(network =>
    asGoJson({ ...network, Target: shownTarget(network.Target ?? "") }),
  );
}

function containerSpecDto(spec: ContainerSpec): object {
  const { PullOptions: _, Privileges: privileges, ...shown } = spec;
  return {
    ...(asGoJson(shown) as object),
    ...(privileges === undefined ? {} : { Privileges: privilegesDto(privileges) }),
    Isolation: spec.Isolation || "default",
  };
}

/** Go prints most of these whatever they are. */
function privilegesDto(privileges: Privileges): object {
  const { CredentialSpec: credentials, SELinuxContext: context, ...rest } = privileges;
  return {
    CredentialSpec:
      credentials === undefined ? null : { Config: "", File: "", Registry: "", ...credentials },
    SELinuxContext:
      context === undefined
        ? null
        : { Disable: false, User: "", Role: "", Type: "", Level: "", ...context },
    ...(asGoJson(rest) as object),
  };
}

function restartPolicyDto(policy: RestartPolicy): object {
  return {
    Condition: policy.Condition ?? SERVICE_DEFAULTS.restart.condition,
    ...(policy.Delay === undefined ? {} : { Delay: policy.Delay }),
    MaxAttempts: policy.MaxAttempts ?? 0,
    ...(policy.Window === undefined ? {} : { Window: policy.Window }),
  };
}

function modeDto(mode: ServiceMode): object {
  if (mode.Global !== undefined) return { Global: {} };
  if (mode.GlobalJob !== undefined) return { GlobalJob: {} };
  if (mode.ReplicatedJob !== undefined) {
    const { MaxConcurrent = 1, TotalCompletions = MaxConcurrent } = mode.ReplicatedJob;
    return { ReplicatedJob: { MaxConcurrent, TotalCompletions } };
  }
  return { Replicated: { Replicas: mode.Replicated?.Replicas ?? SERVICE_DEFAULTS.replicas } };
}

function updateConfigDto(config: UpdateConfig): object {
  const defaults = SERVICE_DEFAULTS.update;
  return {
    Parallelism: config.Parallelism ?? 0,
    ...(config.Delay ? { Delay: config.Delay } : {}),
    FailureAction: config.FailureAction || defaults.failureAction,
    ...(config.Monitor ? { Monitor: config.Monitor } : {}),
    MaxFailureRatio: config.MaxFailureRatio ?? 0,
    Order: config.Order || defaults.order,
  };
}

export function endpointSpecDto(spec: EndpointSpec): object {
  const ports = spec.Ports ?? [];
  return {
    Mode: spec.Mode || "vip",
    ...(ports.length > 0 ? { Ports: ports.map(portDto) } : {}),
  };
}

export function portDto(port: PortConfig): object {
  return {
    ...(port.Name ? { Name: port.Name } : {}),
    Protocol: port.Protocol || "tcp",
    ...(port.TargetPort ? { TargetPort: port.TargetPort } : {}),
    ...(port.PublishedPort ? { PublishedPort: port.PublishedPort } : {}),
    PublishMode: port.PublishMode || "ingress",
  };
}

/** The spec with what the server does where the user said nothing (`insertDefaults`). */
export function withDefaults(spec: ServiceSpec): ServiceSpec {
  const template = spec.TaskTemplate ?? {};
  const container = template.ContainerSpec;
  const { restart, stopGracePeriodNs } = SERVICE_DEFAULTS;
  return {
    ...spec,
    TaskTemplate: {
      ...template,
      ...(container === undefined
        ? {}
        : { ContainerSpec: { StopGracePeriod: stopGracePeriodNs, DNSConfig: {}, ...container } }),
      Resources: template.Resources ?? {},
      RestartPolicy: {
        Condition: restart.condition,
        Delay: restart.delayNs,
        ...template.RestartPolicy,
      },
      Placement: template.Placement ?? {},
    },
    UpdateConfig: updateDefaults(spec.UpdateConfig),
    RollbackConfig: updateDefaults(spec.RollbackConfig),
  };
}

function updateDefaults(config: UpdateConfig | undefined): UpdateConfig {
  const { parallelism, failureAction, monitorNs, order } = SERVICE_DEFAULTS.update;
  if (config !== undefined) return { ...config, Monitor: config.Monitor ?? 5 * NS_PER_S };
  return {
    Parallelism: parallelism,
    FailureAction: failureAction,
    Monitor: monitorNs,
    MaxFailureRatio: 0,
    Order: order,
  };
}
