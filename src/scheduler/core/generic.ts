import type { GenericResourceSpec } from "../../model/service-spec.ts";

/**
 * What is left of a node's generic resources of one kind: named ones (GPU-1, GPU-2) or a discrete
 * amount. A node declares a kind in one of the two ways.
 */
export interface GenericSupply {
  readonly named: readonly string[];
  readonly discrete: number;
}

/** By kind. */
export type GenericPool = ReadonlyMap<string, GenericSupply>;

const NOTHING: GenericSupply = { named: [], discrete: 0 };

/** The pool that a node's description declares, or that a task holds. */
export function genericPool(resources: readonly GenericResourceSpec[]): GenericPool {
  const pool = new Map<string, GenericSupply>();
  for (const { NamedResourceSpec: named, DiscreteResourceSpec: discrete } of resources) {
    const kind = named?.Kind ?? discrete?.Kind ?? "";
    const supply = pool.get(kind) ?? NOTHING;
    pool.set(kind, {
      named: named?.Value === undefined ? supply.named : [...supply.named, named.Value],
      discrete: supply.discrete + (discrete?.Value ?? 0),
    });
  }
  return pool;
}

/** How many of a kind can be claimed. */
export function genericAvailable(pool: GenericPool, kind: string): number {
  const supply = pool.get(kind) ?? NOTHING;
  return supply.named.length > 0 ? supply.named.length : supply.discrete;
}

/**
 * The resources a task gets for a request of so many of each kind. The request must have been
 * checked against genericAvailable. Named ones are taken in the node's order.
 */
export function claimGeneric(
  pool: GenericPool,
  wanted: ReadonlyMap<string, number>,
): readonly GenericResourceSpec[] {
  const claimed: GenericResourceSpec[] = [];
  for (const [kind, count] of wanted) {
    const named = pool.get(kind)?.named ?? [];
    if (named.length > 0) {
      for (const value of named.slice(0, count)) {
        claimed.push({ NamedResourceSpec: { Kind: kind, Value: value } });
      }
    } else if (count > 0) {
      claimed.push({ DiscreteResourceSpec: { Kind: kind, Value: count } });
    }
  }
  return claimed;
}

/**
 * The pool without what a task holds. A name the node no longer declares takes nothing away: the
 * node was reconfigured since.
 */
export function consumeGeneric(
  pool: GenericPool,
  held: readonly GenericResourceSpec[],
): GenericPool {
  if (held.length === 0) return pool;
  const left = new Map(pool);
  for (const [kind, taken] of genericPool(held)) {
    const supply = left.get(kind);
    if (supply === undefined) continue;
    const names = new Set(taken.named);
    left.set(kind, {
      named: supply.named.filter(name => !names.has(name)),
      discrete: Math.max(0, supply.discrete - taken.discrete),
    });
  }
  return left;
}
