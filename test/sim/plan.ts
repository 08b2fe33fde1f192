import type { Chance } from "./chance.ts";
import type { DiskFaults } from "./disk.ts";
import type { RaftTuning } from "./manager.ts";
import type { NetworkFaults } from "./network.ts";
import type { WeatherPlan } from "./weather.ts";

/** What the nemesis may do; each at random times, about `meanMs` apart. */
export const FAULT_KINDS = [
  "kill",
  "power-loss",
  "restart",
  "pause",
  "isolate",
  "split",
  "one-way",
  "partial",
  "slow-link",
  "stream-loss",
  "transfer",
  "add-manager",
  "remove-manager",
  "disk-full",
  "disk-error",
  "disk-damage",
  "clock-jump",
  "worker-kill",
  "worker-cut",
  "engine-crash",
  "task-exit",
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];

/** Everything that a seed decides before its run begins. */
export interface Plan {
  readonly managers: number;
  /** Hosts that may become managers later. */
  readonly spares: number;
  readonly workers: number;
  readonly tuning: RaftTuning;
  readonly network: NetworkFaults;
  readonly disk: DiskFaults;
  /** Mean milliseconds between two of a kind; absent = never. */
  readonly faults: ReadonlyMap<FaultKind, number>;
  readonly maxSkewMs: number;
  /** Clocks run at 1 ± this. */
  readonly drift: number;
  readonly clients: number;
  readonly thinkMs: number;
  readonly keys: number;
  readonly readShare: number;
  readonly services: number;
  readonly adminMs: number;
  readonly weather: WeatherPlan;
}

const MIN_FAULT_MS = 2_000;
const MAX_FAULT_MS = 60_000;
const FAULT_SHARE = 0.4;
/** From impatient to what swarm mode has. */
const TICKS_MS = [50, 100, 100, 200, 500, 1_000] as const;
/** Share of seeds without a calm. */
const ALL_STORM = 0.04;
/** Damage costs a manager each time, so it is rarer. */
const RARE: ReadonlySet<FaultKind> = new Set<FaultKind>(["disk-damage"]);
const RARITY = 3;

function drawNetwork(chance: Chance): NetworkFaults {
  const bad = chance.is(0.6);
  return {
    latencyMs: chance.logUniform(0.2, 20),
    jitterMs: chance.logUniform(0.1, 20),
    lossRate: bad && chance.is(0.7) ? chance.logUniform(0.001, 0.3) : 0,
    duplicateRate: bad && chance.is(0.5) ? chance.logUniform(0.001, 0.3) : 0,
    reorderRate: bad && chance.is(0.5) ? chance.logUniform(0.001, 0.3) : 0,
    reorderMs: chance.logUniform(5, 2_000),
  };
}

function drawDisk(chance: Chance): DiskFaults {
  return {
    syncMs: chance.logUniform(0.2, 20),
    stallRate: chance.is(0.5) ? chance.logUniform(0.001, 0.05) : 0,
    stallMs: chance.logUniform(50, 5_000),
    errorRate: chance.is(0.2) ? chance.logUniform(0.0001, 0.003) : 0,
  };
}

function drawFaults(chance: Chance): ReadonlyMap<FaultKind, number> {
  const faults = new Map<FaultKind, number>();
  for (const kind of FAULT_KINDS) {
    if (!chance.is(FAULT_SHARE)) continue;
    const meanMs = chance.logUniform(MIN_FAULT_MS, MAX_FAULT_MS);
    faults.set(kind, RARE.has(kind) ? meanMs * RARITY : meanMs);
  }
  return faults;
}

/** Draws the rates of a seed: many kinds are left out of each, so that rare mixtures come up. */
export function drawPlan(chance: Chance): Plan {
  const managers = chance.pick([3, 3, 3, 5, 5, 7]);
  return {
    managers,
    spares: chance.int(0, 2),
    workers: chance.int(1, 3),
    tuning: {
      tickMs: chance.pick(TICKS_MS),
      electionTicks: 10,
      heartbeatTicks: 1,
      snapshotEntries: Math.round(chance.logUniform(20, 500)),
      logEntriesForSlowFollowers: chance.pick([0, 5, 50, 500]),
    },
    network: drawNetwork(chance),
    disk: drawDisk(chance),
    faults: drawFaults(chance),
    maxSkewMs: chance.is(0.5) ? chance.logUniform(10, 3_600_000) : 0,
    drift: chance.is(0.5) ? chance.logUniform(0.0001, 0.02) : 0,
    clients: chance.int(2, 5),
    thinkMs: chance.logUniform(100, 5_000),
    keys: chance.int(1, 3),
    readShare: chance.float(0.2, 0.7),
    services: chance.int(1, 4),
    adminMs: chance.logUniform(2_000, 40_000),
    weather: {
      stormMs: chance.logUniform(5_000, 60_000),
      stormShare: chance.is(ALL_STORM) ? 1 : chance.logUniform(0.05, 0.5),
    },
  };
}
