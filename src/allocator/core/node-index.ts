import type { RowEvent } from "../../model/change.ts";
import { EMPTY_PLAN, type Plan, type PlanContext, type Planner } from "../../model/planner.ts";
import type { Node } from "../../model/rows.ts";
import type { StateView } from "../../model/view.ts";

/** Indexes are part of link-local addresses (overlay/core/names) and of routing tables' numbers. */
export const MAX_OVERLAY_INDEX = 15_000;
const RETRY_MS = 30_000;

/**
 * Gives each node the smallest free index, by which the hosts' data paths name one another. A
 * node keeps its own for as long as it is in the cluster. Keys are node ids; plans read each
 * other's indexes, so one follows the other.
 */
export const nodeIndexPlanner: Planner = {
  name: "node-index-allocator",
  keysOf: (event: RowEvent, view: StateView) => {
    if (event.table !== "nodes") return [];
    if (event.after === null) return idsOf(unnamed(view));
    return event.after.overlayIndex === undefined ? [event.id] : [];
  },
  allKeys: (view: StateView) => idsOf(unnamed(view)),
  plan,
};

function plan(view: StateView, key: string, ctx: PlanContext): Plan {
  const node = view.table("nodes").get(key);
  if (node === undefined || node.overlayIndex !== undefined) return EMPTY_PLAN;
  const overlayIndex = smallestFree(view);
  if (overlayIndex === null) {
    const text = `no free data path index: all ${MAX_OVERLAY_INDEX} are taken`;
    return {
      changes: [],
      wakeAtMs: ctx.nowMs + RETRY_MS,
      notes: [{ kind: "node", id: key, text }],
    };
  }
  const fields = { overlayIndex };
  return {
    changes: [{ op: "patch", table: "nodes", id: key, fields }],
    wakeAtMs: null,
    notes: [],
  };
}

function smallestFree(view: StateView): number | null {
  const taken = new Set([...view.table("nodes").all()].map(node => node.overlayIndex));
  for (let index = 1; index <= MAX_OVERLAY_INDEX; index += 1) if (!taken.has(index)) return index;
  return null;
}

function unnamed(view: StateView): Node[] {
  return [...view.table("nodes").all()].filter(node => node.overlayIndex === undefined);
}

function idsOf(nodes: readonly Node[]): string[] {
  return nodes.map(node => node.id);
}
