import { byText, type Dict, dictOf, isDict, listOf } from "./dict.ts";
import type { ComposeFile } from "./model.ts";
import { type Kind, SERVICE_SHAPE, type Shape } from "./shapes.ts";

/**
 * Joins a later file's service with an earlier one's as docker does. What is empty in the later file
 * does not replace: a false, a 0 or a "" of it is as if not said, except where zero is a value of
 * its own (`deploy.replicas: 0`).
 */
type Join = (base: unknown, over: unknown, kind: Kind) => unknown;

const LEAF_JOINS: Readonly<Partial<Record<Kind["is"], Join>>> = {
  count: (base, over, kind) => (isTold(kind) || over !== 0 ? over : base),
  command: (base, over) => (listOf(over).length > 0 ? over : base),
  "text-or-list": appended,
  texts: appended,
  "number-texts": appended,
  hosts: appended,
  "health-test": appended,
  "text-map": (base, over) => ({ ...dictOf(base), ...dictOf(over) }),
  labels: (base, over) => ({ ...dictOf(base), ...dictOf(over) }),
  environment: joinEnvironment,
  ports: (base, over) => joinKeyed(listOf(base), listOf(over), "published"),
};

function isTold(kind: Kind): boolean {
  return "told" in kind && kind.told === true;
}

function isZero(value: unknown): boolean {
  return value === "" || value === 0 || value === false || value === null;
}

function appended(base: unknown, over: unknown): unknown {
  return [...listOf(base), ...listOf(over)];
}

/** A variable's empty value, like one that was not said, leaves an earlier value. */
function joinEnvironment(base: unknown, over: unknown): unknown {
  const result: Record<string, unknown> = { ...dictOf(base) };
  for (const [name, value] of Object.entries(dictOf(over))) {
    const held = result[name];
    if (held === undefined || held === null || held === "") result[name] = value;
    else if (!isZero(value)) result[name] = value;
  }
  return result;
}

/** Items of one key replace each other, and come out in the key's order. */
function joinKeyed(
  base: readonly unknown[],
  over: readonly unknown[],
  key: string,
): readonly unknown[] {
  const byKey = new Map<unknown, unknown>();
  for (const item of [...base, ...over]) byKey.set(dictOf(item)[key] ?? "", item);
  return [...byKey]
    .sort(([a], [b]) =>
      typeof a === "number" || typeof b === "number"
        ? Number(a) - Number(b)
        : byText(String(a), String(b)),
    )
    .map(([, item]) => item);
}

function joinNetworks(base: Dict, over: Dict): Dict {
  const result: Record<string, unknown> = { ...base };
  for (const [name, value] of Object.entries(over)) {
    const held = base[name];
    if (!isDict(held)) result[name] = value;
    else if (isDict(value)) {
      const { aliases: _replaced, ...kept } = held;
      const { aliases, ipv4_address: ipv4, ipv6_address: ipv6 } = value;
      result[name] = {
        ...kept,
        ...(aliases === undefined ? {} : { aliases }),
        ...(isZero(ipv4 ?? "") ? {} : { ipv4_address: ipv4 }),
        ...(isZero(ipv6 ?? "") ? {} : { ipv6_address: ipv6 }),
      };
    }
  }
  return result;
}

/** Another driver replaces all; options join only where the earlier file has some. */
function joinLogging(base: Dict, over: Dict): Dict {
  const [held = "", wanted = ""] = [base["driver"], over["driver"]].map(one => String(one ?? ""));
  if (held !== wanted && held !== "" && wanted !== "") return over;
  const options =
    base["options"] === undefined
      ? {}
      : { options: { ...dictOf(base["options"]), ...dictOf(over["options"]) } };
  const driver = held === "" ? wanted : held;
  return { ...(driver === "" ? {} : { driver }), ...options };
}

function join(kind: Kind, base: unknown, over: unknown): unknown {
  if (kind.is === "list" && kind.key !== undefined && base !== undefined) {
    return joinKeyed(listOf(base), listOf(over), kind.key);
  }
  if (kind.is === "ports" && base !== undefined)
    return joinKeyed(listOf(base), listOf(over), "published");
  if (over === undefined || over === null) return base;
  if (base === undefined || base === null) return over;
  if (kind.is === "struct") {
    const [held, wanted] = [dictOf(base), dictOf(over)];
    return kind.logging === true ? joinLogging(held, wanted) : joinStruct(kind, held, wanted);
  }
  if (kind.is === "list") return appended(base, over);
  if (kind.is === "map") {
    const [held, wanted] = [dictOf(base), dictOf(over)];
    return kind.join === "networks" ? joinNetworks(held, wanted) : { ...held, ...wanted };
  }
  const own = LEAF_JOINS[kind.is];
  if (own !== undefined) return own(base, over, kind);
  return isZero(over) ? base : over;
}

function joinStruct(shape: Shape, base: Dict, over: Dict): Dict {
  const result: Record<string, unknown> = {};
  for (const [key, kind] of shape.fields) {
    const value = join(kind, base[key], over[key]);
    if (value !== undefined) result[key] = value;
  }
  return result;
}

function joinExtras(base: Dict, over: Dict): Dict {
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const held = result[key];
    if (isDict(held) && isDict(value)) result[key] = joinExtras(held, value);
    else if (Array.isArray(held) && Array.isArray(value)) result[key] = [...held, ...value];
    else result[key] = value;
  }
  return result;
}

function joinTwo(base: ComposeFile, over: ComposeFile): ComposeFile {
  const services: Record<string, Dict> = { ...base.services };
  for (const [name, service] of Object.entries(over.services)) {
    const held = services[name];
    services[name] =
      held === undefined
        ? service
        : {
            ...joinStruct(SERVICE_SHAPE, held, service),
            extras: joinExtras(dictOf(held["extras"]), dictOf(service["extras"])),
          };
  }
  return {
    ...base,
    services,
    networks: { ...base.networks, ...over.networks },
    volumes: { ...base.volumes, ...over.volumes },
    secrets: { ...base.secrets, ...over.secrets },
    configs: { ...base.configs, ...over.configs },
  };
}

/** Several files as one; each later one over what came before. */
export function mergeFiles(first: ComposeFile, rest: readonly ComposeFile[]): ComposeFile {
  return rest.reduce(joinTwo, first);
}
