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

const EMPTY_POOL: GenericPool = new Map();
const NOTHING: GenericSupply = { named: [], discrete: 0 };

/** The pool that a node's description declares, or that a task holds. */
export function genericPool(resources: readonly GenericResourceSpec[]): GenericPool {
  if (resources.length === 0) return EMPTY_POOL;
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

/** What a task asks of one kind: so many of any, and these by name. */
export interface GenericWish {
  readonly count: number;
  readonly named: readonly string[];
}

/** By kind. */
export type GenericDemand = ReadonlyMap<string, GenericWish>;

/** How many of a kind can be claimed, besides those that are asked for by name. */
export function genericAvailable(pool: GenericPool, kind: string, wish: GenericWish): number {
  const supply = pool.get(kind) ?? NOTHING;
  if (supply.named.length === 0) return supply.discrete;
  return othersOf(supply, wish).length;
}

function othersOf(supply: GenericSupply, wish: GenericWish): readonly string[] {
  return supply.named.filter(name => !wish.named.includes(name));
}

/** Whether the node has that one to give. */
export function hasNamed(pool: GenericPool, kind: string, name: string): boolean {
  return (pool.get(kind) ?? NOTHING).named.includes(name);
}

export function hasGeneric(pool: GenericPool, wanted: GenericDemand): boolean {
  for (const [kind, wish] of wanted) {
    if (wish.count > genericAvailable(pool, kind, wish)) return false;
    if (!wish.named.every(name => hasNamed(pool, kind, name))) return false;
  }
  return true;
}

/**
 * The resources a task gets for a request that the pool can meet (hasGeneric). Those that may be
 * any are taken in the node's order.
 */
export function claimGeneric(
  pool: GenericPool,
  wanted: GenericDemand,
): readonly GenericResourceSpec[] {
  const claimed: GenericResourceSpec[] = [];
  for (const [kind, wish] of wanted) {
    const supply = pool.get(kind) ?? NOTHING;
    const others = othersOf(supply, wish).slice(0, wish.count);
    for (const name of [...wish.named, ...others]) {
      claimed.push({ NamedResourceSpec: { Kind: kind, Value: name } });
    }
    if (supply.named.length === 0 && wish.count > 0) {
      claimed.push({ DiscreteResourceSpec: { Kind: kind, Value: wish.count } });
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
