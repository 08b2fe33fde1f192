import type { ApiRoute, Exchange } from "../exchange.ts";
import { randomName } from "../names.ts";
import { readServiceSpec } from "./services.ts";

/** A service's spec in, the nodes of its tasks out. With `service`, as an update of that one. */
async function plan(exchange: Exchange): Promise<void> {
  const { ids, rng } = exchange.deps;
  const args = {
    id: ids.newId(),
    ref: exchange.query.get("service") ?? "",
    spec: await readServiceSpec(exchange),
    fallbackName: randomName(rng),
  };
  exchange.reply(200, await exchange.control().call("service.plan", args, exchange.signal));
}

/** swarmd's own: what a change of a service would come to. */
export const PLAN_ROUTES: readonly ApiRoute[] = [
  { method: "POST", pattern: "/swarmd/v1/plan", handler: plan },
];
