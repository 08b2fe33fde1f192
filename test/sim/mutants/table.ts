import type { MutantArguments } from "../args.ts";
import { MUTANTS, type Mutant } from "./catalog.ts";
import { copyWith, removeCopy } from "./copy.ts";
import { byGolden, bySimulator, byUnitTests, type SimLimits, type Verdict } from "./suites.ts";

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

/** Those of `all` that are named; all when none is. A name that nobody has is an error. */
function chosenFrom<T extends { readonly name: string }>(
  all: readonly T[],
  names: readonly string[],
): readonly T[] {
  const unknown = names.find(wanted => all.every(({ name }) => name !== wanted));
  if (unknown !== undefined) {
    throw new Error(`no ${unknown}; there are: ${all.map(({ name }) => name).join(", ")}`);
  }
  return names.length === 0 ? all : all.filter(({ name }) => names.includes(name));
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
 * Which suite finds which seeded bug, as a table. The simulator's column says within how many seeds,
 * and which property broke. Returns how many nobody found.
 */
export async function mutantsTable(args: MutantArguments): Promise<number> {
  const mutants = chosenFrom(MUTANTS, args.only);
  const suites = chosenFrom(suitesOf(args), args.suites);
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
