import { assert, SwarmError } from "../base/errors.ts";
import { NS_PER_MS } from "../model/defaults.ts";
import { signingUrls } from "../model/external-ca.ts";
import type { Cluster, Node, NodeRole } from "../model/rows.ts";
import type { StateView } from "../model/view.ts";
import type { RootCa } from "../pki/ca.ts";
import type { RaftNode } from "../raft/ports.ts";
import type { StateStore } from "../state/ports.ts";
import type { CaBackend, NewNode, RecordedCertificate } from "../tls/ports.ts";

export interface CaBackendDeps {
  readonly store: StateStore;
  readonly raft: RaftNode;
}

/** The cluster's one row. Throws unavailable on a manager whose log has not reached it. */
export function clusterOf(view: StateView): Cluster {
  const [cluster] = view.table("cluster").all();
  if (cluster === undefined) {
    throw new SwarmError("unavailable", "this manager has not caught up with the cluster yet");
  }
  return cluster;
}

/**
 * The role a node's certificate must carry: what its spec says, but a manager stays one until it
 * is out of the Raft group.
 */
export function effectiveRole(view: StateView, nodeId: string): NodeRole | null {
  const node = view.table("nodes").get(nodeId);
  if (node === undefined) return null;
  if (node.spec.Role === "manager") return "manager";
  for (const member of view.table("members").all()) if (member.nodeId === nodeId) return "manager";
  return "worker";
}

/** host:port of the leader's cluster port; empty while there is none. */
export function leaderAddrOf(raft: RaftNode, view: StateView): string {
  const { leaderId } = raft.status();
  for (const member of view.table("members").all()) {
    if (member.raftId === leaderId) return member.addr;
  }
  return "";
}

/** The CA over the replicated state: roles, tokens and roots are rows, admission is a write. */
export class StateCaBackend implements CaBackend {
  readonly clusterId: string;
  readonly #deps: CaBackendDeps;

  constructor(options: { readonly clusterId: string }, deps: CaBackendDeps) {
    this.clusterId = options.clusterId;
    this.#deps = deps;
  }

  trustedRoots(): string {
    const { rootCa, nextRoot } = this.#cluster;
    return nextRoot ? `${rootCa.certPem}${nextRoot.certPem}` : rootCa.certPem;
  }

  signingRoot(): RootCa {
    const { rootCa, nextRoot } = this.#cluster;
    return nextRoot ?? rootCa;
  }

  rootGeneration(): number {
    return this.#cluster.rootGeneration ?? 0;
  }

  externalCas(): readonly string[] {
    return signingUrls(this.#cluster);
  }

  intermediates(): string {
    return this.#cluster.nextRoot?.crossSignedPem ?? "";
  }

  joinTokens(): { readonly worker: string; readonly manager: string } {
    return this.#cluster.joinTokens;
  }

  certExpiryMs(): number {
    return this.#cluster.spec.CAConfig.NodeCertExpiry / NS_PER_MS;
  }

  nodeRole(nodeId: string): NodeRole | null {
    return effectiveRole(this.#deps.store.view, nodeId);
  }

  assertLeader(): void {
    const { raft, store } = this.#deps;
    if (raft.status().role === "leader") return;
    const leader = leaderAddrOf(raft, store.view);
    throw new SwarmError("not_leader", "this manager is not the leader", { leader });
  }

  async registerNode(node: NewNode, signal: AbortSignal): Promise<void> {
    assert(node.nodeId !== "", "a new node has an id");
    await this.#deps.store.submit([{ op: "create", table: "nodes", row: nodeRow(node) }], signal);
  }

  async recordCertificate(
    nodeId: string,
    { role, certificatePem, rootGeneration }: RecordedCertificate,
    signal: AbortSignal,
  ): Promise<void> {
    const fields = { certRole: role, certificatePem, rootGeneration };
    await this.#deps.store.submit([{ op: "patch", table: "nodes", id: nodeId, fields }], signal);
  }

  get #cluster(): Cluster {
    return clusterOf(this.#deps.store.view);
  }
}

type NewNodeRow = Omit<Node, "version" | "createdAtMs" | "updatedAtMs">;

/** The row of a node that was just admitted. */
export function nodeRow(node: NewNode): NewNodeRow {
  return {
    id: node.nodeId,
    spec: { Labels: {}, Role: node.role, Availability: node.availability },
    description: null,
    joinedAs: node.hostname,
    status: { state: "unknown", message: "Node has not connected yet", addr: node.remoteIp },
    certRole: node.role,
    certificatePem: node.certificatePem,
    rootGeneration: node.rootGeneration,
  };
}
