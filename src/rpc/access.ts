import type { ErrorCode } from "../base/errors.ts";
import type { Access, PeerIdentity } from "./ports.ts";

export interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

export interface CallerFacts {
  readonly peer: PeerIdentity | null;
  /** The node was removed from the cluster. */
  readonly removed: boolean;
  /** Its manager certificate is no longer that of a manager. */
  readonly demoted: boolean;
  /** The certificate ended after the handshake. */
  readonly expired: boolean;
}

/**
 * Whether a call may go on: null, or why not. Default deny: a method without an entry is refused
 * to all. A caller whose certificate has lost its worth is refused even what anyone may call, so
 * that it learns why.
 */
export function refusalOf(access: Access | undefined, caller: CallerFacts): Refusal | null {
  if (access === undefined) {
    return { code: "permission_denied", message: "this method is open to no one" };
  }
  const { peer } = caller;
  if (peer === null) {
    if (access === "anyone") return null;
    return { code: "unauthenticated", message: "a certificate of this cluster is necessary" };
  }
  if (caller.removed) {
    return { code: "permission_denied", message: `node ${peer.nodeId} was removed from the swarm` };
  }
  if (caller.expired) {
    return { code: "unauthenticated", message: `the certificate of ${peer.nodeId} has expired` };
  }
  if (access === "manager" && (peer.role !== "manager" || caller.demoted)) {
    return { code: "permission_denied", message: `node ${peer.nodeId} is not a manager` };
  }
  return null;
}
