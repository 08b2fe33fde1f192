import type { IdSource } from "../base/ids.ts";
import type { Change, RowEvent } from "./change.ts";
import type { StateView } from "./view.ts";

/** Why a plan is as it is, in words for the user; it reaches the log and the events. */
export interface PlanNote {
  readonly kind: "service" | "task" | "node" | "network";
  readonly id: string;
  readonly text: string;
}

/**
 * A decision as data. `changes` may be longer than one transaction: the loop splits them in order,
 * so every prefix must be a state from which planning again leads to the same end. "Later" is
 * `wakeAtMs` (epoch milliseconds, the leader's clock), never a timer; null = only on a change.
 */
export interface Plan {
  readonly changes: readonly Change[];
  readonly wakeAtMs: number | null;
  readonly notes: readonly PlanNote[];
}

export const EMPTY_PLAN: Plan = { changes: [], wakeAtMs: null, notes: [] };

export interface PlanContext {
  readonly nowMs: number;
  readonly ids: IdSource;
}

/**
 * A pure part of the orchestrator. A key names what is planned in one go (a service id, a node id);
 * planning is idempotent: planning again after applying a plan at the same time yields no change.
 * Nothing is remembered between calls, so a new leader carries on where the old one stopped.
 */
export interface Planner {
  readonly name: string;
  /**
   * True when no plan reads what the plan of another key writes: the loop then plans many keys
   * before it submits. Otherwise each plan is in the state before the next key is planned.
   */
  readonly keysAreIndependent?: boolean;
  /**
   * True when each change of a plan is right whether or not the others are made: the loop then does
   * not wait for the first part of a long plan before it submits the next.
   */
  readonly changesAreIndependent?: boolean;
  /** The keys that a change of a row makes dirty; `view` is the state after the commit. */
  keysOf(event: RowEvent, view: StateView): Iterable<string>;
  /** Every key there is; planned when leadership is gained. */
  allKeys(view: StateView): Iterable<string>;
  /** Reads `view` synchronously. A key that has gone gives an empty plan. */
  plan(view: StateView, key: string, ctx: PlanContext): Plan;
}

/** The earlier of two wake-up times. */
export function earliest(a: number | null, b: number | null): number | null {
  if (a === null) return b;
  if (b === null) return a;
  return Math.min(a, b);
}
