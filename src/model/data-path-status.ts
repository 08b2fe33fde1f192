import type { NetworkReport } from "./data-path.ts";

/** The data path of overlay networks as a person is shown it; plain JSON of swarmd's own API. */

export interface NetworkStatus {
  readonly id: string;
  readonly name: string;
  readonly encrypted: boolean;
  readonly subnets: readonly string[];
  readonly services: readonly ServiceStatusOnNetwork[];
  readonly nodes: readonly NodeOnNetwork[];
  /** Every node answered, and has what it should. */
  readonly inStep: boolean;
}

export interface ServiceStatusOnNetwork {
  readonly id: string;
  readonly name: string;
  /** CIDR, one of each family with a comma between; empty: its name is its tasks. */
  readonly vip: string;
  /** "8080->80/tcp" of each port published by this network. */
  readonly ports: readonly string[];
  /** Endpoints that new connections go to. */
  readonly serving: number;
}

export interface EndpointStatus {
  readonly taskId: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly state: string;
  readonly serving: boolean;
}

export interface NodeOnNetwork {
  readonly nodeId: string;
  readonly hostname: string;
  readonly endpoints: readonly EndpointStatus[];
  /** Assignments it was sent, and those its kernel has followed; null: it has no session. */
  readonly sequence: { readonly sent: number; readonly programmed: number } | null;
  /** Null: it did not answer. */
  readonly report: NetworkReport | null;
  /** What is not as it should be; empty: all is. */
  readonly problems: readonly string[];
}

export type ProbedThing = "node" | "control" | "vxlan" | "mtu" | "wireguard";

export interface DoctorFinding {
  readonly what: ProbedThing;
  /** Host names; `to` is empty for what is wrong with one node. */
  readonly from: string;
  readonly to: string;
  readonly problem: string;
  readonly advice: string;
}

/** Where the rotation of the encrypted mesh's keys stands. */
export interface MeshStatus {
  readonly generation: number;
  /** Every host uses this generation, and no other. */
  readonly settled: boolean;
  /** Epoch ms. */
  readonly startedAtMs: number;
  /** Host names of those that have not moved yet. */
  readonly waitingFor: readonly string[];
}

export interface DoctorReport {
  readonly hosts: readonly {
    readonly nodeId: string;
    readonly hostname: string;
    readonly addr: string;
    /** Took part in the probe. */
    readonly probed: boolean;
  }[];
  /** Ways that were tried, by kind, and those of them that are as they should be. */
  readonly ways: readonly {
    readonly what: ProbedThing;
    readonly tried: number;
    readonly open: number;
  }[];
  readonly findings: readonly DoctorFinding[];
  /** Further findings that are left out. */
  readonly moreFindings: number;
}
