import { assert, SwarmError, toSwarmError } from "../base/errors.ts";
import type { CallContext } from "../rpc/call.ts";
import { DirectBidi, type DirectCall, type DirectListener } from "../rpc/direct-bidi.ts";
import type {
  DispatcherService,
  LogChunk,
  ManagerMessage,
  NodeMessage,
  PublishLogsResponse,
} from "../rpc/gen/swarmd/v1/dispatcher.ts";
import type { Handlers } from "../rpc/handlers.ts";
import type { Access } from "../rpc/ports.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Leases } from "./leases.ts";

export const DISPATCHER_ACCESS: Readonly<Record<string, Access>> = {
  session: "node",
  publishLogs: "node",
  leaseAddress: "node",
  releaseAddress: "node",
};

export interface DispatcherServerDeps {
  /** The dispatcher of the present term; null while this manager does not lead. */
  readonly dispatcher: () => Dispatcher | null;
  /** Address of the leader, empty when unknown. */
  readonly leaderAddr: () => string;
}

export interface DispatcherHandlers extends Handlers<typeof DispatcherService> {
  readonly session: DirectBidi<NodeMessage, ManagerMessage>;
}

/** The gRPC face of the dispatcher; on a follower it only says where the leader is. */
export function dispatcherHandlers(deps: DispatcherServerDeps): DispatcherHandlers {
  return {
    session: new DirectBidi((call, context) => serveSession(deps, call, context)),
    publishLogs: (chunks, context) => takeLogs(deps, chunks, context),
    leaseAddress: ({ networkId, ipv6, address }, context) => {
      const family = ipv6 ? "ipv6" : "ipv4";
      const asked = { family, ...(address !== "" && { address }) } as const;
      return leasesOf(deps).take(nodeIdOf(context), networkId, asked, context.signal);
    },
    releaseAddress: async ({ taskId }, context) => {
      await leasesOf(deps).release(nodeIdOf(context), taskId, context.signal);
      return {};
    },
  };
}

function serveSession(
  deps: DispatcherServerDeps,
  call: DirectCall<ManagerMessage>,
  context: CallContext,
): DirectListener<NodeMessage> {
  const redirect = (): void => {
    call.send({ body: { $case: "redirect", value: { leaderAddr: deps.leaderAddr() } } });
  };
  const dispatcher = deps.dispatcher();
  if (dispatcher === null) {
    redirect();
    call.end();
    return { onMessage: () => undefined, onHalfClose: () => undefined, onEnd: () => undefined };
  }
  const close = (error?: unknown): void => {
    if (error === undefined && dispatcher.isOver) redirect();
    call.end(error === undefined ? undefined : toSwarmError(error));
  };
  const session = dispatcher.open({
    nodeId: nodeIdOf(context),
    send: message => call.send(message),
    get backlog() {
      return call.backlog;
    },
    close,
  });
  return {
    onMessage: message => session.onMessage(message),
    onHalfClose: close,
    onEnd: () => session.onClose(),
  };
}

async function takeLogs(
  deps: DispatcherServerDeps,
  chunks: AsyncIterable<LogChunk>,
  context: CallContext,
): Promise<PublishLogsResponse> {
  const dispatcher = deps.dispatcher();
  if (dispatcher === null) throw new SwarmError("not_leader", "this manager is not the leader");
  const nodeId = nodeIdOf(context);
  for await (const chunk of chunks) {
    if (!(await dispatcher.logs.publish(nodeId, chunk))) break;
  }
  return {};
}

function leasesOf(deps: DispatcherServerDeps): Leases {
  const dispatcher = deps.dispatcher();
  if (dispatcher === null) throw new SwarmError("not_leader", "this manager is not the leader");
  return dispatcher.leases;
}

function nodeIdOf(context: CallContext): string {
  assert(context.peer !== null, "the access rule lets only nodes in");
  return context.peer.nodeId;
}
