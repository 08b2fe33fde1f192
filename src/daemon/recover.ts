import { createPublicKey } from "node:crypto";
import { hostname } from "node:os";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import { NS_PER_MS } from "../model/defaults.ts";
import { externalCaUrls } from "../model/external-ca.ts";
import type { Availability, Cluster, Node } from "../model/rows.ts";
import type { StateView } from "../model/view.ts";
import { signNodeCertificate } from "../pki/ca.ts";
import { makeCsr } from "../pki/csr.ts";
import { newKeyPair } from "../pki/keys.ts";
import type { LoadedBackup } from "../recovery/backup.ts";
import { firstIndexOfGroup, imageOfNewGroup } from "../recovery/core/new-group.ts";
import { ExternalCa, type OwnCertificate } from "../tls/external-ca.ts";
import type { Credentials, IdentityStore } from "../tls/identity-store.ts";
import { hostOf } from "./addresses.ts";
import { clusterOf, nodeRow } from "./ca-backend.ts";
import { askAll } from "./group.ts";
import type { Manager } from "./manager.ts";
import { newRaftId } from "./manager-side.ts";
import { prepareNewGroup, readOldGroup } from "./new-group.ts";
import type { NodeState } from "./node-state.ts";
import { timeoutSignal } from "./timeout-signal.ts";

/** For all of the cluster's external CAs together. */
const EXTERNAL_CA_TIMEOUT_MS = 20_000;

export interface RecoverDeps {
  readonly identity: IdentityStore;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly ids: IdSource;
  readonly logger: Logger;
}

/** What makes the prepared group this node's: the certificate, then `node.json`. */
export interface PreparedGroup {
  readonly credentials: Credentials;
  readonly state: NodeState;
}

/**
 * Throws failed_precondition unless this manager alone can speak for the cluster: it is the only
 * one, or so few others answer that they and it are no quorum.
 */
export async function checkQuorumLost(
  manager: Manager,
  deps: RecoverDeps,
  signal: AbortSignal,
): Promise<void> {
  const { raftId } = manager.raft;
  const { conf, commit } = manager.raft.status();
  const others = manager.store
    .members()
    .filter(member => member.raftId !== raftId && conf.voters.includes(member.raftId));
  const addrs = others.map(member => member.addr);
  const answers = await askAll(addrs, { raftId, commit }, deps, signal);
  const retiredBy = answers.find(answer => answer.verdict === "retired");
  if (retiredBy !== undefined) {
    throw new SwarmError(
      "failed_precondition",
      `this node is no manager of its cluster any more, as the manager at ${retiredBy.addr} says: ` +
        "it becomes a worker by itself; promote it there",
    );
  }
  const needed = Math.floor(conf.voters.length / 2) + 1;
  const alive = 1 + answers.length;
  if (others.length === 0 || alive < needed) return;
  const where = answers.map(answer => answer.addr).join(", ");
  throw new SwarmError(
    "failed_precondition",
    `the quorum is not lost: ${alive} of the ${conf.voters.length} managers answer (this one and ` +
      `${where}) and ${needed} are enough. A new cluster would take away what they go on to write. ` +
      "Remove managers that are gone with `swarmd node demote` and `swarmd node rm`",
    { alive, needed },
  );
}

/**
 * Prepares a group of this node alone out of the log of its member `raftId`, which must be stopped.
 * `state` has the addresses it goes on with.
 */
export async function prepareForcedGroup(
  options: { readonly dataDir: string; readonly raftId: number; readonly state: NodeState },
  deps: RecoverDeps,
): Promise<PreparedGroup> {
  const { dataDir, raftId, state } = options;
  const { nodeId, clusterId } = deps.identity.current();
  const old = await readOldGroup(dataDir, { raftId, clusterId }, deps);
  const cluster = clusterOf(old.view);
  const credentials = await ownCredentials(cluster, nodeId, deps.identity.current(), deps);
  const known = old.view.table("nodes").get(nodeId) !== undefined;
  const row = known
    ? null
    : founderRow({ nodeId, availability: "active", state, credentials }, deps);
  const next = await prepare({ dataDir, clusterId, nodeId, state, old, row }, deps);
  deps.logger.warn("making a new group of this manager's own log", {
    lastIndex: old.lastIndex,
    term: old.term,
  });
  return { credentials, state: next };
}

/** Prepares a group of this node alone out of a backup; the node gets an id of its own. */
export async function prepareRestoredGroup(
  options: {
    readonly dataDir: string;
    readonly state: NodeState;
    readonly availability: Availability;
    readonly backup: LoadedBackup;
  },
  deps: RecoverDeps,
): Promise<PreparedGroup> {
  const { dataDir, state, availability, backup } = options;
  const { view, header } = backup;
  const cluster = clusterOf(view);
  const nodeId = deps.ids.newId();
  const credentials = await ownCredentials(cluster, nodeId, null, deps);
  const row = founderRow({ nodeId, availability, state, credentials }, deps);
  const old = { view, lastIndex: header.index, term: header.term };
  const next = await prepare({ dataDir, clusterId: cluster.id, nodeId, state, old, row }, deps);
  return { credentials, state: next };
}

/** Throws failed_precondition when managers of the backup's cluster work under a leader. */
export async function checkClusterGone(
  backup: LoadedBackup,
  deps: RecoverDeps,
  signal: AbortSignal,
): Promise<void> {
  const cluster = clusterOf(backup.view);
  const identity = { caPem: cluster.rootCa.certPem, clusterId: cluster.id };
  const ask = { identity: { current: () => identity }, clock: deps.clock };
  const members = [...backup.view.table("members").all()];
  const addrs = members.map(member => member.addr);
  const answers = await askAll(addrs, { raftId: 0, commit: 0 }, ask, signal);
  const alive = answers.filter(answer => answer.hasLeader);
  if (alive.length === 0) return;
  const where = alive.map(answer => answer.addr).join(", ");
  throw new SwarmError(
    "failed_precondition",
    `the cluster of this backup is alive: its managers answer at ${where}. Join this node to it ` +
      "instead; a restore takes them out of their cluster as soon as they meet (--force to do it)",
  );
}

interface Parts {
  readonly dataDir: string;
  readonly clusterId: string;
  readonly nodeId: string;
  readonly state: NodeState;
  readonly old: { readonly view: StateView; readonly lastIndex: number; readonly term: number };
  readonly row: Node | null;
}

async function prepare(parts: Parts, deps: RecoverDeps): Promise<NodeState> {
  const { dataDir, clusterId, nodeId, state, old, row } = parts;
  const raftId = newRaftId(deps.rng);
  const nowMs = deps.clock.nowMs();
  const index = firstIndexOfGroup(old.lastIndex, nowMs);
  const founder = { raftId, nodeId, addr: state.advertiseAddr };
  const image = imageOfNewGroup(old.view, { index, nowMs, founder }, row);
  const group = { identity: { raftId, clusterId }, term: old.term + 1, image };
  await prepareNewGroup(dataDir, group, deps);
  return { ...state, raftId, raftJoined: true, managers: [state.advertiseAddr] };
}

/**
 * A new key and certificate: the old one may have ended while the cluster was lost. From the
 * external CA, which sees `own`, when the cluster has not its root's key.
 */
async function ownCredentials(
  cluster: Cluster,
  nodeId: string,
  own: OwnCertificate,
  { clock, rng, logger }: RecoverDeps,
): Promise<Credentials> {
  const { rootCa } = cluster;
  const pair = await newKeyPair();
  const publicKey = createPublicKey(pair.privateKey);
  const name = { nodeId, clusterId: cluster.id, role: "manager" as const };
  const { keyPem } = pair;
  const caPem = rootCa.certPem;
  if (rootCa.keyPem === "") {
    const request = { csrPem: makeCsr(pair.privateKey), publicKey, name };
    const urls = externalCaUrls(cluster.spec.CAConfig.ExternalCAs, caPem, caPem);
    const external = new ExternalCa({ own: () => own, clock, logger });
    const limit = timeoutSignal(clock, EXTERNAL_CA_TIMEOUT_MS);
    const certPem = await external.signNode(request, caPem, { urls, caPem }, limit);
    return { certPem, keyPem, caPem };
  }
  const expiryMs = cluster.spec.CAConfig.NodeCertExpiry / NS_PER_MS;
  const request = { publicKey, name, expiryMs, nowMs: clock.nowMs() };
  return { certPem: signNodeCertificate(request, rootCa, rng), keyPem, caPem };
}

function founderRow(
  parts: {
    readonly nodeId: string;
    readonly availability: Availability;
    readonly state: NodeState;
    readonly credentials: Credentials;
  },
  { clock }: RecoverDeps,
): Node {
  const { nodeId, availability, state, credentials } = parts;
  const row = nodeRow({
    nodeId,
    role: "manager",
    availability,
    advertiseAddr: state.advertiseAddr,
    remoteIp: hostOf(state.advertiseAddr),
    hostname: hostname(),
    certificatePem: credentials.certPem,
    // Older than any that has passed, so that it renews when one has.
    rootGeneration: 0,
  });
  const nowMs = clock.nowMs();
  return { ...row, version: 0, createdAtMs: nowMs, updatedAtMs: nowMs };
}
