import type { ControlClient } from "../control/ports.ts";
import type { SwarmEventFeed } from "../control/swarm-events.ts";
import type { Availability, SwarmSpec } from "../model/rows.ts";

export type LocalNodeState = "inactive" | "pending" | "active" | "error" | "locked";

/** This node's part in a cluster, as `docker info` shows it. */
export interface LocalNodeInfo {
  readonly localNodeState: LocalNodeState;
  /** Empty when in no cluster. */
  readonly nodeId: string;
  /** Advertised address, without a port. */
  readonly nodeAddr: string;
  /** Its certificate says manager; `control()` may still be null while it joins the group. */
  readonly isManager: boolean;
  /** Why the state is `error`, or what is wrong just now; empty when all is well. */
  readonly error: string;
  readonly remoteManagers: readonly { readonly nodeId: string; readonly addr: string }[];
}

/** Docker's SwarmInitRequest, checked and with its spec complete. Addresses are as sent. */
export interface InitRequest {
  readonly listenAddr: string;
  readonly advertiseAddr: string;
  readonly dataPathAddr: string;
  /** UDP port, 1024 to 49151. */
  readonly dataPathPort: number;
  /** CIDRs. */
  readonly defaultAddrPool: readonly string[];
  /** Prefix length. */
  readonly subnetSize: number;
  readonly forceNewCluster: boolean;
  readonly autoLockManagers: boolean;
  readonly availability: Availability;
  readonly spec: SwarmSpec;
}

export interface JoinRequest {
  readonly listenAddr: string;
  readonly advertiseAddr: string;
  readonly dataPathAddr: string;
  readonly remoteAddrs: readonly string[];
  readonly joinToken: string;
  readonly availability: Availability;
}

/** What `swarmd restore` says besides the file. Addresses are as sent. */
export interface RestoreRequest {
  readonly listenAddr: string;
  readonly advertiseAddr: string;
  readonly dataPathAddr: string;
  /** Of the file; empty when it is not encrypted. */
  readonly passphrase: string;
  /** Even if managers of the backup's cluster answer. */
  readonly force: boolean;
}

/**
 * The daemon's cluster life (implemented by `daemon`). Errors carry Docker's words; the codes are
 * mapped in `errors.ts`.
 */
export interface NodeLifecycle {
  state(): LocalNodeInfo;
  /** Starts a cluster of one; resolves with the node id when it leads. */
  init(request: InitRequest, signal: AbortSignal): Promise<string>;
  join(request: JoinRequest, signal: AbortSignal): Promise<void>;
  leave(force: boolean, signal: AbortSignal): Promise<void>;
  /** The whole state as a file, encrypted if there is a passphrase; managers with a quorum only. */
  backup(passphrase: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
  /** Makes a cluster of one out of such a file; resolves with the node id when it leads. */
  restore(
    request: RestoreRequest,
    file: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<string>;
  /** Opens a locked manager with its key. */
  unlock(key: string, signal: AbortSignal): Promise<void>;
  /** The key that unlocks managers, `SWMKEY-1-…`; empty without autolock. Managers only. */
  unlockKey(signal: AbortSignal): Promise<string>;
  /**
   * Brings an attachable network of the cluster to this node's Engine, for a container that is no
   * task. Throws `unavailable` for now, another error when this node cannot have it.
   */
  attachNetwork(networkId: string, signal: AbortSignal): Promise<{ readonly gateway: string }>;
  /** The cluster, while this node is a working manager. */
  control(): ControlClient | null;
  /** The cluster's events, while this node is a working manager. */
  events(): SwarmEventFeed | null;
}
