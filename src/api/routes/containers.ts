import { isSwarmError, SwarmError } from "../../base/errors.ts";
import type { EngineAnswer } from "../engine.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { hideOwnLabel } from "../own-labels.ts";

/** A container may start slowly; its client waits as long as it likes. */
const START_TIMEOUT_MS = 600_000;
const LIST_TIMEOUT_MS = 120_000;

/** What the Engine says of a container on a network that it does not have. */
const NO_NETWORK = /"network ([^" ]+) not found"/;

function pass(exchange: Exchange, answer: EngineAnswer, body: string): void {
  const { response } = exchange;
  const type = answer.headers["content-type"];
  const bytes = Buffer.from(body);
  response.writeHead(answer.status, {
    ...(type === undefined ? {} : { "Content-Type": type }),
    ...(bytes.length > 0 ? { "Content-Length": bytes.length } : {}),
  });
  response.end(bytes);
}

async function show(exchange: Exchange): Promise<void> {
  const { request, deps, signal } = exchange;
  const options = { signal, timeoutMs: LIST_TIMEOUT_MS };
  const answer = await deps.engine.request("GET", request.url ?? "", options);
  pass(exchange, answer, hideOwnLabel(answer.body.toString("utf8")));
}

/** The Engine does not know the cluster's networks: what is wrong with one is said as Docker does. */
async function start(exchange: Exchange): Promise<void> {
  const { request, deps, signal } = exchange;
  const answer = await deps.engine.request("POST", request.url ?? "", {
    signal,
    timeoutMs: START_TIMEOUT_MS,
    headers: { "Content-Length": 0 },
  });
  const body = answer.body.toString("utf8");
  const network = answer.status === 404 ? NO_NETWORK.exec(body)?.[1] : undefined;
  if (network !== undefined) await refuseShared(exchange, network);
  pass(exchange, answer, body);
}

async function refuseShared(exchange: Exchange, ref: string): Promise<void> {
  const control = exchange.deps.lifecycle.control();
  if (control === null) return;
  const view = await control
    .call("network.get", { ref }, exchange.signal)
    .catch((error: unknown) => {
      if (isSwarmError(error, "not_found")) return null;
      throw error;
    });
  if (view === null) return;
  const { Name: name } = view.network.spec;
  if (view.network.spec["Attachable"] !== true) {
    const why = `rpc error: code = PermissionDenied desc = network ${name} not manually attachable`;
    throw new SwarmError("permission_denied", `Could not attach to network ${name}: ${why}`);
  }
  throw new SwarmError(
    "unimplemented",
    `Could not attach to network ${name}: containers that are no tasks cannot be attached to ` +
      "overlay networks on this node",
  );
}

export const CONTAINER_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/containers/json", handler: show },
  { method: "GET", pattern: "/containers/{ref}/json", handler: show },
  { method: "POST", pattern: "/containers/{ref}/start", handler: start },
];
