import type { status } from "@grpc/grpc-js";

/** A refusal with a gRPC status; the sender tries again later. */
export class Refusal extends Error {
  readonly code: status;
  /** What gRPC sends to the caller. */
  readonly details: string;

  constructor(code: status, message: string) {
    super(message);
    this.code = code;
    this.details = message;
  }
}
