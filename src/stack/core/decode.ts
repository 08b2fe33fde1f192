import { byText, type Dict, dictOf, isDict, textOf } from "./dict.ts";
import { composeError } from "./errors.ts";
import { expandPorts } from "./ports.ts";
import { parseDuration, parseSize, shortFloat32 } from "./quantities.ts";
import { type Kind, type Leaf, PORT_SHAPE, type Shape } from "./shapes.ts";
import { splitShell } from "./shell-words.ts";
import { parseVolume } from "./volume-spec.ts";

/** Reads the short and long forms of a file, already validated, into the one form of the model. */
export interface DecodeDeps {
  warn(line: string): void;
}

interface Place {
  /** The structure's fields from the service down, for errors: "deploy.resources". */
  readonly name: string;
  readonly deps: DecodeDeps;
}

type LeafDecoder = (value: unknown, place: Place) => unknown;

const LEAVES: Readonly<Record<Leaf, LeafDecoder>> = {
  text: textLeaf,
  boolean: value => value === true,
  integer: value => (typeof value === "number" ? Math.trunc(value) : 0),
  count: (value, { name }) => countLeaf(value, name),
  float32: value => (typeof value === "number" ? shortFloat32(value) : 0),
  duration: (value, { name }) => named(name, () => parseDuration(textOf(value))),
  bytes: (value, { name }) =>
    typeof value === "number" ? value : named(name, () => parseSize(textOf(value))),
  command: (value, { name }) =>
    typeof value === "string" ? named(name, () => splitShell(value)) : value,
  "text-or-list": value => (typeof value === "string" ? [value] : value),
  texts: value => value,
  "number-texts": value => (Array.isArray(value) ? value.map(textOf) : []),
  "health-test": value => (typeof value === "string" ? ["CMD-SHELL", value] : value),
  "text-map": value => textMap(dictOf(value)),
  labels: value => pairs(value, ""),
  environment: value => pairs(value, null),
  hosts: hostsLeaf,
  ulimit: value => value,
  external: value => (isDict(value) ? { external: true, name: value["name"] ?? "" } : value),
  ports: (value, { name, deps }) => named(name, () => portsLeaf(value, deps)),
};

/** Only shm_size may be a number here; docker's decoder refuses it as we do. */
function textLeaf(value: unknown, { name }: Place): string {
  if (typeof value === "string") return value;
  const type = Number.isInteger(value) ? "int" : "float64";
  throw composeError(
    `decoding failed due to the following error(s):\n\n'${name}' expected type 'string', ` +
      `got unconvertible type '${type}', value: '${textOf(value)}'`,
  );
}

function named<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw composeError(
      `decoding failed due to the following error(s):\n\nerror decoding '${name}': ${why}`,
    );
  }
}

function countLeaf(value: unknown, name: string): number {
  const count = typeof value === "number" ? Math.trunc(value) : 0;
  if (count >= 0) return count;
  const shown = Number.isInteger(value) ? String(value) : Number(value).toFixed(6);
  throw composeError(
    "decoding failed due to the following error(s):\n\n" +
      `cannot parse '${name}', ${shown} overflows uint`,
  );
}

function textMap(dict: Dict): Record<string, string> {
  const entries = Object.entries(dict).map(([key, value]): [string, string] => [
    key,
    value === null ? "" : textOf(value),
  ]);
  return Object.fromEntries(entries);
}

/** `missing` stands for a name without a value. */
function pairs(value: unknown, missing: "" | null): Record<string, string | null> {
  if (isDict(value)) {
    const entries = Object.entries(value).map(([key, one]): [string, string | null] => [
      key,
      one === null ? missing : textOf(one),
    ]);
    return Object.fromEntries(entries);
  }
  const result: Record<string, string | null> = {};
  for (const word of Array.isArray(value) ? value.map(textOf) : []) {
    const at = word.indexOf("=");
    result[at < 0 ? word : word.slice(0, at)] = at < 0 ? missing : word.slice(at + 1);
  }
  return result;
}

/** HOST:ADDRESS each, of a mapping in the order of its text; an address loses its brackets. */
function hostsLeaf(value: unknown): string[] {
  const words = isDict(value)
    ? Object.entries(value)
        .filter(([, address]) => address !== null)
        .map(([host, address]) => `${host}:${textOf(address)}`)
        .sort(byText)
    : (Array.isArray(value) ? value : []).map(textOf).flatMap(hostPair);
  return words.map(word => word.replace(/^([^:]*):\[(.+)\]$/, "$1:$2"));
}

function hostPair(word: string): string[] {
  const at = word.includes("=") ? word.indexOf("=") : word.indexOf(":");
  return at < 0 ? [] : [`${word.slice(0, at)}:${word.slice(at + 1)}`];
}

function portsLeaf(value: unknown, deps: DecodeDeps): unknown {
  const entries = Array.isArray(value) ? value : [];
  return entries.flatMap(entry =>
    isDict(entry)
      ? [decode(PORT_SHAPE, entry, { name: "ports", deps })]
      : expandPorts(textOf(entry), line => deps.warn(line)),
  );
}

/** Keys that docker's structures name themselves, though they are one word. */
const TAGGED: ReadonlySet<string> = new Set(["cpus", "memory", "pids", "tty", "nocopy", "subpath"]);

/** What docker's decoder calls a key when it cannot be read. */
function goName(key: string): string {
  if (key === "healthcheck") return "HealthCheck";
  if (key.includes("_") || TAGGED.has(key)) return key;
  return key.slice(0, 1).toUpperCase() + key.slice(1);
}

function decodeStruct(shape: Shape, value: unknown, place: Place): Dict {
  if (shape.shortVolume === true && typeof value === "string") {
    return named(place.name, () => ({ ...parseVolume(value) }));
  }
  const isShort = shape.short !== undefined && typeof value === "string";
  const dict = isShort ? { [shape.short]: value } : dictOf(value);
  const result: Record<string, unknown> = {};
  for (const [key, kind] of shape.fields) {
    const field = dict[key];
    if (field === undefined || field === null) continue;
    const own = goName(key);
    const name = place.name === "" ? own : `${place.name}.${own}`;
    result[key] = decode(kind, field, { ...place, name });
  }
  return result;
}

function decodeMap(kind: Kind & { is: "map" }, value: unknown, place: Place): Dict {
  const dict = Array.isArray(value)
    ? Object.fromEntries(value.map(name => [textOf(name), null]))
    : dictOf(value);
  const entries = Object.entries(dict).map(([key, one]): [string, unknown] => [
    key,
    one === null ? null : decode(kind.of, one, { ...place, name: `${place.name}[${key}]` }),
  ]);
  return Object.fromEntries(entries);
}

function decode(kind: Kind, value: unknown, place: Place): unknown {
  if (kind.is === "struct") return decodeStruct(kind, value, place);
  if (kind.is === "map") return decodeMap(kind, value, place);
  if (kind.is === "list") {
    const items = Array.isArray(value) ? value : [];
    return items.map((item, i) => decode(kind.of, item, { ...place, name: `${place.name}[${i}]` }));
  }
  return LEAVES[kind.is](value, place);
}

/** Keys that the user keeps for himself: x-…. */
export function extrasOf(dict: Dict): Record<string, unknown> {
  return Object.fromEntries(Object.entries(dict).filter(([key]) => key.startsWith("x-")));
}

/** Throws when a value is of the right form but cannot be read (a size, a port). */
export function decodeShape(shape: Shape, value: unknown, deps: DecodeDeps): Dict {
  return decodeStruct(shape, value, { name: "", deps });
}
