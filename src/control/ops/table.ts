import type { OperationContext } from "../context.ts";
import type { OperationArgs, OperationName, OperationResult } from "../operations.ts";
import { doctor, networkStatus } from "./data-path.ts";
import { getMesh, rotateMesh } from "./mesh.ts";
import { createNetwork, getNetwork, listNetworks, removeNetwork } from "./networks.ts";
import { getNode, listManagers, listNodes, removeNode, updateNode } from "./nodes.ts";
import {
  createConfig,
  createSecret,
  getConfig,
  getSecret,
  listConfigs,
  listSecrets,
  removeConfig,
  removeSecret,
  updateConfig,
  updateSecret,
} from "./secrets.ts";
import {
  createService,
  getService,
  listServices,
  planService,
  removeService,
  updateService,
} from "./services.ts";
import { getSwarm, systemInfo, systemStatus, updateSwarm } from "./swarm.ts";
import { getTask, listTasks } from "./tasks.ts";

type Handler<K extends OperationName> = (
  ctx: OperationContext,
  args: OperationArgs<K>,
) => OperationResult<K> | Promise<OperationResult<K>>;

export const OPERATION_HANDLERS: { readonly [K in OperationName]: Handler<K> } = {
  "service.list": listServices,
  "service.get": getService,
  "service.create": createService,
  "service.update": updateService,
  "service.remove": removeService,
  "service.plan": planService,
  "task.list": listTasks,
  "task.get": getTask,
  "node.list": listNodes,
  "node.get": getNode,
  "manager.list": listManagers,
  "node.update": updateNode,
  "node.remove": removeNode,
  "swarm.get": getSwarm,
  "swarm.update": updateSwarm,
  "secret.list": listSecrets,
  "secret.get": getSecret,
  "secret.create": createSecret,
  "secret.update": updateSecret,
  "secret.remove": removeSecret,
  "config.list": listConfigs,
  "config.get": getConfig,
  "config.create": createConfig,
  "config.update": updateConfig,
  "config.remove": removeConfig,
  "network.list": listNetworks,
  "network.get": getNetwork,
  "network.create": createNetwork,
  "network.remove": removeNetwork,
  "mesh.get": getMesh,
  "mesh.rotate": rotateMesh,
  "network.status": networkStatus,
  "network.doctor": doctor,
  "system.info": systemInfo,
  "system.status": systemStatus,
};
