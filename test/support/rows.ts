import type { Change } from "../../src/model/change.ts";
import { DEFAULT_SWARM_SPEC } from "../../src/model/defaults.ts";
import {
  type Cluster,
  type Network,
  type Node,
  type Service,
  specRowId,
  type Task,
  type TaskStatus,
} from "../../src/model/rows.ts";
import type { ServiceSpec } from "../../src/model/service-spec.ts";
import type { TaskState } from "../../src/model/task-state.ts";

/** Rows for tests: everything has a plain value, the test says what matters. */
type Draft<Row> = Omit<Row, "version" | "createdAtMs" | "updatedAtMs">;

export function aStatus(state: TaskState, fields: Partial<TaskStatus> = {}): TaskStatus {
  return {
    state,
    timestampMs: 0,
    message: "",
    err: "",
    containerId: "",
    pid: 0,
    exitCode: 0,
    ports: [],
    ...fields,
  };
}

export function aNode(fields: Partial<Draft<Node>> & { readonly id: string }): Draft<Node> {
  return {
    spec: { Role: "worker", Availability: "active" },
    description: {
      hostname: fields.id,
      architecture: "x86_64",
      os: "linux",
      resources: { nanoCpus: 4e9, memoryBytes: 8 * 2 ** 30, generic: [] },
      engineVersion: "20.10.24",
      engineLabels: {},
      plugins: [],
    },
    status: { state: "ready", message: "", addr: "10.0.0.1" },
    certRole: "worker",
    certificatePem: "",
    ...fields,
  };
}

export function aService(
  fields: Partial<Draft<Service>> & { readonly id: string; readonly spec: ServiceSpec },
): Draft<Service> {
  return {
    specVersion: 1,
    previousSpec: null,
    previousSpecVersion: 0,
    updateStatus: null,
    endpoint: { spec: {}, ports: [], virtualIps: [] },
    allocated: true,
    jobIteration: 0,
    jobLastExecutionMs: 0,
    pendingDelete: false,
    ...fields,
  };
}

export function aTask(fields: Partial<Draft<Task>> & { readonly id: string }): Draft<Task> {
  return {
    serviceId: "",
    serviceName: "",
    specVersion: 1,
    slot: 1,
    nodeId: "",
    desiredState: "running",
    status: aStatus("new"),
    runningSinceMs: 0,
    endedAtMs: 0,
    startAfterMs: 0,
    jobIteration: 0,
    assignedGeneric: [],
    networks: [],
    ...fields,
  };
}

export function aCluster(fields: Partial<Draft<Cluster>> = {}): Draft<Cluster> {
  return {
    id: "cluster",
    spec: DEFAULT_SWARM_SPEC,
    rootCa: { certPem: "root", keyPem: "key" },
    joinTokens: { worker: "", manager: "" },
    defaultAddrPool: [],
    subnetSize: 24,
    dataPathPort: 4789,
    rootRotationInProgress: false,
    ...fields,
  };
}

/** A service and the stored spec version its tasks point at. */
export function createService(service: Draft<Service>): Change[] {
  const { id: serviceId, specVersion, spec } = service;
  return [
    { op: "create", table: "services", row: service },
    {
      op: "create",
      table: "serviceSpecs",
      row: { id: specRowId(serviceId, specVersion), serviceId, specVersion, spec },
    },
  ];
}

/** An overlay network with one subnet. */
export function aNetwork(
  fields: Partial<Draft<Network>> & { readonly id: string },
): Draft<Network> {
  return {
    spec: { Name: fields.id, Driver: "overlay" },
    vni: 4_097,
    subnets: [{ subnet: "10.0.1.0/24", gateway: "10.0.1.1" }],
    ...fields,
  };
}
