import { SwarmError } from "../../base/errors.ts";
import type { AssignedTask } from "../../model/assignment.ts";
import type { Config, Secret } from "../../model/rows.ts";
import type { FileTarget } from "../../model/service-spec.ts";
import type { TemplateValue } from "./template.ts";

/** The facts of the node that containers are told about. */
export interface NodeFacts {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly hostname: string;
  readonly os: string;
  readonly architecture: string;
}

/** A secret or config as a file in the container. */
export interface TaskFile {
  readonly kind: "secret" | "config";
  readonly id: string;
  /** Absolute path in the container. */
  readonly target: string;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
  readonly data: Uint8Array;
}

/** Everything an executor needs to make the container of a task. */
export interface TaskWork {
  readonly assigned: AssignedTask;
  readonly node: NodeFacts;
  readonly files: readonly TaskFile[];
  /** Base64url JSON for `X-Registry-Auth`; empty = none. */
  readonly registryAuth: string;
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
export function templateContext(work: Pick<TaskWork, "assigned" | "node">): TemplateValue {
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

const DEFAULT_MODE = 0o444;
const SECRET_DIR = "/run/secrets/";
const MODE_BITS = 0o7777;

/** What a task may read: dependencies delivered to this node, by id. */
export interface Dependencies {
  readonly secrets: ReadonlyMap<string, Secret>;
  readonly configs: ReadonlyMap<string, Config>;
}

/**
 * The files of a task. Throws not_found when one is not on this node, invalid_argument when its
 * target makes no sense. References without a file target (runtime ones) are no files.
 */
export function taskFiles(
  assigned: AssignedTask,
  dependencies: Dependencies,
  decode: (base64: string) => Uint8Array,
): readonly TaskFile[] {
  const container = assigned.spec.TaskTemplate?.ContainerSpec ?? {};
  const files: TaskFile[] = [];
  for (const ref of container.Secrets ?? []) {
    if (ref.File === undefined) continue;
    const row = dependencies.secrets.get(ref.SecretID ?? "");
    if (row === undefined) throw missing("secret", ref.SecretName ?? ref.SecretID ?? "");
    files.push(taskFile("secret", row.id, ref.File, decode(row.spec.Data ?? "")));
  }
  for (const ref of container.Configs ?? []) {
    if (ref.File === undefined) continue;
    const row = dependencies.configs.get(ref.ConfigID ?? "");
    if (row === undefined) throw missing("config", ref.ConfigName ?? ref.ConfigID ?? "");
    files.push(taskFile("config", row.id, ref.File, decode(row.spec.Data ?? "")));
  }
  return files;
}

function missing(kind: string, name: string): SwarmError {
  return new SwarmError("not_found", `${kind} reference ${name} not found`);
}

function taskFile(
  kind: "secret" | "config",
  id: string,
  file: FileTarget,
  data: Uint8Array,
): TaskFile {
  const name = file.Name ?? "";
  if (name === "" || name.split("/").includes("..")) {
    throw new SwarmError("invalid_argument", `${kind} target "${name}" is not a file name`);
  }
  const base = kind === "secret" ? SECRET_DIR : "/";
  return {
    kind,
    id,
    target: name.startsWith("/") ? name : base + name,
    uid: numericId(kind, file.UID),
    gid: numericId(kind, file.GID),
    mode: (file.Mode ?? DEFAULT_MODE) & MODE_BITS,
    data,
  };
}

function numericId(kind: string, text: string | undefined): number {
  const id = Number(text ?? "0");
  if (!Number.isSafeInteger(id) || id < 0) {
    throw new SwarmError("invalid_argument", `${kind} owner "${text}" is not a numeric id`);
  }
  return id;
}
