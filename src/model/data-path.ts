import type { OverlayEndpoint, OverlayService } from "./overlay.ts";

/** What managers ask nodes about the data path of overlay networks, and what nodes answer. */

export type NodeQuestion =
  | { readonly kind: "network"; readonly networkId: string }
  /** Gets ready to be probed by others; ends by itself when it is forgotten. */
  | { readonly kind: "probe-open"; readonly plan: ProbePlan }
  /** Sends to all targets; the answer is a ProbeReport. */
  | { readonly kind: "probe-run" }
  /** What came from others meanwhile; the answer is a HeardReport. */
  | { readonly kind: "probe-close" };

/** Hosts that one host probes at most; in a larger cluster each probes that many others. */
export const MAX_PROBE_TARGETS = 128;
/** Hosts of one probe. */
export const MAX_PROBE_HOSTS = 1_024;

export interface ProbeTarget {
  readonly nodeId: string;
  readonly index: number;
  /** Where its tunnels end. */
  readonly addr: string;
}

export interface ProbePlan {
  readonly self: ProbeTarget;
  /** All other hosts; those at the front are sent to, whoever sends is answered. */
  readonly others: readonly ProbeTarget[];
  /** host:port of the managers. */
  readonly managers: readonly { readonly nodeId: string; readonly addr: string }[];
  /** UDP port of plain tunnels. */
  readonly dataPathPort: number;
  /** Some network is encrypted: the mesh is probed too. */
  readonly encrypted: boolean;
}

/** One way to one other host, as the sender saw it. */
export interface WayReport {
  readonly index: number;
  /** Largest packet of the underlay, in bytes, that was acknowledged; 0: none was. */
  readonly reachedBytes: number;
}

export interface ProbeReport {
  /** Why it could not probe; empty: it did. */
  readonly problem: string;
  /** MTU of the device that has the address of tunnels. */
  readonly underlayMtu: number;
  /** Largest packet that was tried, in bytes on the underlay. */
  readonly triedBytes: number;
  readonly plain: readonly WayReport[];
  /** Null: encrypted tunnels were not asked for, or cannot be here. */
  readonly sealed: readonly WayReport[] | null;
  readonly sealedProblem: string;
  /** Control ports that took a connection or did not: empty problem = it did. */
  readonly control: readonly { readonly nodeId: string; readonly problem: string }[];
}

/** Indexes of the hosts whose packets came here. */
export interface HeardReport {
  readonly plain: readonly number[];
  readonly sealed: readonly number[];
}

/** Rows of one network as somebody knows them; equal rows have equal digests. */
export interface TableSummary {
  readonly services: number;
  readonly endpoints: number;
  readonly serving: number;
  readonly digest: string;
}

/** What a namespace holds, or is to hold, in numbers. */
export interface ProgramSummary {
  /** Other hosts it has a way to. */
  readonly hosts: number;
  readonly routes: number;
  readonly locals: number;
  readonly vips: number;
  readonly ports: number;
  /** Over all virtual addresses and ports. */
  readonly backends: number;
}

/** Something that other hands had changed, as the audit found it. */
export interface AuditFinding {
  readonly atMs: number;
  readonly what: string;
}

export interface NetworkReport {
  /** Why the network is not here as it should be; empty: it is. */
  readonly problem: string;
  /** What the node was told of it; null: nothing. */
  readonly told: TableSummary | null;
  /** Null: this node is not to have it now. */
  readonly wanted: ProgramSummary | null;
  /** Null: it has no namespace here. */
  readonly programmed: ProgramSummary | null;
  /** When the kernel was last compared with what it should hold, epoch ms; 0: not yet. */
  readonly auditedAtMs: number;
  /** Repairs since the daemon's start; the last few of them. */
  readonly repairs: number;
  readonly findings: readonly AuditFinding[];
}

const HASH_PRIME = 0x01000193;
const HASH_START = 0x811c9dc5;

/** FNV-1a, 32 bits: tells rows apart, protects nothing. */
function hash(text: string): number {
  let value = HASH_START;
  for (let i = 0; i < text.length; i += 1) {
    value = Math.imul(value ^ text.charCodeAt(i), HASH_PRIME);
  }
  return value >>> 0;
}

/** The same for equal rows, in whatever order they come. */
export function summarize(
  services: Iterable<OverlayService>,
  endpoints: Iterable<OverlayEndpoint>,
): TableSummary {
  const sums = { services: 0, endpoints: 0, serving: 0 };
  let [sum, mixed] = [0, 0];
  const add = (row: object): void => {
    const value = hash(JSON.stringify(row));
    sum = (sum + value) >>> 0;
    mixed = (mixed ^ value) >>> 0;
  };
  for (const row of services) {
    sums.services += 1;
    add(row);
  }
  for (const row of endpoints) {
    sums.endpoints += 1;
    if (row.serving) sums.serving += 1;
    add(row);
  }
  return { ...sums, digest: [sum, mixed].map(part => part.toString(16).padStart(8, "0")).join("") };
}
