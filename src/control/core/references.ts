import { isSwarmError, SwarmError } from "../../base/errors.ts";
import { predefinedName } from "../../model/predefined-networks.ts";
import type { Network, Service, Task } from "../../model/rows.ts";
import type {
  ConfigReference,
  NetworkAttachmentConfig,
  SecretReference,
  ServiceSpec,
} from "../../model/service-spec.ts";
import { oddlyInternal } from "../../model/validate-errors.ts";
import type { StateView } from "../../model/view.ts";
import { rpcError } from "./errors.ts";
import { findNetwork, visibleServices } from "./lookup.ts";

export const INGRESS_NETWORK = "ingress";

export function secretsOf(spec: ServiceSpec): readonly SecretReference[] {
  return spec.TaskTemplate?.ContainerSpec?.Secrets ?? [];
}

export function configsOf(spec: ServiceSpec): readonly ConfigReference[] {
  return spec.TaskTemplate?.ContainerSpec?.Configs ?? [];
}

export function networksOf(spec: ServiceSpec): readonly NetworkAttachmentConfig[] {
  const own = spec.TaskTemplate?.Networks ?? [];
  return own.length > 0 ? own : (spec.Networks ?? []);
}

/**
 * Secrets and configs must exist under both the id and the name of the reference, networks under
 * their id.
 */
export function checkReferences(view: StateView, spec: ServiceSpec): void {
  const secrets = secretsOf(spec)
    .filter(ref => {
      const row = view.table("secrets").get(ref.SecretID ?? "");
      return row === undefined || row.spec.Name !== ref.SecretName;
    })
    .map(ref => ref.SecretName ?? "");
  refuseMissing("secret", secrets);
  const configs = configsOf(spec)
    .filter(ref => {
      const row = view.table("configs").get(ref.ConfigID ?? "");
      return row === undefined || row.spec.Name !== ref.ConfigName;
    })
    .map(ref => ref.ConfigName ?? "");
  refuseMissing("config", configs);
  for (const { Target = "" } of networksOf(spec)) targetId(view, Target);
}

function refuseMissing(noun: string, names: readonly string[]): void {
  if (names.length === 0) return;
  const nouns = names.length === 1 ? noun : `${noun}s`;
  throw rpcError("invalid_argument", `${nouns} not found: ${names.join(", ")}`);
}

/** Network names and id prefixes become ids; a network that services cannot use is refused. */
export function resolveNetworks(view: StateView, spec: ServiceSpec): ServiceSpec {
  const resolve = (list: readonly NetworkAttachmentConfig[]): NetworkAttachmentConfig[] =>
    list.map(attachment => ({ ...attachment, Target: targetId(view, attachment.Target ?? "") }));
  const template = spec.TaskTemplate;
  return {
    ...spec,
    ...(spec.Networks === undefined ? {} : { Networks: resolve(spec.Networks) }),
    ...(template?.Networks === undefined
      ? {}
      : { TaskTemplate: { ...template, Networks: resolve(template.Networks) } }),
  };
}

function targetId(view: StateView, target: string): string {
  const predefined = predefinedName(target);
  if (predefined !== null) return predefined;
  const network = findNetworkOf(view, target);
  if (isIngress(network)) {
    throw rpcError(
      "invalid_argument",
      `Service cannot be explicitly attached to the ingress network "${network.spec.Name}"`,
    );
  }
  return network.id;
}

/** A plain error to moby while it reads a service. */
function findNetworkOf(view: StateView, target: string): Network {
  try {
    return findNetwork(view, target);
  } catch (error) {
    if (isSwarmError(error, "not_found")) throw oddlyInternal(error.message);
    throw error;
  }
}

export function isIngress(network: Network): boolean {
  return network.spec["Ingress"] === true;
}

/** Names of the services that refer to a secret or config, in order of service id. */
export function usersOf(view: StateView, uses: (spec: ServiceSpec) => boolean): readonly Service[] {
  return [...visibleServices(view)].filter(service => uses(service.spec));
}

/** Refuses the removal of a secret or config that services refer to. */
export function refuseInUse(noun: string, name: string, users: readonly Service[]): void {
  if (users.length === 0) return;
  const services = users.length === 1 ? "service" : "services";
  const names = users.map(service => service.spec.Name ?? service.id).join(", ");
  throw rpcError(
    "invalid_argument",
    `${noun} '${name}' is in use by the following ${services}: ${names}`,
  );
}

/** Refuses the removal of a network that a service or a live task is on. */
export function refuseNetworkInUse(view: StateView, network: Network): void {
  const { id } = network;
  if (isIngress(network)) {
    const user = usersOf(view, usesIngress)[0];
    if (user === undefined) return;
    throw rpcError(
      "failed_precondition",
      `ingress network cannot be removed because service ${user.id} depends on it`,
    );
  }
  const user = usersOf(view, spec => networksOf(spec).some(ref => ref.Target === id))[0];
  if (user !== undefined) {
    throw rpcError("failed_precondition", `network ${id} is in use by service ${user.id}`);
  }
  const task = liveTaskOn(view, id);
  if (task !== undefined) {
    throw rpcError("failed_precondition", `network ${id} is in use by task ${task}`);
  }
}

function usesIngress(spec: ServiceSpec): boolean {
  return (spec.EndpointSpec?.Ports ?? []).some(port => port.PublishMode !== "host");
}

const LIVE_DESIRED = ["ready", "running"];

function liveTaskOn(view: StateView, networkId: string): string | undefined {
  for (const task of view.table("tasks").all()) {
    if (!LIVE_DESIRED.includes(task.desiredState)) continue;
    if (isOfRemovedService(view, task)) continue;
    if (task.networks.some(attachment => attachment.networkId === networkId)) return task.id;
  }
  return undefined;
}

/** Its tasks are as good as removed, whatever they are still told to be. */
function isOfRemovedService(view: StateView, { serviceId }: Task): boolean {
  return serviceId !== "" && view.table("services").get(serviceId)?.pendingDelete !== false;
}

/** An id that a caller chose for a new object must be free, or be the same object already. */
export function sameObject(id: string, name: string, existingName: string | undefined): boolean {
  if (existingName === undefined) return false;
  if (existingName === name) return true;
  throw new SwarmError("already_exists", `an object with id ${id} exists`);
}
