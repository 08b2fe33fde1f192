import fc from "fast-check";
import t from "tap";
import { ChaosRun } from "../support/raft-chaos.ts";

const RUNS = 25;
const STEPS = 2500;
const seeds = fc.integer({ min: 0, max: 0xffff_ffff });

t.test("safe under any schedule, live after it", async t => {
  let committed = 0;
  let reads = 0;
  fc.assert(
    fc.property(seeds, fc.integer({ min: 1, max: 5 }), (seed, nodes) => {
      const run = new ChaosRun({ seed, nodes, steps: STEPS, confChanges: false });
      run.run();
      committed += run.committed.size;
      reads += run.readsConfirmed;
      run.recover();
    }),
    { numRuns: RUNS },
  );
  t.ok(committed > RUNS, `the schedules let work happen: ${committed} entries`);
  t.ok(reads > 0, `and reads: ${reads}`);
});

t.test("safe while the membership changes, live after it", async t => {
  let committed = 0;
  fc.assert(
    fc.property(seeds, fc.integer({ min: 2, max: 5 }), (seed, nodes) => {
      const run = new ChaosRun({ seed, nodes, steps: STEPS, confChanges: true });
      run.run();
      committed += run.committed.size;
      run.recover();
    }),
    { numRuns: RUNS },
  );
  t.ok(committed > RUNS, `the schedules let work happen: ${committed} entries`);
});
