import { isId } from "../../base/ids.ts";
import type { NodeRole } from "../../model/rows.ts";

/** Swarm mode's certificate names (SwarmKit ca/certificates.go). */
export const CA_COMMON_NAME = "swarm-ca";
const MANAGER_UNIT = "swarm-manager";
const WORKER_UNIT = "swarm-worker";

/** The OU of a node's certificate, also one of its DNS names. */
export function unitOfRole(role: NodeRole): string {
  return role === "manager" ? MANAGER_UNIT : WORKER_UNIT;
}

/** Null for any other unit, `swarm-ca` included: a CA certificate identifies no node. */
export function roleOfUnit(unit: string): NodeRole | null {
  if (unit === MANAGER_UNIT) return "manager";
  return unit === WORKER_UNIT ? "worker" : null;
}

export interface NodeName {
  readonly nodeId: string;
  readonly role: NodeRole;
  readonly clusterId: string;
}

/**
 * Reads a node's identity from a certificate subject as node:tls presents it. Null unless CN, OU
 * and O are each present once and well formed (a repeated attribute arrives as an array).
 */
export function nodeNameOf(subject: object): NodeName | null {
  const { CN, OU, O } = subject as { CN?: unknown; OU?: unknown; O?: unknown };
  if (typeof CN !== "string" || typeof OU !== "string" || typeof O !== "string") return null;
  const role = roleOfUnit(OU);
  if (role === null || !isId(CN) || !isId(O)) return null;
  return { nodeId: CN, role, clusterId: O };
}
