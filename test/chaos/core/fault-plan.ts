import { type Rng, randomFloat, randomInt } from "../../../src/base/rng.ts";
import { type Blow, FAULT_KINDS, type FaultKind } from "./history.ts";

/**
 * Chooses the next fault. Kinds come from a shuffled bag, so a short run meets them all. Managers
 * are touched one at a time, so that a quorum stays; only `quorum-loss` takes more, for a bounded
 * time and not often.
 */

export interface Fault {
  readonly kind: FaultKind;
  readonly blows: readonly Blow[];
  /** From when it is in force until its repair. */
  readonly holdMs: number;
}

export interface Situation {
  readonly nowMs: number;
  readonly managers: readonly string[];
  readonly workers: readonly string[];
  /** Null while nobody is known to lead. */
  readonly leader: string | null;
  readonly active: readonly Pick<Fault, "kind" | "blows">[];
  /** Managers that do not know a leader yet, or do not answer: they are left alone. */
  readonly recovering: readonly string[];
  /** When the last quorum loss was repaired; null = never one. */
  readonly quorumBackMs: number | null;
}

export const MAX_ACTIVE_FAULTS = 2;
/** Between the end of a quorum loss and the next. */
export const QUORUM_LOSS_EVERY_MS = 45_000;
export const MAX_QUORUM_LOSS_MS = 14_000;

interface Hold {
  readonly fromMs: number;
  readonly toMs: number;
}

/**
 * A node silent for its grace (10 s) is replaced. Faults of a node are clearly shorter or clearly
 * longer, so that it is known which of them may do that.
 */
const SHORT: Hold = { fromMs: 500, toMs: 4_000 };
const LONG: Hold = { fromMs: 15_000, toMs: 20_000 };
const PAUSES: readonly Hold[] = [
  { fromMs: 1_000, toMs: 4_000 },
  { fromMs: 13_000, toMs: 15_000 },
];
const EITHER: readonly Hold[] = [SHORT, SHORT, LONG];
const QUORUM_LOSS: Hold = { fromMs: 8_000, toMs: MAX_QUORUM_LOSS_MS };
const NONE: Hold = { fromMs: 0, toMs: 0 };

type BlowKind = "kill" | "stop" | "pause" | "cut" | "poweroff" | "engine-restart";

interface Recipe {
  readonly holds: readonly Hold[];
  /** Null when it does not fit the situation. */
  readonly blows: (rng: Rng, situation: Situation) => readonly Blow[] | null;
}

function on(kind: BlowKind, pick: (rng: Rng, situation: Situation) => string | null) {
  return (rng: Rng, situation: Situation): readonly Blow[] | null => {
    const host = pick(rng, situation);
    return host === null ? null : [{ kind, host }];
  };
}

const RECIPES: Readonly<Record<FaultKind, Recipe>> = {
  "leader-kill": { holds: EITHER, blows: on("kill", leaderTarget) },
  "follower-kill": { holds: EITHER, blows: on("kill", followerTarget) },
  "worker-kill": { holds: EITHER, blows: on("kill", workerTarget) },
  "leader-pause": { holds: PAUSES, blows: on("pause", leaderTarget) },
  "follower-pause": { holds: PAUSES, blows: on("pause", followerTarget) },
  "worker-pause": { holds: PAUSES, blows: on("pause", workerTarget) },
  "leader-cut": { holds: EITHER, blows: on("cut", leaderTarget) },
  "follower-cut": { holds: EITHER, blows: on("cut", followerTarget) },
  "worker-cut": { holds: EITHER, blows: on("cut", workerTarget) },
  partition: { holds: EITHER, blows: (rng, now) => pair(rng, now, false) },
  "one-way-partition": { holds: EITHER, blows: (rng, now) => pair(rng, now, true) },
  "leader-stop": { holds: [SHORT], blows: on("stop", leaderTarget) },
  "worker-poweroff": { holds: EITHER, blows: on("poweroff", workerTarget) },
  "worker-engine-restart": { holds: [NONE], blows: on("engine-restart", workerTarget) },
  "manager-poweroff": { holds: EITHER, blows: on("poweroff", managerTarget) },
  "quorum-loss": { holds: [QUORUM_LOSS], blows: mostManagers },
};

/** Hands out every kind once, in random order, then again. */
export class FaultBag {
  readonly #rng: Rng;
  #left: FaultKind[] = [];

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  /** The next fault that fits; null when none does, or when enough is broken. */
  next(situation: Situation): Fault | null {
    if (situation.active.length >= MAX_ACTIVE_FAULTS) return null;
    if (this.#left.length === 0) this.#left = shuffled(this.#rng, FAULT_KINDS);
    for (const [at, kind] of this.#left.entries()) {
      const blows = RECIPES[kind].blows(this.#rng, situation);
      if (blows === null) continue;
      this.#left.splice(at, 1);
      return { kind, blows, holdMs: holdOf(this.#rng, RECIPES[kind].holds) };
    }
    return null;
  }
}

function holdOf(rng: Rng, holds: readonly Hold[]): number {
  const { fromMs, toMs } = pickOne(rng, holds) ?? NONE;
  return Math.round(fromMs + randomFloat(rng) * (toMs - fromMs));
}

export function shuffled<T>(rng: Rng, items: readonly T[]): T[] {
  const rest = [...items];
  const out: T[] = [];
  while (rest.length > 0) out.push(...rest.splice(randomInt(rng, rest.length), 1));
  return out;
}

export function pickOne<T>(rng: Rng, items: readonly T[]): T | null {
  return items.length === 0 ? null : (items[randomInt(rng, items.length)] ?? null);
}

/** Hosts that a fault in force touches. */
export function touched(active: Situation["active"]): ReadonlySet<string> {
  const hosts = active.flatMap(({ blows }) =>
    blows.flatMap(blow => (blow.kind === "partition" ? [blow.host, blow.other] : [blow.host])),
  );
  return new Set(hosts);
}

/** Some manager is broken, or not back yet. */
function managerTouched({ active, managers, recovering }: Situation): boolean {
  const hosts = touched(active);
  return recovering.length > 0 || managers.some(manager => hosts.has(manager));
}

function workerTouched({ active, workers }: Situation): boolean {
  const hosts = touched(active);
  return workers.some(worker => hosts.has(worker));
}

function leaderTarget(_rng: Rng, now: Situation): string | null {
  return managerTouched(now) ? null : now.leader;
}

function managerTarget(rng: Rng, now: Situation): string | null {
  return managerTouched(now) ? null : pickOne(rng, now.managers);
}

function followerTarget(rng: Rng, now: Situation): string | null {
  if (managerTouched(now) || now.leader === null) return null;
  return pickOne(
    rng,
    now.managers.filter(manager => manager !== now.leader),
  );
}

/** One worker at a time, so that there is always one to run what only workers may. */
function workerTarget(rng: Rng, now: Situation): string | null {
  return workerTouched(now) ? null : pickOne(rng, now.workers);
}

/** Two managers, or a manager and a worker; the leader is often among them. */
function pair(rng: Rng, now: Situation, oneWay: boolean): readonly Blow[] | null {
  const first = randomInt(rng, 2) === 0 ? now.leader : pickOne(rng, now.managers);
  const others = [...now.managers, ...now.workers].filter(name => name !== first);
  const second = pickOne(rng, others);
  if (first === null || second === null || managerTouched(now)) return null;
  if (now.workers.includes(second) && workerTouched(now)) return null;
  const [host, other] = randomInt(rng, 2) === 0 ? [first, second] : [second, first];
  return [{ kind: "partition", host, other, oneWay }];
}

/** Two of them, or now and then all. */
function mostManagers(rng: Rng, now: Situation): readonly Blow[] | null {
  if (managerTouched(now)) return null;
  const { nowMs, quorumBackMs } = now;
  if (quorumBackMs !== null && nowMs - quorumBackMs < QUORUM_LOSS_EVERY_MS) return null;
  const kinds: readonly BlowKind[] = ["kill", "pause", "cut"];
  const count = randomInt(rng, 3) === 0 ? now.managers.length : 2;
  return shuffled(rng, now.managers)
    .slice(0, count)
    .map(host => ({ kind: pickOne(rng, kinds) ?? "kill", host }));
}
