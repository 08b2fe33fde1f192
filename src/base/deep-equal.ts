/** Equality of JSON values; a field that is undefined equals one that is absent. */
export function deepEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item, i) => deepEqual(item, b[i]));
  }
  return equalFields(new Map(Object.entries(a)), new Map(Object.entries(b)));
}

function equalFields(a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): boolean {
  for (const [key, value] of a) if (!deepEqual(value, b.get(key))) return false;
  for (const [key, value] of b) if (value !== undefined && !a.has(key)) return false;
  return true;
}
