import { type Dict, isDict } from "./dict.ts";
import { composeError } from "./errors.ts";
import { parsePortMappings } from "./ports.ts";
import { isDuration } from "./quantities.ts";
import { composeSchema, type Schema, type TypeName } from "./schema.ts";

/**
 * Checks a file against the format and says its most specific fault, in docker's words. Which fault
 * of several alternatives is told follows docker's own choice: that of the alternative with the best
 * score, where a check that passes counts one up and a fault two down.
 */
interface Fault {
  readonly kind: "type" | "one-of" | "other";
  readonly path: readonly string[];
  readonly text: string;
  /** What was wanted, of a fault of kind "type". */
  readonly wanted?: readonly TypeName[];
}

interface Outcome {
  readonly faults: Fault[];
  score: number;
}

interface Place {
  readonly path: readonly string[];
  readonly outcome: Outcome;
}

function newOutcome(): Outcome {
  return { faults: [], score: 0 };
}

function fault({ path, outcome }: Place, kind: Fault["kind"], text: string): void {
  outcome.faults.push({ kind, path, text });
  outcome.score -= 2;
}

function take(outcome: Outcome, other: Outcome): void {
  outcome.faults.push(...other.faults);
  outcome.score += other.score;
}

function typeOf(value: unknown): TypeName {
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  if (typeof value === "string") return "string";
  return typeof value === "boolean" ? "boolean" : "object";
}

function alone(schema: Schema, value: unknown, path: readonly string[]): Outcome {
  const outcome = newOutcome();
  check(schema, value, { path, outcome });
  return outcome;
}

function check(schema: Schema, value: unknown, place: Place): void {
  const given = typeOf(value);
  const { types } = schema;
  const fits =
    types === undefined ||
    types.includes(given) ||
    (given === "integer" && types.includes("number"));
  if (!fits) {
    const expected = types.length > 1 ? `[${types.join(",")}]` : types.join();
    const text = `Invalid type. Expected: ${expected}, given: ${given}`;
    place.outcome.faults.push({ kind: "type", path: place.path, text, wanted: types });
    place.outcome.score -= 2;
    return;
  }
  checkAlternatives(schema, value, place);
  if (Array.isArray(value)) checkArray(schema, value, place);
  if (isDict(value)) checkKeys(schema, value, place);
  if (typeof value === "number") checkNumber(schema, value, place);
  checkAllowed(schema, value, place);
  if (typeof value === "string") checkText(schema, value, place);
  if (isDict(value)) checkProperties(schema, value, place);
  place.outcome.score += 1;
}

function checkAlternatives(schema: Schema, value: unknown, place: Place): void {
  place.outcome.score += 1;
  if (schema.oneOf === undefined) return;
  let valid = 0;
  let best: Outcome | null = null;
  for (const one of schema.oneOf) {
    const tried = alone(one, value, place.path);
    if (tried.faults.length === 0) valid += 1;
    else if (valid === 0 && (best === null || tried.score > best.score)) best = tried;
  }
  if (valid === 1) return;
  fault(place, "one-of", "Must validate one and only one schema (oneOf)");
  if (valid === 0 && best !== null) take(place.outcome, best);
}

function checkArray(schema: Schema, items: readonly unknown[], place: Place): void {
  const { items: rule } = schema;
  if (rule !== undefined) {
    items.forEach((item, i) => {
      take(place.outcome, alone(rule, item, [...place.path, String(i)]));
    });
  }
  if (schema.unique === true) {
    const seen = new Map<string, number>();
    items.forEach((item, j) => {
      const text = JSON.stringify(item);
      const i = seen.get(text);
      if (i !== undefined) fault(place, "other", `array items[${i},${j}] must be unique`);
      seen.set(text, j);
    });
  }
  place.outcome.score += 1;
}

function checkKeys(schema: Schema, dict: Dict, place: Place): void {
  for (const key of schema.required ?? []) {
    if (key in dict) place.outcome.score += 1;
    else fault(place, "other", `${key} is required`);
  }
  for (const [key, value] of Object.entries(dict)) {
    const patterns = (schema.patterns ?? []).filter(([pattern]) => pattern.test(key));
    for (const [, rule] of patterns) {
      take(place.outcome, alone(rule, value, [...place.path, key]));
    }
    const known = schema.properties !== undefined && Object.hasOwn(schema.properties, key);
    if (patterns.length > 0) place.outcome.score += 1;
    else if (!known && schema.closed === true) {
      fault(place, "other", `Additional property ${key} is not allowed`);
    }
  }
  place.outcome.score += 1;
}

function checkProperties(schema: Schema, dict: Dict, place: Place): void {
  for (const [key, rule] of Object.entries(schema.properties ?? {})) {
    if (!Object.hasOwn(dict, key)) continue;
    check(rule, dict[key], { path: [...place.path, key], outcome: place.outcome });
  }
}

function checkNumber(schema: Schema, value: number, place: Place): void {
  if (schema.least !== undefined && value < schema.least) {
    fault(place, "other", `Must be greater than or equal to ${schema.least}`);
  }
  if (schema.format === "ports" && !isPorts(String(Math.trunc(value)))) {
    fault(place, "other", "Does not match format 'ports'");
  }
  place.outcome.score += 1;
}

function checkAllowed(schema: Schema, value: unknown, place: Place): void {
  const { allowed } = schema;
  if (allowed !== undefined && !allowed.some(one => one === value)) {
    const list = allowed.map(one => JSON.stringify(one)).join(", ");
    fault(place, "other", `${fieldOf(place.path)} must be one of the following: ${list}`);
  }
  place.outcome.score += 1;
}

function checkText(schema: Schema, text: string, place: Place): void {
  const { format } = schema;
  const fits = format === undefined || (format === "ports" ? isPorts(text) : isDuration(text));
  if (!fits) fault(place, "other", `Does not match format '${format}'`);
  place.outcome.score += 1;
}

function isPorts(text: string): boolean {
  try {
    parsePortMappings(text);
    return true;
  } catch {
    return false;
  }
}

function fieldOf(path: readonly string[]): string {
  return path.length === 0 ? "(root)" : path.join(".");
}

const HUMAN_NAMES: Readonly<Partial<Record<TypeName, string>>> = {
  object: "mapping",
  array: "list",
};

function humanNames(types: readonly TypeName[]): string {
  const names = types.map(type => HUMAN_NAMES[type] ?? type);
  const last = names.at(-1) ?? "";
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} or ${last}` : last;
}

/** The deepest fault wins, then one of type; of alternatives the next fault says what was near. */
function worst(faults: readonly Fault[]): string | null {
  const depth = (one: Fault): number => Math.max(1, one.path.join(".").split(".").length);
  let at = 0;
  faults.forEach((one, i) => {
    const held = faults[at] ?? one;
    const deeper = depth(one) > depth(held);
    const typed = depth(one) === depth(held) && one.kind === "type" && held.kind !== "type";
    if (deeper || typed) at = i;
  });
  const chosen = faults[at];
  if (chosen === undefined) return null;
  const field = fieldOf(chosen.path);
  if (chosen.wanted !== undefined) return `${field} must be a ${humanNames(chosen.wanted)}`;
  const near = chosen.kind === "one-of" ? faults[at + 1] : undefined;
  return `${field} ${(near ?? chosen).text}`;
}

/** Throws in docker's words when the file is not what the version of its format allows. */
export function validateFile(file: Dict, version: string): void {
  const schema = composeSchema(version);
  if (schema === undefined) throw composeError(`unsupported Compose file version: ${version}`);
  const message = worst(alone(schema, file, []).faults);
  if (message !== null) throw composeError(message);
}
