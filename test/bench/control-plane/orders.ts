import type { RootCa } from "../../../src/pki/ca.ts";
import type { PeerInfo } from "../../../src/raft/ports.ts";
import type { Identity } from "../../../src/rpc/ports.ts";

/** What a manager's process can be told; it answers each with a value. */
export type ManagerOrder =
  | {
      readonly do: "start";
      readonly self: PeerInfo;
      readonly dir: string;
      readonly start: "bootstrap" | "join";
      readonly knownPeers: readonly PeerInfo[];
      readonly identity: Identity;
    }
  | { readonly do: "add"; readonly peer: PeerInfo }
  /** The rows that `swarmd init` and joins would write. */
  | { readonly do: "found"; readonly root: RootCa; readonly managers: readonly Identity[] }
  | { readonly do: "admit"; readonly workers: readonly Identity[] }
  | { readonly do: "report" }
  /** Creates services and waits until every replica runs, as the leader's state says. */
  | { readonly do: "deploy"; readonly services: number; readonly replicas: number }
  /** Removes every service and waits until no task is left. */
  | { readonly do: "clear" };

export interface ManagerReport {
  readonly leads: boolean;
  readonly leaderId: number;
  readonly term: number;
  readonly voters: readonly number[];
  readonly appliedIndex: number;
  readonly readyNodes: number;
  /** How often a node that was ready was called down, since this process started. */
  readonly calledDown: number;
  readonly tasks: number;
}

export interface Deployed {
  /** From the first request until every service was accepted. */
  readonly acceptedMs: number;
  /** From the first request until so much of all tasks ran. */
  readonly halfMs: number;
  readonly allMs: number;
}

export type WorkersOrder =
  | {
      readonly do: "start";
      readonly identities: readonly Identity[];
      readonly managers: readonly string[];
    }
  | { readonly do: "sessions" };

/** Of all workers of one process, from its start on. */
export interface Sessions {
  readonly opened: number;
  /** Connections begun for them; each is at most one TLS handshake. */
  readonly dialled: number;
  /** By the reason given. */
  readonly ended: Readonly<Record<string, number>>;
}
