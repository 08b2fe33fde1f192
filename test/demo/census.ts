import { request } from "../lab/http.ts";
import type { LabHost } from "../lab/lab.ts";
import { type TaskRow, versionOf } from "./watcher.ts";

/** Containers that run, by id, as their Engines tell: no word of the cluster is taken for it. */
export interface FoundContainer {
  readonly startedAt: string;
  readonly taskId: string;
  readonly version: string;
}
export type Census = ReadonlyMap<string, FoundContainer>;

const TASK_LABEL = "com.docker.swarm.task.id";
const SERVICE_LABEL = "com.docker.swarm.service.name";

interface Inspected {
  readonly Id: string;
  readonly State: { readonly StartedAt: string };
  readonly Config: { readonly Image: string; readonly Labels: Readonly<Record<string, string>> };
}

export async function takeCensus(hosts: readonly LabHost[], service: string): Promise<Census> {
  const found = new Map<string, FoundContainer>();
  const filters = encodeURIComponent(JSON.stringify({ label: [`${SERVICE_LABEL}=${service}`] }));
  await Promise.all(
    hosts.map(async host => {
      const socket = host.dockerSocketPath;
      const { body } = await request(socket, "GET", `/containers/json?filters=${filters}`);
      for (const { Id } of body as readonly { readonly Id: string }[]) {
        const answer = await request(socket, "GET", `/containers/${Id}/json`);
        if (answer.status !== 200) continue; // It ended between the two calls.
        const { State, Config } = answer.body as Inspected;
        found.set(Id, {
          startedAt: State.StartedAt,
          taskId: Config.Labels[TASK_LABEL] ?? "",
          version: versionOf(Config.Image),
        });
      }
    }),
  );
  return found;
}

/**
 * Containers that were restarted though nothing asked for it. An update replaces those of the old
 * version, each once; those of the new version must still be there, never started again, and no
 * slot may have got a second task of the new version.
 */
export function countRestarts(
  before: Census,
  after: Census,
  tasks: ReadonlyMap<string, TaskRow>,
  newVersion: string,
): number {
  const changed = new Map<number, number>();
  for (const [id, { version, startedAt, taskId }] of before) {
    if (version !== newVersion || after.get(id)?.startedAt === startedAt) continue;
    addTo(changed, tasks.get(taskId)?.Slot ?? 0);
  }
  const made = new Map<number, number>();
  for (const task of tasks.values()) {
    if (versionOf(task.Spec.ContainerSpec.Image) === newVersion) addTo(made, task.Slot);
  }
  const slots = [...new Set([...changed.keys(), ...made.keys()])];
  // A container that is gone and the task in its place are one restart.
  return slots.reduce(
    (sum, slot) => sum + Math.max(changed.get(slot) ?? 0, (made.get(slot) ?? 1) - 1),
    0,
  );
}

function addTo(counts: Map<number, number>, key: number): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
