import { SwarmError } from "../base/errors.ts";
import type { Filters } from "../control/operations.ts";
import { parseJson } from "./json-body.ts";

const FALSE_WORDS = new Set(["", "0", "no", "false", "none"]);

/** Docker's reading of a boolean parameter: everything but a few words is true. */
export function boolParam(query: URLSearchParams, name: string): boolean {
  return !FALSE_WORDS.has((query.get(name) ?? "").trim().toLowerCase());
}

/** The `version` parameter of an update; the message names the resource as Docker's does. */
export function versionParam(query: URLSearchParams, refusal: (raw: string) => string): number {
  const raw = query.get("version") ?? "";
  if (!/^\d{1,20}$/.test(raw)) throw new SwarmError("invalid_argument", refusal(raw));
  return Number(raw);
}

/** `invalid service version 'x': strconv.ParseUint: parsing "x": invalid syntax`. */
export function badVersion(noun: string): (raw: string) => string {
  return raw =>
    `invalid ${noun} version '${raw}': strconv.ParseUint: parsing ${JSON.stringify(raw)}: invalid syntax`;
}

const MAX_FILTERS = 64;

/** Both forms that Docker's clients send: `{"name":["a"]}` and `{"name":{"a":true}}`. */
export function filtersParam(query: URLSearchParams): Filters {
  const raw = query.get("filters") ?? "";
  if (raw === "") return {};
  const parsed = parseJson(raw);
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new SwarmError("invalid_argument", "invalid filter");
  }
  const entries = Object.entries(parsed);
  if (entries.length > MAX_FILTERS) {
    throw new SwarmError("invalid_argument", `more than ${MAX_FILTERS} filters`);
  }
  return Object.fromEntries(entries.map(([name, values]) => [name, filterValues(name, values)]));
}

function filterValues(name: string, values: unknown): readonly string[] {
  if (Array.isArray(values) && values.every(value => typeof value === "string")) return values;
  if (typeof values === "object" && values !== null && !Array.isArray(values)) {
    return Object.keys(values);
  }
  throw new SwarmError("invalid_argument", `invalid filter '${name}'`);
}
