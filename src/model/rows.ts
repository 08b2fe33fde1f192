import type { IpFamily } from "./ip.ts";
import type {
  EndpointSpec,
  GenericResourceSpec,
  Labels,
  PortConfig,
  ServiceSpec,
} from "./service-spec.ts";
import type { DesiredState, TaskState } from "./task-state.ts";

/**
 * The rows of the replicated state. Rows are frozen values; `version` is the Raft index that wrote
 * the row last, `createdAtMs` and `updatedAtMs` are stamped by the leader into the transaction
 * (never read from a clock at apply).
 */
export interface RowMeta {
  readonly id: string;
  readonly version: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export type NodeRole = "manager" | "worker";
export type Availability = "active" | "pause" | "drain";
export type NodeState = "unknown" | "down" | "ready" | "disconnected";

/** Docker's `NodeSpec`. */
export interface NodeSpec {
  readonly Name?: string;
  readonly Labels?: Labels;
  readonly Role: NodeRole;
  readonly Availability: Availability;
}

export interface NodeResources {
  readonly nanoCpus: number;
  readonly memoryBytes: number;
  readonly generic: readonly GenericResourceSpec[];
}

/** What a node says of itself when its session opens, refreshed while it lasts. */
export interface NodeDescription {
  readonly hostname: string;
  readonly architecture: string;
  readonly os: string;
  readonly resources: NodeResources;
  readonly engineVersion: string;
  readonly engineLabels: Labels;
  readonly plugins: readonly { readonly type: string; readonly name: string }[];
  /** Absent: the node knows nothing of overlay networks. */
  readonly overlay?: OverlayCapability;
}

/** One end of the encrypted mesh. */
export interface MeshKey {
  /** Counts rotations of the mesh's keys, from 1. */
  readonly generation: number;
  /** WireGuard public key, base64. */
  readonly publicKey: string;
}

/** What a node can do for overlay networks. */
export interface OverlayCapability {
  /** IP address at which other hosts reach its data path; empty: none. */
  readonly addr: string;
  /** WireGuard public key, base64; empty: no encrypted networks. */
  readonly publicKey: string;
  /** Its containers can have IPv6 addresses; absent: they cannot. */
  readonly ipv6?: true;
  /** It can change its key; absent: its one key is that of the first generation for ever. */
  readonly changesKeys?: true;
  /** Ends of the encrypted mesh that are up there; absent: none. */
  readonly meshKeys?: readonly MeshKey[];
  /** Ids of nodes, the first of them, that it reaches by an older generation's end still. */
  readonly lagging?: readonly string[];
  /** Why tasks on overlay networks cannot run there; empty: they can. */
  readonly problem: string;
}

export interface Node extends RowMeta {
  readonly spec: NodeSpec;
  /** Null until the first session. */
  readonly description: NodeDescription | null;
  /** The host's name as it was when the node joined; for the time until the first session. */
  readonly joinedAs?: string;
  readonly status: {
    readonly state: NodeState;
    readonly message: string;
    /** The address the node's session comes from, or its advertised one. */
    readonly addr: string;
  };
  /** The role that the node's present certificate carries; differs from spec.Role in a change. */
  readonly certRole: NodeRole;
  /** PEM of the issued certificate, for `TLSStatus` and renewal decisions; empty before. */
  readonly certificatePem: string;
  /** The cluster's `rootGeneration` when that was signed; absent: none has passed. */
  readonly rootGeneration?: number;
  /** Names the host in the data path of overlay networks; given by the allocator. */
  readonly overlayIndex?: number;
}

/** A member of the Raft group; id is the decimal Raft id, never used twice. */
export interface Member extends RowMeta {
  readonly nodeId: string;
  readonly raftId: number;
  /** host:port of the cluster port. */
  readonly addr: string;
}

/** The name that a node goes by; empty when it has not said one. */
export function hostnameOf(node: Node): string {
  return node.description?.hostname || node.joinedAs || "";
}

export type UpdateState =
  | "updating"
  | "paused"
  | "completed"
  | "rollback_started"
  | "rollback_paused"
  | "rollback_completed";

export interface UpdateStatus {
  readonly state: UpdateState;
  readonly startedAtMs: number;
  /** 0 while it runs. */
  readonly completedAtMs: number;
  readonly message: string;
}

export interface VirtualIp {
  readonly networkId: string;
  /** CIDR. */
  readonly addr: string;
}

export interface Service extends RowMeta {
  readonly spec: ServiceSpec;
  /** Counts changes of the spec; tasks and `serviceSpecs` rows point at it. Starts at 1. */
  readonly specVersion: number;
  readonly previousSpec: ServiceSpec | null;
  readonly previousSpecVersion: number;
  readonly updateStatus: UpdateStatus | null;
  /** What the allocator gave: ports with the published ones filled in, and VIPs. */
  readonly endpoint: {
    readonly spec: EndpointSpec;
    readonly ports: readonly PortConfig[];
    readonly virtualIps: readonly VirtualIp[];
  };
  /** False until the allocator has seen this specVersion; its tasks stay NEW until then. */
  readonly allocated: boolean;
  /** Jobs: counts executions; 0 for other modes. */
  readonly jobIteration: number;
  readonly jobLastExecutionMs: number;
  /** Set when removal was asked for; the row goes when its last task has gone. */
  readonly pendingDelete: boolean;
}

/** One version of a service's spec, stored once whatever the number of tasks. */
export interface ServiceSpecVersion extends RowMeta {
  /** `id` is specRowId(serviceId, specVersion). */
  readonly serviceId: string;
  readonly specVersion: number;
  readonly spec: ServiceSpec;
}

export function specRowId(serviceId: string, specVersion: number): string {
  return `${serviceId}.${specVersion}`;
}

export interface TaskStatus {
  readonly state: TaskState;
  readonly timestampMs: number;
  /** What is going on ("started", "pending task scheduling"). */
  readonly message: string;
  /** Why not, in words for the user; empty when all is well. */
  readonly err: string;
  readonly containerId: string;
  readonly pid: number;
  readonly exitCode: number;
  /** Host-mode ports as bound on the node. */
  readonly ports: readonly PortConfig[];
}

/** What a plain container asks of a network: one address, of one family. */
export interface AskedAddress {
  readonly family: IpFamily;
  /** Just this one; absent: any. */
  readonly address?: string;
}

export interface NetworkAttachment {
  readonly networkId: string;
  /** CIDRs, one of each family that the network has, IPv4 first. */
  readonly addresses: readonly string[];
  readonly aliases: readonly string[];
  /** Of plain containers only. */
  readonly asked?: AskedAddress;
  /** MAC address that its device is to have; absent: one made from its address. */
  readonly mac?: string;
}

export interface Task extends RowMeta {
  /** Empty for attachments of plain containers. */
  readonly serviceId: string;
  readonly serviceName: string;
  readonly specVersion: number;
  /** 1.. for replicated services, 0 for global ones. */
  readonly slot: number;
  /** Empty until the scheduler has chosen; preset for global services. */
  readonly nodeId: string;
  readonly desiredState: DesiredState;
  readonly status: TaskStatus;
  /**
   * When the observed state first became RUNNING, by the leader's clock (a worker's may be wrong);
   * 0 before. Stamped at apply, as is `endedAtMs`.
   */
  readonly runningSinceMs: number;
  /** When the observed state first became terminal, by the leader's clock; 0 before. */
  readonly endedAtMs: number;
  /** Epoch ms before which desired READY is not promoted to RUNNING (restart delay); 0 = none. */
  readonly startAfterMs: number;
  /** Fast failures in a row of its spec version in its slot, before it; absent = none. */
  readonly fastFailures?: number;
  /** Jobs: the iteration it belongs to. */
  readonly jobIteration: number;
  readonly assignedGeneric: readonly GenericResourceSpec[];
  readonly networks: readonly NetworkAttachment[];
}

export interface Secret extends RowMeta {
  readonly spec: {
    readonly Name: string;
    readonly Labels?: Labels;
    /** Base64. */
    readonly Data?: string;
    readonly Driver?: { readonly Name?: string; readonly Options?: Labels };
    readonly Templating?: { readonly Name?: string; readonly Options?: Labels };
  };
}

export interface Config extends RowMeta {
  readonly spec: {
    readonly Name: string;
    readonly Labels?: Labels;
    /** Base64. */
    readonly Data?: string;
    readonly Templating?: { readonly Name?: string; readonly Options?: Labels };
  };
}

export interface Network extends RowMeta {
  /** Docker's `NetworkCreateRequest`, as sent. */
  readonly spec: Readonly<Record<string, unknown>> & { readonly Name: string };
  /** Filled by the allocator. */
  readonly vni: number;
  readonly subnets: readonly { readonly subnet: string; readonly gateway: string }[];
}

/** Docker's `SwarmSpec`; durations in nanoseconds. */
export interface SwarmSpec {
  readonly Name: string;
  readonly Labels?: Labels;
  readonly Orchestration: { readonly TaskHistoryRetentionLimit: number };
  readonly Raft: {
    readonly SnapshotInterval: number;
    readonly KeepOldSnapshots: number;
    readonly LogEntriesForSlowFollowers: number;
    readonly ElectionTick: number;
    readonly HeartbeatTick: number;
  };
  readonly Dispatcher: { readonly HeartbeatPeriod: number };
  readonly CAConfig: {
    readonly NodeCertExpiry: number;
    readonly ExternalCAs?: readonly Readonly<Record<string, unknown>>[];
    readonly SigningCACert?: string;
    readonly SigningCAKey?: string;
    readonly ForceRotate?: number;
  };
  readonly EncryptionConfig: { readonly AutoLockManagers: boolean };
  readonly TaskDefaults: {
    readonly LogDriver?: { readonly Name?: string; readonly Options?: Labels };
  };
}

export interface NextRoot {
  readonly certPem: string;
  readonly keyPem: string;
  /** Its key signed by the present root: whoever trusts only that one trusts its certificates. */
  readonly crossSignedPem: string;
}

/** The one row of the cluster table; `id` is the cluster id (O of every certificate). */
export interface Cluster extends RowMeta {
  readonly spec: SwarmSpec;
  readonly rootCa: {
    readonly certPem: string;
    /** In the replicated state, which is encrypted at rest; sent to no worker. */
    readonly keyPem: string;
  };
  readonly joinTokens: { readonly worker: string; readonly manager: string };
  /** What opens locked managers, `SWMKEY-1-…`; empty or absent without autolock. */
  readonly unlockKey?: string;
  readonly defaultAddrPool: readonly string[];
  readonly subnetSize: number;
  readonly dataPathPort: number;
  readonly rootRotationInProgress: boolean;
  /** The root that takes the present one's place when every node has a certificate of it. */
  readonly nextRoot?: NextRoot | null;
  /**
   * How many times a root has gone; absent: none. Nodes whose certificate is of an earlier
   * generation renew: they may trust, or be signed by, one that has gone. Counted, not timed:
   * certificates say their begin in whole seconds.
   */
  readonly rootGeneration?: number;
  /** Keys of the encrypted mesh; absent: the first generation, without a shared key. */
  readonly mesh?: {
    readonly generation: number;
    /** Shared by the nodes that have encrypted networks, base64; sent to no other. */
    readonly psk: string;
    /** Of the generation before, which is in use until all nodes have moved. */
    readonly previousPsk: string;
    /** All nodes have moved to this generation. */
    readonly settled: boolean;
    readonly startedAtMs: number;
  };
}

/** Every table of the state and its row type. */
export interface Tables {
  readonly cluster: Cluster;
  readonly nodes: Node;
  readonly members: Member;
  readonly services: Service;
  readonly serviceSpecs: ServiceSpecVersion;
  readonly tasks: Task;
  readonly secrets: Secret;
  readonly configs: Config;
  readonly networks: Network;
}

export type TableName = keyof Tables;

export const TABLE_NAMES: readonly TableName[] = [
  "cluster",
  "nodes",
  "members",
  "services",
  "serviceSpecs",
  "tasks",
  "secrets",
  "configs",
  "networks",
];
