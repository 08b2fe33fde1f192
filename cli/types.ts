import type { NodeRole } from "../src/model/rows.ts";
import type { PortConfig, ServiceSpec, TaskSpec } from "../src/model/service-spec.ts";
import type { TaskState } from "../src/model/task-state.ts";

/** The API's objects as far as the command line reads them (Docker API 1.41). */
export interface Version {
  readonly Index: number;
}

export interface ApiNode {
  readonly ID: string;
  readonly Version: Version;
  readonly CreatedAt: string;
  readonly UpdatedAt: string;
  readonly Spec: {
    readonly Name?: string;
    readonly Labels?: Readonly<Record<string, string>>;
    readonly Role: NodeRole;
    readonly Availability: string;
  };
  readonly Description?: {
    readonly Hostname?: string;
    readonly Platform?: { readonly Architecture?: string; readonly OS?: string };
    readonly Resources?: { readonly NanoCPUs?: number; readonly MemoryBytes?: number };
    readonly Engine?: {
      readonly EngineVersion?: string;
      readonly Labels?: Readonly<Record<string, string>>;
      readonly Plugins?: readonly { readonly Type: string; readonly Name: string }[];
    };
    readonly TLSInfo?: { readonly TrustRoot?: string };
  };
  readonly Status: { readonly State: string; readonly Message?: string; readonly Addr?: string };
  readonly ManagerStatus?: {
    readonly Leader?: boolean;
    readonly Reachability?: string;
    readonly Addr?: string;
  };
}

export interface ApiUpdateStatus {
  readonly State?: string;
  readonly StartedAt?: string;
  readonly CompletedAt?: string;
  readonly Message?: string;
}

export interface ApiService {
  readonly ID: string;
  readonly Version: Version;
  readonly CreatedAt: string;
  readonly UpdatedAt: string;
  readonly Spec: ServiceSpec;
  readonly PreviousSpec?: ServiceSpec;
  readonly Endpoint?: {
    readonly Ports?: readonly PortConfig[] | null;
    readonly VirtualIPs?: readonly { readonly NetworkID: string; readonly Addr: string }[] | null;
  };
  readonly UpdateStatus?: ApiUpdateStatus;
  readonly ServiceStatus?: {
    readonly RunningTasks: number;
    readonly DesiredTasks: number;
    readonly CompletedTasks: number;
  };
  readonly JobStatus?: {
    readonly JobIteration: Version;
    readonly LastExecution?: string;
  };
}

export interface ApiTask {
  readonly ID: string;
  readonly Version: Version;
  readonly CreatedAt: string;
  readonly UpdatedAt: string;
  readonly ServiceID: string;
  readonly NodeID?: string;
  readonly Slot?: number;
  readonly Spec: TaskSpec;
  readonly DesiredState: TaskState;
  readonly JobIteration?: Version;
  readonly Status: {
    readonly Timestamp: string;
    readonly State: TaskState;
    readonly Message?: string;
    readonly Err?: string;
    readonly ContainerStatus?: { readonly ContainerID?: string; readonly ExitCode?: number };
    readonly PortStatus?: { readonly Ports?: readonly PortConfig[] | null };
  };
}

export interface ApiInfo {
  readonly Name: string;
  readonly ServerVersion: string;
  readonly Swarm: {
    readonly NodeID: string;
    readonly NodeAddr: string;
    readonly LocalNodeState: string;
    readonly ControlAvailable: boolean;
    readonly Error?: string;
    readonly RemoteManagers?: readonly { readonly NodeID: string; readonly Addr: string }[] | null;
    readonly Managers?: number;
    readonly Nodes?: number;
    readonly Cluster?: {
      readonly ID: string;
      readonly CreatedAt: string;
      readonly Spec: {
        readonly Orchestration?: { readonly TaskHistoryRetentionLimit?: number };
        readonly Raft?: Readonly<Record<string, number>>;
        readonly Dispatcher?: { readonly HeartbeatPeriod?: number };
        readonly CAConfig?: { readonly NodeCertExpiry?: number };
      };
      readonly DefaultAddrPool?: readonly string[];
      readonly SubnetSize?: number;
      readonly DataPathPort?: number;
    };
  };
  readonly [key: string]: unknown;
}
