import { eventually } from "../../support/eventually.ts";
import type { ServiceSpec } from "./api.ts";
import { type Cluster, POLL_MS } from "./cluster.ts";
import type { Recorder } from "./samples.ts";

const NS_PER_S = 1_000_000_000;
const UPDATE_TIMEOUT_MS = 180_000;
const FEW = 20;
const MANY = 50;
const UPDATED = 10;
const UPDATED_AT_ONCE = 2;

export function appService(name: string, replicas: number): ServiceSpec {
  return {
    Name: name,
    TaskTemplate: { ContainerSpec: { Image: "swarmd/app:1" } },
    Mode: { Replicated: { Replicas: replicas } },
  };
}

/** Many replicas created, scaled and removed; then an update of some. */
export async function measureServices(
  cluster: Cluster,
  recorder: Recorder,
  rounds: number,
): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    await scaleOnce(cluster, recorder, `scale-${round}`);
    await updateOnce(cluster, recorder, `update-${round}`);
  }
}

async function scaleOnce(cluster: Cluster, recorder: Recorder, name: string): Promise<void> {
  const id = await recorder.timed(`${FEW} replicas running`, async () => {
    const created = await cluster.createService(appService(name, FEW));
    await cluster.untilRunning(created, FEW);
    return created;
  });
  await recorder.timed(`${FEW} to ${MANY} replicas`, async () => {
    await cluster.updateService(id, spec => ({ ...spec, ...replicas(MANY) }));
    await cluster.untilRunning(id, MANY);
  });
  await recorder.timed(`removal of ${MANY}`, async () => {
    await cluster.removeService(id);
    await cluster.untilNoContainers();
  });
}

async function updateOnce(cluster: Cluster, recorder: Recorder, name: string): Promise<void> {
  const id = await cluster.createService({
    ...appService(name, UPDATED),
    UpdateConfig: {
      Parallelism: UPDATED_AT_ONCE,
      Delay: 0,
      Monitor: NS_PER_S,
      FailureAction: "pause",
      Order: "stop-first",
    },
  });
  await cluster.untilRunning(id, UPDATED);
  await recorder.timed(`update of ${UPDATED} by ${UPDATED_AT_ONCE}`, async () => {
    await cluster.updateService(id, spec => ({
      ...spec,
      TaskTemplate: { ...spec.TaskTemplate, ContainerSpec: { Image: "swarmd/app:2" } },
    }));
    await eventually(async () => isUpdated((await cluster.service(id)).UpdateStatus), {
      what: "the update is complete",
      timeoutMs: UPDATE_TIMEOUT_MS,
      everyMs: POLL_MS,
    });
  });
  await cluster.removeService(id);
  await cluster.untilNoContainers();
}

function isUpdated(status: { readonly State?: string; readonly Message?: string } = {}): boolean {
  if (status.State === "paused") throw new Error(`the update is paused: ${status.Message}`);
  return status.State === "completed";
}

function replicas(count: number): Pick<ServiceSpec, "Mode"> {
  return { Mode: { Replicated: { Replicas: count } } };
}
