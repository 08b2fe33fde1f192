/** Randomness as a dependency: seeded in simulation, from the kernel in production. */
export interface Rng {
  /** Uniform in [0, 2^32). */
  uint32(): number;
}

/** Uniform integer in [0, below). `below` in 1..2^32. */
export function randomInt(rng: Rng, below: number): number {
  return Math.floor((rng.uint32() / 0x1_0000_0000) * below);
}

/** Uniform in [0, 1). */
export function randomFloat(rng: Rng): number {
  return rng.uint32() / 0x1_0000_0000;
}

/** sfc32 (Chris Doty-Humphrey's small fast counting generator), seeded through splitmix32. */
export class SeededRng implements Rng {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) >>> 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
  }

  uint32(): number {
    const t = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t;
    return t >>> 0;
  }
}
