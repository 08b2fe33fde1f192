import type { AssignedTask, AssignmentChange } from "../../src/model/assignment.ts";
import type { Task } from "../../src/model/rows.ts";
import type { ContainerSpec, ServiceSpec } from "../../src/model/service-spec.ts";

/** Parts of an assigned task that a test cares about. */
export interface TaskParts {
  readonly id?: string;
  readonly task?: Partial<Task>;
  readonly container?: ContainerSpec;
  readonly spec?: ServiceSpec;
}

/** An assigned task of a replicated service "web" that runs `sleep` in busybox. */
export function aTask(parts: TaskParts = {}): AssignedTask {
  const id = parts.id ?? "task1";
  return {
    task: {
      id,
      version: 1,
      createdAtMs: 1,
      updatedAtMs: 1,
      serviceId: "service1",
      serviceName: "web",
      specVersion: 1,
      slot: 1,
      nodeId: "node1",
      desiredState: "running",
      status: {
        state: "assigned",
        timestampMs: 1,
        message: "scheduler assigned task to node",
        err: "",
        containerId: "",
        pid: 0,
        exitCode: 0,
        ports: [],
      },
      runningSinceMs: 0,
      endedAtMs: 0,
      startAfterMs: 0,
      jobIteration: 0,
      assignedGeneric: [],
      networks: [],
      ...parts.task,
    },
    spec: {
      Name: "web",
      ...parts.spec,
      TaskTemplate: {
        ...parts.spec?.TaskTemplate,
        ContainerSpec: {
          Image: "busybox:latest",
          Args: ["sleep", "1000"],
          Init: true,
          ...parts.spec?.TaskTemplate?.ContainerSpec,
          ...parts.container,
        },
      },
    },
  };
}

/** The assignment that brings or changes a task. */
export function assign(item: AssignedTask): AssignmentChange {
  return { action: "update", kind: "task", item };
}

export function unassign(id: string): AssignmentChange {
  return { action: "remove", kind: "task", id };
}
