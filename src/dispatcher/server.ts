import { BoundedQueue } from "../base/async.ts";
import { assert, SwarmError, toSwarmError } from "../base/errors.ts";
import type {
  DispatcherService,
  LogChunk,
  ManagerMessage,
  NodeMessage,
  PublishLogsResponse,
} from "../rpc/gen/swarmd/v1/dispatcher.ts";
import type { CallContext, Handlers } from "../rpc/handlers.ts";
import type { Access } from "../rpc/ports.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Leases } from "./leases.ts";

/** Messages on their way to one node; `NodeSession` ends a session before this is reached. */
const MAX_OUTGOING_MESSAGES = 8_192;

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

/** The gRPC face of the dispatcher; on a follower it only says where the leader is. */
export function dispatcherHandlers(deps: DispatcherServerDeps): Handlers<typeof DispatcherService> {
  return {
    session: (messages, context) => serveSession(deps, messages, context),
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

async function* serveSession(
  deps: DispatcherServerDeps,
  messages: AsyncIterable<NodeMessage>,
  context: CallContext,
): AsyncGenerator<ManagerMessage, void> {
  const dispatcher = deps.dispatcher();
  if (dispatcher === null) {
    yield { body: { $case: "redirect", value: { leaderAddr: deps.leaderAddr() } } };
    return;
  }
  const outgoing = new BoundedQueue<ManagerMessage>({ maxItems: MAX_OUTGOING_MESSAGES });
  const session = dispatcher.open({
    nodeId: nodeIdOf(context),
    send: message => void outgoing.push(message),
    get backlog() {
      return outgoing.size;
    },
    close: error => outgoing.close(error === undefined ? null : toSwarmError(error)),
  });
  const onAbort = (): void => outgoing.close();
  context.signal.addEventListener("abort", onAbort, { once: true });
  void readMessages(messages, session, outgoing);
  try {
    yield* outgoing;
    if (deps.dispatcher() !== dispatcher) {
      yield { body: { $case: "redirect", value: { leaderAddr: deps.leaderAddr() } } };
    }
  } finally {
    context.signal.removeEventListener("abort", onAbort);
    session.onClose();
  }
}

async function readMessages(
  messages: AsyncIterable<NodeMessage>,
  session: ReturnType<Dispatcher["open"]>,
  outgoing: BoundedQueue<ManagerMessage>,
): Promise<void> {
  try {
    for await (const message of messages) session.onMessage(message);
    outgoing.close();
  } catch (error) {
    outgoing.close(toSwarmError(error, "unavailable"));
  }
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
