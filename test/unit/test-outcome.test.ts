import t from "tap";
import { type Outcome, sumInLanes } from "../../scripts/outcome.ts";
import { newDeferred } from "../../src/base/async.ts";

t.test("every outcome counts, whichever lane it comes from and when", async t => {
  const first = newDeferred<Outcome>();
  const answers: readonly Promise<Outcome>[] = [
    first.promise,
    Promise.resolve({ passed: 10, failed: 1 }),
    Promise.resolve({ passed: 100, failed: 0 }),
  ];
  const started: number[] = [];
  const sum = sumInLanes([0, 1, 2], 2, async index => {
    started.push(index);
    if (index === 2) first.resolve({ passed: 1, failed: 1 });
    return (await answers[index]) ?? { passed: 0, failed: 0 };
  });
  t.same(await sum, { passed: 111, failed: 2 });
  t.same(started, [0, 1, 2], "in order");
});
