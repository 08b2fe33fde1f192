import { isSwarmError, SwarmError } from "../../base/errors.ts";
import { valuesOf } from "../../control/core/filters.ts";
import type { Network } from "../../model/rows.ts";
import type { EngineAnswer } from "../engine.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { readBody } from "../json-body.ts";
import { hideOwnLabel } from "../own-labels.ts";
import { filtersParam } from "../query.ts";
import { withFilter } from "../shared-networks.ts";

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
  const text = hideOwnLabel(answer.body.toString("utf8"));
  pass(exchange, answer, await deps.networks.inClusterIds(text, signal));
}

/** `docker ps --filter network=…`: the Engine has ids of its own for the cluster's networks. */
async function list(exchange: Exchange): Promise<void> {
  const { request, query } = exchange;
  const raw = query.get("filters") ?? "";
  if (raw.includes('"network"')) {
    const wanted = await Promise.all(
      valuesOf(filtersParam(query), "network").map(ref => engineRef(exchange, ref)),
    );
    request.url = withFilter(request.url ?? "", "network", wanted);
  }
  await show(exchange);
}

const CLUSTER_ID = /^[0-9a-z]{25}$/;

/** The same network as the Engine knows it, if it does. */
async function engineRef(exchange: Exchange, ref: string): Promise<string> {
  if (!CLUSTER_ID.test(ref)) return ref;
  return (await exchange.deps.networks.engineId(ref, exchange.signal)) ?? ref;
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
  if (body === null) return raw;
  const host = objectAt(body, "HostConfig");
  const networking = objectAt(body, "NetworkingConfig");
  const endpoints = objectAt(networking, "EndpointsConfig");
  const mode = String(host["NetworkMode"] ?? "");
  const names = new Map<string, string>();
  let gateway = "";
  for (const ref of new Set([mode, ...Object.keys(endpoints)])) {
    const network = await sharedNetwork(exchange, ref);
    if (network?.spec["Attachable"] !== true) continue;
    const brought = await bring(exchange, network);
    gateway ||= brought.gateway;
    if (ref !== network.spec.Name) names.set(ref, await engineRef(exchange, network.id));
  }
  const own = host["Dns"];
  const hasDns = gateway === "" || (Array.isArray(own) && own.length > 0);
  if (hasDns && names.size === 0) return raw;
  const renamed = Object.entries(endpoints).map(([ref, value]) => [names.get(ref) ?? ref, value]);
  return Buffer.from(
    JSON.stringify({
      ...body,
      HostConfig: {
        ...host,
        ...(mode === "" ? {} : { NetworkMode: names.get(mode) ?? mode }),
        ...(hasDns ? {} : { Dns: [gateway] }),
      },
      ...(renamed.length === 0
        ? {}
        : { NetworkingConfig: { ...networking, EndpointsConfig: Object.fromEntries(renamed) } }),
    }),
  );
}

/** `network connect`: the network may have to come to this Engine first. */
async function connect(exchange: Exchange): Promise<void> {
  const network = await sharedNetwork(exchange, exchange.param("ref"));
  if (network?.spec["Attachable"] === true) await bring(exchange, network);
  await disconnect(exchange);
}

async function disconnect(exchange: Exchange): Promise<void> {
  const { request, response, deps } = exchange;
  const ref = exchange.param("ref");
  const engineId = await engineRef(exchange, ref);
  request.url = (request.url ?? "").replace(`/networks/${ref}/`, `/networks/${engineId}/`);
  await deps.proxy.forward(request, response);
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
  { method: "GET", pattern: "/containers/json", handler: list },
  { method: "GET", pattern: "/containers/{ref}/json", handler: show },
  { method: "POST", pattern: "/containers/create", handler: create },
  { method: "POST", pattern: "/containers/{ref}/start", handler: start },
  { method: "POST", pattern: "/networks/{ref}/connect", handler: connect },
  { method: "POST", pattern: "/networks/{ref}/disconnect", handler: disconnect },
];
