import type { RowMeta } from "../../model/rows.ts";

/** Rows that one step sorts or merges: a few milliseconds. */
const ROWS_PER_STEP = 4_096;

/**
 * The rows in order of id. Yields between steps, so that the order of a large table is not made in
 * one turn of the event loop.
 */
export function* sortInSlices(rows: readonly RowMeta[]): Generator<null, readonly RowMeta[]> {
  let runs: (readonly RowMeta[])[] = [];
  for (let at = 0; at < rows.length; at += ROWS_PER_STEP) {
    runs.push(rows.slice(at, at + ROWS_PER_STEP).sort(byId));
    yield null;
  }
  while (runs.length > 1) {
    const merged: (readonly RowMeta[])[] = [];
    for (let i = 0; i < runs.length; i += 2) {
      merged.push(yield* merge(runs[i] ?? [], runs[i + 1] ?? []));
    }
    runs = merged;
  }
  return runs[0] ?? [];
}

function* merge(a: readonly RowMeta[], b: readonly RowMeta[]): Generator<null, readonly RowMeta[]> {
  if (b.length === 0) return a;
  const out: RowMeta[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    const [left, right] = [a[i], b[j]];
    if (left !== undefined && (right === undefined || left.id <= right.id)) {
      out.push(left);
      i += 1;
    } else if (right !== undefined) {
      out.push(right);
      j += 1;
    }
    if (out.length % ROWS_PER_STEP === 0) yield null;
  }
  return out;
}

function byId(a: RowMeta, b: RowMeta): number {
  return a.id < b.id ? -1 : a.id > b.id ? 1 : 0;
}
