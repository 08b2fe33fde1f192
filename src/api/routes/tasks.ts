import { taskDto } from "../dto/task.ts";
import type { ApiRoute, Exchange } from "../exchange.ts";
import { replyList } from "../json-list.ts";
import { filtersParam } from "../query.ts";

async function list(exchange: Exchange): Promise<void> {
  const filters = filtersParam(exchange.query);
  const control = exchange.control();
  const tasks = await control.call("task.list", { filters }, exchange.signal);
  await replyList(exchange.response, tasks, taskDto);
}

async function inspect(exchange: Exchange): Promise<void> {
  const ref = exchange.param("ref");
  exchange.reply(200, taskDto(await exchange.control().call("task.get", { ref }, exchange.signal)));
}

export const TASK_ROUTES: readonly ApiRoute[] = [
  { method: "GET", pattern: "/tasks", handler: list },
  { method: "GET", pattern: "/tasks/{ref}", handler: inspect },
];
