import { createHash, type KeyObject } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { assert, SwarmError } from "../base/errors.ts";
import { ID_LENGTH } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { Rng } from "../base/rng.ts";
import type { Availability, NodeRole } from "../model/rows.ts";
import { signNodeCertificate } from "../pki/ca.ts";
import { roleOfToken } from "../pki/core/join-token.ts";
import { publicKeyOfCsr } from "../pki/csr.ts";
import { spkiDer } from "../pki/keys.ts";
import { formatHostPort, parseHostPort } from "../rpc/address.ts";
import type { CallContext } from "../rpc/call.ts";
import type {
  CAService,
  IssueCertificateRequest,
  IssueCertificateResponse,
  RenewCertificateRequest,
  RenewCertificateResponse,
} from "../rpc/gen/swarmd/v1/ca.ts";
import type { Handlers } from "../rpc/handlers.ts";
import type { Access } from "../rpc/ports.ts";
import { type BucketOptions, RateLimiter } from "./core/rate-limit.ts";
import type { ExternalSigner } from "./external-ca.ts";
import type { CaBackend } from "./ports.ts";

/** Who may call what. */
export const CA_ACCESS: Readonly<Record<string, Access>> = {
  getRootCa: "anyone",
  issueCertificate: "anyone",
  renewCertificate: "node",
};

/** What strangers may ask for, per address and altogether. */
export const CA_LIMITS = {
  perIp: { burst: 60, perSecond: 10 },
  global: { burst: 400, perSecond: 100 },
  maxTrackedIps: 4_096,
  /** Admissions that wait for their commit; each is a write to Raft. */
  maxPendingIssues: 64,
  maxHostnameChars: 253,
} as const;

export interface CaServiceOptions {
  readonly perIp?: BucketOptions;
  readonly global?: BucketOptions;
}

export interface CaServiceDeps {
  readonly backend: CaBackend;
  /** Asked instead of signing here when the cluster has external CAs for its root. */
  readonly external: ExternalSigner;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** Docker's words (SwarmKit ca/server.go). */
const NO_VALID_TOKEN = "A valid join token is necessary to join this cluster";

const AVAILABILITIES: readonly Availability[] = ["active", "pause", "drain"];

/** The handlers of the CA service, for `RpcServer.addService(CAService, …, CA_ACCESS)`. */
export function caHandlers(
  options: CaServiceOptions,
  deps: CaServiceDeps,
): Handlers<typeof CAService> {
  const service = new CaServer(options, deps);
  return {
    getRootCa: async (_request, context) => {
      service.checkRate(context);
      return { caPem: deps.backend.trustedRoots() };
    },
    issueCertificate: (request, context) => service.issue(request, context),
    renewCertificate: (request, context) => service.renew(request, context),
  };
}

class CaServer {
  readonly #deps: CaServiceDeps;
  readonly #limiter: RateLimiter;
  #pendingIssues = 0;

  constructor(options: CaServiceOptions, deps: CaServiceDeps) {
    this.#deps = deps;
    this.#limiter = new RateLimiter({
      perKey: options.perIp ?? CA_LIMITS.perIp,
      global: options.global ?? CA_LIMITS.global,
      maxKeys: CA_LIMITS.maxTrackedIps,
    });
  }

  checkRate(context: CallContext): void {
    if (this.#limiter.take(context.remoteIp, this.#deps.clock.monoMs())) return;
    throw new SwarmError(
      "resource_exhausted",
      "too many join requests at the moment: try again in a few seconds",
    );
  }

  /** The order is the defence: rate, token, leadership, and only then the request is looked at. */
  async issue(
    request: IssueCertificateRequest,
    context: CallContext,
  ): Promise<IssueCertificateResponse> {
    const { backend, logger } = this.#deps;
    this.checkRate(context);
    const role = roleOfToken(request.token, backend.joinTokens());
    if (role === null) {
      logger.warn("join refused: no valid token", { remote: context.remoteIp });
      throw new SwarmError("invalid_argument", NO_VALID_TOKEN);
    }
    backend.assertLeader();
    if (this.#pendingIssues >= CA_LIMITS.maxPendingIssues) {
      throw new SwarmError("resource_exhausted", "too many nodes are joining: try again");
    }
    this.#pendingIssues += 1;
    try {
      return await this.#admit(request, role, context);
    } finally {
      this.#pendingIssues -= 1;
    }
  }

  async #admit(
    request: IssueCertificateRequest,
    role: NodeRole,
    context: CallContext,
  ): Promise<IssueCertificateResponse> {
    const { backend, logger } = this.#deps;
    const wishes = checkWishes(request, role);
    const publicKey = publicKeyOfCsr(request.csrPem);
    const nodeId = nodeIdOfKey(publicKey);
    const csr = { csrPem: request.csrPem, publicKey };
    const rootGeneration = backend.rootGeneration();
    const certPem = await this.#sign(csr, nodeId, role, context.signal);
    const known = backend.nodeRole(nodeId);
    if (known !== null && known !== role) {
      throw new SwarmError("failed_precondition", `this key is already that of a ${known}`);
    }
    if (known === null) {
      const { remoteIp } = context;
      const cert = { certificatePem: certPem, rootGeneration };
      const node = { nodeId, role, ...wishes, remoteIp, ...cert };
      await backend.registerNode(node, context.signal);
      logger.info("admitted a node", { nodeId, role, remote: remoteIp });
    }
    const { clusterId } = backend;
    return { nodeId, clusterId, role, certPem, caPem: backend.trustedRoots() };
  }

  async renew(
    request: RenewCertificateRequest,
    context: CallContext,
  ): Promise<RenewCertificateResponse> {
    const { backend, logger } = this.#deps;
    const { peer } = context;
    assert(peer !== null, "only nodes renew");
    backend.assertLeader();
    const role = backend.nodeRole(peer.nodeId);
    if (role === null) {
      throw new SwarmError("permission_denied", `node ${peer.nodeId} is not part of this swarm`);
    }
    const csr = { csrPem: request.csrPem, publicKey: publicKeyOfCsr(request.csrPem) };
    const rootGeneration = backend.rootGeneration();
    const certPem = await this.#sign(csr, peer.nodeId, role, context.signal);
    const cert = { role, certificatePem: certPem, rootGeneration };
    await backend.recordCertificate(peer.nodeId, cert, context.signal);
    logger.info("renewed a node's certificate", { nodeId: peer.nodeId, role });
    return { certPem, caPem: backend.trustedRoots() };
  }

  /**
   * By an external CA where the cluster has one, and then by nobody else: who took the key out of
   * the cluster's hands does not want it to sign all the same.
   */
  async #sign(
    csr: { readonly csrPem: string; readonly publicKey: KeyObject },
    nodeId: string,
    role: NodeRole,
    signal: AbortSignal,
  ): Promise<string> {
    const { backend, external, clock, rng } = this.#deps;
    const name = { nodeId, role, clusterId: backend.clusterId };
    const root = backend.signingRoot();
    const urls = backend.externalCas();
    const intermediates = backend.intermediates();
    if (urls.length > 0 || root.keyPem === "") {
      const authorities = { urls, caPem: backend.trustedRoots() };
      const request = { ...csr, name };
      const certPem = await external.signNode(request, root.certPem, authorities, signal);
      return `${certPem.trim()}\n${intermediates}`;
    }
    const { publicKey } = csr;
    const request = { publicKey, name, expiryMs: backend.certExpiryMs(), nowMs: clock.nowMs() };
    return signNodeCertificate(request, root, rng) + intermediates;
  }
}

/**
 * A node's id is a digest of its first key, 128 bits in base 36. So a join that is repeated because
 * its answer was lost admits one node, not two; and no one can ask for the id of another.
 */
function nodeIdOfKey(publicKey: KeyObject): string {
  const hex = createHash("sha256").update(spkiDer(publicKey)).digest("hex").slice(0, 32);
  return BigInt(`0x${hex}`).toString(36).padStart(ID_LENGTH, "0");
}

interface Wishes {
  readonly availability: Availability;
  readonly advertiseAddr: string;
  readonly hostname: string;
}

/** What the node may choose about itself. Throws invalid_argument. */
function checkWishes(request: IssueCertificateRequest, role: NodeRole): Wishes {
  const wanted = request.availability === "" ? "active" : request.availability;
  const availability = AVAILABILITIES.find(candidate => candidate === wanted);
  if (availability === undefined) {
    throw new SwarmError("invalid_argument", `unknown availability "${wanted.slice(0, 32)}"`);
  }
  if (request.hostname.length > CA_LIMITS.maxHostnameChars) {
    throw new SwarmError("invalid_argument", "the hostname is too long");
  }
  const { advertiseAddr, hostname } = request;
  if (advertiseAddr === "") {
    if (role === "worker") return { availability, advertiseAddr, hostname };
    throw new SwarmError("invalid_argument", "a manager needs an advertised address");
  }
  return { availability, advertiseAddr: formatHostPort(parseHostPort(advertiseAddr)), hostname };
}
