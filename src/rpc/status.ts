import { Metadata, type ServiceError, status } from "@grpc/grpc-js";
import {
  ERROR_CODES,
  type ErrorCode,
  type ErrorDetails,
  InvariantError,
  SwarmError,
} from "../base/errors.ts";

/** The whole error travels beside the gRPC status, as JSON {code, message, details}. */
const ERROR_KEY = "swarmd-error-bin";
/** Trailers are bounded by HTTP/2 peers (64 KiB with Node's defaults). */
const MAX_MESSAGE_CHARS = 4_096;
const MAX_DETAILS = 32;
const MAX_ERROR_BYTES = 16 * 1024;

/** SwarmError code -> gRPC status (docs/errors.md). */
const GRPC_STATUS: Readonly<Record<ErrorCode, status>> = {
  invalid_argument: status.INVALID_ARGUMENT,
  not_found: status.NOT_FOUND,
  already_exists: status.ALREADY_EXISTS,
  failed_precondition: status.FAILED_PRECONDITION,
  out_of_sequence: status.ABORTED,
  permission_denied: status.PERMISSION_DENIED,
  unauthenticated: status.UNAUTHENTICATED,
  not_leader: status.UNAVAILABLE,
  unavailable: status.UNAVAILABLE,
  unknown_outcome: status.UNKNOWN,
  resource_exhausted: status.RESOURCE_EXHAUSTED,
  deadline_exceeded: status.DEADLINE_EXCEEDED,
  canceled: status.CANCELLED,
  unimplemented: status.UNIMPLEMENTED,
  data_loss: status.DATA_LOSS,
  internal: status.INTERNAL,
};

/** gRPC status -> SwarmError code, for statuses that gRPC itself made. */
const SWARM_CODE: Readonly<Partial<Record<status, ErrorCode>>> = {
  [status.CANCELLED]: "canceled",
  // Not a word about whether the call was carried out.
  [status.UNKNOWN]: "unknown_outcome",
  [status.INVALID_ARGUMENT]: "invalid_argument",
  [status.DEADLINE_EXCEEDED]: "deadline_exceeded",
  [status.NOT_FOUND]: "not_found",
  [status.ALREADY_EXISTS]: "already_exists",
  [status.PERMISSION_DENIED]: "permission_denied",
  [status.RESOURCE_EXHAUSTED]: "resource_exhausted",
  [status.FAILED_PRECONDITION]: "failed_precondition",
  [status.ABORTED]: "out_of_sequence",
  [status.OUT_OF_RANGE]: "invalid_argument",
  [status.UNIMPLEMENTED]: "unimplemented",
  [status.UNAVAILABLE]: "unavailable",
  [status.DATA_LOSS]: "data_loss",
  [status.UNAUTHENTICATED]: "unauthenticated",
};

export interface GrpcStatus {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;
}

/** What goes to the caller. A foreign error becomes "internal" and its words stay here. */
export function toGrpcStatus(error: unknown): GrpcStatus {
  const known = error instanceof SwarmError;
  const code = known ? error.code : "internal";
  const message = known ? wellFormed(error.message) : "internal error";
  const metadata = new Metadata();
  const json = JSON.stringify({ code, message, details: known ? error.details : {} });
  const bytes = Buffer.from(json, "utf8");
  if (bytes.length <= MAX_ERROR_BYTES) metadata.set(ERROR_KEY, bytes);
  return { code: GRPC_STATUS[code], details: message, metadata };
}

/** Bounded and without lone surrogates, which the wire's percent-encoding refuses. */
function wellFormed(text: string): string {
  return text.slice(0, MAX_MESSAGE_CHARS).replaceAll(/\p{Surrogate}/gu, "\ufffd");
}

/** Whether the status was made by the server's handler or its checks, not by gRPC on the way. */
export function isServersWord(error: ServiceError): boolean {
  return error.metadata?.get(ERROR_KEY).length === 1;
}

/** Rebuilds the server's SwarmError, or makes one of gRPC's status. */
export function fromGrpcError(error: ServiceError): SwarmError {
  const [raw] = error.metadata?.get(ERROR_KEY) ?? [];
  const sent = Buffer.isBuffer(raw) ? parseSent(raw) : null;
  if (sent !== null) return sent;
  const code = SWARM_CODE[error.code] ?? "internal";
  return new SwarmError(code, error.details || error.message, {}, error);
}

function parseSent(raw: Buffer): SwarmError | null {
  if (raw.length > MAX_ERROR_BYTES) return null;
  let sent: unknown;
  try {
    sent = JSON.parse(raw.toString("utf8"));
  } catch {
    // A peer of another make: its plain gRPC status is used instead.
    return null;
  }
  if (typeof sent !== "object" || sent === null) return null;
  const { code, message, details } = sent as Record<string, unknown>;
  const known = ERROR_CODES.find(candidate => candidate === code);
  if (known === undefined || typeof message !== "string") return null;
  return new SwarmError(known, message, scalars(details));
}

function scalars(details: unknown): ErrorDetails {
  if (typeof details !== "object" || details === null) return {};
  const isScalar = (value: unknown): value is string | number | boolean | null =>
    value === null || ["string", "number", "boolean"].includes(typeof value);
  const entries = Object.entries(details).filter(
    (entry): entry is [string, string | number | boolean | null] =>
      isScalar(entry[1]) && entry[0] !== "__proto__",
  );
  return Object.fromEntries(entries.slice(0, MAX_DETAILS));
}

/** True for an error that says the program is wrong, not the request. */
export function isBug(error: unknown): boolean {
  return error instanceof InvariantError;
}
