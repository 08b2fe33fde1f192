import { errorMessage } from "../../base/errors.ts";
import type { OperationResult } from "../../control/operations.ts";
import { swarmInfoDto } from "../dto/swarm.ts";
import { toHttpError } from "../errors.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { parseJson } from "../json-body.ts";
import { swarmHeader } from "../node-state.ts";
import {
  compareApiVersions,
  formatApiVersion,
  MIN_API_VERSION,
  parseApiVersion,
} from "../version.ts";

type Json = Readonly<Record<string, unknown>>;

async function ping(exchange: Exchange): Promise<void> {
  const { engine, lifecycle } = exchange.deps;
  const identity = await engine.identity();
  const head = exchange.request.method === "HEAD";
  const { response } = exchange;
  response.setHeader("Cache-Control", "no-cache, no-store, must-revalidate");
  response.setHeader("Pragma", "no-cache");
  response.setHeader("Swarm", swarmHeader(lifecycle.state()));
  if (identity.builderVersion !== "") {
    response.setHeader("Builder-Version", identity.builderVersion);
  }
  response.writeHead(200, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": head ? 0 : 2,
  });
  response.end(head ? undefined : "OK");
}

/** The Engine's answer as an object; answers of another kind are passed on as they are. */
async function engineObject(exchange: Exchange, path: string): Promise<Json | null> {
  const { engine } = exchange.deps;
  const versioned = `/v${formatApiVersion(exchange.version)}${path}`;
  const answer = await engine.request("GET", versioned, { signal: exchange.signal });
  const body = parseJson(answer.body.toString("utf8"));
  if (answer.status === 200) return body as Json;
  exchange.reply(answer.status, body);
  return null;
}

async function info(exchange: Exchange): Promise<void> {
  const engineInfo = await engineObject(exchange, "/info");
  if (engineInfo === null) return;
  const { lifecycle } = exchange.deps;
  const local = lifecycle.state();
  const control = lifecycle.control();
  let cluster: OperationResult<"system.info"> | null = null;
  let { error } = local;
  if (control !== null) {
    try {
      cluster = await control.call("system.info", {}, exchange.signal);
    } catch (failure) {
      error = toHttpError(failure).message || errorMessage(failure);
    }
  }
  const swarm = swarmInfoDto(local, control !== null, cluster, error);
  exchange.reply(200, { ...engineInfo, Swarm: swarm });
}

async function version(exchange: Exchange): Promise<void> {
  const engineVersion = await engineObject(exchange, "/version");
  if (engineVersion === null) return;
  const components = engineVersion["Components"];
  const min = parseApiVersion(String(engineVersion["MinAPIVersion"] ?? "")) ?? MIN_API_VERSION;
  const ours = {
    Name: "swarmd",
    Version: exchange.deps.productVersion,
    Details: { MinAPIVersion: formatApiVersion(MIN_API_VERSION) },
  };
  exchange.reply(200, {
    ...engineVersion,
    Components: [...(Array.isArray(components) ? components : []), ours],
    MinAPIVersion: formatApiVersion(
      compareApiVersions(min, MIN_API_VERSION) > 0 ? min : MIN_API_VERSION,
    ),
  });
}

/** How this daemon fares; answered without a quorum and outside a cluster. */
async function status(exchange: Exchange): Promise<void> {
  const { lifecycle, productVersion, loopHealth } = exchange.deps;
  const control = lifecycle.control();
  const raft = control === null ? null : await control.call("system.status", {}, exchange.signal);
  const eventLoop = loopHealth?.() ?? null;
  exchange.reply(200, { version: productVersion, node: lifecycle.state(), raft, eventLoop });
}

export const SYSTEM_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/_ping", handler: ping },
  { method: "HEAD", pattern: "/_ping", handler: ping },
  { method: "GET", pattern: "/info", handler: info },
  { method: "GET", pattern: "/version", handler: version },
  { method: "GET", pattern: "/swarmd/v1/status", handler: status },
];
