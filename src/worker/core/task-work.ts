import { SwarmError } from "../../base/errors.ts";
import type { AssignedTask } from "../../model/assignment.ts";
import type { Config, Secret } from "../../model/rows.ts";
import type { FileTarget } from "../../model/service-spec.ts";
import { expandPayload, type PayloadContext } from "./payload.ts";
import type { NodeFacts } from "./task-context.ts";

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
 * target or its template makes no sense. References without a file target (runtime ones) are no
 * files.
 */
export function taskFiles(
  work: Pick<TaskWork, "assigned" | "node">,
  dependencies: Dependencies,
  decode: (base64: string) => Uint8Array,
): readonly TaskFile[] {
  const found = referencedFiles(work.assigned, dependencies);
  const dataOf = (kind: TaskFile["kind"]): ReadonlyMap<string, Uint8Array> =>
    new Map(
      found
        .filter(ref => ref.kind === kind)
        .map(({ file, row }) => [file.Name ?? "", decode(row.spec.Data ?? "")]),
    );
  const context: PayloadContext = {
    ...work,
    secrets: dataOf("secret"),
    configs: dataOf("config"),
  };
  return found.map(({ kind, file, row }) => {
    const data = expandPayload(row.spec, decode(row.spec.Data ?? ""), context);
    return taskFile(kind, row.id, file, data);
  });
}

interface ReferencedFile {
  readonly kind: TaskFile["kind"];
  readonly file: FileTarget;
  readonly row: Secret | Config;
}

function referencedFiles(
  assigned: AssignedTask,
  dependencies: Dependencies,
): readonly ReferencedFile[] {
  const container = assigned.spec.TaskTemplate?.ContainerSpec ?? {};
  const files: ReferencedFile[] = [];
  for (const ref of container.Secrets ?? []) {
    if (ref.File === undefined) continue;
    const row = dependencies.secrets.get(ref.SecretID ?? "");
    if (row === undefined) throw missing("secret", ref.SecretName ?? ref.SecretID ?? "");
    files.push({ kind: "secret", file: ref.File, row });
  }
  for (const ref of container.Configs ?? []) {
    if (ref.File === undefined) continue;
    const row = dependencies.configs.get(ref.ConfigID ?? "");
    if (row === undefined) throw missing("config", ref.ConfigName ?? ref.ConfigID ?? "");
    files.push({ kind: "config", file: ref.File, row });
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
