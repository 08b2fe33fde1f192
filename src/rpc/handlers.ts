import type {
  handleBidiStreamingCall,
  handleClientStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  MethodDefinition,
  UntypedHandleCall,
} from "@grpc/grpc-js";
import { SwarmError } from "../base/errors.ts";
import type { CallContext, CallScope, GrpcCall } from "./call.ts";
import { DirectBidi, toDirectHandler } from "./direct-bidi.ts";
import { toGrpcStatus } from "./status.ts";
import { type GrpcReadable, pump, readAll } from "./streams.ts";

export type UnaryHandler<Req, Res> = (request: Req, context: CallContext) => Promise<Res>;
export type ServerStreamHandler<Req, Res> = (
  request: Req,
  context: CallContext,
) => AsyncIterable<Res>;
export type ClientStreamHandler<Req, Res> = (
  requests: AsyncIterable<Req>,
  context: CallContext,
) => Promise<Res>;
/** Requests in, responses out; the call ends when the responses do, or either side throws. */
export type BidiHandler<Req, Res> = (
  requests: AsyncIterable<Req>,
  context: CallContext,
) => AsyncIterable<Res>;

/** One method of a generated service definition. */
export interface Method<Req, Res> {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (value: Req) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => Req;
  readonly responseSerialize: (value: Res) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Res;
}

type RequestOf<M> = M extends { requestDeserialize: (bytes: Buffer) => infer Req } ? Req : never;
type ResponseOf<M> = M extends { responseDeserialize: (bytes: Buffer) => infer Res } ? Res : never;

type HandlerOf<M> = M extends { requestStream: true; responseStream: true }
  ? BidiHandler<RequestOf<M>, ResponseOf<M>> | DirectBidi<RequestOf<M>, ResponseOf<M>>
  : M extends { requestStream: true }
    ? ClientStreamHandler<RequestOf<M>, ResponseOf<M>>
    : M extends { responseStream: true }
      ? ServerStreamHandler<RequestOf<M>, ResponseOf<M>>
      : UnaryHandler<RequestOf<M>, ResponseOf<M>>;

/** The handlers of a generated service definition `S` (`typeof CAService`). */
export type Handlers<S> = { readonly [K in keyof S]: HandlerOf<S[K]> };

/** A handler with its types forgotten, as the wrapper calls it. */
export type AnyHandler = (first: unknown, context: CallContext) => unknown;

export function isHandler(value: unknown): value is AnyHandler | DirectBidi<unknown, unknown> {
  return typeof value === "function" || value instanceof DirectBidi;
}

interface GrpcWritableCall extends GrpcCall {
  readonly destroyed: boolean;
  write(message: unknown): boolean;
  end(): void;
  emit(event: "error", error: object): boolean;
  once(event: "cancelled" | "drain", listener: () => void): unknown;
  off(event: "drain", listener: () => void): unknown;
}

/** Turns a handler into what grpc-js registers, with error mapping and the call's context. */
export function toGrpcHandler(
  method: Pick<MethodDefinition<unknown, unknown>, "requestStream" | "responseStream">,
  handler: AnyHandler | DirectBidi<unknown, unknown>,
  scope: CallScope,
): UntypedHandleCall {
  if (handler instanceof DirectBidi) return toDirectHandler(handler, scope);
  if (method.responseStream) {
    return method.requestStream ? bidi(handler, scope) : serverStream(handler, scope);
  }
  return method.requestStream ? clientStream(handler, scope) : unary(handler, scope);
}

function unary(handler: AnyHandler, scope: CallScope): handleUnaryCall<unknown, unknown> {
  return (call, callback) => {
    const { context, done } = scope.open(call, false);
    void settle(async () => handler(call.request, context), call, scope)
      .then(
        value => callback(null, value),
        (error: unknown) => callback(toGrpcStatus(error)),
      )
      .finally(done);
  };
}

function clientStream(
  handler: AnyHandler,
  scope: CallScope,
): handleClientStreamingCall<unknown, unknown> {
  return (call, callback) => {
    const { context, done } = scope.open(call, true);
    void settle(async () => handler(readAll(call, context.signal), context), call, scope)
      .then(
        value => callback(null, value),
        (error: unknown) => callback(toGrpcStatus(error)),
      )
      .finally(done);
  };
}

function serverStream(
  handler: AnyHandler,
  scope: CallScope,
): handleServerStreamingCall<unknown, unknown> {
  return call => stream(() => call.request, handler, call, scope);
}

function bidi(handler: AnyHandler, scope: CallScope): handleBidiStreamingCall<unknown, unknown> {
  return call => stream(signal => readAll(call as GrpcReadable, signal), handler, call, scope);
}

function stream(
  first: (signal: AbortSignal) => unknown,
  handler: AnyHandler,
  call: GrpcWritableCall,
  scope: CallScope,
): void {
  const { context, done } = scope.open(call, true);
  const run = async (): Promise<void> => {
    const responses = handler(first(context.signal), context);
    if (!isAsyncIterable(responses)) {
      throw new SwarmError("internal", `${call.getPath()} returned no stream`);
    }
    await pump(responses, call, context.signal);
  };
  void settle(run, call, scope)
    .then(
      () => call.end(),
      (error: unknown) => {
        if (!call.cancelled && !call.destroyed) call.emit("error", toGrpcStatus(error));
      },
    )
    .finally(done);
}

async function settle<T>(run: () => Promise<T>, call: GrpcCall, scope: CallScope): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!call.cancelled) scope.failed(call.getPath(), error);
    throw error;
  }
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
