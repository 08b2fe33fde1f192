import type { ApiRoute } from "../exchange.ts";
import { BACKUP_ROUTES } from "./backup.ts";
import { CONTAINER_ROUTES } from "./containers.ts";
import { DATA_PATH_ROUTES } from "./data-path.ts";
import { EVENT_ROUTES } from "./events.ts";
import { LOG_ROUTES } from "./logs.ts";
import { NETWORK_ROUTES } from "./networks.ts";
import { NODE_ROUTES } from "./nodes.ts";
import { PLAN_ROUTES } from "./plan.ts";
import { SECRET_ROUTES } from "./secrets.ts";
import { SERVICE_ROUTES } from "./services.ts";
import { SWARM_ROUTES } from "./swarm.ts";
import { SYSTEM_ROUTES } from "./system.ts";
import { TASK_ROUTES } from "./tasks.ts";

/** Everything that is not the Engine's. */
export const API_ROUTES: readonly ApiRoute[] = [
  ...SYSTEM_ROUTES,
  ...SWARM_ROUTES,
  ...NODE_ROUTES,
  ...SERVICE_ROUTES,
  ...PLAN_ROUTES,
  ...TASK_ROUTES,
  ...SECRET_ROUTES,
  ...NETWORK_ROUTES,
  ...DATA_PATH_ROUTES,
  ...LOG_ROUTES,
  ...EVENT_ROUTES,
  ...BACKUP_ROUTES,
  ...CONTAINER_ROUTES,
];
