import type { AssignmentChange, DependencyKind } from "../../model/assignment.ts";
import type { Config, Secret, Task } from "../../model/rows.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import { compareTaskStates, isTerminal } from "../../model/task-state.ts";
import { type StateView, specOfTask } from "../../model/view.ts";

/** The part of a task row that its node acts on: when it is unchanged nothing is sent again. */
function taskFingerprint(task: Task): string {
  return JSON.stringify([
    task.desiredState,
    task.specVersion,
    task.networks,
    task.assignedGeneric,
    task.startAfterMs,
  ]);
}

/** Whether a change of a task is news for its node: what the node itself reported mostly is not. */
export function concernsNodes(before: Task | null, after: Task | null): boolean {
  if (before === null || after === null) return true;
  return !(
    before.nodeId === after.nodeId &&
    before.desiredState === after.desiredState &&
    before.specVersion === after.specVersion &&
    before.networks === after.networks &&
    before.assignedGeneric === after.assignedGeneric &&
    before.startAfterMs === after.startAfterMs &&
    concernsNode(before) === concernsNode(after) &&
    isTerminal(before.status.state) === isTerminal(after.status.state)
  );
}

/** A node gets a task from ASSIGNED on, until the row is deleted (its container keeps the logs). */
function concernsNode(task: Task): boolean {
  return compareTaskStates(task.status.state, "assigned") >= 0 && task.status.state !== "orphaned";
}

/** What the cluster says for tasks whose service does not (Docker's SwarmSpec.TaskDefaults). */
function withTaskDefaults(view: StateView, spec: ServiceSpec): ServiceSpec {
  const [cluster] = view.table("cluster").all();
  const LogDriver = cluster?.spec.TaskDefaults.LogDriver;
  if (!LogDriver?.Name || spec.TaskTemplate?.LogDriver !== undefined) return spec;
  return { ...spec, TaskTemplate: { ...spec.TaskTemplate, LogDriver } };
}

interface SentTask {
  readonly fingerprint: string;
  readonly dependencies: readonly string[];
}

function dependencyKey(kind: DependencyKind, id: string): string {
  return `${kind}:${id}`;
}

/** Keys of the secrets and configs a task may read while it is not over (G9). */
function dependenciesOf(task: Task, spec: ServiceSpec): readonly string[] {
  if (isTerminal(task.status.state) || task.desiredState === "remove") return [];
  const container = spec.TaskTemplate?.ContainerSpec;
  const keys = new Set<string>();
  for (const ref of container?.Secrets ?? []) {
    if (ref.SecretID !== undefined) keys.add(dependencyKey("secret", ref.SecretID));
  }
  for (const ref of container?.Configs ?? []) {
    if (ref.ConfigID !== undefined) keys.add(dependencyKey("config", ref.ConfigID));
  }
  return [...keys];
}

/**
 * What one node has been told, and what it must be told next. Dependencies come before the tasks
 * that use them and are taken back when the last of those is over.
 */
export class NodeAssignments {
  readonly #nodeId: string;
  readonly #tasks = new Map<string, SentTask>();
  readonly #dependencyUsers = new Map<string, number>();
  #draining: (taskId: string) => boolean = () => false;

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  /** Everything the node must know, as if it knew nothing. */
  complete(
    view: StateView,
    draining: (taskId: string) => boolean = () => false,
  ): AssignmentChange[] {
    this.#draining = draining;
    this.#tasks.clear();
    this.#dependencyUsers.clear();
    return this.#diff(
      view,
      view.tasksOfNode(this.#nodeId).map(task => task.id),
    );
  }

  /** What changed for the node among `taskIds` since it was last told. */
  incremental(
    view: StateView,
    taskIds: Iterable<string>,
    draining: (taskId: string) => boolean = () => false,
  ): AssignmentChange[] {
    this.#draining = draining;
    return this.#diff(view, taskIds);
  }

  #diff(view: StateView, taskIds: Iterable<string>): AssignmentChange[] {
    const dependencyUpdates: AssignmentChange[] = [];
    const taskChanges: AssignmentChange[] = [];
    const released = new Set<string>();
    for (const taskId of taskIds) {
      const task = this.#taskAsSent(view, taskId);
      const sent = this.#tasks.get(taskId);
      const spec = task === undefined ? undefined : specOfTask(view, task);
      if (
        task === undefined ||
        spec === undefined ||
        task.nodeId !== this.#nodeId ||
        !concernsNode(task)
      ) {
        if (sent === undefined) continue;
        this.#tasks.delete(taskId);
        this.#release(sent.dependencies, released);
        taskChanges.push({ action: "remove", kind: "task", id: taskId });
        continue;
      }
      const dependencies = dependenciesOf(task, spec.spec);
      for (const key of dependencies) {
        if (sent?.dependencies.includes(key)) continue;
        const item = this.#acquire(view, key);
        released.delete(key);
        if (item !== null) dependencyUpdates.push(item);
      }
      if (sent !== undefined) {
        this.#release(
          sent.dependencies.filter(key => !dependencies.includes(key)),
          released,
        );
      }
      const fingerprint = taskFingerprint(task);
      this.#tasks.set(taskId, { fingerprint, dependencies });
      if (sent?.fingerprint !== fingerprint) {
        const item = { task, spec: withTaskDefaults(view, spec.spec) };
        taskChanges.push({ action: "update", kind: "task", item });
      }
    }
    return [...dependencyUpdates, ...taskChanges, ...removals(released)];
  }

  /** Its end is news for later while other nodes may still send it connections. */
  #taskAsSent(view: StateView, taskId: string): Task | undefined {
    const task = view.table("tasks").get(taskId);
    if (task === undefined || !this.#draining(taskId)) return task;
    return { ...task, desiredState: "running" };
  }

  /** Counts a user of the dependency; returns what to send when it is the first. */
  #acquire(view: StateView, key: string): AssignmentChange | null {
    const users = this.#dependencyUsers.get(key) ?? 0;
    this.#dependencyUsers.set(key, users + 1);
    if (users > 0) return null;
    const { kind, id } = splitKey(key);
    const item: Secret | Config | undefined =
      kind === "secret" ? view.table("secrets").get(id) : view.table("configs").get(id);
    if (item === undefined) return null;
    return kind === "secret"
      ? { action: "update", kind: "secret", item }
      : { action: "update", kind: "config", item };
  }

  #release(keys: readonly string[], released: Set<string>): void {
    for (const key of keys) {
      const users = (this.#dependencyUsers.get(key) ?? 0) - 1;
      if (users > 0) {
        this.#dependencyUsers.set(key, users);
        continue;
      }
      this.#dependencyUsers.delete(key);
      released.add(key);
    }
  }
}

function splitKey(key: string): { readonly kind: DependencyKind; readonly id: string } {
  const at = key.indexOf(":");
  return { kind: key.startsWith("secret:") ? "secret" : "config", id: key.slice(at + 1) };
}

function removals(keys: Iterable<string>): AssignmentChange[] {
  return [...keys].map(key => ({ action: "remove" as const, ...splitKey(key) }));
}

/**
 * Packs changes, already encoded, into messages of at most `maxBytes` each (one larger change
 * travels alone). Never returns an empty list: an empty complete set is news too.
 */
export function chunkChanges(encoded: readonly string[], maxBytes: number): string[][] {
  const chunks: string[][] = [];
  let current: string[] = [];
  let bytes = 0;
  for (const change of encoded) {
    if (current.length > 0 && bytes + change.length > maxBytes) {
      chunks.push(current);
      current = [];
      bytes = 0;
    }
    current.push(change);
    bytes += change.length;
  }
  chunks.push(current);
  return chunks;
}
