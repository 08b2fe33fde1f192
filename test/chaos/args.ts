/** The command line of `npm run chaos`. */

export interface ChaosOptions {
  readonly minutes: number;
  readonly seed: number;
  /** Leaves the lab up, and the run's records even if all is well. */
  readonly keep: boolean;
}

export const DEFAULT_MINUTES = 3;
export const DEFAULT_SEED = 1;
export const MAX_MINUTES = 24 * 60;
const MAX_SEED = 0xffff_ffff;

export const USAGE = `usage: npm run chaos -- [--minutes N] [--seed S] [--keep]
  --minutes N   how long faults go on (default ${DEFAULT_MINUTES}; fractions are fine)
  --seed S      0..${MAX_SEED} (default ${DEFAULT_SEED}); the same seed chooses the same faults and requests
  --keep        leave the lab up and the records in .chaos/S, whatever comes out`;

/** Throws an Error that says what is wrong. */
export function parseChaosArgs(args: readonly string[]): ChaosOptions {
  let options: ChaosOptions = { minutes: DEFAULT_MINUTES, seed: DEFAULT_SEED, keep: false };
  const rest = [...args];
  for (let flag = rest.shift(); flag !== undefined; flag = rest.shift()) {
    if (flag === "--keep") options = { ...options, keep: true };
    else if (flag === "--minutes") options = { ...options, minutes: minutesOf(rest.shift()) };
    else if (flag === "--seed") options = { ...options, seed: seedOf(rest.shift()) };
    else throw new Error(`unknown argument "${flag}"`);
  }
  return options;
}

function minutesOf(text: string | undefined): number {
  const minutes = Number(text ?? "");
  if (text !== undefined && text !== "" && minutes > 0 && minutes <= MAX_MINUTES) return minutes;
  throw new Error(`--minutes takes a number up to ${MAX_MINUTES}, not "${text ?? ""}"`);
}

function seedOf(text: string | undefined): number {
  const seed = Number(text ?? "");
  if (/^\d+$/.test(text ?? "") && seed <= MAX_SEED) return seed;
  throw new Error(`--seed takes an integer up to ${MAX_SEED}, not "${text ?? ""}"`);
}
