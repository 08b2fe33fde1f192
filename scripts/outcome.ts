/** What came of some tests. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
}

export const NOTHING: Outcome = { passed: 0, failed: 0 };

export function add(a: Outcome, b: Outcome): Outcome {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed };
}

/** Runs them in order, `width` at a time, and resolves with the sum of all outcomes. */
export async function sumInLanes<T>(
  items: readonly T[],
  width: number,
  run: (item: T) => Promise<Outcome>,
): Promise<Outcome> {
  const queue = [...items];
  const lane = async (): Promise<Outcome> => {
    let sum = NOTHING;
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      sum = add(sum, await run(item));
    }
    return sum;
  };
  const sums = await Promise.all(Array.from({ length: width }, lane));
  return sums.reduce(add, NOTHING);
}
