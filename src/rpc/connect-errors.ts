import { errnoOf, errorMessage, SwarmError } from "../base/errors.ts";

/** Where a connection attempt ended. */
export type ConnectStage = "tcp" | "tls" | "http2";

const TCP_REASON: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  EHOSTUNREACH: "there is no route to that host",
  ENETUNREACH: "there is no route to that network",
  ENOTFOUND: "the name is not known",
  EAI_AGAIN: "the name cannot be resolved now",
  ETIMEDOUT: "the host does not answer",
};

/** What a TLS attempt found when the other end is not the manager looked for. */
const FOREIGN_ROOT =
  "is a manager of another cluster: this cluster's root did not sign its certificate";
const TLS_REASON: Readonly<Record<string, string>> = {
  SELF_SIGNED_CERT_IN_CHAIN: FOREIGN_ROOT,
  DEPTH_ZERO_SELF_SIGNED_CERT: FOREIGN_ROOT,
  UNABLE_TO_GET_ISSUER_CERT: FOREIGN_ROOT,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: FOREIGN_ROOT,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: FOREIGN_ROOT,
  CERT_SIGNATURE_FAILURE: FOREIGN_ROOT,
  CERT_HAS_EXPIRED: "shows a certificate that has expired: compare both hosts' clocks",
  CERT_NOT_YET_VALID: "shows a certificate that is not valid yet: compare both hosts' clocks",
};

/** A connection attempt that ended because time ran out. */
export class ConnectTimeout extends Error {
  constructor(timeoutMs: number) {
    super(`no answer within ${timeoutMs} ms`);
    this.name = "ConnectTimeout";
  }
}

/** Says who did not answer as a manager, and what was found there instead. */
export function connectError(addr: string, stage: ConnectStage, error: unknown): SwarmError {
  if (error instanceof SwarmError) return error;
  const details = { addr, stage, errno: errnoOf(error) };
  const make = (text: string): SwarmError => new SwarmError("unavailable", text, details, error);
  if (stage === "tcp") {
    const why =
      error instanceof ConnectTimeout
        ? `the host does not answer (${error.message})`
        : (TCP_REASON[details.errno] ?? errorMessage(error));
    return make(`cannot connect to ${addr}: ${why}`);
  }
  if (stage === "http2") {
    return make(
      `${addr} closed the connection after the handshake: it does not accept this node's ` +
        "certificate (removed from the swarm, expired), or is shutting down",
    );
  }
  const reason = TLS_REASON[details.errno];
  return make(
    reason === undefined
      ? `${addr} answers, but not as a swarm manager (${tlsFinding(error, details.errno)})`
      : `${addr} ${reason}`,
  );
}

function tlsFinding(error: unknown, errno: string): string {
  if (error instanceof ConnectTimeout) return "it takes connections and says nothing";
  if (errno === "ECONNRESET" || errno === "EPIPE") return "it closed the connection";
  if (errno.includes("WRONG_VERSION_NUMBER") || errno.includes("PACKET_LENGTH")) {
    return "it does not speak TLS";
  }
  if (errno.includes("NO_APPLICATION_PROTOCOL") || errno === "") return errorMessage(error);
  return `TLS failed: ${errno}`;
}
