import type { Change } from "../../model/change.ts";
import type { Service, UpdateStatus } from "../../model/rows.ts";
import { specRowId } from "../../model/rows.ts";
import { asksForAddresses, modeKind, type ServiceSpec } from "../../model/service-spec.ts";
import type { StateView } from "../../model/view.ts";
import { rpcError } from "./errors.ts";

type ServiceFields = Omit<Service, "version" | "createdAtMs" | "updatedAtMs">;

const FIRST_SPEC_VERSION = 1;

function isJobSpec(spec: ServiceSpec): boolean {
  const mode = modeKind(spec);
  return mode === "replicated-job" || mode === "global-job";
}

/** A new service and the first version of its spec. */
export function createServiceChanges(
  id: string,
  spec: ServiceSpec,
  nowMs: number,
): readonly Change[] {
  const row: ServiceFields = {
    id,
    spec,
    specVersion: FIRST_SPEC_VERSION,
    previousSpec: null,
    previousSpecVersion: 0,
    updateStatus: null,
    ...firstEndpoint(spec),
    jobIteration: 0,
    jobLastExecutionMs: isJobSpec(spec) ? nowMs : 0,
    pendingDelete: false,
  };
  return [{ op: "create", table: "services", row }, specRow(id, FIRST_SPEC_VERSION, spec)];
}

const NO_ENDPOINT: Service["endpoint"] = { spec: {}, ports: [], virtualIps: [] };

/** What the allocator has nothing to give to is whole at once, and keeps its version. */
function firstEndpoint(spec: ServiceSpec): Pick<Service, "endpoint" | "allocated"> {
  if (asksForAddresses(spec)) return { endpoint: NO_ENDPOINT, allocated: false };
  return { endpoint: NO_ENDPOINT, allocated: true };
}

/** What the service was given stays until the allocator has looked at it again. */
function nextEndpoint(service: Service, spec: ServiceSpec): Partial<Service> {
  const { ports, virtualIps } = service.endpoint;
  const holds = !service.allocated || ports.length > 0 || virtualIps.length > 0;
  return holds || asksForAddresses(spec) ? { allocated: false } : firstEndpoint(spec);
}

function specRow(serviceId: string, specVersion: number, spec: ServiceSpec): Change {
  const id = specRowId(serviceId, specVersion);
  return { op: "create", table: "serviceSpecs", row: { id, serviceId, specVersion, spec } };
}

/** The old field cannot change by itself (SwarmKit controlapi UpdateService). */
export function checkNetworksKept(current: ServiceSpec, next: ServiceSpec): void {
  const equal = (a: unknown, b: unknown): boolean =>
    JSON.stringify(a ?? []) === JSON.stringify(b ?? []);
  if (equal(current.Networks, next.Networks)) return;
  if (!equal(current.TaskTemplate?.Networks, next.TaskTemplate?.Networks)) return;
  throw rpcError("unimplemented", "changing network in service is not supported");
}

/** A number that no spec version of the service has had. */
function nextSpecVersion(view: StateView, service: Service): number {
  let version = Math.max(service.specVersion, service.previousSpecVersion) + 1;
  while (view.table("serviceSpecs").get(specRowId(service.id, version)) !== undefined) version += 1;
  return version;
}

export interface ServiceUpdate {
  readonly spec: ServiceSpec;
  readonly updateStatus: UpdateStatus | null;
}

/** The update that a rollback by hand is: back to the spec before, which becomes the next one back. */
export function rollbackOf(service: Service, nowMs: number): ServiceUpdate {
  if (service.previousSpec === null) {
    throw rpcError("failed_precondition", `service ${service.id} does not have a previous spec`);
  }
  return {
    spec: service.previousSpec,
    updateStatus: {
      state: "rollback_started",
      startedAtMs: nowMs,
      completedAtMs: 0,
      message: "manually requested rollback",
    },
  };
}

/** A new spec version; the one before is kept to roll back to. */
export function updateServiceChanges(
  view: StateView,
  service: Service,
  update: ServiceUpdate,
  nowMs: number,
): readonly Change[] {
  const specVersion = nextSpecVersion(view, service);
  const job = isJobSpec(update.spec);
  return [
    {
      op: "patch",
      table: "services",
      id: service.id,
      fields: {
        spec: update.spec,
        specVersion,
        previousSpec: service.spec,
        previousSpecVersion: service.specVersion,
        updateStatus: update.updateStatus,
        ...nextEndpoint(service, update.spec),
        ...(job ? { jobIteration: service.jobIteration + 1, jobLastExecutionMs: nowMs } : {}),
      },
      ifVersion: service.version,
    },
    specRow(service.id, specVersion, update.spec),
  ];
}
