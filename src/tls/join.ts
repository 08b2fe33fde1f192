import type { PeerCertificate } from "node:tls";
import type { Clock } from "../base/clock.ts";
import { SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { Availability } from "../model/rows.ts";
import { checkBundle, rootDigestHex, splitCertificates } from "../pki/certificate.ts";
import { parseJoinToken, sameSecret } from "../pki/core/join-token.ts";
import { nodeNameOf } from "../pki/core/names.ts";
import { makeCsr } from "../pki/csr.ts";
import { type KeyPair, newKeyPair } from "../pki/keys.ts";
import type { RpcClients } from "../rpc/clients.ts";
import { CAService, type IssueCertificateResponse } from "../rpc/gen/swarmd/v1/ca.ts";
import { callLeader } from "../rpc/leader-call.ts";
import { type ChannelTls, CLIENT_LIMITS, PeerChannel } from "../rpc/peer-channel.ts";
import type { Identity } from "../rpc/ports.ts";
import type { RenewedCertificate } from "./renewer.ts";

/** Docker's bound on a join (daemon/cluster, swarmConnectTimeout). */
const JOIN_TIMEOUT_MS = 20_000;
const RENEW_TIMEOUT_MS = 20_000;

export interface JoinOptions {
  /** host:port of any manager. */
  readonly addr: string;
  readonly token: string;
  readonly availability?: Availability;
  /** host:port other managers will reach this node at; needed for a manager's token. */
  readonly advertiseAddr?: string;
  readonly hostname?: string;
  readonly signal: AbortSignal;
}

export interface JoinDeps {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/**
 * Makes this host a node: checks the cluster's root against the token, proves the token to the
 * leader over a connection verified by that root, and returns the identity issued. Nothing is
 * stored.
 *
 * Throws invalid_argument for a bad or rotated token, failed_precondition when the root is not the
 * token's, unavailable when the address is not that of a manager or no leader answers in time.
 */
export async function joinRequest(
  options: JoinOptions,
  deps: JoinDeps,
): Promise<{ readonly identity: Identity }> {
  const { rootDigestHex: expected } = parseJoinToken(options.token);
  const caPem = await fetchRoot(options, expected, deps);
  const pair = await newKeyPair();
  const answer = await requestCertificate(
    options,
    { caPem, csrPem: makeCsr(pair.privateKey) },
    deps,
  );
  const identity = checkAnswer(answer, caPem, pair);
  deps.logger.info("joined a swarm", { nodeId: identity.nodeId, role: identity.role });
  return { identity };
}

/** The root of whoever is at the address, accepted only if the token vouches for it. */
async function fetchRoot(options: JoinOptions, expected: string, deps: JoinDeps): Promise<string> {
  const tls = { caPem: null, own: null, verifyPeer: () => undefined };
  const { caPem } = await withChannel(options.addr, tls, deps, channel =>
    channel.unary(CAService.getRootCa, {}, { signal: options.signal }),
  );
  const pinned = splitCertificates(caPem, `the root of ${options.addr}`)
    .map(cert => cert.toString())
    .find(pem => sameSecret(rootDigestHex(pem), expected));
  if (pinned !== undefined) return pinned;
  throw new SwarmError(
    "failed_precondition",
    `remote CA does not match fingerprint. Expected: ${expected}`,
    { addr: options.addr },
  );
}

function requestCertificate(
  options: JoinOptions,
  parts: { readonly caPem: string; readonly csrPem: string },
  deps: JoinDeps,
): Promise<IssueCertificateResponse> {
  const { signal, token } = options;
  const request = {
    token: token.trim(),
    csrPem: parts.csrPem,
    availability: options.availability ?? "",
    advertiseAddr: options.advertiseAddr ?? "",
    hostname: options.hostname ?? "",
  };
  const tls = { caPem: parts.caPem, own: null, verifyPeer: notAManager };
  return callLeader(
    addr =>
      withChannel(addr, tls, deps, channel =>
        channel.unary(CAService.issueCertificate, request, { signal }),
      ),
    { addrs: [options.addr], signal, timeoutMs: JOIN_TIMEOUT_MS, idempotent: true },
    deps,
  );
}

async function withChannel<T>(
  addr: string,
  tls: ChannelTls,
  deps: JoinDeps,
  use: (channel: PeerChannel) => Promise<T>,
): Promise<T> {
  const channel = new PeerChannel({ addr, tls, limits: CLIENT_LIMITS }, deps);
  try {
    return await use(channel);
  } finally {
    channel.close();
  }
}

function notAManager(cert: PeerCertificate): Error | undefined {
  if (nodeNameOf(cert.subject)?.role === "manager") return undefined;
  // Not "unavailable": trying again would not change it.
  return new SwarmError("failed_precondition", "the node at that address is not a manager");
}

function checkAnswer(
  answer: IssueCertificateResponse,
  pinnedCaPem: string,
  pair: KeyPair,
): Identity {
  const { certPem } = answer;
  const what = { cert: "the certificate received", key: "the new key", ca: "the cluster's root" };
  const trusted = checkRoots(answer.caPem, pinnedCaPem);
  const { name } = checkBundle({ certPem, caPem: trusted }, pair.privateKey, what);
  return { ...name, certPem, keyPem: pair.keyPem, caPem: trusted };
}

/** The answer came over a connection that the pinned root vouches for; it must still be in it. */
function checkRoots(caPem: string, pinnedCaPem: string): string {
  const pinned = rootDigestHex(pinnedCaPem);
  const roots = splitCertificates(caPem, "the cluster's roots").map(cert => cert.toString());
  if (roots.some(root => rootDigestHex(root) === pinned)) return caPem;
  throw new SwarmError("failed_precondition", "the manager answered with roots of its own");
}

/** `Renewer`'s way to a certificate: the leader, found through any of the managers known. */
export function renewThroughManagers(deps: {
  readonly clients: RpcClients;
  readonly managerAddrs: () => readonly string[];
  readonly clock: Clock;
  readonly rng: Rng;
}): (csrPem: string, signal: AbortSignal) => Promise<RenewedCertificate> {
  return (csrPem, signal) =>
    callLeader(
      addr => deps.clients.unary(CAService.renewCertificate, addr, { csrPem }, { signal }),
      { addrs: deps.managerAddrs(), signal, timeoutMs: RENEW_TIMEOUT_MS, idempotent: true },
      deps,
    );
}
