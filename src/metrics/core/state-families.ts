import { TASK_STATES, type TaskState } from "../../model/task-state.ts";
import type { StateView } from "../../model/view.ts";
import { type Family, family, gauge, type Sample } from "./exposition.ts";

/** What a manager's copy of the cluster's state says, in swarm mode's names and more. */
const NODE_STATES = ["ready", "down", "unknown", "disconnected"] as const;

interface ServiceCounts {
  readonly name: string;
  readonly byState: Map<TaskState, number>;
  wanted: number;
}

interface TaskCounts {
  readonly byState: Map<TaskState, number>;
  /** By id: a new service may have the name of one whose tasks are still ending. */
  readonly byService: Map<string, ServiceCounts>;
}

function add<K>(map: Map<K, number>, key: K): void {
  map.set(key, (map.get(key) ?? 0) + 1);
}

function countTasks(view: StateView): TaskCounts {
  const byState = new Map<TaskState, number>();
  const byService = new Map<string, ServiceCounts>();
  for (const task of view.table("tasks").unordered()) {
    const { state } = task.status;
    add(byState, state);
    if (task.serviceId === "") continue;
    let service = byService.get(task.serviceId);
    if (service === undefined) {
      service = { name: task.serviceName, byState: new Map(), wanted: 0 };
      byService.set(task.serviceId, service);
    }
    add(service.byState, state);
    if (task.desiredState === "running" || task.desiredState === "complete") service.wanted += 1;
  }
  return { byState, byService };
}

function nodesByState(view: StateView): Sample[] {
  const counts = new Map<string, number>();
  for (const node of view.table("nodes").all()) add(counts, node.status.state);
  const states = new Set<string>([...NODE_STATES, ...counts.keys()]);
  return [...states].map(state => ({ labels: { state }, value: counts.get(state) ?? 0 }));
}

function serviceFamilies({ byService }: TaskCounts): Family[] {
  const tasks: Sample[] = [];
  const wanted: Sample[] = [];
  for (const [id, counts] of byService) {
    const labels = { service: counts.name, service_id: id };
    wanted.push({ labels, value: counts.wanted });
    for (const [state, value] of counts.byState) {
      tasks.push({ labels: { ...labels, state }, value });
    }
  }
  return [
    family("gauge", "swarmd_service_tasks", "Tasks of a service by observed state.", tasks),
    family("gauge", "swarmd_service_tasks_desired", "Tasks of a service that should run.", wanted),
  ];
}

export function stateFamilies(view: StateView): Family[] {
  const counts = countTasks(view);
  const tables = ["services", "networks", "secrets", "configs"] as const;
  return [
    family("gauge", "swarm_manager_nodes", "The number of nodes by state.", nodesByState(view)),
    family(
      "gauge",
      "swarm_manager_tasks_total",
      "The number of tasks in the cluster object store by observed state.",
      TASK_STATES.map(state => ({ labels: { state }, value: counts.byState.get(state) ?? 0 })),
    ),
    ...tables.map(table =>
      gauge(
        `swarm_manager_${table}_total`,
        `The number of ${table} in the cluster object store.`,
        view.table(table).size,
      ),
    ),
    ...serviceFamilies(counts),
  ];
}
