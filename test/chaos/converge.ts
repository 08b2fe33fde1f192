import type { LabHost } from "../lab/lab.ts";
import { call, type NodeAnswer, type ServiceAnswer, type TaskAnswer } from "./api.ts";
import { GENERATION_LABEL } from "./core/container-log.ts";
import { type ClusterSeen, type NodeSeen, type TaskSeen, unrest } from "./core/converged.ts";
import { listContainers } from "./engine-watch.ts";
import { pause } from "./pause.ts";
import { modeSeen } from "./specs.ts";

/** Generous: two cores may do something else meanwhile. */
export const CONVERGE_TIMEOUT_MS = 180_000;
const LOOK_EVERY_MS = 1_000;
const LIST_TIMEOUT_MS = 10_000;

/** Throws with the API's words when a list is not to be had. */
export async function listAll<T>(host: LabHost, path: string): Promise<readonly T[]> {
  const called = await call(host, "GET", path, undefined, LIST_TIMEOUT_MS);
  if (called.verdict.outcome === "acknowledged") return called.body as readonly T[];
  throw new Error(`GET ${path} on ${host.name}: ${called.reply.text.trim()}`);
}

/** Waits until nothing moves any more. Returns what is still amiss when it takes too long. */
export async function untilAtRest(
  hosts: readonly LabHost[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const managers = hosts.filter(host => host.role === "manager");
  const wanted = {
    managers: managers.map(host => host.name),
    workers: hosts.filter(host => host.role === "worker").map(host => host.name),
  };
  const deadlineMs = Date.now() + CONVERGE_TIMEOUT_MS;
  for (;;) {
    const left = await look(hosts, managers).then(
      seen => unrest(seen, wanted),
      (error: Error) => [error.message],
    );
    if (left.length === 0 || Date.now() > deadlineMs || signal.aborted) return left;
    await pause(LOOK_EVERY_MS, signal);
  }
}

async function look(hosts: readonly LabHost[], managers: readonly LabHost[]): Promise<ClusterSeen> {
  const [first] = managers;
  if (first === undefined) throw new Error("the lab has no manager");
  const nodes = await Promise.all(
    managers.map(async host => [host.name, await nodesSeenBy(host)] as const),
  );
  const services = await listAll<ServiceAnswer>(first, "/services");
  const tasks = await listAll<TaskAnswer>(first, "/tasks");
  const containers = (await Promise.all(hosts.map(listContainers))).flat();
  return {
    nodes: new Map(nodes),
    services: services.map(serviceSeen),
    tasks: tasks.map(taskSeen),
    containers,
  };
}

async function nodesSeenBy(host: LabHost): Promise<readonly NodeSeen[] | null> {
  const nodes = await listAll<NodeAnswer>(host, "/nodes").catch(() => null);
  return (
    nodes?.map(node => ({
      hostname: node.Description?.Hostname ?? "",
      id: node.ID,
      state: node.Status?.State ?? "unknown",
      isManager: (node.ManagerStatus ?? null) !== null,
      isLeader: node.ManagerStatus?.Leader ?? false,
      reachable: node.ManagerStatus?.Reachability === "reachable",
    })) ?? null
  );
}

function serviceSeen(service: ServiceAnswer) {
  const { Constraints = [] } = service.Spec.TaskTemplate.Placement ?? {};
  return {
    id: service.ID,
    name: service.Spec.Name ?? "",
    mode: modeSeen(service),
    replicas: service.Spec.Mode.Replicated?.Replicas ?? 0,
    workersOnly: Constraints.length > 0,
    generation: generationOf(service.Spec.TaskTemplate),
    updateState: service.UpdateStatus?.State ?? "",
  };
}

function taskSeen(task: TaskAnswer): TaskSeen {
  return {
    id: task.ID,
    serviceId: task.ServiceID ?? "",
    nodeId: task.NodeID ?? "",
    slot: task.Slot ?? 0,
    desired: task.DesiredState,
    state: task.Status.State,
    generation: generationOf(task.Spec),
    containerId: task.Status.ContainerStatus?.ContainerID ?? "",
  };
}

function generationOf(template: ServiceAnswer["Spec"]["TaskTemplate"]): number {
  return Number(template.ContainerSpec.Labels?.[GENERATION_LABEL] ?? "0");
}
