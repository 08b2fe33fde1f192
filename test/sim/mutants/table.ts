import { parseArgs } from "node:util";
import { MUTANTS, type Mutant } from "./catalog.ts";
import { copyWith, removeCopy } from "./copy.ts";
import { byGolden, bySimulator, byUnitTests, type SimLimits, type Verdict } from "./suites.ts";

const DEFAULT_SEEDS = 300;
const DEFAULT_TICKS = 3_000;

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

/** What no suite may find anything in. */
const SOUND = { name: "none", what: "the source as it is", edits: [] } as const;

interface Suite {
  readonly name: string;
  readonly title: string;
  readonly find: (dir: string) => Promise<Verdict>;
}

function suitesOf(limits: SimLimits): readonly Suite[] {
  const title = `simulator, of ${limits.seeds} seeds`;
  return [
    { name: "sim", title, find: dir => bySimulator(dir, limits) },
    { name: "golden", title: "golden", find: byGolden },
    { name: "unit", title: "unit", find: byUnitTests },
  ];
}

/** Those of `all` that are named in `list`; all when it is empty. */
function chosenFrom<T extends { readonly name: string }>(all: readonly T[], list: string): T[] {
  const names = list.split(",").filter(name => name !== "");
  return all.filter(({ name }) => names.length === 0 || names.includes(name));
}

function cell(verdict: Verdict): string {
  return verdict ?? "-";
}

/** Prints a row; false when nothing is found. */
async function judge(
  { name, what, edits }: Pick<Mutant, "name" | "what" | "edits">,
  suites: readonly Suite[],
): Promise<boolean> {
  const dir = await copyWith(edits);
  try {
    const verdicts: Verdict[] = [];
    for (const { find } of suites) verdicts.push(await find(dir));
    print(row([name, what, ...verdicts.map(cell)]));
    return verdicts.some(verdict => verdict !== null);
  } finally {
    await removeCopy(dir);
  }
}

/**
 * `npm run sim -- --mutants [--only a,b] [--suites sim,golden,unit] [--seeds K] [--ticks M]`: which suite finds which seeded
 * bug. The simulator's column says within how many seeds, and which property broke.
 */
export async function mutantsTable(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      mutants: { type: "boolean" },
      only: { type: "string", default: "" },
      suites: { type: "string", default: "" },
      seeds: { type: "string", default: String(DEFAULT_SEEDS) },
      ticks: { type: "string", default: String(DEFAULT_TICKS) },
    },
  });
  const limits = { seeds: Number(values.seeds), ticks: Number(values.ticks) };
  const mutants = chosenFrom(MUTANTS, values.only);
  const suites = chosenFrom(suitesOf(limits), values.suites);
  print(row(["mutant", "the bug", ...suites.map(({ title }) => title)]));
  print(row(["---", "---", ...suites.map(() => "---")]));
  if (await judge(SOUND, suites)) {
    throw new Error("a suite fails without any bug: what it says of mutants means nothing");
  }
  let missed = 0;
  for (const mutant of mutants) if (!(await judge(mutant, suites))) missed += 1;
  print(`${mutants.length - missed} found, ${missed} missed`);
  return missed;
}
