import type { ServiceView } from "../../control/operations.ts";
import type { Service, UpdateStatus } from "../../model/rows.ts";
import { modeKind } from "../../model/service-spec.ts";
import { metaDto, optional, timeText } from "./common.ts";
import { endpointSpecDto, portDto, serviceSpecDto, withDefaults } from "./spec.ts";

/** Docker's `Service`. */
export function serviceDto(
  view: ServiceView,
  options: { readonly insertDefaults: boolean } = { insertDefaults: false },
): object {
  const { service, status } = view;
  const spec = options.insertDefaults ? withDefaults(service.spec) : service.spec;
  return {
    ...metaDto(service),
    Spec: serviceSpecDto(spec),
    ...(service.previousSpec ? { PreviousSpec: serviceSpecDto(service.previousSpec) } : {}),
    Endpoint: endpointDto(service.endpoint),
    ...(service.updateStatus ? { UpdateStatus: updateStatusDto(service.updateStatus) } : {}),
    ...(status === null
      ? {}
      : {
          ServiceStatus: {
            RunningTasks: status.running,
            DesiredTasks: status.desired,
            CompletedTasks: status.completed,
          },
        }),
    ...jobStatusDto(service),
  };
}

function endpointDto(endpoint: Service["endpoint"]): object {
  const { spec, ports, virtualIps } = endpoint;
  // A service that is on no network and publishes nothing has no endpoint in Docker's eyes.
  const hasSpec = Object.keys(spec).length > 0 || virtualIps.length > 0;
  return {
    Spec: hasSpec ? endpointSpecDto(spec) : {},
    ...optional("Ports", ports.map(portDto)),
    ...optional(
      "VirtualIPs",
      virtualIps.map(vip => ({ NetworkID: vip.networkId, Addr: vip.addr })),
    ),
  };
}

function updateStatusDto(status: UpdateStatus): object {
  return {
    State: status.state,
    ...(status.startedAtMs > 0 ? { StartedAt: timeText(status.startedAtMs) } : {}),
    ...(status.completedAtMs > 0 ? { CompletedAt: timeText(status.completedAtMs) } : {}),
    ...optional("Message", status.message),
  };
}

function jobStatusDto(service: Service): object {
  if (!modeKind(service.spec).endsWith("-job")) return {};
  return {
    JobStatus: {
      JobIteration: optional("Index", service.jobIteration),
      LastExecution: timeText(service.jobLastExecutionMs),
    },
  };
}
