import fc from "fast-check";
import t from "tap";
import { Least } from "../../src/scheduler/core/heap.ts";

t.test("the least of many are those that sorting would give", async t => {
  const compare = (a: number, b: number): number => a - b;
  fc.assert(
    fc.property(fc.array(fc.integer()), fc.nat({ max: 20 }), (values, limit) => {
      const least = new Least<number>(limit, compare);
      for (const value of values) least.add(value);
      const expected = [...values].sort(compare).slice(0, limit);
      t.same([...least.take()].sort(compare), expected);
    }),
  );
});
