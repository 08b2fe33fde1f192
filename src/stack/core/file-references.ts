import { type Dict, dictOf } from "./dict.ts";
import { composeError, quoted } from "./errors.ts";
import { type ComposeService, type FileReference, fileObjectOf } from "./model.ts";
import { scoped } from "./names.ts";

/** A service's use of a secret or config, before its id is known. */
export interface ObjectUse {
  /** The name in the cluster. */
  readonly name: string;
  /** How it is shown in the container; null when it is used by the runtime alone. */
  readonly file: { Name: string; UID: string; GID: string; Mode: number } | null;
}

/** Everyone may read (0444). */
const DEFAULT_MODE = 0o444;

type What = "secret" | "config";

function nameOf(
  what: What,
  source: string,
  stack: string,
  objects: Readonly<Record<string, Dict>>,
): string {
  if (!Object.hasOwn(objects, source)) {
    throw composeError(`undefined ${what} ${quoted(source)}`);
  }
  const { name = "" } = fileObjectOf(dictOf(objects[source]));
  return name === "" ? scoped(stack, source) : name;
}

function orDefault(text: string | undefined, other: string): string {
  return text === undefined || text === "" ? other : text;
}

function usesOf(
  what: What,
  references: readonly FileReference[],
  stack: string,
  objects: Readonly<Record<string, Dict>>,
): ObjectUse[] {
  const targets = new Set<string>();
  return references.map(reference => {
    const source = reference.source ?? "";
    const name = nameOf(what, source, stack, objects);
    const target = orDefault(reference.target, source);
    if (targets.has(target)) {
      throw composeError(`duplicate ${what} target for ${name} not allowed`);
    }
    targets.add(target);
    const file = {
      Name: target,
      UID: orDefault(reference.uid, "0"),
      GID: orDefault(reference.gid, "0"),
      Mode: reference.mode ?? DEFAULT_MODE,
    };
    return { name, file };
  });
}

export function secretUses(
  service: ComposeService,
  stack: string,
  secrets: Readonly<Record<string, Dict>>,
): ObjectUse[] {
  return usesOf("secret", service.secrets ?? [], stack, secrets);
}

/** A credential spec in a config is used by the runtime, not mounted. */
export function configUses(
  service: ComposeService,
  stack: string,
  configs: Readonly<Record<string, Dict>>,
): ObjectUse[] {
  const uses = usesOf("config", service.configs ?? [], stack, configs);
  const credentials = service.credential_spec?.config ?? "";
  if (credentials === "") return uses;
  return [...uses, { name: nameOf("config", credentials, stack, configs), file: null }];
}
