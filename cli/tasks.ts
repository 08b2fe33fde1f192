import type { ApiClient } from "./client.ts";
import type { NamedTask } from "./format/columns.ts";
import type { ApiNode, ApiService, ApiTask } from "./types.ts";

/** Names tasks and sorts them as docker does: by service, slot, then newest first. */
export async function nameTasks(
  client: ApiClient,
  tasks: readonly ApiTask[],
  noResolve: boolean,
): Promise<NamedTask[]> {
  const services = new Map<string, string>();
  const nodes = new Map<string, string>();
  if (!noResolve && tasks.length > 0) {
    for (const service of await client.get<ApiService[]>("/services")) {
      services.set(service.ID, service.Spec.Name ?? service.ID);
    }
    for (const node of await client.get<ApiNode[]>("/nodes")) {
      nodes.set(node.ID, node.Description?.Hostname ?? node.ID);
    }
  }
  const named = tasks.map(task => {
    const service = services.get(task.ServiceID) ?? task.ServiceID;
    const slot = task.Slot === undefined || task.Slot === 0 ? (task.NodeID ?? "") : task.Slot;
    const nodeName = nodes.get(task.NodeID ?? "") ?? task.NodeID ?? "";
    return { task, base: noResolve ? `${task.ServiceID}.${slot}` : `${service}.${slot}`, nodeName };
  });
  named.sort(
    (a, b) =>
      a.base.localeCompare(b.base, "en", { numeric: true }) ||
      Date.parse(b.task.CreatedAt) - Date.parse(a.task.CreatedAt),
  );
  let previous = "";
  return named.map(({ task, base, nodeName }) => {
    const name = base === previous ? ` \\_ ${base}` : base;
    previous = base;
    return { task, name, nodeName };
  });
}
