import {
  BOOL,
  BYTES,
  DURATION,
  FLOAT32,
  INT,
  INT64,
  integer,
  list,
  named,
  STRING,
  STRING_MAP,
  STRINGS,
  struct,
  UINT32,
  UINT64,
} from "./validate-decode.ts";

/** The Docker API's types as their JSON is read (docker-api-v1.56.yaml; Go names of moby). */

const FILE_MODE = { ...UINT32, go: "fs.FileMode" };

const DRIVER = struct("swarm.Driver", { Name: STRING, Options: STRING_MAP });

const MOUNT = struct("mount.Mount", {
  Type: named("mount.Type"),
  Source: STRING,
  Target: STRING,
  ReadOnly: BOOL,
  Consistency: named("mount.Consistency"),
  BindOptions: struct("mount.BindOptions", {
    Propagation: named("mount.Propagation"),
    NonRecursive: BOOL,
    CreateMountpoint: BOOL,
    ReadOnlyNonRecursive: BOOL,
    ReadOnlyForceRecursive: BOOL,
  }),
  VolumeOptions: struct("mount.VolumeOptions", {
    NoCopy: BOOL,
    Labels: STRING_MAP,
    Subpath: STRING,
    DriverConfig: struct("mount.Driver", { Name: STRING, Options: STRING_MAP }),
  }),
  TmpfsOptions: struct("mount.TmpfsOptions", {
    SizeBytes: INT64,
    Mode: FILE_MODE,
    Options: list(STRINGS),
  }),
});

const HEALTH_CONFIG = struct("container.HealthConfig", {
  Test: STRINGS,
  Interval: DURATION,
  Timeout: DURATION,
  StartPeriod: DURATION,
  StartInterval: DURATION,
  Retries: INT,
});

const PRIVILEGES = struct("swarm.Privileges", {
  CredentialSpec: struct("swarm.CredentialSpec", {
    Config: STRING,
    File: STRING,
    Registry: STRING,
  }),
  SELinuxContext: struct("swarm.SELinuxContext", {
    Disable: BOOL,
    User: STRING,
    Role: STRING,
    Type: STRING,
    Level: STRING,
  }),
  Seccomp: struct("swarm.SeccompOpts", { Mode: named("swarm.SeccompMode"), Profile: BYTES }),
  AppArmor: struct("swarm.AppArmorOpts", { Mode: named("swarm.AppArmorMode") }),
  NoNewPrivileges: BOOL,
});

const FILE_TARGET = { Name: STRING, UID: STRING, GID: STRING, Mode: FILE_MODE };

const SECRET_REFERENCE = struct("swarm.SecretReference", {
  File: struct("swarm.SecretReferenceFileTarget", FILE_TARGET),
  SecretID: STRING,
  SecretName: STRING,
});

const CONFIG_REFERENCE = struct("swarm.ConfigReference", {
  File: struct("swarm.ConfigReferenceFileTarget", FILE_TARGET),
  Runtime: struct("swarm.ConfigReferenceRuntimeTarget", {}),
  ConfigID: STRING,
  ConfigName: STRING,
});

const CONTAINER_SPEC = struct("swarm.ContainerSpec", {
  Image: STRING,
  Labels: STRING_MAP,
  Command: STRINGS,
  Args: STRINGS,
  Hostname: STRING,
  Env: STRINGS,
  Dir: STRING,
  User: STRING,
  Groups: STRINGS,
  Privileges: PRIVILEGES,
  Init: BOOL,
  StopSignal: STRING,
  TTY: BOOL,
  OpenStdin: BOOL,
  ReadOnly: BOOL,
  Mounts: list(MOUNT),
  StopGracePeriod: DURATION,
  Healthcheck: HEALTH_CONFIG,
  Hosts: STRINGS,
  DNSConfig: struct("swarm.DNSConfig", {
    Nameservers: STRINGS,
    Search: STRINGS,
    Options: STRINGS,
  }),
  Secrets: list(SECRET_REFERENCE, "[]*swarm.SecretReference"),
  Configs: list(CONFIG_REFERENCE, "[]*swarm.ConfigReference"),
  Isolation: named("container.Isolation"),
  Sysctls: STRING_MAP,
  CapabilityAdd: STRINGS,
  CapabilityDrop: STRINGS,
  Ulimits: list(
    struct("units.Ulimit", { Name: STRING, Hard: INT64, Soft: INT64 }),
    "[]*units.Ulimit",
  ),
  OomScoreAdj: INT64,
});

const GENERIC_RESOURCE = struct("swarm.GenericResource", {
  NamedResourceSpec: struct("swarm.NamedGenericResource", { Kind: STRING, Value: STRING }),
  DiscreteResourceSpec: struct("swarm.DiscreteGenericResource", { Kind: STRING, Value: INT64 }),
});

const RESOURCES = struct("swarm.ResourceRequirements", {
  Limits: struct("swarm.Limit", { NanoCPUs: INT64, MemoryBytes: INT64, Pids: INT64 }),
  Reservations: struct("swarm.Resources", {
    NanoCPUs: INT64,
    MemoryBytes: INT64,
    GenericResources: list(GENERIC_RESOURCE),
  }),
  SwapBytes: INT64,
  MemorySwappiness: INT64,
});

const PLACEMENT = struct("swarm.Placement", {
  Constraints: STRINGS,
  Preferences: list(
    struct("swarm.PlacementPreference", {
      Spread: struct("swarm.SpreadOver", { SpreadDescriptor: STRING }),
    }),
  ),
  MaxReplicas: UINT64,
  Platforms: list(struct("swarm.Platform", { Architecture: STRING, OS: STRING })),
});

const NETWORKS = list(
  struct("swarm.NetworkAttachmentConfig", {
    Target: STRING,
    Aliases: STRINGS,
    DriverOpts: STRING_MAP,
  }),
);

const PLUGIN_SPEC = struct("runtime.PluginSpec", {
  name: STRING,
  remote: STRING,
  privileges: list(
    struct("runtime.PluginPrivilege", { name: STRING, description: STRING, value: STRINGS }),
    "[]*runtime.PluginPrivilege",
  ),
  disabled: BOOL,
  env: STRINGS,
});

const TASK_SPEC = struct("swarm.TaskSpec", {
  ContainerSpec: CONTAINER_SPEC,
  PluginSpec: PLUGIN_SPEC,
  NetworkAttachmentSpec: struct("swarm.NetworkAttachmentSpec", { ContainerID: STRING }),
  Resources: RESOURCES,
  RestartPolicy: struct("swarm.RestartPolicy", {
    Condition: named("swarm.RestartPolicyCondition"),
    Delay: DURATION,
    MaxAttempts: UINT64,
    Window: DURATION,
  }),
  Placement: PLACEMENT,
  Networks: NETWORKS,
  LogDriver: DRIVER,
  ForceUpdate: UINT64,
  Runtime: named("swarm.RuntimeType"),
});

const MODE = struct("swarm.ServiceMode", {
  Replicated: struct("swarm.ReplicatedService", { Replicas: UINT64 }),
  Global: struct("swarm.GlobalService", {}),
  ReplicatedJob: struct("swarm.ReplicatedJob", {
    MaxConcurrent: UINT64,
    TotalCompletions: UINT64,
  }),
  GlobalJob: struct("swarm.GlobalJob", {}),
});

const UPDATE_CONFIG = struct("swarm.UpdateConfig", {
  Parallelism: UINT64,
  Delay: DURATION,
  FailureAction: STRING,
  Monitor: DURATION,
  MaxFailureRatio: FLOAT32,
  Order: STRING,
});

const ENDPOINT_SPEC = struct("swarm.EndpointSpec", {
  Mode: named("swarm.ResolutionMode"),
  Ports: list(
    struct("swarm.PortConfig", {
      Name: STRING,
      Protocol: named("swarm.PortConfigProtocol"),
      TargetPort: UINT32,
      PublishedPort: UINT32,
      PublishMode: named("swarm.PortConfigPublishMode"),
    }),
  ),
});

export const SERVICE_SPEC_SHAPE = struct("swarm.ServiceSpec", {
  Name: STRING,
  Labels: STRING_MAP,
  TaskTemplate: TASK_SPEC,
  Mode: MODE,
  UpdateConfig: UPDATE_CONFIG,
  RollbackConfig: UPDATE_CONFIG,
  Networks: NETWORKS,
  EndpointSpec: ENDPOINT_SPEC,
});

export const NODE_SPEC_SHAPE = struct("swarm.NodeSpec", {
  Name: STRING,
  Labels: STRING_MAP,
  Role: named("swarm.NodeRole"),
  Availability: named("swarm.NodeAvailability"),
});

export const SECRET_SPEC_SHAPE = struct("swarm.SecretSpec", {
  Name: STRING,
  Labels: STRING_MAP,
  Data: BYTES,
  Driver: DRIVER,
  Templating: DRIVER,
});

export const CONFIG_SPEC_SHAPE = struct("swarm.ConfigSpec", {
  Name: STRING,
  Labels: STRING_MAP,
  Data: BYTES,
  Templating: DRIVER,
});

const INT32_MAX = 2 ** 31 - 1;
const TICKS = integer("int", -INT32_MAX, INT32_MAX);

export const SWARM_SPEC_SHAPE = struct("swarm.Spec", {
  Name: STRING,
  Labels: STRING_MAP,
  Orchestration: struct("swarm.OrchestrationConfig", { TaskHistoryRetentionLimit: INT64 }),
  Raft: struct("swarm.RaftConfig", {
    SnapshotInterval: UINT64,
    KeepOldSnapshots: UINT64,
    LogEntriesForSlowFollowers: UINT64,
    ElectionTick: TICKS,
    HeartbeatTick: TICKS,
  }),
  Dispatcher: struct("swarm.DispatcherConfig", { HeartbeatPeriod: DURATION }),
  CAConfig: struct("swarm.CAConfig", {
    NodeCertExpiry: DURATION,
    ExternalCAs: list(
      struct("swarm.ExternalCA", {
        Protocol: named("swarm.ExternalCAProtocol"),
        URL: STRING,
        Options: STRING_MAP,
        CACert: STRING,
      }),
      "[]*swarm.ExternalCA",
    ),
    SigningCACert: STRING,
    SigningCAKey: STRING,
    ForceRotate: UINT64,
  }),
  TaskDefaults: struct("swarm.TaskDefaults", { LogDriver: DRIVER }),
  EncryptionConfig: struct("swarm.EncryptionConfig", { AutoLockManagers: BOOL }),
});

export const NETWORK_SPEC_SHAPE = struct("types.NetworkCreateRequest", {
  Name: STRING,
  CheckDuplicate: BOOL,
  Driver: STRING,
  Scope: STRING,
  EnableIPv4: BOOL,
  EnableIPv6: BOOL,
  IPAM: struct("network.IPAM", {
    Driver: STRING,
    Options: STRING_MAP,
    Config: list(
      struct("network.IPAMConfig", {
        Subnet: STRING,
        IPRange: STRING,
        Gateway: STRING,
        AuxiliaryAddresses: STRING_MAP,
      }),
    ),
  }),
  Internal: BOOL,
  Attachable: BOOL,
  Ingress: BOOL,
  ConfigOnly: BOOL,
  ConfigFrom: struct("network.ConfigReference", { Network: STRING }),
  Options: STRING_MAP,
  Labels: STRING_MAP,
});
