import { createPublicKey } from "node:crypto";
import { hostname } from "node:os";
import type { InitRequest } from "../api/ports.ts";
import { newDeferred, withSignal } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Rng } from "../base/rng.ts";
import { createIngress } from "../control/core/network-plan.ts";
import type { Change } from "../model/change.ts";
import { NS_PER_MS } from "../model/defaults.ts";
import type { SwarmSpec } from "../model/rows.ts";
import type { StateView } from "../model/view.ts";
import {
  checkDesiredRoot,
  createRootCa,
  newJoinToken,
  type RootCa,
  signNodeCertificate,
} from "../pki/ca.ts";
import { newKeyPair } from "../pki/keys.ts";
import type { StateStore } from "../state/ports.ts";
import { newMeshKey } from "../tls/mesh-key.ts";
import { newUnlockKey } from "../tls/unlock-key.ts";
import { hostOf } from "./addresses.ts";
import { nodeRow } from "./ca-backend.ts";
import type { RunningNode } from "./running-node.ts";

export interface FoundingDeps {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly ids: IdSource;
}

/** The root of a new cluster and the first manager's place in it. */
export interface Founding {
  readonly request: InitRequest;
  readonly root: RootCa;
  /** PEM. The first manager signs its own certificate; the others come with the token's. */
  readonly certificate: {
    readonly certPem: string;
    readonly keyPem: string;
    readonly caPem: string;
  };
}

/** Makes the keys of a new cluster; nothing is written anywhere. */
export async function newFounding(
  request: InitRequest,
  { clock, rng, ids }: FoundingDeps,
): Promise<Founding> {
  const nowMs = clock.nowMs();
  const root = givenRoot(request.spec, nowMs) ?? (await createRootCa({ nowMs, rng }));
  const { privateKey, keyPem } = await newKeyPair();
  const name = { nodeId: ids.newId(), clusterId: ids.newId(), role: "manager" as const };
  const expiryMs = request.spec.CAConfig.NodeCertExpiry / NS_PER_MS;
  const publicKey = createPublicKey(privateKey);
  const certPem = signNodeCertificate({ publicKey, name, expiryMs, nowMs }, root, rng);
  return { request, root, certificate: { certPem, keyPem, caPem: root.certPem } };
}

/** The user's own root; null when the cluster is to make one. Throws invalid_argument. */
function givenRoot({ CAConfig }: SwarmSpec, nowMs: number): RootCa | null {
  const { SigningCACert: certPem = "", SigningCAKey: keyPem = "" } = CAConfig;
  if (certPem === "" && keyPem === "") return null;
  if (certPem === "" || keyPem === "") {
    const text =
      "a cluster begins with a root whose key it has: give SigningCACert and SigningCAKey, or none " +
      "of them; `swarm ca --rotate --external-ca` goes over to a root of an external CA";
    throw new SwarmError("invalid_argument", text);
  }
  checkDesiredRoot({ certPem, keyPem }, nowMs);
  return { certPem, keyPem };
}

/** The root has a place of its own. */
function withoutRoot(spec: SwarmSpec): SwarmSpec {
  const { SigningCACert: _cert, SigningCAKey: _key, ...CAConfig } = spec.CAConfig;
  return { ...spec, CAConfig };
}

/** Waits for leadership of the group of one, writes the cluster's first rows, and for the node. */
export async function foundCluster(
  { node, failed }: RunningNode,
  { request, root, certificate }: Founding,
  ids: { readonly nodeId: string; readonly clusterId: string },
  signal: AbortSignal,
  deps: FoundingDeps,
): Promise<void> {
  const manager = await Promise.race([node.whenOpen(signal), failed]);
  await manager.raft.readBarrier(signal);
  const { advertiseAddr } = node.state;
  const founder = { ...ids, certificatePem: certificate.certPem, advertiseAddr };
  const changes = foundingRows(manager.store.view, founder, request, root, deps);
  await manager.store.submit(changes, signal);
  await node.whenManager(signal);
  await founderReady(manager.store, founder.nodeId, deps.clock, signal);
}

/** The first manager, as its certificate and its request say. */
export interface Founder {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly certificatePem: string;
  readonly advertiseAddr: string;
}

/** The first rows of a new cluster: itself, its first node, its ingress network. */
export function foundingRows(
  view: StateView,
  founder: Founder,
  request: InitRequest,
  root: RootCa,
  { ids, clock }: { readonly ids: IdSource; readonly clock: Clock },
): readonly Change[] {
  const { nodeId, clusterId, certificatePem, advertiseAddr } = founder;
  const node = nodeRow({
    nodeId,
    role: "manager",
    availability: request.availability,
    advertiseAddr,
    remoteIp: hostOf(advertiseAddr),
    hostname: hostname(),
    certificatePem,
    rootGeneration: 0,
  });
  const cluster: Change = {
    op: "create",
    table: "cluster",
    row: {
      id: clusterId,
      spec: withoutRoot(request.spec),
      rootCa: root,
      joinTokens: {
        worker: newJoinToken(root.certPem, ids),
        manager: newJoinToken(root.certPem, ids),
      },
      defaultAddrPool: request.defaultAddrPool,
      subnetSize: request.subnetSize,
      dataPathPort: request.dataPathPort,
      rootRotationInProgress: false,
      unlockKey: request.autoLockManagers ? newUnlockKey() : "",
      mesh: {
        ...{ generation: 1, psk: newMeshKey(), previousPsk: "" },
        ...{ settled: true, startedAtMs: clock.nowMs() },
      },
    },
  };
  return [
    cluster,
    { op: "create", table: "nodes", row: node },
    createIngress(view, { ...request, id: clusterId }, ids.newId()),
  ];
}

/** The first node shows as ready well before this, unless its Engine does not answer. */
const READY_WAIT_MS = 5_000;

/**
 * Waits until the founder's own session has made it ready, so that a service created right after
 * `init` finds a node. An Engine that is down is no reason to fail: the wait just ends.
 */
async function founderReady(
  store: StateStore,
  nodeId: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const ready = newDeferred<void>();
  const check = (): void => {
    if (store.view.table("nodes").get(nodeId)?.status.state === "ready") ready.resolve();
  };
  const stop = store.onCommit(check);
  const timer = clock.setTimer("founder ready", READY_WAIT_MS, () => ready.resolve());
  check();
  try {
    await withSignal(ready.promise, signal);
  } finally {
    timer.cancel();
    stop();
  }
}
