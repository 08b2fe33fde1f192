import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseAllDocuments,
  Scalar,
  type YAMLMap,
} from "yaml";
import { type Dict, isDict } from "./core/dict.ts";
import { composeError } from "./core/errors.ts";
import { plainScalar } from "./yaml-scalar.ts";

/** Nodes of one file with its aliases unfolded; beyond that it is an attack or a mistake. */
const MAX_NODES = 200_000;

interface Reading {
  readonly document: Document;
  readonly lines: LineCounter;
  nodes: number;
}

function lineOf(reading: Reading, node: unknown): number {
  const range = (node as Node | null)?.range;
  return range === null || range === undefined ? 0 : reading.lines.linePos(range[0]).line;
}

function readNode(node: unknown, reading: Reading): unknown {
  reading.nodes += 1;
  if (reading.nodes > MAX_NODES) {
    throw composeError("yaml: document contains excessive aliasing");
  }
  if (isAlias(node)) {
    const target = node.resolve(reading.document);
    if (target === undefined)
      throw composeError(`yaml: unknown anchor '${node.source}' referenced`);
    return readNode(target, reading);
  }
  if (isMap(node)) return mappingOf(node, reading);
  if (isSeq(node)) return node.items.map(item => readNode(item, reading));
  return isScalar(node) ? scalarOf(node) : null;
}

function scalarOf(node: Scalar): unknown {
  const text = node.source ?? String(node.value ?? "");
  const isPlain = node.type === undefined || node.type === Scalar.PLAIN;
  if (node.tag === "tag:yaml.org,2002:str" || node.tag === "!") return text;
  if (isPlain || node.tag !== undefined) return plainScalar(text);
  return text;
}

function keyOf(pair: Pair, reading: Reading): string {
  const { key } = pair;
  const value = isScalar(key) ? scalarOf(key) : readNode(key, reading);
  if (typeof value === "string") return value;
  const shown = isScalar(key) ? (key.source ?? "") : "a list or mapping";
  throw composeError(
    `yaml: line ${lineOf(reading, key)}: the key ${shown} is not a string: put it in quotes`,
  );
}

function isMerge(pair: Pair): boolean {
  const { key } = pair;
  return isScalar(key) && key.source === "<<" && (key.type ?? Scalar.PLAIN) === Scalar.PLAIN;
}

/** `<<` takes another mapping's keys, or those of several, where the mapping has none itself. */
function mappingOf(node: YAMLMap, reading: Reading): Dict {
  const own = new Map<string, unknown>();
  const places = new Map<string, number>();
  const merged: Dict[] = [];
  for (const pair of node.items) {
    if (isMerge(pair)) {
      merged.push(...mergedOf(readNode(pair.value, reading)));
      continue;
    }
    const key = keyOf(pair, reading);
    const line = lineOf(reading, pair.key);
    const earlier = places.get(key);
    if (earlier !== undefined) {
      throw composeError(
        `yaml: unmarshal errors:\n  line ${line}: ` +
          `mapping key ${JSON.stringify(key)} already defined at line ${earlier}`,
      );
    }
    places.set(key, line);
    own.set(key, readNode(pair.value, reading));
  }
  return { ...Object.assign({}, ...merged.reverse()), ...Object.fromEntries(own) };
}

function mergedOf(value: unknown): Dict[] {
  const values = Array.isArray(value) ? value : [value];
  if (values.every(isDict)) return values;
  throw composeError("yaml: map merge requires map or sequence of maps as the value");
}

/** Words of docker's reader for faults that both readers tell in the same place. */
const WORDS: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: "found character that cannot start any token",
  BLOCK_AS_IMPLICIT_KEY: "mapping values are not allowed in this context",
  MULTILINE_IMPLICIT_KEY: "could not find expected ':'",
  BAD_SCALAR_START: "found character that cannot start any token",
  BAD_INDENT: "did not find expected key",
};

/**
 * The mapping of a compose file, as docker reads YAML. Throws invalid_argument with the line of the
 * fault.
 */
export function readYaml(text: string): Dict {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text.replace(/^\ufeff/, ""), {
    schema: "failsafe",
    uniqueKeys: false,
    lineCounter: lines,
    prettyErrors: false,
    logLevel: "silent",
  });
  const [document] = Array.isArray(documents) ? documents : [];
  const [fault] = document?.errors ?? [];
  if (fault !== undefined) {
    const { line } = lines.linePos(fault.pos[0]);
    throw composeError(`yaml: line ${line}: ${WORDS[fault.code] ?? fault.message}`);
  }
  const reading = document === undefined ? null : { document, lines, nodes: 0 };
  const value = reading === null ? null : readNode(reading.document.contents, reading);
  if (!isDict(value)) throw composeError("top-level object must be a mapping");
  return value;
}
