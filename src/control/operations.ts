import type { DoctorReport, MeshStatus, NetworkStatus } from "../model/data-path-status.ts";
import type {
  Cluster,
  Config,
  Network,
  Node,
  Secret,
  Service,
  ServiceSpecVersion,
  Task,
} from "../model/rows.ts";
import type { ServicePlan } from "../model/service-plan.ts";
import type { PortConfig } from "../model/service-spec.ts";
import type { PeerInfo } from "../raft/ports.ts";

/** Values of a Docker filter, by name; every value of a name is an alternative. */
export type Filters = Readonly<Record<string, readonly string[]>>;

export interface ManagerInfo extends PeerInfo {
  readonly leader: boolean;
  readonly voter: boolean;
  /** It answered lately. */
  readonly reachable: boolean;
}

/** Docker's `ServiceStatus`: how many tasks there are against how many there should be. */
export interface ServiceStatus {
  readonly running: number;
  readonly desired: number;
  readonly completed: number;
}

export interface ServiceView {
  readonly service: Service;
  /** Counted only when asked for. */
  readonly status: ServiceStatus | null;
}

export interface TaskView {
  readonly task: Task;
  /** The spec version it was made from; null when that is gone or it has no service. */
  readonly spec: ServiceSpecVersion["spec"] | null;
  readonly job: boolean;
  /** The networks it is attached to, by id. */
  readonly networks: Readonly<Record<string, Network>>;
}

/** What the cluster trusts now, to tell whose certificate is of an older root. */
export interface Roots {
  readonly rootCertPem: string;
  /** The root that issues while it is to replace the other; empty when none is. */
  readonly nextRootCertPem: string;
}

export interface NodeView extends Roots {
  readonly node: Node;
}

/** The cluster row without what must not leave the managers. */
export type PublicCluster = Omit<Cluster, "rootCa" | "unlockKey" | "nextRoot" | "mesh"> & Roots;

export interface NetworkView {
  readonly network: Network;
  /** With running tasks on it, and what they are known by there; none in a list. */
  readonly services: readonly NetworkService[];
  /** Nodes that take part in it; none in a list. */
  readonly peers: readonly NetworkPeer[];
}

export interface NetworkPeer {
  readonly nodeId: string;
  /** Of its data path, or of its session; maybe with a port. */
  readonly addr: string;
}

export interface NetworkService {
  /** Empty for plain containers. */
  readonly name: string;
  /** Without prefix length; empty when its name resolves to its tasks. */
  readonly vip: string;
  readonly ports: readonly PortConfig[];
  readonly tasks: readonly {
    readonly name: string;
    readonly addr: string;
    /** Of its node, as a peer's. */
    readonly hostAddr: string;
  }[];
}

export interface RaftView {
  readonly nodeId: string;
  readonly role: string;
  readonly term: number;
  readonly commit: number;
  readonly applied: number;
  readonly leaderNodeId: string;
  readonly managers: readonly ManagerInfo[];
}

interface Ref {
  /** Full id, exact name, or unique prefix of an id. */
  readonly ref: string;
}

interface Versioned extends Ref {
  /** The version the caller read; a stale one is refused. */
  readonly version: number;
  /** Docker's JSON, not looked at yet. */
  readonly spec: unknown;
}

interface Create {
  /** Chosen before the first try, so that a repetition is recognised. */
  readonly id: string;
  readonly spec: unknown;
}

export type RegistryAuthFrom = "spec" | "previous-spec";

type None = Readonly<Record<never, never>>;

/** Every operation: arguments and result, both plain JSON. */
export interface Operations {
  "service.list": {
    args: { readonly filters: Filters; readonly status: boolean };
    result: readonly ServiceView[];
  };
  "service.get": { args: Ref; result: Service };
  "service.create": {
    args: Create & {
      /** Used when the spec has no name. */
      readonly fallbackName: string;
      /** Docker's X-Registry-Auth; empty for none. */
      readonly registryAuth: string;
    };
    result: { readonly id: string };
  };
  "service.update": {
    args: Versioned & {
      readonly fallbackName: string;
      readonly registryAuth: string;
      readonly registryAuthFrom: string;
      /** "", "none" or "previous". */
      readonly rollback: string;
    };
    result: None;
  };
  "service.remove": { args: Ref; result: None };
  /** Where tasks would go, and why not, if the service were created or updated so. */
  "service.plan": {
    args: Create & {
      /** The service to update; empty = it would be created. */
      readonly ref: string;
      /** Used when the spec has no name. */
      readonly fallbackName: string;
    };
    result: ServicePlan;
  };
  "task.list": { args: { readonly filters: Filters }; result: readonly TaskView[] };
  "task.get": { args: Ref; result: TaskView };
  "node.list": { args: { readonly filters: Filters }; result: readonly NodeView[] };
  "node.get": { args: Ref; result: NodeView };
  /** The Raft group; only the leader knows who answers it. */
  "manager.list": { args: None; result: readonly ManagerInfo[] };
  "node.update": { args: Versioned; result: None };
  "node.remove": { args: Ref & { readonly force: boolean }; result: None };
  "swarm.get": { args: None; result: PublicCluster };
  "swarm.update": {
    args: {
      readonly version: number;
      readonly spec: unknown;
      readonly rotateWorkerToken: boolean;
      readonly rotateManagerToken: boolean;
      readonly rotateUnlockKey: boolean;
    };
    result: None;
  };
  "secret.list": { args: { readonly filters: Filters }; result: readonly Secret[] };
  "secret.get": { args: Ref; result: Secret };
  "secret.create": { args: Create; result: { readonly id: string } };
  "secret.update": { args: Versioned; result: None };
  "secret.remove": { args: Ref; result: None };
  "config.list": { args: { readonly filters: Filters }; result: readonly Config[] };
  "config.get": { args: Ref; result: Config };
  "config.create": { args: Create; result: { readonly id: string } };
  "config.update": { args: Versioned; result: None };
  "config.remove": { args: Ref; result: None };
  "network.list": { args: None; result: readonly NetworkView[] };
  "network.get": { args: Ref; result: NetworkView };
  "network.create": { args: Create; result: { readonly id: string } };
  "network.remove": { args: Ref; result: None };
  /** What every node has of a network: the leader asks them. */
  "network.status": { args: Ref; result: NetworkStatus };
  /** The keys of the encrypted mesh: where their last rotation stands. */
  "mesh.get": { args: None; result: MeshStatus };
  /** Begins the next rotation; refused while one is under way. */
  "mesh.rotate": { args: None; result: MeshStatus };
  /** Probes the ways between all hosts. */
  "network.doctor": { args: None; result: DoctorReport };
  "system.info": {
    args: None;
    result: {
      readonly cluster: PublicCluster;
      readonly nodes: number;
      readonly managers: number;
    };
  };
  "system.status": { args: None; result: RaftView };
}

export type OperationName = keyof Operations;
export type OperationArgs<K extends OperationName> = Operations[K]["args"];
export type OperationResult<K extends OperationName> = Operations[K]["result"];

/**
 * - `read`: answered by any manager from its own state, after a read barrier.
 * - `local`: answered by any manager at once, even without a quorum.
 * - `leader`: a read of what only the leader knows (which managers are reachable).
 * - `write`: changes the state; only the leader does it.
 */
export type OperationKind = "read" | "local" | "leader" | "write";

export interface OperationTraits {
  readonly kind: OperationKind;
  /** Doing it twice is doing it once: it may be repeated when its outcome is unknown. */
  readonly repeatable: boolean;
  /** Where the usual limit of its kind is too short. */
  readonly timeoutMs?: number;
}

/** Three phases on all hosts, and time for a node that does not answer in any of them. */
const DOCTOR_TIMEOUT_MS = 25_000;

const READ: OperationTraits = { kind: "read", repeatable: true };
const WRITE: OperationTraits = { kind: "write", repeatable: false };
/** Creations carry their id. */
const CREATE: OperationTraits = { kind: "write", repeatable: true };

export const OPERATION_TRAITS: { readonly [K in OperationName]: OperationTraits } = {
  "service.list": READ,
  "service.get": READ,
  "service.create": CREATE,
  "service.update": WRITE,
  "service.remove": WRITE,
  "service.plan": { kind: "leader", repeatable: true },
  "task.list": READ,
  "task.get": READ,
  "manager.list": { kind: "leader", repeatable: true },
  "node.list": READ,
  "node.get": READ,
  "node.update": WRITE,
  "node.remove": WRITE,
  "swarm.get": READ,
  "swarm.update": WRITE,
  "secret.list": READ,
  "secret.get": READ,
  "secret.create": CREATE,
  "secret.update": WRITE,
  "secret.remove": WRITE,
  "config.list": READ,
  "config.get": READ,
  "config.create": CREATE,
  "config.update": WRITE,
  "config.remove": WRITE,
  "network.list": READ,
  "network.get": READ,
  "network.create": CREATE,
  "network.remove": WRITE,
  "mesh.get": { kind: "leader", repeatable: true },
  "mesh.rotate": WRITE,
  "network.status": { kind: "leader", repeatable: true },
  "network.doctor": { kind: "leader", repeatable: true, timeoutMs: DOCTOR_TIMEOUT_MS },
  "system.info": READ,
  "system.status": { kind: "local", repeatable: true },
};

/** Whether a name that came over the wire is one of ours. */
export function isOperation(name: string): name is OperationName {
  return Object.hasOwn(OPERATION_TRAITS, name);
}
