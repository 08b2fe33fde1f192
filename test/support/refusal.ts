import { errorMessage, isSwarmError } from "../../src/base/errors.ts";

/** How work is refused, as a client reads it: behind the gRPC code when Docker shows one. */
export function refusalOf(work: () => unknown): string {
  try {
    work();
    return "accepted";
  } catch (error) {
    if (!isSwarmError(error)) return `threw ${errorMessage(error)}`;
    const rpc = error.details["rpc"];
    return rpc === undefined ? error.message : `${rpc}: ${error.message}`;
  }
}
