import type { ApiRoute, Exchange } from "../exchange.ts";

async function status(exchange: Exchange): Promise<void> {
  const args = { ref: exchange.param("ref") };
  exchange.reply(200, await exchange.control().call("network.status", args, exchange.signal));
}

async function doctor(exchange: Exchange): Promise<void> {
  exchange.reply(200, await exchange.control().call("network.doctor", {}, exchange.signal));
}

async function mesh(exchange: Exchange): Promise<void> {
  exchange.reply(200, await exchange.control().call("mesh.get", {}, exchange.signal));
}

async function rotate(exchange: Exchange): Promise<void> {
  exchange.reply(202, await exchange.control().call("mesh.rotate", {}, exchange.signal));
}

/** swarmd's own: what nodes have of a network, the ways between them, and their keys. */
export const DATA_PATH_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/swarmd/v1/networks/{ref}", handler: status },
  { method: "POST", pattern: "/swarmd/v1/network-doctor", handler: doctor },
  { method: "GET", pattern: "/swarmd/v1/mesh", handler: mesh },
  { method: "POST", pattern: "/swarmd/v1/mesh/rotate", handler: rotate },
];
