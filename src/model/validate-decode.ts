import type { SwarmError } from "../base/errors.ts";
import { base64Problem } from "./base64.ts";
import { badRequest } from "./validate-errors.ts";

/**
 * A description of the JSON that a Docker API type takes, with the names Go gives it: what does
 * not fit is refused in the words of Go's encoding/json. Fields that a struct does not list are
 * dropped; null counts as absent; keys are matched without regard to case.
 */
export type Shape =
  | { readonly kind: "string"; readonly go: string }
  | { readonly kind: "bool"; readonly go: string }
  | { readonly kind: "float"; readonly go: string }
  | { readonly kind: "integer"; readonly go: string; readonly min: number; readonly max: number }
  /** Base64 text (Go's []byte). */
  | { readonly kind: "bytes"; readonly go: string }
  | { readonly kind: "map"; readonly go: string; readonly value: Shape }
  | { readonly kind: "list"; readonly go: string; readonly item: Shape }
  | {
      readonly kind: "struct";
      readonly go: string;
      readonly name: string;
      readonly fields: ReadonlyMap<string, FieldShape>;
    };

interface FieldShape {
  readonly name: string;
  readonly shape: Shape;
}

/** Entries of one JSON object or array that are looked at; more are refused. */
export const JSON_ENTRIES_MAX = 10_000;

export const STRING: Shape = { kind: "string", go: "string" };
export const BOOL: Shape = { kind: "bool", go: "bool" };
export const FLOAT32: Shape = { kind: "float", go: "float32" };
export const BYTES: Shape = { kind: "bytes", go: "[]uint8" };
export const INT64: Shape = integer("int64", -(2 ** 63), 2 ** 63);
export const UINT64: Shape = integer("uint64", 0, 2 ** 64);
export const UINT32: Shape = integer("uint32", 0, 2 ** 32 - 1);
export const INT: Shape = { ...INT64, go: "int" };
export const DURATION: Shape = { ...INT64, go: "time.Duration" };
export const STRINGS: Shape = list(STRING);
export const STRING_MAP: Shape = { kind: "map", go: "map[string]string", value: STRING };

/**
 * Bounds are inclusive. Those of 64 bits are one more than Go's: JSON.parse rounds the largest
 * values, which clients send for "no limit", up to them.
 */
export function integer(go: string, min: number, max: number): Shape {
  return { kind: "integer", go, min, max };
}

/** A string type with a name of its own, such as swarm.NodeRole. */
export function named(go: string): Shape {
  return { kind: "string", go };
}

export function list(item: Shape, go = `[]${item.go}`): Shape {
  return { kind: "list", go, item };
}

/** `go` is the package-qualified type name: "swarm.ServiceSpec". */
export function struct(go: string, fields: Readonly<Record<string, Shape>>): Shape {
  const name = go.slice(go.lastIndexOf(".") + 1);
  const entries = Object.entries(fields).map(
    ([field, shape]) => [field.toLowerCase(), { name: field, shape }] as const,
  );
  return { kind: "struct", go, name, fields: new Map(entries) };
}

/** Where in the document: the innermost struct, and the fields from the root. */
interface Place {
  readonly struct: string;
  readonly path: readonly string[];
}

/**
 * Reads parsed JSON as the shape says. Throws invalid_argument for the first value that does not
 * fit. The result holds own data properties only, whatever the keys (`__proto__` is a key as any
 * other), and shares nothing with the input.
 */
export function decodeJson(shape: Shape, value: unknown): unknown {
  return decode(shape, value, { struct: "", path: [] });
}

type Decoder<K extends Shape["kind"]> = (
  shape: Extract<Shape, { kind: K }>,
  value: unknown,
  place: Place,
) => unknown;

function decode(shape: Shape, value: unknown, place: Place): unknown {
  if (value === null || value === undefined) return undefined;
  switch (shape.kind) {
    case "string":
    case "bool":
    case "float":
      return decodePlain(shape, value, place);
    case "integer":
      return decodeInteger(shape, value, place);
    case "bytes":
      return decodeBytes(shape, value, place);
    case "map":
      return decodeMap(shape, value, place);
    case "list":
      return decodeList(shape, value, place);
    case "struct":
      return decodeStruct(shape, value, place);
  }
}

const JS_TYPES = { string: "string", bool: "boolean", float: "number" } as const;

function decodePlain(
  shape: Extract<Shape, { kind: "string" | "bool" | "float" }>,
  value: unknown,
  place: Place,
): unknown {
  if (typeof value !== JS_TYPES[shape.kind]) throw mismatch(shape, jsonKind(value), place);
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw mismatch(shape, `number ${value}`, place);
  }
  return value;
}

const decodeInteger: Decoder<"integer"> = (shape, value, place) => {
  if (typeof value !== "number") throw mismatch(shape, jsonKind(value), place);
  if (!Number.isInteger(value) || value < shape.min || value > shape.max) {
    throw mismatch(shape, `number ${value}`, place);
  }
  return value;
};

const decodeBytes: Decoder<"bytes"> = (shape, value, place) => {
  if (typeof value !== "string") throw mismatch(shape, jsonKind(value), place);
  const problem = base64Problem(value);
  if (problem !== null) throw badRequest(`illegal base64 data at input byte ${problem}`);
  return value.replace(/[\r\n]/g, "");
};

const decodeMap: Decoder<"map"> = (shape, value, place) => {
  const entries = entriesOf(shape, value, place);
  return Object.fromEntries(
    entries.map(([key, item]) => [key, decode(shape.value, item, place) ?? ""]),
  );
};

const decodeList: Decoder<"list"> = (shape, value, place) => {
  if (!Array.isArray(value)) throw mismatch(shape, jsonKind(value), place);
  checkCount(value.length, shape, place);
  return value.map((item: unknown) => decode(shape.item, item, place) ?? zeroOf(shape.item));
};

/** What Go leaves in a slice where the JSON says null. */
function zeroOf(shape: Shape): unknown {
  if (shape.kind === "string" || shape.kind === "bytes") return "";
  if (shape.kind === "bool") return false;
  if (shape.kind === "integer" || shape.kind === "float") return 0;
  return shape.kind === "list" ? [] : {};
}

const decodeStruct: Decoder<"struct"> = (shape, value, place) => {
  const fields: [string, unknown][] = [];
  for (const [key, item] of entriesOf(shape, value, place)) {
    const field = shape.fields.get(key.toLowerCase());
    if (field === undefined) continue;
    const inner = { struct: shape.name, path: [...place.path, field.name] };
    const decoded = decode(field.shape, item, inner);
    if (decoded !== undefined) fields.push([field.name, decoded]);
  }
  return Object.fromEntries(fields);
};

function entriesOf(shape: Shape, value: unknown, place: Place): readonly [string, unknown][] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw mismatch(shape, jsonKind(value), place);
  }
  const entries = Object.entries(value);
  checkCount(entries.length, shape, place);
  return entries;
}

function checkCount(count: number, shape: Shape, place: Place): void {
  if (count <= JSON_ENTRIES_MAX) return;
  const what = place.path.length === 0 ? shape.go : place.path.join(".");
  throw badRequest(`${what} has ${count} entries, at most ${JSON_ENTRIES_MAX} are allowed`);
}

function jsonKind(value: unknown): string {
  if (Array.isArray(value)) return "array";
  return typeof value === "boolean" ? "bool" : typeof value;
}

/** Go's json.UnmarshalTypeError. */
function mismatch(shape: Shape, found: string, { struct: owner, path }: Place): SwarmError {
  const target = path.length === 0 ? "Go value" : `Go struct field ${owner}.${path.join(".")}`;
  return badRequest(`json: cannot unmarshal ${found} into ${target} of type ${shape.go}`);
}
