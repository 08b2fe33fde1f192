import { SwarmError } from "../base/errors.ts";
import { validateServiceLabels } from "./labels.ts";
import { validateNetworkLabels } from "./network-labels.ts";
import { validatePublishAddresses } from "./publish-address.ts";
import {
  type ContainerSpec,
  type EndpointSpec,
  type FileTarget,
  type Mount,
  modeKind,
  type PortConfig,
  type ServiceMode,
  type ServiceSpec,
  type UpdateConfig,
} from "./service-spec.ts";
import { decodeJson } from "./validate-decode.ts";
import { badRequest, goQuote, oddlyInternal, refusal } from "./validate-errors.ts";
import { validateDnsName } from "./validate-names.ts";
import { SERVICE_SPEC_SHAPE } from "./validate-shapes.ts";
import { validateTaskSpec } from "./validate-task.ts";
import { validateTemplates } from "./validate-templates.ts";

/**
 * Reads a ServiceSpec from parsed JSON as moby does before it asks its control API
 * (daemon/cluster/convert): types, enumerations, one mode. Unknown fields are dropped. Mode, mount
 * type, port protocol and publish mode come back filled in. Throws invalid_argument.
 */
export function normalizeServiceSpec(input: unknown): ServiceSpec {
  const spec = (decodeJson(SERVICE_SPEC_SHAPE, input) ?? {}) as ServiceSpec;
  checkSwap(spec);
  checkRuntime(spec);
  const container = normalizeContainer(spec.TaskTemplate?.ContainerSpec ?? {});
  checkRestartCondition(spec);
  checkUpdateConfig(spec.UpdateConfig);
  checkUpdateConfig(spec.RollbackConfig);
  const endpoint = spec.EndpointSpec;
  return {
    ...spec,
    TaskTemplate: { ...spec.TaskTemplate, ContainerSpec: container },
    ...(endpoint === undefined ? {} : { EndpointSpec: normalizeEndpoint(endpoint) }),
    Mode: normalizeMode(spec.Mode ?? {}),
  };
}

function checkSwap({ TaskTemplate: task }: ServiceSpec): void {
  const limited = (task?.Resources?.Limits?.MemoryBytes ?? 0) !== 0;
  if (task?.Resources?.SwapBytes !== undefined && !limited) {
    throw badRequest("memory swap provided, but no memory-limit was set");
  }
}

function checkRuntime({ TaskTemplate: task }: ServiceSpec): void {
  const runtime = task?.Runtime ?? "";
  if (runtime === "plugin" && task?.PluginSpec !== undefined) {
    throw oddlyInternal('runtime type "plugin" only supported in experimental');
  }
  if (runtime !== "" && runtime !== "container" && runtime !== "plugin") {
    throw badRequest("unsupported runtime");
  }
  if (runtime === "plugin" || task?.ContainerSpec === undefined) {
    throw badRequest("mismatched Runtime and *Spec fields");
  }
}

function normalizeContainer(container: ContainerSpec): ContainerSpec {
  checkCredentialSpec(container);
  for (const { File: file, Runtime: runtime } of container.Configs ?? []) {
    if (file === undefined && runtime === undefined) {
      throw badRequest("invalid Config: either File or Runtime should be set");
    }
    if (file !== undefined && runtime !== undefined) {
      throw badRequest("invalid Config: cannot specify both File and Runtime");
    }
  }
  const { Mounts: mounts, Secrets: secrets, Configs: configs } = container;
  return {
    ...container,
    ...(mounts === undefined ? {} : { Mounts: mounts.map(normalizeMount) }),
    ...(secrets === undefined ? {} : { Secrets: inOrder(secrets, ref => ref.SecretName) }),
    ...(configs === undefined ? {} : { Configs: inOrder(configs, ref => ref.ConfigName) }),
  };
}

/**
 * By name, the file of the same name first. The order means nothing, and the docker command line
 * sends another one each time, which would restart the tasks.
 */
function inOrder<R extends { readonly File?: FileTarget }>(
  refs: readonly R[],
  nameOf: (ref: R) => string | undefined,
): readonly R[] {
  const keyOf = (ref: R): readonly string[] => {
    const name = nameOf(ref) ?? "";
    const file = ref.File?.Name ?? "";
    return [name, file === name ? "" : file];
  };
  return refs
    .map(ref => ({ ref, key: keyOf(ref) }))
    .sort((a, b) => compareText(a.key[0], b.key[0]) || compareText(a.key[1], b.key[1]))
    .map(({ ref }) => ref);
}

function compareText(a = "", b = ""): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

function checkCredentialSpec({ Privileges: privileges }: ContainerSpec): void {
  const spec = privileges?.CredentialSpec;
  if (spec === undefined) return;
  const said = [
    ["config", spec.Config],
    ["file", spec.File],
    ["registry", spec.Registry],
  ].flatMap(([name, value]) => ((value ?? "") === "" ? [] : [`"${name}"`]));
  const prefix = "invalid CredentialSpec: ";
  if (said.length === 0) {
    throw badRequest(
      `${prefix}must either provide "file", "registry", or "config" for credential spec`,
    );
  }
  if (said.length > 1) {
    const [last] = said.slice(-1);
    const rest = said.slice(0, -1).join(", ");
    const comma = said.length > 2 ? "," : "";
    throw badRequest(`${prefix}cannot specify both ${rest}${comma} and ${last} credential specs`);
  }
}

const MOUNT_TYPES = ["bind", "volume", "tmpfs", "npipe", "cluster"] as const;
const PROPAGATIONS = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/** A mount without a type is a bind mount (SwarmKit's zero value). */
function normalizeMount(mount: Mount): Mount {
  const said: string = mount.Type ?? "";
  const type = MOUNT_TYPES.find(candidate => candidate === (said.toLowerCase() || "bind"));
  if (type === undefined) throw badRequest(`invalid MountType: ${goQuote(said)}`);
  const propagation = mount.BindOptions?.Propagation ?? "";
  if (propagation !== "" && !PROPAGATIONS.includes(propagation.toLowerCase())) {
    throw badRequest(`invalid MountPropagation: ${goQuote(propagation)}`);
  }
  return { ...mount, Type: type };
}

const RESTART_CONDITIONS: readonly string[] = ["", "none", "on-failure", "any"];

function checkRestartCondition({ TaskTemplate: task }: ServiceSpec): void {
  const condition = task?.RestartPolicy?.Condition ?? "";
  if (!RESTART_CONDITIONS.includes(condition)) {
    throw badRequest(`invalid RestartCondition: ${goQuote(condition)}`);
  }
}

const FAILURE_ACTIONS: readonly string[] = ["", "pause", "continue", "rollback"];
const UPDATE_ORDERS: readonly string[] = ["", "stop-first", "start-first"];

function checkUpdateConfig(config: UpdateConfig | undefined): void {
  const { FailureAction: action = "", Order: order = "" } = config ?? {};
  if (!FAILURE_ACTIONS.includes(action)) {
    throw badRequest(`unrecognized update failure action ${action}`);
  }
  if (!UPDATE_ORDERS.includes(order)) throw badRequest(`unrecognized update order ${order}`);
}

function normalizeEndpoint(endpoint: EndpointSpec): EndpointSpec {
  const mode: string = endpoint.Mode ?? "";
  if (mode !== "" && mode !== "vip" && mode !== "dnsrr") {
    throw badRequest(`invalid resolution mode: ${goQuote(mode)}`);
  }
  const { Mode: _, ...rest } = endpoint;
  return {
    ...rest,
    Mode: mode === "dnsrr" ? "dnsrr" : "vip",
    ...(endpoint.Ports === undefined ? {} : { Ports: endpoint.Ports.map(normalizePort) }),
  };
}

const PROTOCOLS = ["tcp", "udp", "sctp"] as const;

/** What moby does not know becomes its zero value: tcp, ingress. */
function normalizePort(port: PortConfig): PortConfig {
  const protocol = (port.Protocol ?? "").toLowerCase();
  const host = (port.PublishMode ?? "").toLowerCase() === "host";
  return {
    ...port,
    Protocol: PROTOCOLS.find(candidate => candidate === protocol) ?? "tcp",
    PublishMode: host ? "host" : "ingress",
  };
}

const MODES = ["Replicated", "Global", "ReplicatedJob", "GlobalJob"] as const;

function normalizeMode(mode: ServiceMode): ServiceMode {
  const said = MODES.filter(name => mode[name] !== undefined);
  if (said.length > 1) throw badRequest("must specify only one service mode");
  const [kind] = said;
  if (kind === "Global") return { Global: {} };
  if (kind === "GlobalJob") return { GlobalJob: {} };
  if (kind !== "ReplicatedJob") return { Replicated: { Replicas: mode.Replicated?.Replicas ?? 1 } };
  const concurrent = mode.ReplicatedJob?.MaxConcurrent ?? 1;
  const completions = mode.ReplicatedJob?.TotalCompletions ?? concurrent;
  return { ReplicatedJob: { MaxConcurrent: concurrent, TotalCompletions: completions } };
}

/** Tasks that one service may ask for. */
export const REPLICAS_MAX = 1_000_000;

/**
 * The rules of a normalized ServiceSpec, in SwarmKit's order and words (manager/controlapi), and
 * swarmd's own after them. What it refers to is checked by the caller. Throws invalid_argument.
 */
export function validateServiceSpec(spec: ServiceSpec): void {
  validateDnsName(spec.Name ?? "");
  validateTaskSpec(spec.TaskTemplate ?? {});
  validateTemplates(spec);
  validateMode(spec.Mode ?? {});
  if (modeKind(spec).endsWith("-job")) {
    if (spec.UpdateConfig !== undefined) throw refusal("Jobs may not have an update config");
  } else {
    validateUpdateConfig("update", spec.UpdateConfig);
    validateUpdateConfig("rollback", spec.RollbackConfig);
  }
  validateEndpoint(spec.EndpointSpec ?? {});
  validateServiceLabels(spec.Labels);
  validateNetworkLabels(spec);
  validatePublishAddresses(spec);
}

/** Above the largest signed 64-bit number: a negative one to swarm mode. */
const NEGATIVE_FROM = 2 ** 63;

function validateMode(mode: ServiceMode): void {
  const counts = [
    ["Number of replicas must be non-negative", mode.Replicated?.Replicas],
    ["Maximum concurrent jobs must not be negative", mode.ReplicatedJob?.MaxConcurrent],
    ["Total completed jobs must not be negative", mode.ReplicatedJob?.TotalCompletions],
  ] as const;
  for (const [text, count = 0] of counts) {
    if (count < 0 || count >= NEGATIVE_FROM) throw refusal(text);
    if (count > REPLICAS_MAX) {
      throw refusal(`too many replicas: ${count}, at most ${REPLICAS_MAX} are allowed`);
    }
  }
}

/** Swarm mode forgets to check RollbackConfig. */
function validateUpdateConfig(what: "update" | "rollback", config: UpdateConfig | undefined): void {
  const { Delay: delay = 0, Monitor: monitor = 0, MaxFailureRatio: ratio = 0 } = config ?? {};
  if (delay < 0) throw refusal(`TaskSpec: ${what}-delay cannot be negative`);
  if (monitor < 0) throw refusal(`TaskSpec: ${what}-monitor cannot be negative`);
  if (ratio < 0 || ratio > 1) {
    throw refusal(`TaskSpec: ${what}-maxfailureratio cannot be less than 0 or bigger than 1`);
  }
}

const PORT_MAX = 65_535;

function validateEndpoint(endpoint: EndpointSpec): void {
  const published = new Set<string>();
  for (const port of endpoint.Ports ?? []) {
    if (endpoint.Mode === "dnsrr" && port.PublishMode === "ingress") {
      throw refusal("EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
    }
    validatePortNumber("published", port.PublishedPort ?? 0);
    validatePortNumber("target", port.TargetPort ?? 0);
    if ((port.PublishedPort ?? 0) === 0) continue;
    const key = `${port.PublishedPort}/${port.Protocol}`;
    if (published.has(key)) {
      throw refusal("EndpointSpec: duplicate published ports provided");
    }
    published.add(key);
  }
}

/** 0 = not said. */
function validatePortNumber(what: "published" | "target", port: number): void {
  if (port > PORT_MAX) {
    throw refusal(`EndpointSpec: invalid ${what} port ${port}: must be at most ${PORT_MAX}`);
  }
}

/** What an update may not change (swarm mode answers 501). Both specs are normalized. */
export function validateServiceUpdate(current: ServiceSpec, next: ServiceSpec): void {
  if (modeKind(current) !== modeKind(next)) {
    throw unimplemented("service mode change is not allowed");
  }
  if (current.Name !== next.Name) throw unimplemented("renaming services is not supported");
}

function unimplemented(message: string): SwarmError {
  return new SwarmError("unimplemented", message, { rpc: "Unimplemented" });
}
