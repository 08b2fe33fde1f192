import fc from "fast-check";
import t from "tap";
import { newSortedTexts } from "../../src/base/sorted-set.ts";

function padded(n: number): string {
  return String(n).padStart(5, "0");
}

t.test("ids come in order, whatever came and went", async t => {
  let most = 0;
  const runArb = fc.record({
    start: fc.nat({ max: 3_000 }),
    length: fc.integer({ min: 1, max: 900 }),
    step: fc.constantFrom(1, 7, -1, -5),
    remove: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(runArb, { maxLength: 12 }), fc.nat({ max: 4_000 }), (runs, from) => {
      const ids = newSortedTexts();
      const model = new Set<string>();
      for (const { start, length, step, remove } of runs) {
        for (let i = 0; i < length; i++) {
          const id = padded(5_000 + start + i * step);
          if (remove && model.delete(id)) ids.remove(id);
          if (remove || model.has(id)) continue;
          model.add(id);
          ids.add(id);
        }
        most = Math.max(most, model.size);
      }
      const sorted = [...model].sort();
      const start = padded(5_000 + from);
      t.equal(ids.size, sorted.length);
      t.equal([...ids].join(), sorted.join());
      t.equal(ids.first(), sorted[0]);
      t.equal([...ids.after(start)].join(), sorted.filter(id => id > start).join());
    }),
    { numRuns: 60 },
  );
  t.ok(most > 1_500, `${most} ids at once`);
});

t.test("a reader in the middle goes on with what is there", async t => {
  const ids = newSortedTexts();
  for (let i = 0; i < 2_000; i += 2) ids.add(padded(i));
  const seen: string[] = [];
  for (const id of ids) {
    seen.push(id);
    const at = Number(id);
    if (at % 2 === 1) continue;
    ids.add(padded(at + 1));
    if (at >= 100) ids.remove(padded(at - 100));
    if (at % 10 === 0 && at + 4 < 2_000) ids.remove(padded(at + 4));
  }
  const left = Array.from({ length: 2_000 }, (_, i) => i).filter(i => i % 10 !== 4 && i % 10 !== 5);
  t.equal(seen.join(), left.map(padded).join());
  t.throws(() => ids.remove("nobody"), { message: /is in it/ });
});
