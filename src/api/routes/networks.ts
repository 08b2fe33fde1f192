import { isSwarmError, SwarmError } from "../../base/errors.ts";
import { newOrderedId } from "../../base/ids.ts";
import { hasLabels, valuesOf } from "../../control/core/filters.ts";
import type { Filters, NetworkView } from "../../control/operations.ts";
import type { ControlClient } from "../../control/ports.ts";
import { predefinedName, shownTarget } from "../../model/predefined-networks.ts";
import { refusal as modelRefusal, oddlyInternal } from "../../model/validate-errors.ts";
import { networkDto } from "../dto/network.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { parseJson, readBody } from "../json-body.ts";
import { NODE_STATE_TEXT, noManager } from "../node-state.ts";
import { filtersParam, strictBoolParam } from "../query.ts";
import { dressNetwork, sharedIdOf, withFilter } from "../shared-networks.ts";

type Json = Readonly<Record<string, unknown>>;

async function list(exchange: Exchange): Promise<void> {
  const control = exchange.deps.lifecycle.control();
  const { status, local } = await localNetworks(exchange, control === null);
  if (status !== 200 || !Array.isArray(local)) {
    exchange.reply(status, local);
    return;
  }
  const dressed = (local as Json[]).map(dressNetwork);
  if (control === null) {
    const wanted = exchange.query.has("filters") ? filtersParam(exchange.query) : {};
    exchange.reply(
      200,
      dressed.filter(network => isWanted(network, wanted)),
    );
    return;
  }
  const filters = filtersParam(exchange.query);
  const all = await control.call("network.list", {}, exchange.signal);
  const shared = all.filter(view => matches(view, filters));
  // An Engine that has joined a cluster network lists it too; the cluster knows it better.
  const ids = new Set(all.map(({ network }) => network.id));
  const own = dressed.filter(network => !ids.has(String(network["Id"])));
  exchange.reply(200, [...shared.map(view => networkDto(view)), ...own]);
}

/** Filters that the Engine would try on what a network of the cluster is to it. */
const OF_ITS_KIND = ["driver", "scope", "id"];

/**
 * The Engine's list. A worker has its networks of the cluster from there alone, so for one the
 * filters that would drop them are tried here.
 */
async function localNetworks(
  exchange: Exchange,
  isAll: boolean,
): Promise<{ readonly status: number; readonly local: unknown }> {
  const { engine } = exchange.deps;
  const url = exchange.request.url ?? "/networks";
  const ask = async (path: string): Promise<{ status: number; local: unknown }> => {
    const { status, body } = await engine.request("GET", path, { signal: exchange.signal });
    return { status, local: parseJson(body.toString("utf8")) };
  };
  const first = await ask(url);
  const raw = exchange.query.get("filters") ?? "";
  if (!isAll || first.status !== 200 || !OF_ITS_KIND.some(name => raw.includes(`"${name}"`))) {
    return first;
  }
  return ask(OF_ITS_KIND.reduce((path, name) => withFilter(path, name, null), url));
}

function isWanted(network: Json, filters: Filters): boolean {
  const is = (name: string, value: unknown): boolean => {
    const values = valuesOf(filters, name);
    return values.length === 0 || values.includes(String(value));
  };
  return (
    is("driver", network["Driver"]) &&
    is("scope", network["Scope"]) &&
    contains(String(network["Id"]), valuesOf(filters, "id"))
  );
}

/** Docker's network filters (moby daemon/network/filter.go), for networks of the cluster. */
function matches(view: NetworkView, filters: Filters): boolean {
  const { network } = view;
  const labels = network.spec["Labels"] as Readonly<Record<string, string>> | undefined;
  const oneOf = (name: string, value: string): boolean => {
    const values = valuesOf(filters, name);
    return values.length === 0 || values.includes(value);
  };
  return (
    contains(network.spec.Name, valuesOf(filters, "name")) &&
    contains(network.id, valuesOf(filters, "id")) &&
    hasLabels(labels, valuesOf(filters, "label")) &&
    oneOf("driver", "overlay") &&
    oneOf("scope", "swarm") &&
    oneOf("type", "custom") &&
    // Seen from one Engine, no container is on a network of the cluster.
    !valuesOf(filters, "dangling").some(value => value === "false" || value === "0")
  );
}

function contains(text: string, parts: readonly string[]): boolean {
  return parts.length === 0 || parts.some(part => text.includes(part));
}

/** The cluster's network of that name or id prefix; null when there is none. */
async function find(control: ControlClient, exchange: Exchange): Promise<NetworkView | null> {
  try {
    return await control.call("network.get", { ref: exchange.param("ref") }, exchange.signal);
  } catch (error) {
    if (isSwarmError(error, "not_found")) return null;
    throw error;
  }
}

/** Full ids and names go before prefixes, here and at the Engine. */
function isExact(view: NetworkView, ref: string): boolean {
  return view.network.id === ref || view.network.spec.Name === ref;
}

async function inspect(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  const scope = exchange.query.get("scope") ?? "";
  const verbose = strictBoolParam(exchange.query, "verbose");
  const control = exchange.deps.lifecycle.control();
  const isShown = scope === "" || scope === "swarm";
  const shared = control === null || !isShown ? null : await find(control, exchange);
  if (shared !== null && (scope === "swarm" || isExact(shared, ref))) {
    exchange.reply(200, await describe(exchange, shared, verbose));
    return;
  }
  const name = predefinedName(ref);
  if (scope === "swarm" || scope === "global" || (name !== null && name !== ref)) {
    if (control === null || name === null) {
      throw new SwarmError("not_found", `network ${ref} not found`);
    }
    exchange.reply(200, predefined(name));
    return;
  }
  const { engine, networks } = exchange.deps;
  const answer = await engine.request("GET", exchange.request.url ?? "", {
    signal: exchange.signal,
  });
  const local = parseJson(answer.body.toString("utf8"));
  if (answer.status === 200) return exchange.reply(200, dressNetwork(local as Json));
  if (answer.status !== 404) return exchange.reply(answer.status, local);
  if (shared !== null) return exchange.reply(200, await describe(exchange, shared, verbose));
  // A worker's client may know the id that the cluster gave it.
  const found = scope === "local" ? null : await networks.describe(ref, exchange.signal);
  if (found === null) exchange.reply(404, local);
  else exchange.reply(200, dressNetwork(found));
}

/** With the containers of this node that are on it, as the Engine tells them. */
async function describe(exchange: Exchange, view: NetworkView, verbose: boolean): Promise<object> {
  const local = await exchange.deps.networks
    .describe(view.network.id, exchange.signal)
    .catch((error: unknown) => {
      // The cluster's part needs no Engine.
      if (isSwarmError(error, "unavailable")) return null;
      throw error;
    });
  return networkDto(view, { local, verbose });
}

/** What a service that names an Engine's own network attaches to, on whichever node it runs. */
function predefined(name: string): object {
  return {
    Name: name,
    Id: shownTarget(name),
    Scope: "swarm",
    Driver: name === "none" ? "null" : name,
    EnableIPv6: false,
    IPAM: { Driver: "default", Options: null, Config: [] },
    Internal: false,
    Attachable: false,
    Ingress: false,
    ConfigFrom: { Network: "" },
    ConfigOnly: false,
    Containers: null,
    Options: null,
    Labels: null,
  };
}

function isShared(body: Json): boolean {
  return body["Driver"] === "overlay" || body["Scope"] === "swarm" || body["Ingress"] === true;
}

async function create(exchange: Exchange): Promise<void> {
  const { lifecycle, clock, proxy, ids } = exchange.deps;
  const raw = await readBody(exchange.request, clock);
  const parsed = parseJson(raw.toString("utf8"));
  const body = typeof parsed === "object" && parsed !== null ? (parsed as Json) : {};
  const control = lifecycle.control();
  if (isShared(body) && body["ConfigOnly"] !== true) {
    if (control === null) throw refusal(exchange);
    if ((body["Driver"] ?? "") === "") {
      throw modelRefusal("driver name: if driver is specified name is required");
    }
    if (body["Driver"] === "overlay" && body["Scope"] === "local") {
      const text = "cannot downgrade network scope for overlay networks";
      throw new SwarmError("permission_denied", text);
    }
    // The docker command line sorts a service's networks by id: so that is an order with a meaning.
    const args = { id: newOrderedId(ids, clock.nowMs()), spec: body };
    const { id } = await control.call("network.create", args, exchange.signal);
    exchange.reply(201, { Id: id, Warning: "" });
    return;
  }
  if (control !== null) await refuseTakenName(exchange, control, String(body["Name"] ?? ""));
  await proxy.forward(exchange.request, exchange.response, raw);
}

function refusal(exchange: Exchange): SwarmError {
  const state = exchange.deps.lifecycle.state();
  if (state.localNodeState === "inactive") return oddlyInternal(NODE_STATE_TEXT.inactive);
  if (state.localNodeState !== "active" || state.isManager) return noManager(state);
  return new SwarmError("permission_denied", NODE_STATE_TEXT.networkFromWorker);
}

async function refuseTakenName(
  exchange: Exchange,
  control: ControlClient,
  name: string,
): Promise<void> {
  const networks = await control.call("network.list", {}, exchange.signal);
  if (networks.some(({ network }) => network.spec.Name === name)) {
    throw new SwarmError("already_exists", `network with name ${name} already exists`);
  }
}

async function remove(exchange: Exchange): Promise<void> {
  const { lifecycle, engine, proxy } = exchange.deps;
  const control = lifecycle.control();
  const shared = control === null ? null : await find(control, exchange);
  if (control === null || shared === null) {
    return proxy.forward(exchange.request, exchange.response);
  }
  if (!isExact(shared, exchange.param("ref"))) {
    const answer = await engine.request("DELETE", exchange.request.url ?? "", {
      signal: exchange.signal,
    });
    if (answer.status === 204) return exchange.replyEmpty(204);
    if (answer.status !== 404) {
      return exchange.reply(answer.status, parseJson(answer.body.toString("utf8")));
    }
  }
  await control.call("network.remove", { ref: shared.network.id }, exchange.signal);
  exchange.replyEmpty(204);
}

/** The bridge by which containers on overlay networks get out: in swarm mode it is always in use. */
const GATEWAY_BRIDGE = "docker_gwbridge";
/** Filters that lists of networks have as well. */
const LISTED_FILTERS: ReadonlySet<string> = new Set(["label", "dangling"]);

/** The cluster's unused networks, then the Engine's. */
async function prune(exchange: Exchange): Promise<void> {
  const { lifecycle, proxy } = exchange.deps;
  if (lifecycle.state().localNodeState === "inactive") {
    return proxy.forward(exchange.request, exchange.response);
  }
  const filters = filtersParam(exchange.query);
  const control = lifecycle.control();
  const isListed = Object.keys(filters).every(name => LISTED_FILTERS.has(name));
  const local = isListed ? await pruneOwn(exchange, filters) : await pruneAsAsked(exchange);
  if (local === null) return;
  const shared = control === null ? [] : await pruneShared(exchange, control);
  const deleted = [...new Set([...shared, ...local])];
  exchange.reply(200, { NetworksDeleted: deleted.length > 0 ? deleted : null });
}

/** By filters that only the Engine can try; null when it has refused, and was heard. */
async function pruneAsAsked(exchange: Exchange): Promise<readonly string[] | null> {
  const { engine } = exchange.deps;
  const answer = await engine.request("POST", exchange.request.url ?? "", {
    signal: exchange.signal,
    headers: { "Content-Length": 0 },
  });
  const body = parseJson(answer.body.toString("utf8")) as Json;
  if (answer.status !== 200) {
    exchange.reply(answer.status, body);
    return null;
  }
  return Array.isArray(body["NetworksDeleted"]) ? body["NetworksDeleted"] : [];
}

/** The Engine would take the gateway bridge too, and its part of networks that the cluster needs. */
async function pruneOwn(exchange: Exchange, filters: Filters): Promise<readonly string[]> {
  const { engine } = exchange.deps;
  const { signal } = exchange;
  const unused = { dangling: ["true"], type: ["custom"], label: valuesOf(filters, "label") };
  const query = `filters=${encodeURIComponent(JSON.stringify(unused))}`;
  const answer = await engine.request("GET", await engine.versioned(`/networks?${query}`), {
    signal,
  });
  const list = parseJson(answer.body.toString("utf8"));
  const deleted: string[] = [];
  for (const local of Array.isArray(list) ? (list as Json[]) : []) {
    const name = String(local["Name"]);
    if (name === GATEWAY_BRIDGE || sharedIdOf(local) !== "") continue;
    const path = await engine.versioned(`/networks/${String(local["Id"])}`);
    // In use after all, or gone meanwhile: neither is pruned.
    if ((await engine.request("DELETE", path, { signal })).status === 204) deleted.push(name);
  }
  return deleted;
}

async function pruneShared(exchange: Exchange, control: ControlClient): Promise<string[]> {
  const filters = filtersParam(exchange.query);
  const deleted: string[] = [];
  // `until` is compared with an age that the Engine computes; such a prune is the Engine's alone.
  if (valuesOf(filters, "until").length > 0) return deleted;
  const wanted = { label: valuesOf(filters, "label") };
  for (const view of await control.call("network.list", {}, exchange.signal)) {
    const { network } = view;
    if (network.spec["Ingress"] === true || !matches(view, wanted)) continue;
    const excluded = valuesOf(filters, "label!");
    const labels = network.spec["Labels"] as Readonly<Record<string, string>> | undefined;
    if (excluded.length > 0 && hasLabels(labels, excluded)) continue;
    try {
      await control.call("network.remove", { ref: network.id }, exchange.signal);
      deleted.push(network.spec.Name);
    } catch (error) {
      // In use, or gone meanwhile: neither is pruned.
      if (isSwarmError(error, "failed_precondition") || isSwarmError(error, "not_found")) continue;
      throw error;
    }
  }
  return deleted;
}

export const NETWORK_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/networks", handler: list },
  { method: "POST", pattern: "/networks/create", handler: create },
  { method: "POST", pattern: "/networks/prune", handler: prune },
  { method: "GET", pattern: "/networks/{ref}", handler: inspect },
  { method: "DELETE", pattern: "/networks/{ref}", handler: remove },
];
