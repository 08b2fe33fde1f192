import { parseConstraints } from "./constraint.ts";
import { validateContainerLabels } from "./labels.ts";
import { isImageReference } from "./reference.ts";
import { MIN_MEMORY_BYTES, MIN_NANO_CPUS, NANO_CPUS_PER_CPU } from "./resources.ts";
import type {
  ConfigReference,
  ContainerSpec,
  HealthConfig,
  Mount,
  ResourceLimits,
  ResourceReservations,
  RestartPolicy,
  SecretReference,
  TaskSpec,
} from "./service-spec.ts";
import { goFloat, goQuote, refusal } from "./validate-errors.ts";

/**
 * SwarmKit's checks of a task spec in its order and words (manager/controlapi/service.go), with
 * those that it has forgotten: generic resources, amounts no number can hold, mounts that no node
 * could make.
 */
export function validateTaskSpec(task: TaskSpec): void {
  validateAmounts(task.Resources?.Limits);
  validateAmounts(task.Resources?.Reservations);
  validateGenericResources(task.Resources?.Reservations);
  validateMemoryOrder(task.Resources);
  validateRestartPolicy(task.RestartPolicy);
  parseConstraints(task.Placement?.Constraints ?? []);
  const container = task.ContainerSpec;
  if (container === undefined) throw refusal("TaskSpec: missing runtime");
  validateSecretReferences(container.Secrets ?? []);
  validateConfigReferences(container);
  validateContainerSpec(container);
}

function validateAmounts(amounts: ResourceLimits | ResourceReservations | undefined): void {
  const nanoCpus = amounts?.NanoCPUs ?? 0;
  const memory = amounts?.MemoryBytes ?? 0;
  if (nanoCpus !== 0 && !(nanoCpus >= MIN_NANO_CPUS)) {
    const [cpus, least] = [nanoCpus, MIN_NANO_CPUS].map(value => value / NANO_CPUS_PER_CPU);
    throw refusal(
      `invalid cpu value ${goFloat(cpus ?? 0)}: Must be at least ${goFloat(least ?? 0)}`,
    );
  }
  if (memory !== 0 && !(memory >= MIN_MEMORY_BYTES)) {
    throw refusal(`invalid memory value ${memory}: Must be at least 4MiB`);
  }
  if (!Number.isSafeInteger(nanoCpus)) {
    throw refusal(`invalid cpu value ${goFloat(nanoCpus / NANO_CPUS_PER_CPU)}: too large`);
  }
  if (!Number.isSafeInteger(memory)) throw refusal(`invalid memory value ${memory}: too large`);
}

/** Swarm mode drops the error of amounts that are none. */
function validateGenericResources(reservations: ResourceReservations | undefined): void {
  for (const resource of reservations?.GenericResources ?? []) {
    const { DiscreteResourceSpec: discrete, NamedResourceSpec: named } = resource;
    const kind = discrete?.Kind ?? named?.Kind ?? "";
    const value = discrete?.Value ?? 0;
    const isNamed = discrete === undefined && (named?.Value ?? "") !== "";
    const isAmount = discrete !== undefined && value >= 0 && Number.isSafeInteger(value);
    if (kind === "" || !(isNamed || isAmount)) {
      throw refusal(`invalid argument for resource ${kind}`);
    }
  }
}

/** The Engine's own refusal of such a container, before any node has to make it. */
function validateMemoryOrder(resources: TaskSpec["Resources"]): void {
  const limit = resources?.Limits?.MemoryBytes ?? 0;
  const reserved = resources?.Reservations?.MemoryBytes ?? 0;
  if (limit !== 0 && reserved > limit) {
    throw refusal("Minimum memory limit can not be less than memory reservation limit, see usage");
  }
}

function validateRestartPolicy(policy: RestartPolicy | undefined): void {
  if ((policy?.Delay ?? 0) < 0) throw refusal("TaskSpec: restart-delay cannot be negative");
  if ((policy?.Window ?? 0) < 0) throw refusal("TaskSpec: restart-window cannot be negative");
}

/** What secret and config references have in common. */
interface Reference {
  readonly id: string;
  readonly name: string;
  readonly fileName: string | null;
  readonly hasTarget: boolean;
}

function validateReferences(kind: "secret" | "config", references: readonly Reference[]): void {
  const targets = new Map<string, string>();
  for (const { id, name, fileName, hasTarget } of references) {
    if (id === "" || name === "") throw refusal(`malformed ${kind} reference`);
    if (!hasTarget) throw refusal(`malformed ${kind} reference, no target provided`);
    if (fileName === null) continue;
    if (fileName === "") {
      throw refusal(`malformed file ${kind} reference, invalid target file name provided`);
    }
    const other = targets.get(fileName);
    if (other !== undefined) {
      throw refusal(
        `${kind} references '${other}' and '${name}' have a conflicting target: '${fileName}'`,
      );
    }
    targets.set(fileName, name);
  }
}

function validateSecretReferences(references: readonly SecretReference[]): void {
  validateReferences(
    "secret",
    references.map(({ SecretID: id = "", SecretName: name = "", File: file }) => ({
      id,
      name,
      fileName: file === undefined ? null : (file.Name ?? ""),
      hasTarget: file !== undefined,
    })),
  );
}

function validateConfigReferences(container: ContainerSpec): void {
  const references: readonly ConfigReference[] = container.Configs ?? [];
  validateReferences(
    "config",
    references.map(({ ConfigID: id = "", ConfigName: name = "", File: file, Runtime }) => ({
      id,
      name,
      fileName: file === undefined ? null : (file.Name ?? ""),
      hasTarget: file !== undefined || Runtime !== undefined,
    })),
  );
  const credentials = container.Privileges?.CredentialSpec?.Config ?? "";
  const found = references.some(
    ({ Runtime, ConfigID }) => Runtime !== undefined && ConfigID === credentials,
  );
  if (credentials !== "" && !found) {
    throw refusal(
      `CredentialSpec references config '${credentials}', ` +
        "but that config isn't in config references with RuntimeTarget",
    );
  }
}

function validateContainerSpec(container: ContainerSpec): void {
  const image = container.Image ?? "";
  if (image === "") throw refusal("ContainerSpec: image reference must be provided");
  if (!isImageReference(image)) {
    throw refusal(`ContainerSpec: ${goQuote(image)} is not a valid repository/tag`);
  }
  validateMounts(container.Mounts ?? []);
  validateHealthcheck(container.Healthcheck);
  if ((container.StopGracePeriod ?? 0) < 0) {
    throw refusal("ContainerSpec: StopGracePeriod cannot be negative");
  }
  for (const entry of container.Env ?? []) {
    if (entry === "" || entry.startsWith("=")) {
      throw refusal(`invalid environment variable: ${entry}`);
    }
  }
  validateContainerLabels(container.Labels);
}

function validateMounts(mounts: readonly Mount[]): void {
  const targets = new Set<string>();
  for (const mount of mounts) {
    const target = mount.Target ?? "";
    if (targets.has(target)) throw refusal(`ContainerSpec: duplicate mount point: ${target}`);
    targets.add(target);
  }
}

/** SwarmKit's least interval of a health check: 1 ms. */
const MIN_HEALTH_NS = 1_000_000;
const HEALTH_DURATIONS = ["Interval", "Timeout", "StartPeriod", "StartInterval"] as const;

function validateHealthcheck(health: HealthConfig | undefined): void {
  for (const field of HEALTH_DURATIONS) {
    const value = health?.[field] ?? 0;
    if (value !== 0 && value < MIN_HEALTH_NS) {
      throw refusal(`ContainerSpec: ${field} in HealthConfig cannot be less than 1ms`);
    }
  }
  if ((health?.Retries ?? 0) < 0) {
    throw refusal("ContainerSpec: Retries in HealthConfig cannot be negative");
  }
}
