import { nodeDto } from "../dto/node.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { replyList } from "../json-list.ts";
import { badVersion, boolParam, filtersParam, versionParam } from "../query.ts";

async function list(exchange: Exchange): Promise<void> {
  const control = exchange.control();
  const filters = filtersParam(exchange.query);
  const nodes = await control.call("node.list", { filters }, exchange.signal);
  await replyList(exchange.response, nodes, nodeDto);
}

async function inspect(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  exchange.reply(200, nodeDto(await exchange.control().call("node.get", { ref }, exchange.signal)));
}

async function update(exchange: Exchange): Promise<void> {
  const control = exchange.control();
  const args = {
    ref: exchange.param("ref"),
    spec: await exchange.jsonObject("swarm.NodeSpec"),
    version: versionParam(exchange.query, badVersion("node")),
  };
  await control.call("node.update", args, exchange.signal);
  exchange.replyEmpty(200);
}

async function remove(exchange: Exchange): Promise<void> {
  const args = { ref: exchange.param("ref"), force: boolParam(exchange.query, "force") };
  await exchange.control().call("node.remove", args, exchange.signal);
  exchange.replyEmpty(200);
}

export const NODE_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/nodes", handler: list },
  { method: "GET", pattern: "/nodes/{ref}", handler: inspect },
  { method: "POST", pattern: "/nodes/{ref}/update", handler: update },
  { method: "DELETE", pattern: "/nodes/{ref}", handler: remove },
];
