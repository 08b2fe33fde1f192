import { type Family, family, type Sample } from "./exposition.ts";

/** Counts observations by size. Observing is one step a bucket, without an allocation. */
export class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  /** `bounds` rise; what is above the last one counts in the total alone. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    this.#sum += value;
    this.#count += 1;
    const at = this.#bounds.findIndex(bound => value <= bound);
    if (at >= 0) this.#counts[at] = (this.#counts[at] ?? 0) + 1;
  }

  family(name: string, help: string): Family {
    const samples: Sample[] = [];
    let below = 0;
    this.#bounds.forEach((bound, i) => {
      below += this.#counts[i] ?? 0;
      samples.push({ suffix: "_bucket", labels: { le: String(bound) }, value: below });
    });
    samples.push({ suffix: "_bucket", labels: { le: "+Inf" }, value: this.#count });
    samples.push({ suffix: "_sum", value: this.#sum }, { suffix: "_count", value: this.#count });
    return family("histogram", name, help, samples);
  }
}
