import type { Availability, NodeRole } from "../model/rows.ts";
import type { RootCa } from "../pki/ca.ts";

/** A node to be admitted, as the CA decided it. */
export interface NewNode {
  readonly nodeId: string;
  /** From the token. */
  readonly role: NodeRole;
  readonly availability: Availability;
  /** host:port the node asked to be reached at; empty when it gave none. */
  readonly advertiseAddr: string;
  /** The address the request came from, without port. */
  readonly remoteIp: string;
  /** What the node calls itself until its first session; may be empty. */
  readonly hostname: string;
  readonly certificatePem: string;
  /** Of the roots when the certificate was signed. */
  readonly rootGeneration: number;
}

/** A certificate that a known node gets. */
export interface RecordedCertificate {
  readonly role: NodeRole;
  readonly certificatePem: string;
  /** Of the roots when it was signed. */
  readonly rootGeneration: number;
}

/** The replicated state as the CA needs it; the daemon implements it over the store. */
export interface CaBackend {
  /** O of every certificate. */
  readonly clusterId: string;
  /** PEM roots to trust: two during a rotation. Any manager. */
  trustedRoots(): string;
  /** How many times a root has gone. */
  rootGeneration(): number;
  /** The root that signs; its key is empty when only external CAs have it. */
  signingRoot(): RootCa;
  /** URLs of the external CAs that sign for it; none: the cluster does itself. */
  externalCas(): readonly string[];
  /** PEM certificates that lead from it to a root that every node trusts; mostly none. */
  intermediates(): string;
  joinTokens(): { readonly worker: string; readonly manager: string };
  certExpiryMs(): number;
  /** Role of a known node; null when there is no such node (never joined, or removed). */
  nodeRole(nodeId: string): NodeRole | null;
  /** Throws not_leader, with the leader's address in `details.leader`, on every other manager. */
  assertLeader(): void;
  /**
   * Commits the node's row. Resolves when it is committed; rejects like `RaftNode.propose`. Called
   * only for ids that `nodeRole` does not know; must refuse (already_exists) one that came since.
   */
  registerNode(node: NewNode, signal: AbortSignal): Promise<void>;
  /** Commits which certificate and role the node now holds. */
  recordCertificate(nodeId: string, cert: RecordedCertificate, signal: AbortSignal): Promise<void>;
}
