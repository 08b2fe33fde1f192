import { hostname } from "node:os";
import type { InitRequest } from "../api/ports.ts";
import type { IdSource } from "../base/ids.ts";
import { createIngress } from "../control/core/network-plan.ts";
import type { Change } from "../model/change.ts";
import type { StateView } from "../model/view.ts";
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
    createIngress(view, request, ids.newId()),
  ];
}
