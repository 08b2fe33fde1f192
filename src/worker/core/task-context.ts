import type { AssignedTask } from "../../model/assignment.ts";
import { expandTemplate, type TemplateValue } from "../../model/template.ts";

/** The facts of the node that containers are told about. */
export interface NodeFacts {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly hostname: string;
  readonly os: string;
  readonly architecture: string;
}

/** A task and where it runs: all that placeholders are filled from. */
export interface TaskOnNode {
  readonly assigned: AssignedTask;
  readonly node: NodeFacts;
}

/** Swarm mode's task name: `service.slot.taskid`, for global services `service.nodeid.taskid`. */
export function taskName(assigned: AssignedTask): string {
  const { task } = assigned;
  return `${task.serviceName}.${slotName(assigned)}.${task.id}`;
}

function slotName({ task }: AssignedTask): string {
  return task.slot > 0 ? String(task.slot) : task.nodeId;
}

/** What `{{…}}` placeholders can see (SwarmKit template/context.go). */
export function templateContext(work: TaskOnNode): TemplateValue {
  const { assigned, node } = work;
  return {
    Service: {
      ID: assigned.task.serviceId,
      Name: assigned.task.serviceName,
      Labels: assigned.spec.Labels ?? {},
    },
    Node: {
      ID: node.nodeId,
      Hostname: node.hostname,
      Platform: { OS: node.os, Architecture: node.architecture },
    },
    Task: { ID: assigned.task.id, Name: taskName(assigned), Slot: slotName(assigned) },
  };
}

/** The variables that the spec sets, with their placeholders filled. */
export function environmentOf(work: TaskOnNode): ReadonlyMap<string, string> {
  const context = templateContext(work);
  const entries = work.assigned.spec.TaskTemplate?.ContainerSpec?.Env ?? [];
  return new Map(
    entries.map(entry => {
      const [name = "", ...value] = expandTemplate(entry, context).split("=");
      return [name, value.join("=")];
    }),
  );
}
