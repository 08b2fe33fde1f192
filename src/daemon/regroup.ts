import type { InitRequest, RestoreRequest } from "../api/ports.ts";
import { SwarmError } from "../base/errors.ts";
import { PRODUCT_VERSION } from "../base/version.ts";
import { loadBackup, takeBackup } from "../recovery/backup.ts";
import type { AskedAddresses, NodeAddresses } from "./addresses.ts";
import type { ClusterNode } from "./cluster-node.ts";
import type { Manager } from "./manager.ts";
import type { NodeState, NodeStateFile } from "./node-state.ts";
import {
  checkClusterGone,
  checkQuorumLost,
  type PreparedGroup,
  prepareForcedGroup,
  prepareRestoredGroup,
  type RecoverDeps,
} from "./recover.ts";
import type { RunningNode } from "./running-node.ts";
import { timeoutSignal } from "./timeout-signal.ts";

/** A group of one leads at once; the rest is for slow disks. */
const LEAD_WAIT_MS = 20_000;
/** What the command line and other clients send when nothing else is asked for. */
const DEFAULT_LISTEN_ADDR = "0.0.0.0:2377";

/** What making a new group needs of the daemon's life. */
export interface RegroupHost extends RecoverDeps {
  readonly dataDir: string;
  readonly stateFile: NodeStateFile;
  addresses(request: AskedAddresses): NodeAddresses;
  /** Ends the running node; its containers run on. */
  stop(): Promise<void>;
  /** Starts the node as a member that was there before. */
  start(state: NodeState): RunningNode;
}

/**
 * Makes this manager the whole of a new group; resolves with its node id when it leads. On a
 * failure it goes on in the old one.
 */
export async function forceNewGroup(
  host: RegroupHost,
  node: ClusterNode,
  request: InitRequest,
  signal: AbortSignal,
): Promise<string> {
  const { manager } = node;
  if (manager === null) {
    const why = node.problem === "" ? "" : ` (${node.problem})`;
    throw new SwarmError(
      "failed_precondition",
      `only a manager that is up can be made a new cluster of; this node is none now${why}`,
    );
  }
  await checkQuorumLost(manager, host, signal);
  const before = node.state;
  const state = { ...before, ...addressesAnew(host, request, before) };
  await host.stop();
  let next = before;
  let running: RunningNode;
  try {
    const options = { dataDir: host.dataDir, raftId: before.raftId, state };
    const prepared = await prepareForcedGroup(options, host);
    await adopt(host, prepared);
    next = prepared.state;
  } finally {
    running = host.start(next);
  }
  return lead(host, running, signal);
}

/** Reads a backup whole and makes sure that it may be restored here. */
export async function readRestorable(
  host: RegroupHost,
  request: RestoreRequest,
  file: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<() => Promise<string>> {
  const addresses = host.addresses(request);
  const backup = await loadBackup(file, request.passphrase, host);
  if (!request.force) await checkClusterGone(backup, host, signal);
  const managers = [addresses.advertiseAddr];
  const state: NodeState = { format: 1, ...addresses, raftId: 0, raftJoined: false, managers };
  const { dataDir } = host;
  return async () => {
    const options = { dataDir, state, availability: "active" as const, backup };
    const prepared = await prepareRestoredGroup(options, host);
    await adopt(host, prepared);
    return lead(host, host.start(prepared.state), signal);
  };
}

/** The state of this manager's cluster as a file. */
export function backupOf(
  manager: Manager,
  host: RegroupHost,
  passphrase: string,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const { nodeId, clusterId } = host.identity.current();
  const options = { nodeId, clusterId, productVersion: PRODUCT_VERSION, passphrase };
  const { raft, store } = manager;
  return takeBackup(options, { raft, store, clock: host.clock }, signal);
}

/** Those in use unless others are asked for. */
function addressesAnew(
  host: RegroupHost,
  request: InitRequest,
  { listenAddr, advertiseAddr, dataPathAddr, advertised }: NodeState,
): NodeAddresses {
  const asked = request.listenAddr === DEFAULT_LISTEN_ADDR ? "" : request.listenAddr;
  const addresses = host.addresses({
    listenAddr: asked === "" ? listenAddr : asked,
    advertiseAddr: request.advertiseAddr === "" ? advertiseAddr : request.advertiseAddr,
    dataPathAddr: request.dataPathAddr === "" ? dataPathAddr : request.dataPathAddr,
  });
  return request.advertiseAddr === "" && advertised !== undefined
    ? { ...addresses, advertised }
    : addresses;
}

/** The moment of the change is when node.json names the prepared group. */
async function adopt(
  { identity, stateFile }: RegroupHost,
  { credentials, state }: PreparedGroup,
): Promise<void> {
  await identity.replace(credentials);
  await stateFile.save(state);
}

/** Resolves with this node's id when it leads its group and answers. */
async function lead(
  { identity, clock }: RegroupHost,
  { node, failed }: RunningNode,
  signal: AbortSignal,
): Promise<string> {
  const limit = AbortSignal.any([signal, timeoutSignal(clock, LEAD_WAIT_MS)]);
  await Promise.race([node.whenManager(limit), failed]);
  await node.manager?.raft.readBarrier(limit);
  return identity.current().nodeId;
}
