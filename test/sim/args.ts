import { parseArgs } from "node:util";

/** The command line of `npm run sim`. */

const DEFAULT_TICKS = 3_000;
const DEFAULT_MUTANT_SEEDS = 300;

export const USAGE = `usage: npm run sim -- [--seed N] [--seeds K] [--ticks M] [--trace]
       npm run sim -- --mutants [--only A,B] [--suites sim,golden,unit] [--seeds K] [--ticks M]

Clusters of production code on a simulated clock, network and disk (docs/design/simulator.md).

  --seed N         the first seed (1); a seed is one run, to the last message
  --seeds K        how many seeds (1); of each seeded bug with --mutants (${DEFAULT_MUTANT_SEEDS})
  --ticks M        length of a run, in tenths of a second of simulated time (${DEFAULT_TICKS})
  --trace          every message of the one seed
  --until-failure  stop at the first seed that fails; the last line is JSON
  --mutants        seed known bugs and tell which suite finds them
  --only LIST      of the bugs, those named (all)
  --suites LIST    of the suites, those named (all)`;

export interface SimArguments {
  readonly seed: number;
  readonly seeds: number;
  readonly ticks: number;
  readonly trace: boolean;
  /** Stops at the first seed that fails and explains nothing. */
  readonly untilFailure: boolean;
}

export interface MutantArguments {
  readonly only: readonly string[];
  readonly suites: readonly string[];
  readonly seeds: number;
  readonly ticks: number;
}

export type SimCommand =
  | { readonly kind: "help" }
  | ({ readonly kind: "seeds" } & SimArguments)
  | ({ readonly kind: "mutants" } & MutantArguments);

/** Throws an Error that says what is wrong. */
export function parseSimArgs(args: readonly string[]): SimCommand {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: "string", default: "1" },
      seeds: { type: "string" },
      ticks: { type: "string", default: String(DEFAULT_TICKS) },
      trace: { type: "boolean", default: false },
      "until-failure": { type: "boolean", default: false },
      mutants: { type: "boolean", default: false },
      only: { type: "string", default: "" },
      suites: { type: "string", default: "" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return { kind: "help" };
  const ticks = wholeNumber("--ticks", values.ticks);
  if (values.mutants) {
    const seeds = wholeNumber("--seeds", values.seeds ?? String(DEFAULT_MUTANT_SEEDS));
    return { kind: "mutants", only: list(values.only), suites: list(values.suites), seeds, ticks };
  }
  return {
    kind: "seeds",
    seed: wholeNumber("--seed", values.seed),
    seeds: wholeNumber("--seeds", values.seeds ?? "1"),
    ticks,
    trace: values.trace,
    untilFailure: values["until-failure"],
  };
}

function list(text: string): readonly string[] {
  return text.split(",").filter(name => name !== "");
}

function wholeNumber(flag: string, text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value > 0) return value;
  throw new Error(`${flag} takes a whole number above 0, not "${text}"`);
}
