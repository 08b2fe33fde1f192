import { networkLabelsOf } from "./network-labels.ts";
import type { ServiceSpec } from "./service-spec.ts";

/**
 * Whether two parts of a spec ask for the same. Docker's clients read a spec, change one field and
 * send it back; on the way empty values appear and vanish (`null`, `[]`, `""`, Go's zero values), and
 * the API fills in words that mean "as usual". None of that is a change.
 */

/** Numbers that differ from "not said" when they are 0 (pointers in Docker's API). */
const ZERO_COUNTS = new Set([
  "Delay",
  "MaxAttempts",
  "Window",
  "StopGracePeriod",
  "MemorySwappiness",
]);
/** Booleans that differ from "not said" when they are false. */
const FALSE_COUNTS = new Set(["Init"]);
const USUAL = new Map<string, unknown>([
  ["Runtime", "container"],
  ["Isolation", "default"],
]);

function isNothing(key: string, value: unknown): boolean {
  if (value === undefined || value === null || value === "") return true;
  if (value === 0) return !ZERO_COUNTS.has(key);
  if (value === false) return !FALSE_COUNTS.has(key);
  if (USUAL.get(key) === value) return true;
  if (typeof value !== "object") return false;
  return Object.entries(value).every(([inner, item]) => isNothing(inner, item));
}

/** Equality of meaning of two spec values; `key` is the field they are in. */
export function sameSpec(a: unknown, b: unknown, key = ""): boolean {
  if (a === b) return true;
  if (isNothing(key, a) || isNothing(key, b)) return isNothing(key, a) && isNothing(key, b);
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item, i) => item === b[i] || sameSpec(item, b[i]));
  }
  const [left, right] = [
    new Map<string, unknown>(Object.entries(a)),
    new Map<string, unknown>(Object.entries(b)),
  ];
  for (const name of new Set([...left.keys(), ...right.keys()])) {
    if (!sameSpec(left.get(name), right.get(name), name)) return false;
  }
  return true;
}

/**
 * What a task is made from, but for where it runs and the credentials its image was fetched with:
 * a change of either does not make a running task wrong.
 */
export function taskEssence(spec: ServiceSpec): unknown {
  const { ContainerSpec, ...task } = spec.TaskTemplate ?? {};
  return {
    task: { ...task, Placement: undefined },
    container: { ...ContainerSpec, PullOptions: undefined },
    networks: spec.Networks,
    endpoint: spec.EndpointSpec,
    fixed: taskLabels(spec),
  };
}

/** Addresses that are fixed by label, but for virtual ones, are a container's from its start on. */
function taskLabels(spec: ServiceSpec): readonly string[] {
  return networkLabelsOf(spec.Labels)
    .filter(({ kind }) => kind !== "vip" && kind !== "vip6")
    .map(({ key, value }) => `${key}=${value}`);
}
