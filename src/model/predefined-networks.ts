/**
 * Networks that every Engine has and services may name. In specs they stand under their names;
 * clients see ids, as swarm mode gives them one in its state. The ids are the same everywhere.
 */
const IDS: ReadonlyMap<string, string> = new Map([
  ["bridge", "0predefinednetworkbridge0"],
  ["host", "0predefinednetworkhost000"],
  ["none", "0predefinednetworknone000"],
]);
const NAMES: ReadonlyMap<string, string> = new Map([...IDS].map(([name, id]) => [id, name]));

/** The name, for a name or an id; null when it is no such network. */
export function predefinedName(ref: string): string | null {
  return IDS.has(ref) ? ref : (NAMES.get(ref) ?? null);
}

/** What clients see of an attachment's target. */
export function shownTarget(target: string): string {
  return IDS.get(target) ?? target;
}
