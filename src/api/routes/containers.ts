import { isSwarmError, SwarmError } from "../../base/errors.ts";
import type { Network } from "../../model/rows.ts";
import type { EngineAnswer } from "../engine.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { readBody } from "../json-body.ts";
import { hideOwnLabel } from "../own-labels.ts";

/** A container may start slowly; its client waits as long as it likes. */
const START_TIMEOUT_MS = 600_000;
const LIST_TIMEOUT_MS = 120_000;

/** What the Engine says of a container on a network that it does not have. */
const NO_NETWORK = /"network ([^" ]+) not found"/;

/** Kinds of network that are never the cluster's. */
const NOT_SHARED: ReadonlySet<string> = new Set(["default", "bridge", "host", "none", "container"]);

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

/** An Engine that does not have a network of the cluster is given it, and asked again. */
async function start(exchange: Exchange): Promise<void> {
  const ask = (): Promise<EngineAnswer> =>
    exchange.deps.engine.request("POST", exchange.request.url ?? "", {
      signal: exchange.signal,
      timeoutMs: START_TIMEOUT_MS,
      headers: { "Content-Length": 0 },
    });
  let answer = await ask();
  const said = answer.status === 404 ? answer.body.toString("utf8") : "";
  const network = await sharedNetwork(exchange, NO_NETWORK.exec(said)?.[1] ?? "");
  if (network !== null) {
    await bring(exchange, network);
    answer = await ask();
  }
  pass(exchange, answer, answer.body.toString("utf8"));
}

/** The cluster's network of that name or id; null when it has none. */
async function sharedNetwork(exchange: Exchange, ref: string): Promise<Network | null> {
  const control = exchange.deps.lifecycle.control();
  if (control === null || ref === "" || NOT_SHARED.has(ref.split(":")[0] ?? "")) return null;
  try {
    return (await control.call("network.get", { ref }, exchange.signal)).network;
  } catch (error) {
    if (isSwarmError(error, "not_found")) return null;
    throw error;
  }
}

/** Makes it one of the local Engine's; in Docker's words when it may not be. */
async function bring(exchange: Exchange, network: Network): Promise<{ readonly gateway: string }> {
  const name = network.spec.Name;
  if (network.spec["Attachable"] !== true) {
    const why = `rpc error: code = PermissionDenied desc = network ${name} not manually attachable`;
    throw new SwarmError("permission_denied", `Could not attach to network ${name}: ${why}`);
  }
  return exchange.deps.lifecycle.attachNetwork(network.id, exchange.signal);
}

/**
 * A container that is created on a network of the cluster is told who answers for its names there:
 * the Engine's own resolver knows this host's containers only.
 */
async function create(exchange: Exchange): Promise<void> {
  const { proxy, clock } = exchange.deps;
  const raw = await readBody(exchange.request, clock);
  await proxy.forward(exchange.request, exchange.response, await withNameserver(exchange, raw));
}

async function withNameserver(exchange: Exchange, raw: Buffer): Promise<Buffer> {
  // Whatever is wrong with the body is the Engine's to say.
  const body = parsedOrNull(raw);
  const host = objectAt(body, "HostConfig");
  const mode = String(host["NetworkMode"] ?? "");
  const network = body === null ? null : await sharedNetwork(exchange, mode);
  if (body === null || network?.spec["Attachable"] !== true) return raw;
  const { gateway } = await bring(exchange, network);
  const own = host["Dns"];
  if (gateway === "" || (Array.isArray(own) && own.length > 0)) return raw;
  return Buffer.from(JSON.stringify({ ...body, HostConfig: { ...host, Dns: [gateway] } }));
}

/** `network connect`: the network may have to come to this Engine first. */
async function connect(exchange: Exchange): Promise<void> {
  const network = await sharedNetwork(exchange, exchange.param("ref"));
  if (network?.spec["Attachable"] === true) await bring(exchange, network);
  await exchange.deps.proxy.forward(exchange.request, exchange.response);
}

type Json = Readonly<Record<string, unknown>>;

function parsedOrNull(raw: Buffer): Json | null {
  try {
    const parsed: unknown = JSON.parse(raw.toString("utf8"));
    return typeof parsed === "object" && parsed !== null ? (parsed as Json) : null;
  } catch {
    return null;
  }
}

function objectAt(value: Json | null, key: string): Json {
  const found = value?.[key];
  return typeof found === "object" && found !== null ? (found as Json) : {};
}

export const CONTAINER_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/containers/json", handler: show },
  { method: "GET", pattern: "/containers/{ref}/json", handler: show },
  { method: "POST", pattern: "/containers/create", handler: create },
  { method: "POST", pattern: "/containers/{ref}/start", handler: start },
  { method: "POST", pattern: "/networks/{ref}/connect", handler: connect },
];
