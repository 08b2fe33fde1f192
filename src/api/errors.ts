import { type ErrorCode, toSwarmError } from "../base/errors.ts";

/** Docker's words and status for an error, as the client gets them. */
export interface HttpError {
  readonly status: number;
  readonly message: string;
}

/** moby daemon/server/httpstatus; docs/errors.md is this table with what to do. */
export const HTTP_STATUS: Readonly<Record<ErrorCode, number>> = {
  invalid_argument: 400,
  not_found: 404,
  already_exists: 409,
  failed_precondition: 400,
  out_of_sequence: 500,
  permission_denied: 403,
  unauthenticated: 401,
  not_leader: 503,
  unavailable: 503,
  unknown_outcome: 503,
  resource_exhausted: 503,
  deadline_exceeded: 500,
  canceled: 499,
  unimplemented: 501,
  data_loss: 500,
  internal: 500,
};

/** Status by the gRPC code name that Docker prints; names not listed are 500. */
export const RPC_STATUS: Readonly<Record<string, number>> = {
  InvalidArgument: 400,
  FailedPrecondition: 400,
  OutOfRange: 400,
  Unauthenticated: 401,
  PermissionDenied: 403,
  NotFound: 404,
  AlreadyExists: 409,
  Aborted: 409,
  Unimplemented: 501,
  Unavailable: 503,
};

/**
 * The one place where errors become Docker's: `details.rpc` puts Docker's gRPC prefix before the
 * words and decides the status; `details.http` overrides the status where Docker's is odd.
 */
export function toHttpError(thrown: unknown): HttpError {
  const error = toSwarmError(thrown);
  const { rpc, http } = error.details;
  if (typeof rpc === "string") {
    const message = `rpc error: code = ${rpc} desc = ${error.message}`;
    return { status: typeof http === "number" ? http : (RPC_STATUS[rpc] ?? 500), message };
  }
  const status = typeof http === "number" ? http : HTTP_STATUS[error.code];
  return { status, message: error.message };
}
