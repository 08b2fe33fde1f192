import { configDto, secretDto } from "../dto/secret.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { replyList } from "../json-list.ts";
import { filtersParam, versionParam } from "../query.ts";

async function listSecrets(exchange: Exchange): Promise<void> {
  const filters = filtersParam(exchange.query);
  const control = exchange.control();
  const secrets = await control.call("secret.list", { filters }, exchange.signal);
  await replyList(exchange.response, secrets, secretDto);
}

async function inspectSecret(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  const secret = await exchange.control().call("secret.get", { ref }, exchange.signal);
  exchange.reply(200, secretDto(secret));
}

async function createSecret(exchange: Exchange): Promise<void> {
  const spec = await exchange.jsonObject("swarm.SecretSpec");
  const control = exchange.control();
  const args = { id: exchange.deps.ids.newId(), spec };
  const { id } = await control.call("secret.create", args, exchange.signal);
  exchange.reply(201, { ID: id });
}

async function updateSecret(exchange: Exchange): Promise<void> {
  const args = {
    ref: exchange.param("ref"),
    spec: await exchange.jsonObject("swarm.SecretSpec"),
    version: versionParam(exchange.query, () => "invalid secret version"),
  };
  const control = exchange.control();
  await control.call("secret.update", args, exchange.signal);
  exchange.replyEmpty(200);
}

async function removeSecret(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  await exchange.control().call("secret.remove", { ref }, exchange.signal);
  exchange.replyEmpty(204);
}

async function listConfigs(exchange: Exchange): Promise<void> {
  const filters = filtersParam(exchange.query);
  const control = exchange.control();
  const configs = await control.call("config.list", { filters }, exchange.signal);
  await replyList(exchange.response, configs, configDto);
}

async function inspectConfig(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  const config = await exchange.control().call("config.get", { ref }, exchange.signal);
  exchange.reply(200, configDto(config));
}

async function createConfig(exchange: Exchange): Promise<void> {
  const spec = await exchange.jsonObject("swarm.ConfigSpec");
  const control = exchange.control();
  const args = { id: exchange.deps.ids.newId(), spec };
  const { id } = await control.call("config.create", args, exchange.signal);
  exchange.reply(201, { ID: id });
}

async function updateConfig(exchange: Exchange): Promise<void> {
  const args = {
    ref: exchange.param("ref"),
    spec: await exchange.jsonObject("swarm.ConfigSpec"),
    version: versionParam(exchange.query, () => "invalid config version"),
  };
  const control = exchange.control();
  await control.call("config.update", args, exchange.signal);
  exchange.replyEmpty(200);
}

async function removeConfig(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  await exchange.control().call("config.remove", { ref }, exchange.signal);
  exchange.replyEmpty(204);
}

export const SECRET_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/secrets", handler: listSecrets },
  { method: "POST", pattern: "/secrets/create", handler: createSecret },
  { method: "GET", pattern: "/secrets/{ref}", handler: inspectSecret },
  { method: "POST", pattern: "/secrets/{ref}/update", handler: updateSecret },
  { method: "DELETE", pattern: "/secrets/{ref}", handler: removeSecret },
  { method: "GET", pattern: "/configs", handler: listConfigs },
  { method: "POST", pattern: "/configs/create", handler: createConfig },
  { method: "GET", pattern: "/configs/{ref}", handler: inspectConfig },
  { method: "POST", pattern: "/configs/{ref}/update", handler: updateConfig },
  { method: "DELETE", pattern: "/configs/{ref}", handler: removeConfig },
];
