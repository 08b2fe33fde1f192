import { nodeDto } from "../dto/node.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { replyList } from "../json-list.ts";
import { badVersion, boolParam, filtersParam, versionParam } from "../query.ts";

async function list(exchange: Exchange): Promise<void> {
  const filters = filtersParam(exchange.query);
  const control = exchange.control();
  const [nodes, managers] = await Promise.all([
    control.call("node.list", { filters }, exchange.signal),
    control.call("manager.list", {}, exchange.signal),
  ]);
  const byNode = new Map(managers.map(manager => [manager.nodeId, manager]));
  await replyList(exchange.response, nodes, view =>
    nodeDto(view, byNode.get(view.node.id) ?? null),
  );
}

async function inspect(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  const control = exchange.control();
  const view = await control.call("node.get", { ref }, exchange.signal);
  const managers = await control.call("manager.list", {}, exchange.signal);
  const manager = managers.find(({ nodeId }) => nodeId === view.node.id) ?? null;
  exchange.reply(200, nodeDto(view, manager));
}

async function update(exchange: Exchange): Promise<void> {
  const args = {
    ref: exchange.param("ref"),
    spec: await exchange.jsonObject("swarm.NodeSpec"),
    version: versionParam(exchange.query, badVersion("node")),
  };
  const control = exchange.control();
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
