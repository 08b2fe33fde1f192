import type { Service, Task } from "../../model/rows.ts";
import { modeKind, replicasOf } from "../../model/service-spec.ts";
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
    if (isStillWanted(task, job)) wanted += 1;
  }
  return { running, completed, desired: fixedTotal(service) ?? wanted };
}

/** Counted for global modes; a job's task that is done is not wanted any more. */
function isStillWanted(task: Task, job: boolean): boolean {
  if (!job) return task.desiredState === "running";
  return task.desiredState === "complete" && task.status.state !== "complete";
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
