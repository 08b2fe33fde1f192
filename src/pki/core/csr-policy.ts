import { assert, SwarmError } from "../../base/errors.ts";
import { isId } from "../../base/ids.ts";
import { type NodeName, unitOfRole } from "./names.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A fresh certificate is valid from this long ago, so that a slow clock does not refuse it. */
export const CERT_BACKDATE_MS = HOUR_MS;
/** Docker's lower bound of `--cert-expiry`. */
export const MIN_CERT_EXPIRY_MS = HOUR_MS;
export const DEFAULT_CERT_EXPIRY_MS = 90 * DAY_MS;
export const ROOT_CA_LIFE_MS = 20 * 365 * DAY_MS;
/** A request with more bytes is refused unread; a P-256 one has about 250. */
export const MAX_CSR_BYTES = 16 * 1024;

export interface CertificatePlan {
  readonly commonName: string;
  readonly organizationalUnit: string;
  readonly organization: string;
  readonly dnsNames: readonly string[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/**
 * What a node's certificate says. Nothing of it comes from the request: id, role and cluster are
 * the issuer's, only the public key is the node's.
 */
export function planNodeCertificate(input: {
  readonly name: NodeName;
  readonly nowMs: number;
  readonly expiryMs: number;
  readonly rootNotAfterMs: number;
}): CertificatePlan {
  const { name, nowMs, rootNotAfterMs } = input;
  assert(isId(name.nodeId) && isId(name.clusterId), "certificates are issued for ids only");
  const expiryMs = Math.max(MIN_CERT_EXPIRY_MS, input.expiryMs);
  const notAfterMs = Math.min(nowMs + expiryMs, rootNotAfterMs);
  if (notAfterMs <= nowMs) {
    throw new SwarmError(
      "failed_precondition",
      "the cluster's root certificate has expired: rotate it with `swarmd ca --rotate`",
    );
  }
  const unit = unitOfRole(name.role);
  return {
    commonName: name.nodeId,
    organizationalUnit: unit,
    organization: name.clusterId,
    dnsNames: [unit, name.nodeId],
    notBeforeMs: nowMs - CERT_BACKDATE_MS,
    notAfterMs,
  };
}
