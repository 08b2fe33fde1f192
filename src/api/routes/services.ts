import { optional } from "../dto/common.ts";
import { serviceDto } from "../dto/service.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { pinImage } from "../image-digest.ts";
import { replyList } from "../json-list.ts";
import { randomName } from "../names.ts";
import { badVersion, filtersParam, strictBoolParam, versionParam } from "../query.ts";
import { specOfVersion } from "../service-fields.ts";
import { atLeast } from "../version.ts";

async function list(exchange: Exchange): Promise<void> {
  const filters = filtersParam(exchange.query, true);
  // Clients before API 1.41 count tasks themselves.
  const status = atLeast(exchange.version, 41) && strictBoolParam(exchange.query, "status");
  const control = exchange.control();
  const services = await control.call("service.list", { filters, status }, exchange.signal);
  await replyList(exchange.response, services, service => serviceDto(service));
}

async function inspect(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  const insertDefaults = strictBoolParam(exchange.query, "insertDefaults");
  const service = await exchange.control().call("service.get", { ref }, exchange.signal);
  exchange.reply(200, serviceDto({ service, status: null }, { insertDefaults }));
}

/** Docker's X-Registry-Auth: credentials for the image, base64; kept as they come. */
function registryAuth(exchange: Exchange): string {
  const header = exchange.request.headers["x-registry-auth"];
  return typeof header === "string" ? header : "";
}

/** The body as a spec, with what the client's version of the API knows. */
export async function readServiceSpec(exchange: Exchange): Promise<object> {
  const spec = await exchange.jsonObject("swarm.ServiceSpec");
  const { apiVersion } = await exchange.deps.engine.identity();
  return specOfVersion(spec, exchange.version, apiVersion);
}

async function create(exchange: Exchange): Promise<void> {
  const { ids, rng } = exchange.deps;
  const sent = await readServiceSpec(exchange);
  const control = exchange.control();
  const { spec, warnings } = await pinImage(exchange, sent);
  const args = {
    id: ids.newId(),
    spec,
    fallbackName: randomName(rng),
    registryAuth: registryAuth(exchange),
  };
  const { id } = await control.call("service.create", args, exchange.signal);
  exchange.reply(201, { ID: id, ...optional("Warnings", warnings) });
}

async function update(exchange: Exchange): Promise<void> {
  const { query } = exchange;
  const sent = await readServiceSpec(exchange);
  const version = versionParam(query, badVersion("service"));
  const control = exchange.control();
  const { spec, warnings } = await pinImage(exchange, sent);
  const args = {
    ref: exchange.param("ref"),
    spec,
    version,
    fallbackName: randomName(exchange.deps.rng),
    registryAuth: registryAuth(exchange),
    registryAuthFrom: query.get("registryAuthFrom") ?? "",
    rollback: query.get("rollback") ?? "",
  };
  await control.call("service.update", args, exchange.signal);
  exchange.reply(200, { Warnings: warnings.length > 0 ? warnings : null });
}

async function remove(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  await exchange.control().call("service.remove", { ref }, exchange.signal);
  exchange.replyEmpty(200);
}

export const SERVICE_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/services", handler: list },
  { method: "POST", pattern: "/services/create", handler: create },
  { method: "GET", pattern: "/services/{ref}", handler: inspect },
  { method: "POST", pattern: "/services/{ref}/update", handler: update },
  { method: "DELETE", pattern: "/services/{ref}", handler: remove },
];
