import { SwarmError } from "../base/errors.ts";
import { networkContains, parseCidr, parseHostIp, parseIp } from "./ip.ts";
import type { Node } from "./rows.ts";
import type { Labels } from "./service-spec.ts";

/** One placement constraint: `key == value` or `key != value`. */
export interface Constraint {
  readonly key: string;
  readonly operator: "==" | "!=";
  readonly value: string;
}

const OPERATORS = ["==", "!="] as const;
const KEY_PATTERN = /^[a-z_][a-z0-9\-_.]+$/i;
/** Leaves room for operators such as `>` and `~`, as swarm mode does. */
const VALUE_PATTERN = /^[a-z0-9:\-_ \t\n\f\r.*()?+[\]\\^$|/]+$/i;
const NODE_LABEL_PREFIX = "node.labels.";
const ENGINE_LABEL_PREFIX = "engine.labels.";

/**
 * Reads placement constraints (Docker's `Placement.Constraints`), spaces around key and value
 * ignored. Throws invalid_argument with swarm mode's text for the first that is wrong.
 */
export function parseConstraints(expressions: readonly string[]): Constraint[] {
  return expressions.map(parseConstraint);
}

function parseConstraint(expression: string): Constraint {
  const operator = OPERATORS.find(candidate => expression.includes(candidate));
  if (operator === undefined) {
    throw invalid(`constraint expected one operator from ${OPERATORS.join(", ")}`);
  }
  const at = expression.indexOf(operator);
  const key = expression.slice(0, at).trim();
  const value = expression.slice(at + operator.length).trim();
  if (!KEY_PATTERN.test(key)) {
    throw invalid(`key '${key}' is invalid`);
  }
  if (!VALUE_PATTERN.test(value)) {
    throw invalid(`value '${value}' is invalid`);
  }
  return { key, operator, value };
}

/** Swarm mode answers a bad constraint with a plain error: gRPC Unknown, HTTP 500. */
function invalid(message: string): SwarmError {
  return new SwarmError("invalid_argument", message, { rpc: "Unknown" });
}

/**
 * Whether the node satisfies every constraint. Values compare without regard to case, label keys
 * with; an absent label or description counts as an empty value; a key that swarm mode does not
 * know is never satisfied, whatever the operator.
 */
export function matchesConstraints(constraints: readonly Constraint[], node: Node): boolean {
  return constraints.every(constraint => compileConstraint(constraint)(node));
}

/** The constraint as a test, for one that is held against many nodes. */
export function compileConstraint(constraint: Constraint): (node: Node) => boolean {
  const wantEqual = constraint.operator === "==";
  if (constraint.key.toLowerCase() === "node.ip")
    return compileAddress(constraint.value, wantEqual);
  const read = readerOf(constraint.key);
  if (read === null) return () => false;
  const wanted = constraint.value.toLowerCase();
  return node => (read(node).toLowerCase() === wanted) === wantEqual;
}

/** Keys that name one value of a node. */
const FIXED_KEYS: ReadonlyMap<string, (node: Node) => string> = new Map([
  ["node.id", node => node.id],
  ["node.hostname", node => node.description?.hostname ?? ""],
  ["node.role", node => node.certRole],
  ["node.platform.os", node => node.description?.os ?? ""],
  ["node.platform.arch", node => node.description?.architecture ?? ""],
]);

/** How to read what a key names; null when swarm mode does not know the key. */
function readerOf(key: string): ((node: Node) => string) | null {
  const lowerKey = key.toLowerCase();
  const fixed = FIXED_KEYS.get(lowerKey);
  if (fixed !== undefined) return fixed;
  return labelReader(key);
}

/** Reads `node.labels.X` and `engine.labels.X`; null for anything else. */
export function labelReader(key: string): ((node: Node) => string) | null {
  const lowerKey = key.toLowerCase();
  if (isLabelKey(lowerKey, NODE_LABEL_PREFIX)) {
    const label = key.slice(NODE_LABEL_PREFIX.length);
    return node => labelOf(node.spec.Labels, label);
  }
  if (isLabelKey(lowerKey, ENGINE_LABEL_PREFIX)) {
    const label = key.slice(ENGINE_LABEL_PREFIX.length);
    return node => labelOf(node.description?.engineLabels, label);
  }
  return null;
}

function isLabelKey(lowerKey: string, prefix: string): boolean {
  return lowerKey.startsWith(prefix) && lowerKey.length > prefix.length;
}

/** The value of a label, empty when absent. */
function labelOf(labels: Labels | undefined, label: string): string {
  if (labels === undefined || !Object.hasOwn(labels, label)) return "";
  return labels[label] ?? "";
}

/** `node.ip` against an address or a CIDR; a value that is neither is never satisfied. */
function compileAddress(value: string, wantEqual: boolean): (node: Node) => boolean {
  const address = parseIp(value);
  if (address !== null) return node => (parseHostIp(node.status.addr) === address) === wantEqual;
  const network = parseCidr(value);
  if (network === null) return () => false;
  return node => {
    const actual = parseHostIp(node.status.addr);
    return (actual !== null && networkContains(network, actual)) === wantEqual;
  };
}
