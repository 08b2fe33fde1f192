import { type Rng, randomFloat } from "../../base/rng.ts";
import { CERT_BACKDATE_MS } from "../../pki/core/csr-policy.ts";

/** Swarm mode renews at a random point of this part of the life (SwarmKit ca/certificates.go). */
const RENEW_FROM = 0.5;
const RENEW_UNTIL = 0.8;

/**
 * When to renew, epoch milliseconds: random, so that nodes that joined together do not renew
 * together. Life counts from the issue, not from the backdated start, or a certificate of an hour
 * would be due the moment it is issued.
 */
export function planRenewal(
  cert: { readonly notBeforeMs: number; readonly notAfterMs: number },
  rng: Rng,
): number {
  const issuedAtMs = Math.min(cert.notBeforeMs + CERT_BACKDATE_MS, cert.notAfterMs);
  const part = RENEW_FROM + (RENEW_UNTIL - RENEW_FROM) * randomFloat(rng);
  return Math.floor(issuedAtMs + (cert.notAfterMs - issuedAtMs) * part);
}
