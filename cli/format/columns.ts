import { modeKind, type PortConfig } from "../../src/model/service-spec.ts";
import type { ApiNode, ApiService, ApiTask } from "../types.ts";
import { ago, capitalize, ellipsis, shortId } from "./human.ts";
import type { Column } from "./list.ts";

const ERROR_CHARS = 28;

/** `*:8080->80/tcp`, ranges of consecutive ports joined, as docker prints them. */
export function formatPorts(ports: readonly PortConfig[]): string {
  return ports
    .filter(port => (port.PublishMode ?? "ingress") === "ingress" && port.PublishedPort)
    .map(port => `*:${port.PublishedPort}->${port.TargetPort}/${port.Protocol ?? "tcp"}`)
    .sort()
    .join(", ");
}

function withoutDigest(image: string): string {
  return image.split("@")[0] ?? image;
}

export function imageOf(spec: { readonly ContainerSpec?: { readonly Image?: string } }): string {
  return withoutDigest(spec.ContainerSpec?.Image ?? "");
}

export function modeName(service: ApiService): string {
  return modeKind(service.Spec).replace("-", " ");
}

/** `2/3`, with completions for jobs and the limit per node where there is one. */
export function formatReplicas(service: ApiService): string {
  const status = service.ServiceStatus ?? { RunningTasks: 0, DesiredTasks: 0, CompletedTasks: 0 };
  const running = `${status.RunningTasks}/${status.DesiredTasks}`;
  const kind = modeKind(service.Spec);
  if (kind === "replicated-job") {
    const total = service.Spec.Mode?.ReplicatedJob?.TotalCompletions ?? 0;
    return `${running} (${status.CompletedTasks}/${total} completed)`;
  }
  if (kind === "global-job") {
    const all = status.DesiredTasks + status.CompletedTasks;
    return `${running} (${status.CompletedTasks}/${all} completed)`;
  }
  const max = service.Spec.TaskTemplate?.Placement?.MaxReplicas ?? 0;
  return max > 0 ? `${running} (max ${max} per node)` : running;
}

export const SERVICE_COLUMNS: readonly Column<ApiService>[] = [
  { name: "ID", title: "ID", of: service => shortId(service.ID) },
  { name: "Name", title: "NAME", of: service => service.Spec.Name ?? "" },
  { name: "Mode", title: "MODE", of: modeName },
  { name: "Replicas", title: "REPLICAS", of: formatReplicas },
  { name: "Image", title: "IMAGE", of: service => imageOf(service.Spec.TaskTemplate ?? {}) },
  { name: "Ports", title: "PORTS", of: service => formatPorts(service.Endpoint?.Ports ?? []) },
];

function managerStatus(node: ApiNode): string {
  if (node.ManagerStatus === undefined) return "";
  return node.ManagerStatus.Leader === true
    ? "Leader"
    : capitalize(node.ManagerStatus.Reachability ?? "");
}

export function nodeColumns(selfId: string): readonly Column<ApiNode>[] {
  return [
    { name: "ID", title: "ID", of: node => `${node.ID}${node.ID === selfId ? " *" : ""}` },
    { name: "Hostname", title: "HOSTNAME", of: node => node.Description?.Hostname ?? "" },
    { name: "Status", title: "STATUS", of: node => capitalize(node.Status.State) },
    { name: "Availability", title: "AVAILABILITY", of: node => capitalize(node.Spec.Availability) },
    { name: "ManagerStatus", title: "MANAGER STATUS", of: managerStatus },
    {
      name: "EngineVersion",
      title: "ENGINE VERSION",
      of: node => node.Description?.Engine?.EngineVersion ?? "",
    },
  ];
}

/** A task with the names a person reads. */
export interface NamedTask {
  readonly task: ApiTask;
  /** `web.1`, with ` \_ ` before it for an earlier task of the slot. */
  readonly name: string;
  readonly nodeName: string;
}

function hostPorts(task: ApiTask): string {
  return (task.Status.PortStatus?.Ports ?? [])
    .map(port => `*:${port.PublishedPort}->${port.TargetPort}/${port.Protocol ?? "tcp"}`)
    .join(",");
}

export interface TaskColumnOptions {
  readonly nowMs: number;
  readonly noTrunc: boolean;
}

export function taskColumns(options: TaskColumnOptions): readonly Column<NamedTask>[] {
  const id = (text: string): string => (options.noTrunc ? text : shortId(text));
  const error = (text: string): string => {
    if (text === "") return "";
    return options.noTrunc ? `"${text}"` : `"${ellipsis(text, ERROR_CHARS)}"`;
  };
  return [
    { name: "ID", title: "ID", of: ({ task }) => id(task.ID) },
    { name: "Name", title: "NAME", of: ({ name }) => name },
    {
      name: "Image",
      title: "IMAGE",
      of: ({ task }) =>
        options.noTrunc ? (task.Spec.ContainerSpec?.Image ?? "") : imageOf(task.Spec),
    },
    { name: "Node", title: "NODE", of: ({ nodeName }) => nodeName },
    {
      name: "DesiredState",
      title: "DESIRED STATE",
      of: ({ task }) => capitalize(task.DesiredState),
    },
    {
      name: "CurrentState",
      title: "CURRENT STATE",
      of: ({ task }) =>
        `${capitalize(task.Status.State)} ${ago(options.nowMs, task.Status.Timestamp).toLowerCase()}`,
    },
    { name: "Error", title: "ERROR", of: ({ task }) => error(task.Status.Err ?? "") },
    { name: "Ports", title: "PORTS", of: ({ task }) => hostPorts(task) },
  ];
}
