/** Figures of one row, in the order they were taken. */
export interface Samples {
  readonly unit: "ms" | "MB";
  readonly values: readonly number[];
}

/** The smallest value that at least the share `q` of them does not exceed (nearest rank). */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = Math.max(1, Math.ceil(q * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

/** Everything one system was measured at, by row id. */
export class Recorder {
  readonly #rows = new Map<string, { unit: Samples["unit"]; values: number[] }>();
  readonly #tell: (line: string) => void;

  constructor(deps: { readonly tell: (line: string) => void }) {
    this.#tell = deps.tell;
  }

  add(row: string, unit: Samples["unit"], value: number): void {
    const rounded = Math.round(value * 10) / 10;
    const samples = this.#rows.get(row) ?? { unit, values: [] };
    this.#rows.set(row, samples);
    samples.values.push(rounded);
    this.#tell(`${row.padEnd(34)} ${rounded} ${unit}`);
  }

  /** Times what is done, and its result. */
  async timed<T>(row: string, act: () => Promise<T>): Promise<T> {
    const sinceMs = performance.now();
    const result = await act();
    this.add(row, "ms", performance.now() - sinceMs);
    return result;
  }

  result(): Readonly<Record<string, Samples>> {
    return Object.fromEntries(this.#rows);
  }
}
