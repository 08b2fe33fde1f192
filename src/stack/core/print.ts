import { type Dict, dictOf, isDict, listOf } from "./dict.ts";
import type { ComposeFile } from "./model.ts";
import { formatDuration } from "./quantities.ts";
import {
  FILE_OBJECT_SHAPE,
  type Kind,
  NETWORK_SHAPE,
  PORT_SHAPE,
  SERVICE_SHAPE,
  type Shape,
  VOLUME_SHAPE,
} from "./shapes.ts";

/**
 * What `stack config` shows: mappings as lists of pairs, whose order is the order printed. Zero
 * values that were not said, and empty lists and mappings, are left out.
 */
export type Printed =
  | null
  | boolean
  | number
  | string
  | readonly Printed[]
  | { readonly pairs: readonly (readonly [string, Printed])[] };

type Pairs = readonly (readonly [string, Printed])[];

function isDigit(char: string | undefined): boolean {
  return char !== undefined && char >= "0" && char <= "9";
}

function isLetter(char: string | undefined): boolean {
  return char !== undefined && /\p{L}/u.test(char);
}

function numberAt(text: string, at: number): readonly [number, number] {
  let end = at;
  while (isDigit(text[end])) end += 1;
  return [end === at ? 0 : Number(text.slice(at, end)), end];
}

/** The order of keys of docker's YAML printer: letters by code, digits as numbers. */
export function naturally(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  let afterDigit = false;
  for (let i = 0; i < shared; i += 1) {
    const [x = "", y = ""] = [a[i], b[i]];
    if (x === y) {
      afterDigit = isDigit(x);
      continue;
    }
    const [xIsLetter, yIsLetter] = [isLetter(x), isLetter(y)];
    if (xIsLetter && yIsLetter) return x < y ? -1 : 1;
    if (xIsLetter || yIsLetter) return xIsLetter === afterDigit ? -1 : 1;
    const [xNumber, xEnd] = numberAt(a, i);
    const [yNumber, yEnd] = numberAt(b, i);
    if (xNumber !== yNumber) return xNumber - yNumber;
    if (xEnd !== yEnd) return xEnd - yEnd;
    return x < y ? -1 : 1;
  }
  return a.length - b.length;
}

function sorted(dict: Dict, print: (value: unknown) => Printed): Printed {
  const names = Object.keys(dict).sort(naturally);
  return { pairs: names.map(name => [name, print(dict[name])] as const) };
}

/** A value of the user's own keys, as it was said. */
function plain(value: unknown): Printed {
  if (Array.isArray(value)) return value.map(plain);
  if (isDict(value)) return sorted(value, plain);
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return value;
  }
  return null;
}

function isEmpty(value: Printed): boolean {
  if (value === null || value === "" || value === 0 || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === "object" && "pairs" in value && value.pairs.length === 0;
}

function isTold(kind: Kind): boolean {
  return "told" in kind && kind.told === true;
}

function pairsOf(shape: Shape, dict: Dict): Pairs {
  const pairs: (readonly [string, Printed])[] = [];
  for (const [key, kind] of shape.fields) {
    if (dict[key] === undefined) continue;
    const value = print(kind, dict[key]);
    if (isTold(kind) || !isEmpty(value)) pairs.push([key, value]);
  }
  const extras = dictOf(dict["extras"]);
  for (const key of Object.keys(extras).sort(naturally)) pairs.push([key, plain(extras[key])]);
  return pairs;
}

function print(kind: Kind, value: unknown): Printed {
  if (kind.is === "struct") return { pairs: pairsOf(kind, dictOf(value)) };
  if (kind.is === "list") return listOf(value).map(item => print(kind.of, item));
  if (kind.is === "map") {
    return sorted(dictOf(value), one => (one === null ? null : print(kind.of, one)));
  }
  if (kind.is === "ports") return listOf(value).map(port => print(PORT_SHAPE, port));
  if (kind.is === "duration" && typeof value === "number" && (isTold(kind) || value !== 0)) {
    return formatDuration(value);
  }
  if (kind.is === "ulimit" && isDict(value)) {
    return { pairs: ["soft", "hard"].map(key => [key, plain(value[key] ?? 0)] as const) };
  }
  if (kind.is === "bytes" && typeof value === "number") return value === 0 ? 0 : String(value);
  return plain(value);
}

function part(shape: Shape, objects: Readonly<Record<string, Dict>>): Printed {
  return sorted(objects, object => ({ pairs: pairsOf(shape, dictOf(object)) }));
}

/** The file in docker's order: version, services, and what of the rest is there. */
export function printFile(file: ComposeFile): Printed {
  const rest: readonly (readonly [string, Printed])[] = [
    ["networks", part(NETWORK_SHAPE, file.networks)],
    ["volumes", part(VOLUME_SHAPE, file.volumes)],
    ["secrets", part(FILE_OBJECT_SHAPE, file.secrets)],
    ["configs", part(FILE_OBJECT_SHAPE, file.configs)],
  ];
  const extras = Object.keys(file.extras).sort(naturally);
  return {
    pairs: [
      ["version", file.version],
      ["services", part(SERVICE_SHAPE, file.services)],
      ...rest.filter(([, value]) => !isEmpty(value)),
      ...extras.map(key => [key, plain(file.extras[key])] as const),
    ],
  };
}
