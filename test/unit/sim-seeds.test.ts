import t from "tap";
import { buildSimulator } from "../sim/bundle.ts";
import { simulate } from "../sim/run.ts";

/** More than three minutes of simulated time a seed; `npm run sim` takes more, and more seeds. */
const TICKS = 2_000;
const SEEDS = 200;
/** Of a seed in which much happens: members come and go, disks fail, clocks jump. */
const LIVELY_SEED = 2;
const LIVELY_TICKS = 600;

t.test("one seed is one run, to the last message", async t => {
  const options = {
    seed: LIVELY_SEED,
    ticks: LIVELY_TICKS,
    full: true,
    maxLines: Number.MAX_SAFE_INTEGER,
  };
  const first = await simulate(options);
  const second = await simulate(options);
  t.ok(first.commits > 10 && first.trace.length > 1_000, `${first.trace.length} lines`);
  t.equal(second.trace.join("\n"), first.trace.join("\n"));
  t.same({ ...second, trace: [] }, { ...first, trace: [] });
  const quiet = await simulate({ seed: LIVELY_SEED, ticks: LIVELY_TICKS });
  t.equal(quiet.hash, first.hash, "a short trace stands for the same run");
  const other = await simulate({ seed: LIVELY_SEED + 1, ticks: LIVELY_TICKS });
  t.not(other.hash, first.hash);
});

/** A busy machine is no failure. */
const TIMEOUT_MS = 600_000;
t.setTimeout(TIMEOUT_MS);

t.test(`${SEEDS} seeds keep every property`, async t => {
  const simulator = await buildSimulator();
  t.teardown(() => simulator.remove());
  const args = ["--seed", "1", "--seeds", String(SEEDS), "--ticks", String(TICKS)];
  const { code, output } = await simulator.run(args);
  t.comment(output.trim().split("\n").slice(-2).join("; "));
  t.equal(code, 0, code === 0 ? "all of them" : output);
  t.match(output, new RegExp(`^${SEEDS} passed, 0 failed`, "m"));
});
