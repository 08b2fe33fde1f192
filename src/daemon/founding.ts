import { hostname } from "node:os";
import type { InitRequest } from "../api/ports.ts";
import { newDeferred, withSignal } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import type { IdSource } from "../base/ids.ts";
import { createIngress } from "../control/core/network-plan.ts";
import type { Change } from "../model/change.ts";
import type { StateView } from "../model/view.ts";
import type { StateStore } from "../state/ports.ts";
import { newJoinToken, type RootCa } from "../tls/ca.ts";
import { newUnlockKey } from "../tls/unlock-key.ts";
import { hostOf } from "./addresses.ts";
import { nodeRow } from "./ca-backend.ts";

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
  ids: IdSource,
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
  });
  const cluster: Change = {
    op: "create",
    table: "cluster",
    row: {
      id: clusterId,
      spec: request.spec,
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
export async function founderReady(
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
