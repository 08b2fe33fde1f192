import { type ErrorCode, SwarmError } from "../../base/errors.ts";

/** gRPC code names as Docker prints them, by our codes; the rest prints as "Unknown". */
const RPC_NAMES: Partial<Record<ErrorCode, string>> = {
  invalid_argument: "InvalidArgument",
  not_found: "NotFound",
  already_exists: "AlreadyExists",
  failed_precondition: "FailedPrecondition",
  permission_denied: "PermissionDenied",
  unauthenticated: "Unauthenticated",
  unavailable: "Unavailable",
  resource_exhausted: "ResourceExhausted",
  deadline_exceeded: "DeadlineExceeded",
  canceled: "Canceled",
  unimplemented: "Unimplemented",
  data_loss: "DataLoss",
  internal: "Internal",
};

/**
 * An error that Docker words in its control API: clients see it behind `rpc error: code = …`
 * (SwarmKit manager/controlapi). The prefix is added at the HTTP edge only.
 */
export function rpcError(code: ErrorCode, message: string): SwarmError {
  return new SwarmError(code, message, { rpc: RPC_NAMES[code] ?? "Unknown" });
}

/** Docker's answer to a stale version; clients match on its words. */
export function outOfSequence(): SwarmError {
  return rpcError("out_of_sequence", "update out of sequence");
}

/** The text of Docker when no manager leads; quorum is lost or an election goes on. */
export const NO_LEADER_TEXT =
  "The swarm does not have a leader. It's possible that too few managers are online. " +
  "Make sure more than half of the managers are online.";

export function noLeader(cause?: unknown): SwarmError {
  return new SwarmError("unavailable", NO_LEADER_TEXT, { rpc: "Unknown" }, cause);
}
