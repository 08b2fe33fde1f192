import { NETWORK_ATTACHABLE_LABEL, NETWORK_ID_LABEL } from "../model/overlay.ts";
import type { EngineClient } from "./engine.ts";
import { parseJson } from "./json-body.ts";

/**
 * A network of the cluster is also one of the local Engine while something here is on it: a network
 * of swarmd's plugin, with an id of its own. Clients of this socket see one network, the cluster's.
 */

type Json = Readonly<Record<string, unknown>>;

const OWN_LABELS = /^swarmd\./;
/** The Engine's name of a network whose own name a user's network has on this host. */
const ID_SUFFIX_CHARS = 12;
const ENGINE_ID = /"NetworkID":"([0-9a-f]{64})"/g;
/** Far more networks than one Engine has. */
const MAX_KNOWN_IDS = 10_000;

function objectAt(value: Json, key: string): Json {
  const found = value[key];
  return typeof found === "object" && found !== null ? (found as Json) : {};
}

/** The cluster's id of a network as the Engine describes it; empty when it is the Engine's own. */
export function sharedIdOf(local: Json): string {
  const id = objectAt(local, "Labels")[NETWORK_ID_LABEL];
  return typeof id === "string" ? id : "";
}

/** The Engine's description in the cluster's terms; its own networks as they are. */
export function dressNetwork(local: Json): Json {
  const id = sharedIdOf(local);
  if (id === "") return local;
  const labels = objectAt(local, "Labels");
  const name = String(local["Name"]);
  const suffix = `-${id.slice(0, ID_SUFFIX_CHARS)}`;
  return {
    ...local,
    Name: name.endsWith(suffix) ? name.slice(0, -suffix.length) : name,
    Id: id,
    Scope: "swarm",
    Driver: "overlay",
    Attachable: labels[NETWORK_ATTACHABLE_LABEL] === "true",
    IPAM: { Driver: "default", Options: null, Config: objectAt(local, "IPAM")["Config"] ?? [] },
    Options: {},
    Labels: Object.fromEntries(Object.entries(labels).filter(([key]) => !OWN_LABELS.test(key))),
  };
}

/** The Engine's part of the cluster's networks, and their ids from one side to the other. */
export class SharedNetworks {
  readonly #engine: EngineClient;
  /** By the Engine's id; its own networks have the empty one. */
  readonly #known = new Map<string, string>();

  constructor(engine: EngineClient) {
    this.#engine = engine;
  }

  /** The Engine's description of a network of the cluster; null while nothing here is on it. */
  async describe(id: string, signal: AbortSignal): Promise<Json | null> {
    const engineId = await this.engineId(id, signal);
    if (engineId === null) return null;
    const path = await this.#engine.versioned(`/networks/${engineId}`);
    const answer = await this.#engine.request("GET", path, { signal });
    if (answer.status !== 200) return null;
    return parseJson(answer.body.toString("utf8")) as Json;
  }

  /** The Engine's id of a network of the cluster; null while the Engine does not have it. */
  async engineId(id: string, signal: AbortSignal): Promise<string | null> {
    await this.#read(signal);
    for (const [engineId, sharedId] of this.#known) if (sharedId === id) return engineId;
    return null;
  }

  /** An answer about containers, with the cluster's ids for the Engine's. */
  async inClusterIds(json: string, signal: AbortSignal): Promise<string> {
    const ids = new Set([...json.matchAll(ENGINE_ID)].map(([, id = ""]) => id));
    if (ids.size === 0) return json;
    if ([...ids].some(id => !this.#known.has(id))) await this.#read(signal);
    return json.replace(ENGINE_ID, (text, id: string) => {
      const shared = this.#known.get(id) ?? "";
      return shared === "" ? text : `"NetworkID":"${shared}"`;
    });
  }

  /** An event of the Engine, with the cluster's network for the Engine's. */
  async eventLine(line: string, signal: AbortSignal): Promise<string> {
    if (!line.includes('"Type":"network"')) return line;
    const event = parseJson(line) as Json;
    const actor = objectAt(event, "Actor");
    const engineId = String(actor["ID"] ?? "");
    if (!this.#known.has(engineId)) await this.#read(signal);
    const shared = this.#known.get(engineId) ?? "";
    if (shared === "") return line;
    return line
      .replaceAll(`"${engineId}"`, `"${shared}"`)
      .replace(/"type":"[^"]*"/, '"type":"overlay"');
  }

  async #read(signal: AbortSignal): Promise<void> {
    const path = await this.#engine.versioned("/networks");
    const answer = await this.#engine.request("GET", path, { signal });
    const list = answer.status === 200 ? parseJson(answer.body.toString("utf8")) : null;
    if (!Array.isArray(list)) return;
    // What is no longer there is still named by containers and events of before.
    if (this.#known.size + list.length > MAX_KNOWN_IDS) this.#known.clear();
    for (const local of list as Json[]) this.#known.set(String(local["Id"]), sharedIdOf(local));
  }
}

/**
 * The URL with other values of one filter; without it for null. The filters must be readable, and
 * keep their form: the Engine takes lists or maps, not both at once.
 */
export function withFilter(url: string, name: string, values: readonly string[] | null): string {
  const at = url.indexOf("?");
  const query = new URLSearchParams(at < 0 ? "" : url.slice(at + 1));
  const filters = { ...(JSON.parse(query.get("filters") ?? "{}") as Record<string, unknown>) };
  if (values === null) delete filters[name];
  else if (Array.isArray(filters[name])) filters[name] = values;
  else filters[name] = Object.fromEntries(values.map(value => [value, true]));
  query.set("filters", JSON.stringify(filters));
  return `${at < 0 ? url : url.slice(0, at)}?${query.toString()}`;
}
