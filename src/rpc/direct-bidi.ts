import type { handleBidiStreamingCall } from "@grpc/grpc-js";
import type { CallContext, CallScope, GrpcCall } from "./call.ts";
import { toGrpcStatus } from "./status.ts";

/** The server's hold of a stream both ways. */
export interface DirectCall<Res> {
  /** Messages sent that the network has not taken yet. */
  readonly backlog: number;
  /** After the end nothing is sent. */
  send(message: Res): void;
  /** Ends the call after what was sent, well or with the error. Idempotent. */
  end(error?: unknown): void;
}

/** What the server hears of one. */
export interface DirectListener<Req> {
  /** What it throws ends the call. */
  onMessage(message: Req): void;
  /** The caller sends no more. */
  onHalfClose(): void;
  /** Once, however the call ended. */
  onEnd(): void;
}

export type DirectOpen<Req, Res> = (
  call: DirectCall<Res>,
  context: CallContext,
) => DirectListener<Req>;

/**
 * A handler of a stream both ways in which a message is a call of a function, each way. Iterators
 * cost several promises a message: too much where thousands of streams are open for good.
 */
export class DirectBidi<Req, Res> {
  readonly open: DirectOpen<Req, Res>;

  constructor(open: DirectOpen<Req, Res>) {
    this.open = open;
  }
}

/** As much of a grpc-js call as is used here. */
interface GrpcDuplex extends GrpcCall {
  readonly destroyed: boolean;
  readonly writableLength: number;
  write(message: unknown): boolean;
  end(): void;
  emit(event: "error", error: object): boolean;
  once(event: "cancelled" | "end", listener: () => void): unknown;
  on(event: "data", listener: (message: unknown) => void): unknown;
}

/** Turns it into what grpc-js registers, with error mapping and the call's context. */
export function toDirectHandler(
  handler: DirectBidi<unknown, unknown>,
  scope: CallScope,
): handleBidiStreamingCall<unknown, unknown> {
  return call => serve(handler, call, scope);
}

function serve(
  handler: DirectBidi<unknown, unknown>,
  call: GrpcDuplex,
  { open, failed }: CallScope,
): void {
  const { context, done } = open(call, true);
  let over = false;
  let listener: DirectListener<unknown> | null = null;
  const fail = (error: unknown): void => {
    if (call.cancelled || call.destroyed) return;
    failed(call.getPath(), error);
    call.emit("error", toGrpcStatus(error));
  };
  const end = (error?: unknown): void => {
    if (over) return;
    over = true;
    context.signal.removeEventListener("abort", onAbort);
    done();
    if (error === undefined) call.end();
    else fail(error);
    listener?.onEnd();
  };
  const onAbort = (): void => end(context.signal.reason);
  context.signal.addEventListener("abort", onAbort, { once: true });
  const guarded = (fn: () => void): void => {
    if (over) return;
    try {
      fn();
    } catch (error) {
      end(error);
    }
  };
  guarded(() => {
    const direct: DirectCall<unknown> = {
      get backlog() {
        return call.writableLength;
      },
      send: message => {
        if (!over) call.write(message);
      },
      end,
    };
    const opened = handler.open(direct, context);
    listener = opened;
    call.on("data", message => guarded(() => opened.onMessage(message)));
    call.once("end", () => guarded(() => opened.onHalfClose()));
    if (over) opened.onEnd();
  });
}
