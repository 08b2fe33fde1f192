import type { OperationResult, PublicCluster } from "../../control/operations.ts";
import type { LocalNodeInfo } from "../ports.ts";
import { metaDto, optional } from "./common.ts";
import { asGoJson } from "./spec.ts";
import { tlsInfoOfSwarm } from "./tls.ts";

/** Docker's `ClusterInfo`. */
export function clusterInfoDto(cluster: PublicCluster): object {
  const { spec } = cluster;
  return {
    ...metaDto(cluster),
    Spec: {
      Name: spec.Name,
      Labels: spec.Labels ?? {},
      Orchestration: spec.Orchestration,
      Raft: spec.Raft,
      Dispatcher: spec.Dispatcher,
      CAConfig: caConfigDto(spec.CAConfig),
      TaskDefaults: asGoJson(spec.TaskDefaults),
      EncryptionConfig: spec.EncryptionConfig,
    },
    TLSInfo: tlsInfoOfSwarm(cluster),
    RootRotationInProgress: cluster.rootRotationInProgress,
    DefaultAddrPool: cluster.defaultAddrPool,
    SubnetSize: cluster.subnetSize,
    DataPathPort: cluster.dataPathPort,
  };
}

/**
 * Never with the root that signs: a client that reads, changes and sends the spec would send a root
 * without its key (moby daemon/cluster/convert).
 */
function caConfigDto(config: PublicCluster["spec"]["CAConfig"]): object {
  const { SigningCACert: _cert, SigningCAKey: _key, ExternalCAs = [], ...rest } = config;
  const authorities = ExternalCAs.map(({ Protocol, URL, Options, CACert = "" }) => ({
    ...{ Protocol: String(Protocol ?? "").toLowerCase(), URL: URL ?? "" },
    ...optional("Options", asGoJson(Options)),
    CACert,
  }));
  return { ...(asGoJson(rest) as object), ...optional("ExternalCAs", authorities) };
}

/** Docker's `Swarm`: the cluster and the tokens to join it. */
export function swarmDto(cluster: PublicCluster): object {
  const { worker, manager } = cluster.joinTokens;
  return { ...clusterInfoDto(cluster), JoinTokens: { Worker: worker, Manager: manager } };
}

/** Two managers are worse than one: either one's loss stops the cluster (Docker's warning). */
const TWO_MANAGERS_WARNING =
  "WARNING: Running Swarm in a two-manager configuration. This configuration provides\n" +
  "         no fault tolerance, and poses a high risk to lose control over the cluster.\n" +
  "         Refer to https://docs.docker.com/engine/swarm/admin_guide/ to configure the\n" +
  "         Swarm for fault-tolerance.";

/** Docker's `SwarmInfo`, the Swarm section of `/info`. */
export function swarmInfoDto(
  local: LocalNodeInfo,
  controlAvailable: boolean,
  cluster: OperationResult<"system.info"> | null,
  error: string,
): object {
  const remotes = local.remoteManagers.map(({ nodeId, addr }) => ({ NodeID: nodeId, Addr: addr }));
  return {
    NodeID: local.nodeId,
    NodeAddr: local.nodeAddr,
    LocalNodeState: local.localNodeState,
    ControlAvailable: controlAvailable,
    Error: error,
    RemoteManagers: remotes.length > 0 ? remotes : null,
    ...optional("Nodes", cluster?.nodes),
    ...optional("Managers", cluster?.managers),
    ...(cluster === null ? {} : { Cluster: clusterInfoDto(cluster.cluster) }),
    ...(cluster?.managers === 2 ? { Warnings: [TWO_MANAGERS_WARNING] } : {}),
  };
}
