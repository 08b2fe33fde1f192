/**
 * Operating errors of the cluster: expected conditions a caller can act on. A broken invariant is
 * not one of these; it goes through `assert` and ends the process. `docs/errors.md` holds the table
 * code -> gRPC -> HTTP -> what to do.
 */
export const ERROR_CODES = [
  /** The request itself is wrong; repeating it will not help. */
  "invalid_argument",
  /** The named object does not exist. */
  "not_found",
  /** An object of that name exists. */
  "already_exists",
  /** The object or cluster is in a state that forbids the request (400 at the Docker edge). */
  "failed_precondition",
  /** The object was changed since the caller read it ("update out of sequence"). */
  "out_of_sequence",
  /** The caller's certificate or role does not allow the call. */
  "permission_denied",
  /** No or a wrong credential (token, key, certificate). */
  "unauthenticated",
  /** This node is not the leader; `details.leader` may name its address. */
  "not_leader",
  /** No quorum or no leader answers: nothing was written. Try again later. */
  "unavailable",
  /** The write was handed to Raft and its fate is unknown: read before repeating it. */
  "unknown_outcome",
  /** A queue or limit is full: nothing was done. Try again later. */
  "resource_exhausted",
  /** The deadline passed before an answer. */
  "deadline_exceeded",
  /** The caller gave up. */
  "canceled",
  /** Swarm mode has no such operation. */
  "unimplemented",
  /** Stored data is damaged; details name file and place. */
  "data_loss",
  /** A bug. */
  "internal",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export type ErrorDetails = Readonly<Record<string, string | number | boolean | null>>;

export class SwarmError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "SwarmError";
    this.code = code;
    this.details = details;
  }
}

/** True when `error` is a SwarmError, of the given code if one is given. */
export function isSwarmError(error: unknown, code?: ErrorCode): error is SwarmError {
  return error instanceof SwarmError && (code === undefined || error.code === code);
}

/** The message of anything thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The only place that guesses what a foreign error means. */
export function toSwarmError(error: unknown, fallback: ErrorCode = "internal"): SwarmError {
  if (error instanceof SwarmError) return error;
  if (error instanceof Error && error.name === "AbortError") {
    return new SwarmError("canceled", "the request was canceled", {}, error);
  }
  return new SwarmError(fallback, errorMessage(error), {}, error);
}

/** Ends the process' work when an invariant is broken; never used for operating errors. */
export class InvariantError extends Error {
  constructor(message: string) {
    super(`invariant broken: ${message}`);
    this.name = "InvariantError";
  }
}

/** Invariants stay on in production. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** Exhaustiveness: the compiler proves that this is never reached. */
export function assertNever(value: never, what: string): never {
  throw new InvariantError(`unexpected ${what}: ${JSON.stringify(value)}`);
}

/** Errno of a failed system call, or "". */
export function errnoOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : "";
  return typeof code === "string" ? code : "";
}
