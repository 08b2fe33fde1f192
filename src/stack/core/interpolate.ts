import { type Dict, isDict } from "./dict.ts";
import { composeError, quoted } from "./errors.ts";

/** A variable of the caller's environment; undefined when it is not set. */
export type LookUp = (name: string) => string | undefined;

const NAME = "[_a-z][_a-z0-9]*(?::?[-?][^}]*)?";
const VARIABLE = new RegExp(`\\$(?:(\\$)|(${NAME})|\\{(${NAME})\\}|)`, "gi");

type Replaced = { readonly value: string } | { readonly invalid: string };

/** Docker tries the forms in this order, so a default's own `?` or `-` can be taken for another. */
function replaced(expression: string, lookUp: LookUp): Replaced {
  for (const mark of [":-", "-"]) {
    const at = expression.indexOf(mark);
    if (at < 0) continue;
    const value = lookUp(expression.slice(0, at));
    const missing = value === undefined || (mark === ":-" && value === "");
    return { value: missing ? expression.slice(at + mark.length) : value };
  }
  for (const mark of [":?", "?"]) {
    const at = expression.indexOf(mark);
    if (at < 0) continue;
    const name = expression.slice(0, at);
    const value = lookUp(name);
    if (value !== undefined && !(mark === ":?" && value === "")) return { value };
    const why = expression.slice(at + mark.length);
    return { invalid: `required variable ${name} is missing a value: ${why}` };
  }
  return { value: lookUp(expression) ?? "" };
}

function substitute(text: string, path: string, lookUp: LookUp): string {
  let invalid: string | null = null;
  const result = text.replace(
    VARIABLE,
    (_whole, escaped?: string, named?: string, braced?: string) => {
      if (escaped !== undefined) return escaped;
      const expression = named ?? braced;
      const outcome = expression === undefined ? { invalid: text } : replaced(expression, lookUp);
      if ("value" in outcome) return outcome.value;
      invalid = outcome.invalid;
      return "";
    },
  );
  if (invalid === null) return result;
  throw composeError(
    `invalid interpolation format for ${path}: ${quoted(invalid)}; ` +
      "you may need to escape any $ with another $",
  );
}

type Cast = (text: string) => unknown;

function toInt(text: string): number {
  if (/^[+-]?\d+$/.test(text)) return Number(text);
  throw composeError(`strconv.Atoi: parsing ${quoted(text)}: invalid syntax`);
}

function toFloat(text: string): number {
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) return Number(text);
  throw composeError(`strconv.ParseFloat: parsing ${quoted(text)}: invalid syntax`);
}

function toBoolean(text: string): boolean {
  const word = text.toLowerCase();
  if (["y", "yes", "true", "on"].includes(word)) return true;
  if (["n", "no", "false", "off"].includes(word)) return false;
  throw composeError(`invalid boolean: ${text}`);
}

/** What a variable's text becomes where the schema wants something else; `*` is any name. */
const CASTS: readonly (readonly [string, Cast])[] = [
  ["services.*.configs.[].mode", toInt],
  ["services.*.secrets.[].mode", toInt],
  ["services.*.healthcheck.retries", toInt],
  ["services.*.healthcheck.disable", toBoolean],
  ["services.*.deploy.replicas", toInt],
  ["services.*.deploy.update_config.parallelism", toInt],
  ["services.*.deploy.update_config.max_failure_ratio", toFloat],
  ["services.*.deploy.rollback_config.parallelism", toInt],
  ["services.*.deploy.rollback_config.max_failure_ratio", toFloat],
  ["services.*.deploy.restart_policy.max_attempts", toInt],
  ["services.*.deploy.placement.max_replicas_per_node", toInt],
  ["services.*.ports.[].target", toInt],
  ["services.*.ports.[].published", toInt],
  ["services.*.ulimits.*", toInt],
  ["services.*.ulimits.*.hard", toInt],
  ["services.*.ulimits.*.soft", toInt],
  ["services.*.privileged", toBoolean],
  ["services.*.oom_score_adj", toInt],
  ["services.*.read_only", toBoolean],
  ["services.*.stdin_open", toBoolean],
  ["services.*.tty", toBoolean],
  ["services.*.volumes.[].read_only", toBoolean],
  ["services.*.volumes.[].volume.nocopy", toBoolean],
  ["networks.*.external", toBoolean],
  ["networks.*.internal", toBoolean],
  ["networks.*.attachable", toBoolean],
  ["volumes.*.external", toBoolean],
  ["secrets.*.external", toBoolean],
  ["configs.*.external", toBoolean],
];

function castOf(path: string): Cast | undefined {
  const parts = path.split(".");
  return CASTS.find(([pattern]) => {
    const wanted = pattern.split(".");
    return (
      wanted.length === parts.length && wanted.every((part, i) => part === "*" || part === parts[i])
    );
  })?.[1];
}

function interpolateText(text: string, path: string, lookUp: LookUp): unknown {
  const value = substitute(text, path, lookUp);
  const cast = value === text ? undefined : castOf(path);
  if (cast === undefined) return value;
  try {
    return cast(value);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw composeError(
      `error while interpolating ${path}: failed to cast to expected type: ${why}`,
    );
  }
}

function interpolateValue(value: unknown, path: string, lookUp: LookUp): unknown {
  if (typeof value === "string") return interpolateText(value, path, lookUp);
  if (Array.isArray(value)) return value.map(one => interpolateValue(one, `${path}.[]`, lookUp));
  if (!isDict(value)) return value;
  const entries = Object.entries(value).map(([key, one]): [string, unknown] => [
    key,
    interpolateValue(one, `${path}.${key}`, lookUp),
  ]);
  return Object.fromEntries(entries);
}

/**
 * Fills the variables of all values in, not of keys: $V, ${V}, ${V:-d}, ${V-d}, ${V:?why}, ${V?why},
 * $$ for a dollar. A value that changes is read as what its place wants (a number, a boolean).
 */
export function interpolate(file: Dict, lookUp: LookUp): Dict {
  const entries = Object.entries(file).map(([key, value]): [string, unknown] => [
    key,
    interpolateValue(value, key, lookUp),
  ]);
  return Object.fromEntries(entries);
}
