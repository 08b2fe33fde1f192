import t, { type Test } from "tap";
import { buildSimulator } from "../sim/bundle.ts";
import { MUTANTS, type Mutant } from "../sim/mutants/catalog.ts";
import { copyWith, edited, editedFile, removeCopy } from "../sim/mutants/copy.ts";
import { bySimulator } from "../sim/mutants/suites.ts";

/** The tester is tested: it must find bugs that are put in on purpose (see docs/design/simulator.md). */

const LIMITS = { seeds: 40, ticks: 1_500 };
const FEWEST_MUTANTS = 15;
/** A busy machine is no failure. */
const TIMEOUT_MS = 600_000;
t.setTimeout(TIMEOUT_MS);

t.test("every mutant fits the source as it is", async t => {
  t.ok(MUTANTS.length >= FEWEST_MUTANTS);
  t.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
  for (const { name, edits } of MUTANTS) {
    const fits = Promise.all(edits.map(({ file }) => editedFile(file, edits)));
    await t.resolves(fits, `${name}: when the source has moved on, move the edit with it`);
  }
});

t.test("an edit is made once, or not at all", async t => {
  const edit = { file: "x.ts", from: "a > b", to: "a >= b" };
  t.equal(edited("if (a > b) c();", edit), "if (a >= b) c();");
  t.throws(() => edited("if (a < b) c();", edit), /0 times/);
  t.throws(() => edited("if (a > b) c(a > b);", edit), /2 times/);
});

t.test("the simulator finds the quick ones", async t => {
  for (const mutant of MUTANTS.filter(({ quick }) => quick))
    await t.test(mutant.name, found(mutant));
});

function found({ edits, what }: Mutant): (t: Test) => Promise<void> {
  return async t => {
    const dir = await copyWith(edits);
    t.teardown(() => removeCopy(dir));
    const verdict = await bySimulator(dir, LIMITS);
    t.ok(verdict, `${what}: ${verdict ?? `not found in ${LIMITS.seeds} seeds`}`);
  };
}

t.test("and nothing in the source as it is", async t => {
  const simulator = await buildSimulator();
  t.teardown(() => simulator.remove());
  const { code } = await simulator.run(["--seeds", "1", "--ticks", "300"]);
  t.equal(code, 0);
});
