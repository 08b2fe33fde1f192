import { SwarmError, toSwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { LogMessage } from "../model/assignment.ts";
import type { PeerInfo } from "../raft/ports.ts";
import type { RpcClients } from "../rpc/clients.ts";
import {
  type CallRequest,
  ControlService as ControlDefinition,
  type LogLine,
} from "../rpc/gen/swarmd/v1/control.ts";
import type { Handlers } from "../rpc/handlers.ts";
import type { Access } from "../rpc/ports.ts";
import { isOperation, OPERATION_TRAITS, type OperationName } from "./operations.ts";
import type { LeaderRequest, LeaderTransport, LogRequest } from "./ports.ts";
import type { ControlService } from "./service.ts";

/** Op name of a log request on the wire. */
const LOGS_OP = "logs";

/** Managers ask on behalf of their sockets' users; no one else may. */
export const CONTROL_ACCESS: Readonly<Record<string, Access>> = {
  call: "manager",
  callStream: "manager",
};

/** The leader's end of forwarded calls, for `RpcServer.addService`. */
export function controlHandlers(
  service: ControlService,
  deps: { readonly logger: Logger },
): Handlers<typeof ControlDefinition> {
  return {
    call: async (request, { signal }) => {
      const op = forwardedOp(request);
      deps.logger.debug("forwarded operation", { op, caller: request.caller });
      const result = await service.run(op, JSON.parse(request.argsJson), signal);
      return { resultJson: JSON.stringify(result) };
    },
    async *callStream(request, { signal }) {
      if (request.op !== LOGS_OP) throw new SwarmError("unimplemented", "no such stream");
      const wanted = JSON.parse(request.argsJson) as LogRequest;
      for await (const message of service.logs(wanted, signal)) yield toLine(message);
    },
  };
}

/** Only what needs the leader is forwarded; the rest every manager answers by itself. */
function forwardedOp({ op }: CallRequest): OperationName {
  if (isOperation(op)) {
    const { kind } = OPERATION_TRAITS[op];
    if (kind === "write" || kind === "leader") return op;
  }
  throw new SwarmError("unimplemented", `this manager does not know the operation "${op}"`);
}

function toLine(message: LogMessage): LogLine {
  return {
    taskId: message.taskId,
    nodeId: message.nodeId,
    stderr: message.stream === "stderr",
    timestampNs: message.timestampNs,
    data: Buffer.from(message.data),
    attrs: { ...message.attrs },
  };
}

/** Calls to the leader over the cluster port. */
export class RpcLeaderTransport implements LeaderTransport {
  readonly #clients: Pick<RpcClients, "unary" | "serverStream">;

  constructor(clients: Pick<RpcClients, "unary" | "serverStream">) {
    this.#clients = clients;
  }

  async call(peer: PeerInfo, request: LeaderRequest, signal: AbortSignal): Promise<string> {
    try {
      const { resultJson } = await this.#clients.unary(
        ControlDefinition.call,
        peer.addr,
        { op: request.op, argsJson: request.argsJson, caller: request.caller },
        {
          signal,
          nodeId: peer.nodeId,
          ...(request.timeoutMs !== undefined && { timeoutMs: request.timeoutMs }),
        },
      );
      return resultJson;
    } catch (error) {
      throw asFate(error);
    }
  }

  async *logs(peer: PeerInfo, request: LogRequest, signal: AbortSignal): AsyncIterable<LogMessage> {
    const asked = { op: LOGS_OP, argsJson: JSON.stringify(request), caller: "" };
    const lines = this.#clients.serverStream(ControlDefinition.callStream, peer.addr, asked, {
      signal,
      nodeId: peer.nodeId,
    });
    for await (const { stderr, ...line } of lines) {
      yield { ...line, stream: stderr ? "stderr" : "stdout" };
    }
  }
}

/** A call that ran out of time may have been carried out. */
function asFate(error: unknown): SwarmError {
  const known = toSwarmError(error, "unknown_outcome");
  if (known.code !== "deadline_exceeded") return known;
  return new SwarmError("unknown_outcome", known.message, known.details, error);
}
