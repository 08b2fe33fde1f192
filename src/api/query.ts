import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Filters } from "../control/operations.ts";
import { jsonKind, parseJson } from "./json-body.ts";

const FALSE_WORDS = new Set(["", "0", "no", "false", "none"]);

/** Docker's reading of a boolean parameter: everything but a few words is true. */
export function boolParam(query: URLSearchParams, name: string): boolean {
  return !FALSE_WORDS.has((query.get(name) ?? "").trim().toLowerCase());
}

const TRUE_WORDS = new Set(["1", "t", "T", "TRUE", "true", "True"]);
const NOT_TRUE_WORDS = new Set(["0", "f", "F", "FALSE", "false", "False", ""]);

/** Go's strict reading of a boolean parameter; `problem` makes Docker's words of the value. */
export function strictBoolParam(
  query: URLSearchParams,
  name: string,
  problem = badBool(name),
): boolean {
  const raw = query.get(name) ?? "";
  if (TRUE_WORDS.has(raw)) return true;
  if (NOT_TRUE_WORDS.has(raw)) return false;
  throw new SwarmError("invalid_argument", problem(raw));
}

function badBool(name: string): (raw: string) => string {
  return raw =>
    `invalid value for ${name}: ${raw}: strconv.ParseBool: parsing ${JSON.stringify(raw)}: invalid syntax`;
}

const UINT64_END = 2n ** 64n;

/** The `version` parameter of an update; the message names the resource as Docker's does. */
export function versionParam(
  query: URLSearchParams,
  refusal: (raw: string, problem: string) => string,
): number {
  const raw = query.get("version") ?? "";
  const isNumber = /^\d{1,64}$/.test(raw);
  if (!isNumber || BigInt(raw) >= UINT64_END) {
    const problem = isNumber ? "value out of range" : "invalid syntax";
    throw new SwarmError("invalid_argument", refusal(raw, problem));
  }
  return Number(raw);
}

/** `invalid service version 'x': strconv.ParseUint: parsing "x": invalid syntax`. */
export function badVersion(noun: string): (raw: string, problem: string) => string {
  return (raw, problem) =>
    `invalid ${noun} version '${raw}': strconv.ParseUint: parsing ${JSON.stringify(raw)}: ${problem}`;
}

const MAX_FILTERS = 64;
/** Most lists answer a filter that cannot be read as an error of their own. */
const ODDLY_INTERNAL = { http: 500 } as const;

/**
 * Both forms that Docker's clients send: `{"name":["a"]}` and `{"name":{"a":true}}`. Throws in the
 * words of Go's decoder; with status 500, as moby does, unless `strict`.
 */
export function filtersParam(query: URLSearchParams, strict = false): Filters {
  const raw = query.get("filters") ?? "";
  if (raw === "") return {};
  const parsed = readFilters(raw, strict);
  const entries = Object.entries(parsed);
  if (entries.length > MAX_FILTERS) {
    throw new SwarmError("invalid_argument", `more than ${MAX_FILTERS} filters`);
  }
  return Object.fromEntries(entries.map(([name, values]) => [name, valuesIn(values, strict)]));
}

function readFilters(raw: string, strict: boolean): object {
  let parsed: unknown;
  try {
    parsed = parseJson(raw, "parameter");
  } catch (error) {
    throw malformed(errorMessage(error), strict);
  }
  if (parsed === null) return {};
  if (typeof parsed === "object" && !Array.isArray(parsed)) return parsed;
  throw malformed(unfit(parsed, "map[string]map[string]bool"), strict);
}

function valuesIn(values: unknown, strict: boolean): readonly string[] {
  if (Array.isArray(values) && values.every(value => typeof value === "string")) return values;
  if (values === null) return [];
  if (typeof values !== "object" || Array.isArray(values)) {
    throw malformed(unfit(values, "map[string]bool"), strict);
  }
  for (const value of Object.values(values)) {
    if (typeof value !== "boolean") throw malformed(unfit(value, "bool"), strict);
  }
  return Object.keys(values);
}

function unfit(value: unknown, type: string): string {
  return `json: cannot unmarshal ${jsonKind(value)} into Go value of type ${type}`;
}

function malformed(text: string, strict: boolean): SwarmError {
  return new SwarmError("invalid_argument", text, strict ? {} : ODDLY_INTERNAL);
}
