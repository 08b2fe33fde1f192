import type { Node } from "../../model/rows.ts";
import type { ServiceSpec } from "../../model/service-spec.ts";
import type { StateView } from "../../model/view.ts";
import {
  type Constraint,
  matchesConstraints,
  parseConstraints,
} from "../../scheduler/core/constraint.ts";

/** Tasks may stay on the node. A node that a new leader has not heard of yet ("unknown") may. */
export function keepsTasks(node: Node | undefined): boolean {
  return node !== undefined && node.status.state !== "down" && node.spec.Availability !== "drain";
}

/** What runs on the node is out of reach: nobody can wait for it to stop. */
export function isGone(node: Node | undefined): boolean {
  return node === undefined || node.status.state === "down";
}

/** The constraints of a validated spec; null when they cannot be read, which no node satisfies. */
export function constraintsOf(spec: ServiceSpec): readonly Constraint[] | null {
  const expressions = spec.TaskTemplate?.Placement?.Constraints ?? [];
  if (expressions.length === 0) return [];
  try {
    return parseConstraints(expressions);
  } catch {
    return null;
  }
}

export function nodeFits(constraints: readonly Constraint[] | null, node: Node): boolean {
  return constraints !== null && matchesConstraints(constraints, node);
}

export function nodeOf(view: StateView, nodeId: string): Node | undefined {
  return nodeId === "" ? undefined : view.table("nodes").get(nodeId);
}
