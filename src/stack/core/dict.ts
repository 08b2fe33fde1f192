/** A mapping of a compose file. */
export type Dict = Readonly<Record<string, unknown>>;

export function isDict(value: unknown): value is Dict {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The mapping, or an empty one where the file has something else or nothing. */
export function dictOf(value: unknown): Dict {
  return isDict(value) ? value : {};
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The order of Go's sort.Strings: by code unit, whatever the language. */
export function byText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

export function sortedEntries(dict: Dict): [string, unknown][] {
  return Object.entries(dict).sort(([a], [b]) => byText(a, b));
}

/** A scalar as Go's fmt.Sprint writes it. */
export function textOf(value: unknown): string {
  if (value === null || value === undefined) return "<nil>";
  return typeof value === "number" ? goNumber(value, SPRINT_DIGITS) : String(value);
}

const SPRINT_DIGITS = 21;
const SMALLEST_PLAIN = 1e-4;

/** A number as Go writes it: with an exponent from 10^`digits` on, and below 0.0001. */
export function goNumber(value: number, digits: number): string {
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 10 ** SPRINT_DIGITS) return String(value);
  if (size >= SMALLEST_PLAIN && size < 10 ** digits) return String(value);
  return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
}
