import { assert } from "../../base/errors.ts";

/** The chain values (checksums) of the stored entries, by index; contiguous. */
export class ChainLog {
  #firstIndex = 1;
  #values: number[] = [];

  get firstIndex(): number {
    return this.#firstIndex;
  }

  get lastIndex(): number {
    return this.#firstIndex + this.#values.length - 1;
  }

  get lastChain(): number {
    return this.#values.at(-1) ?? 0;
  }

  /** Empty, to go on after `index`, whose own chain value is `chain`. */
  reset(index: number, chain: number): void {
    this.#firstIndex = index;
    this.#values = [chain];
  }

  at(index: number): number {
    const value = this.#values[index - this.#firstIndex];
    assert(value !== undefined, `entry ${index} has a chain value`);
    return value;
  }

  /** Appends the value of `index`, dropping what was at and after it. */
  set(index: number, chain: number): void {
    assert(
      index > this.#firstIndex && index <= this.lastIndex + 1,
      `entry ${index} follows ${this.lastIndex}`,
    );
    this.#values.length = index - this.#firstIndex;
    this.#values.push(chain);
  }

  dropBefore(index: number): void {
    const count = Math.min(index, this.lastIndex) - this.#firstIndex;
    if (count <= 0) return;
    this.#values = this.#values.slice(count);
    this.#firstIndex += count;
  }
}
