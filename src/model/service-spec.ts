/**
 * What a user asks for, in the shape of Docker's API (docker-api-v1.56.yaml, `ServiceSpec`,
 * `TaskSpec`): the spec is the user's own document and is kept as it was said, so nothing a client
 * sends is lost on the way back. Durations are nanoseconds, as Docker's; memory is bytes; CPU is
 * 10^-9 CPUs. Everything that swarmd itself derives lives in rows beside it, in our own names.
 */
export type Labels = Readonly<Record<string, string>>;

export interface Driver {
  readonly Name?: string;
  readonly Options?: Readonly<Record<string, string>>;
}

export interface Mount {
  readonly Type?: "bind" | "volume" | "tmpfs" | "npipe" | "cluster" | "image";
  readonly Source?: string;
  readonly Target?: string;
  readonly ReadOnly?: boolean;
  readonly Consistency?: string;
  readonly BindOptions?: {
    readonly Propagation?: string;
    readonly NonRecursive?: boolean;
    readonly CreateMountpoint?: boolean;
    readonly ReadOnlyNonRecursive?: boolean;
    readonly ReadOnlyForceRecursive?: boolean;
  };
  readonly VolumeOptions?: {
    readonly NoCopy?: boolean;
    readonly Labels?: Labels;
    readonly Subpath?: string;
    readonly DriverConfig?: Driver;
  };
  readonly TmpfsOptions?: {
    readonly SizeBytes?: number;
    readonly Mode?: number;
    readonly Options?: readonly (readonly string[])[];
  };
}

export interface HealthConfig {
  readonly Test?: readonly string[];
  readonly Interval?: number;
  readonly Timeout?: number;
  readonly Retries?: number;
  readonly StartPeriod?: number;
  readonly StartInterval?: number;
}

export interface FileTarget {
  readonly Name?: string;
  readonly UID?: string;
  readonly GID?: string;
  readonly Mode?: number;
}

export interface SecretReference {
  readonly File?: FileTarget;
  readonly SecretID?: string;
  readonly SecretName?: string;
}

export interface ConfigReference {
  readonly File?: FileTarget;
  readonly Runtime?: Readonly<Record<string, unknown>>;
  readonly ConfigID?: string;
  readonly ConfigName?: string;
}

export interface Ulimit {
  readonly Name?: string;
  readonly Soft?: number;
  readonly Hard?: number;
}

export interface Privileges {
  readonly CredentialSpec?: {
    readonly Config?: string;
    readonly File?: string;
    readonly Registry?: string;
  };
  readonly SELinuxContext?: {
    readonly Disable?: boolean;
    readonly User?: string;
    readonly Role?: string;
    readonly Type?: string;
    readonly Level?: string;
  };
  readonly Seccomp?: { readonly Mode?: string; readonly Profile?: string };
  readonly AppArmor?: { readonly Mode?: string };
  readonly NoNewPrivileges?: boolean;
}

export interface ContainerSpec {
  readonly Image?: string;
  readonly Labels?: Labels;
  readonly Command?: readonly string[];
  readonly Args?: readonly string[];
  readonly Hostname?: string;
  readonly Env?: readonly string[];
  readonly Dir?: string;
  readonly User?: string;
  readonly Groups?: readonly string[];
  readonly Privileges?: Privileges;
  readonly TTY?: boolean;
  readonly OpenStdin?: boolean;
  readonly ReadOnly?: boolean;
  readonly Mounts?: readonly Mount[];
  readonly StopSignal?: string;
  readonly StopGracePeriod?: number;
  readonly Healthcheck?: HealthConfig;
  readonly Hosts?: readonly string[];
  readonly DNSConfig?: {
    readonly Nameservers?: readonly string[];
    readonly Search?: readonly string[];
    readonly Options?: readonly string[];
  };
  readonly Secrets?: readonly SecretReference[];
  readonly Configs?: readonly ConfigReference[];
  readonly Isolation?: string;
  readonly Init?: boolean | null;
  readonly Sysctls?: Labels;
  readonly CapabilityAdd?: readonly string[];
  readonly CapabilityDrop?: readonly string[];
  readonly Ulimits?: readonly Ulimit[];
  readonly OomScoreAdj?: number;
  /** Credentials for the image, as base64 of Docker's X-Registry-Auth. Never shown to a client. */
  readonly PullOptions?: { readonly RegistryAuth?: string };
}

export interface GenericResourceSpec {
  readonly NamedResourceSpec?: { readonly Kind?: string; readonly Value?: string };
  readonly DiscreteResourceSpec?: { readonly Kind?: string; readonly Value?: number };
}

export interface ResourceLimits {
  readonly NanoCPUs?: number;
  readonly MemoryBytes?: number;
  readonly Pids?: number;
}

export interface ResourceReservations {
  readonly NanoCPUs?: number;
  readonly MemoryBytes?: number;
  readonly GenericResources?: readonly GenericResourceSpec[];
}

export interface RestartPolicy {
  readonly Condition?: "none" | "on-failure" | "any";
  readonly Delay?: number;
  readonly MaxAttempts?: number;
  readonly Window?: number;
}

export interface PlacementPreference {
  readonly Spread?: { readonly SpreadDescriptor?: string };
}

export interface PlatformSpec {
  readonly Architecture?: string;
  readonly OS?: string;
}

export interface Placement {
  readonly Constraints?: readonly string[];
  readonly Preferences?: readonly PlacementPreference[];
  readonly MaxReplicas?: number;
  readonly Platforms?: readonly PlatformSpec[];
}

export interface NetworkAttachmentConfig {
  readonly Target?: string;
  readonly Aliases?: readonly string[];
  readonly DriverOpts?: Labels;
}

export interface TaskSpec {
  readonly ContainerSpec?: ContainerSpec;
  readonly PluginSpec?: Readonly<Record<string, unknown>>;
  readonly NetworkAttachmentSpec?: { readonly ContainerID?: string };
  readonly Resources?: {
    readonly Limits?: ResourceLimits;
    readonly Reservations?: ResourceReservations;
    readonly SwapBytes?: number;
    readonly MemorySwappiness?: number;
  };
  readonly RestartPolicy?: RestartPolicy;
  readonly Placement?: Placement;
  readonly ForceUpdate?: number;
  readonly Runtime?: string;
  readonly Networks?: readonly NetworkAttachmentConfig[];
  readonly LogDriver?: Driver;
}

export interface ServiceMode {
  readonly Replicated?: { readonly Replicas?: number };
  readonly Global?: Readonly<Record<string, never>>;
  readonly ReplicatedJob?: {
    readonly MaxConcurrent?: number;
    readonly TotalCompletions?: number;
  };
  readonly GlobalJob?: Readonly<Record<string, never>>;
}

export interface UpdateConfig {
  readonly Parallelism?: number;
  readonly Delay?: number;
  readonly FailureAction?: "pause" | "continue" | "rollback";
  readonly Monitor?: number;
  readonly MaxFailureRatio?: number;
  readonly Order?: "stop-first" | "start-first";
}

export interface PortConfig {
  readonly Name?: string;
  readonly Protocol?: "tcp" | "udp" | "sctp";
  readonly TargetPort?: number;
  readonly PublishedPort?: number;
  readonly PublishMode?: "ingress" | "host";
}

export interface EndpointSpec {
  readonly Mode?: "vip" | "dnsrr";
  readonly Ports?: readonly PortConfig[];
}

export interface ServiceSpec {
  readonly Name?: string;
  readonly Labels?: Labels;
  readonly TaskTemplate?: TaskSpec;
  readonly Mode?: ServiceMode;
  readonly UpdateConfig?: UpdateConfig;
  readonly RollbackConfig?: UpdateConfig;
  /** Deprecated in Docker's API in favour of TaskTemplate.Networks; accepted, merged on create. */
  readonly Networks?: readonly NetworkAttachmentConfig[];
  readonly EndpointSpec?: EndpointSpec;
}

export type ModeKind = "replicated" | "global" | "replicated-job" | "global-job";

/** The mode of a validated spec; a spec without one is replicated. */
export function modeKind(spec: ServiceSpec): ModeKind {
  if (spec.Mode?.Global !== undefined) return "global";
  if (spec.Mode?.ReplicatedJob !== undefined) return "replicated-job";
  if (spec.Mode?.GlobalJob !== undefined) return "global-job";
  return "replicated";
}

/** Replicas wanted of a replicated service; 1 when not said. */
export function replicasOf(spec: ServiceSpec): number {
  return spec.Mode?.Replicated?.Replicas ?? 1;
}

/** Whether an allocator has anything to give to the service: published ports or addresses. */
export function asksForAddresses(spec: ServiceSpec): boolean {
  const { EndpointSpec: endpoint, TaskTemplate: task, Networks: networks } = spec;
  return [endpoint?.Ports, task?.Networks, networks].some(list => (list?.length ?? 0) > 0);
}
