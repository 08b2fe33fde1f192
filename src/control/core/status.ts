import type { Service, Task } from "../../model/rows.ts";
import { modeKind, replicasOf } from "../../model/service-spec.ts";
import { sameSpec } from "../../model/spec-equality.ts";
import type { StateView } from "../../model/view.ts";

interface Counts {
  readonly running: number;
  readonly desired: number;
  readonly completed: number;
}

export function isJob(service: Service): boolean {
  const mode = modeKind(service.spec);
  return mode === "replicated-job" || mode === "global-job";
}

/** Docker's `ServiceStatus` (SwarmKit controlapi ListServiceStatuses). */
export function serviceStatus(view: StateView, service: Service): Counts {
  const job = isJob(service);
  const tasks = view
    .tasksOfService(service.id)
    .filter(task => !job || task.jobIteration === service.jobIteration);
  let running = 0;
  let completed = 0;
  let wanted = 0;
  for (const task of tasks) {
    if (task.status.state === "running") running += 1;
    if (job && task.status.state === "complete") completed += 1;
    if (task.desiredState === (job ? "complete" : "running")) wanted += 1;
  }
  return { running, completed, desired: fixedTotal(service) ?? wanted };
}

/** Tasks that should run, where the spec says it; null for global modes. */
function fixedTotal(service: Service): number | null {
  const { spec } = service;
  switch (modeKind(spec)) {
    case "replicated":
      return replicasOf(spec);
    case "replicated-job":
      return spec.Mode?.ReplicatedJob?.MaxConcurrent ?? 1;
    case "global":
    case "global-job":
      return null;
  }
}

/**
 * Whether the task was made from what the service asks for now (the CLI's `_up-to-date` filter): of
 * its spec version, or of one whose task template is the same. Credentials for the image are not
 * part of what is compared.
 */
export function isUpToDate(view: StateView, task: Task, service: Service): boolean {
  if (task.specVersion === service.specVersion) return true;
  const made = view.table("serviceSpecs").get(`${service.id}.${task.specVersion}`);
  return made !== undefined && sameSpec(askedOf(made.spec), askedOf(service.spec));
}

/** What the update planner compares, but for the node: a task whose node still fits is up to date. */
function askedOf(spec: Service["spec"]): unknown {
  const template = { ...spec.TaskTemplate, Placement: undefined };
  return { template, networks: spec.Networks, endpoint: spec.EndpointSpec };
}
