import type { TaskView } from "../../control/operations.ts";
import type { Network, Task, TaskStatus } from "../../model/rows.ts";
import { compareTaskStates, isTerminal } from "../../model/task-state.ts";
import { metaDto, optional, timeText } from "./common.ts";
import { networkObjectDto } from "./network.ts";
import { asGoJson, portDto, taskSpecDto } from "./spec.ts";

/** Docker's `Task`. */
export function taskDto(view: TaskView): object {
  const { task, spec } = view;
  return {
    ...metaDto(task),
    Labels: {},
    Spec: taskSpecDto(spec?.TaskTemplate ?? {}),
    ...optional("ServiceID", task.serviceId),
    ...optional("Slot", task.slot),
    ...optional("NodeID", task.nodeId),
    ...optional("AssignedGenericResources", task.assignedGeneric.map(asGoJson)),
    Status: statusDto(task.status),
    DesiredState: task.desiredState,
    ...optional("NetworksAttachments", attachmentsDto(task, view.networks)),
    ...(view.job ? { JobIteration: optional("Index", task.jobIteration) } : {}),
  };
}

function statusDto(status: TaskStatus): object {
  return {
    Timestamp: timeText(status.timestampMs),
    State: status.state,
    ...optional("Message", status.message),
    ...optional("Err", status.err),
    ...containerStatusDto(status),
    PortStatus: optional("Ports", status.ports.map(portDto)),
  };
}

/** Present once the node has something to say about the container. */
function containerStatusDto(status: TaskStatus): object {
  const started = status.containerId !== "";
  const ended = isTerminal(status.state) && status.exitCode !== 0;
  if (!started && !ended && compareTaskStates(status.state, "starting") < 0) return {};
  return {
    ContainerStatus: {
      ContainerID: status.containerId,
      PID: status.pid,
      ExitCode: status.exitCode,
    },
  };
}

function attachmentsDto(task: Task, networks: Readonly<Record<string, Network>>): object[] {
  return task.networks.flatMap(attachment => {
    const network = networks[attachment.networkId];
    if (network === undefined) return [];
    return {
      Network: networkObjectDto(network),
      Addresses: attachment.addresses,
    };
  });
}
