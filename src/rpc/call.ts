import type { Metadata } from "@grpc/grpc-js";
import type { PeerIdentity } from "./ports.ts";

/** What a handler knows of its caller. */
export interface CallContext {
  /** From the verified certificate; null = none was presented. */
  readonly peer: PeerIdentity | null;
  /** The caller's address, without port. */
  readonly remoteIp: string;
  readonly metadata: Metadata;
  /** Aborts when the caller gives up, its deadline passes, the connection or the server ends. */
  readonly signal: AbortSignal;
}

/** The server's part in a call: opens its context, hears of failures. */
export interface CallScope {
  open(call: GrpcCall, streaming: boolean): { readonly context: CallContext; done(): void };
  /** Logs what the caller is not told. */
  failed(path: string, error: unknown): void;
}

export interface GrpcCall {
  readonly metadata: Metadata;
  readonly cancelled: boolean;
  getPath(): string;
  once(event: "cancelled", listener: () => void): unknown;
}
