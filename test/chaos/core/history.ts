/**
 * What a run leaves behind, as plain data: requests with their outcomes, faults, containers, who
 * led. Every time is epoch ms of the one clock that all hosts of the lab share.
 */

/**
 * What a client knows of its write. `refused`: the daemon said that nothing was done, or was not
 * there. `unknown`: no answer, or one that leaves it open.
 */
export type Outcome = "acknowledged" | "refused" | "unknown";

export type ObjectKind = "service" | "secret" | "config" | "node";

/** What a service's writes say about its containers. */
export interface ServiceShape {
  readonly image: string;
  /** Goes into the containers' labels; a higher one means that older containers are replaced. */
  readonly generation: number;
  readonly mode: "replicated" | "global" | "mortal";
  /** 0 for global services. */
  readonly replicas: number;
  readonly workersOnly: boolean;
  readonly order: "stop-first" | "start-first";
  readonly restart: "any" | "on-failure";
  readonly secretId: string;
  readonly secretName: string;
}

/** Whether a node takes tasks. */
export type Availability = "active" | "drain";

/**
 * Objects are registers: each write has a value of its own, kept in a label of the object. Null is
 * "not there".
 */
export type Value = string | null;

interface Call {
  readonly id: number;
  /** For example `service/app-3`. */
  readonly key: string;
  readonly client: string;
  /** The manager asked. */
  readonly via: string;
  readonly startMs: number;
  readonly endMs: number;
  /** HTTP status; 0 = no answer. */
  readonly status: number;
  readonly text: string;
}

export interface WriteRecord extends Call {
  readonly what: "write";
  readonly action: "create" | "update" | "remove";
  readonly value: Value;
  readonly outcome: Outcome;
  /** Services only; null for a removal. */
  readonly shape: ServiceShape | null;
  /** The version of the object that an update names; 0 for others. */
  readonly base: number;
  /** Nodes only. */
  readonly availability: Availability | null;
}

export interface ReadRecord extends Call {
  readonly what: "read";
  /** Undefined when the read failed. */
  readonly value: Value | undefined;
}

export type RequestRecord = WriteRecord | ReadRecord;

export const FAULT_KINDS = [
  "leader-kill",
  "follower-kill",
  "worker-kill",
  "leader-pause",
  "follower-pause",
  "worker-pause",
  "leader-cut",
  "follower-cut",
  "worker-cut",
  "partition",
  "one-way-partition",
  "leader-stop",
  "manager-poweroff",
  "worker-poweroff",
  "worker-engine-restart",
  "quorum-loss",
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];

/** How a fault touches one host, or a pair of hosts. */
export type Blow =
  | { readonly kind: "kill" | "stop" | "pause" | "cut" | "poweroff"; readonly host: string }
  | { readonly kind: "engine-restart"; readonly host: string }
  | {
      readonly kind: "partition";
      readonly host: string;
      readonly other: string;
      readonly oneWay: boolean;
    };

export interface FaultRecord {
  readonly id: number;
  readonly kind: FaultKind;
  readonly blows: readonly Blow[];
  /** Before it was begun. */
  readonly startMs: number;
  /** When it was in force. */
  readonly injectedMs: number;
  /** Before its repair was begun. */
  readonly healMs: number;
  /** After its repair. */
  readonly endMs: number;
}

/** A container that was started for a task of ours. */
export interface ContainerRecord {
  readonly host: string;
  readonly id: string;
  readonly name: string;
  readonly taskId: string;
  readonly service: string;
  readonly generation: number;
  readonly startedMs: number;
  /** Null while it runs. `fromMs` < `toMs` when nobody saw the end. */
  readonly end: ContainerEnd | null;
}

export interface ContainerEnd {
  readonly fromMs: number;
  readonly toMs: number;
  /** Null when nobody saw it. */
  readonly exitCode: number | null;
  /** The Engine was asked to signal it before. */
  readonly asked: boolean;
}

/** A manager said that it leads. */
export interface LeaderSighting {
  readonly atMs: number;
  readonly host: string;
  readonly term: number;
}

/** Something was said of a host, or by it. */
export interface HostMark {
  readonly host: string;
  readonly atMs: number;
}

/** The run's own process was kept from running: the machine has too much to do. */
export interface Lag {
  readonly atMs: number;
  readonly lateMs: number;
}

export interface ChaosHistory {
  readonly managers: readonly string[];
  readonly workers: readonly string[];
  readonly requests: readonly RequestRecord[];
  readonly faults: readonly FaultRecord[];
  readonly containers: readonly ContainerRecord[];
  readonly leaders: readonly LeaderSighting[];
  /** A leader gave a silent node up. */
  readonly downs: readonly HostMark[];
  /** A node was taken up by a leader. */
  readonly sessions: readonly HostMark[];
  readonly lags: readonly Lag[];
}

/** Something that must not be. */
export interface Violation {
  /** The guarantee, for example `G1 acknowledged writes stay`. */
  readonly rule: string;
  readonly text: string;
  /** Where to look in the timeline; 0 = at the end. */
  readonly atMs: number;
}
