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
export const NODE_LABEL_PREFIX = "node.labels.";
export const ENGINE_LABEL_PREFIX = "engine.labels.";

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
  return constraints.every(constraint => matchesConstraint(constraint, node));
}

/** Keys that name one value of a node. */
const FIXED_KEYS: ReadonlyMap<string, (node: Node) => string> = new Map([
  ["node.id", node => node.id],
  ["node.hostname", node => node.description?.hostname ?? ""],
  ["node.role", node => node.certRole],
  ["node.platform.os", node => node.description?.os ?? ""],
  ["node.platform.arch", node => node.description?.architecture ?? ""],
]);

function matchesConstraint(constraint: Constraint, node: Node): boolean {
  const key = constraint.key.toLowerCase();
  if (key === "node.ip") return matchesAddress(constraint, node.status.addr);
  const actual = actualValue(constraint.key, key, node);
  if (actual === null) return false;
  const equal = actual.toLowerCase() === constraint.value.toLowerCase();
  return equal === (constraint.operator === "==");
}

function actualValue(key: string, lowerKey: string, node: Node): string | null {
  const fixed = FIXED_KEYS.get(lowerKey);
  if (fixed !== undefined) return fixed(node);
  if (isLabelKey(lowerKey, NODE_LABEL_PREFIX)) {
    return labelOf(node.spec.Labels, key.slice(NODE_LABEL_PREFIX.length));
  }
  if (isLabelKey(lowerKey, ENGINE_LABEL_PREFIX)) {
    return labelOf(node.description?.engineLabels, key.slice(ENGINE_LABEL_PREFIX.length));
  }
  return null;
}

function isLabelKey(lowerKey: string, prefix: string): boolean {
  return lowerKey.startsWith(prefix) && lowerKey.length > prefix.length;
}

/** The value of a label, empty when absent. */
export function labelOf(labels: Labels | undefined, label: string): string {
  if (labels === undefined || !Object.hasOwn(labels, label)) return "";
  return labels[label] ?? "";
}

/** `node.ip` against an address or a CIDR; a value that is neither is never satisfied. */
function matchesAddress(constraint: Constraint, nodeAddress: string): boolean {
  const actual = parseHostIp(nodeAddress);
  const wantEqual = constraint.operator === "==";
  const address = parseIp(constraint.value);
  if (address !== null) return (actual === address) === wantEqual;
  const network = parseCidr(constraint.value);
  if (network === null) return false;
  return (actual !== null && networkContains(network, actual)) === wantEqual;
}
