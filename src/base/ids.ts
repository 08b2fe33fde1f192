import type { Rng } from "./rng.ts";

/** New ids, injected so that plans and simulations are reproducible. */
export interface IdSource {
  /** 25 characters of [0-9a-z], 128 bits, as swarm mode's ids. */
  newId(): string;
}

export const ID_LENGTH = 25;
const ID_PATTERN = /^[0-9a-z]{25}$/;
const BITS_128 = 128n;

/** Whether `text` has the shape of an id. */
export function isId(text: string): boolean {
  return ID_PATTERN.test(text);
}

/** Ids drawn from an Rng: 128 bits in base 36, zero-padded to 25 characters. */
export class RngIdSource implements IdSource {
  readonly #rng: Rng;

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  newId(): string {
    let bits = 0n;
    for (let i = 0n; i < BITS_128; i += 32n) bits = (bits << 32n) | BigInt(this.#rng.uint32());
    return bits.toString(36).padStart(ID_LENGTH, "0");
  }
}

/** Characters of an ordered id that say when it was made: enough until the year 2059. */
const ORDER_LENGTH = 8;

/** A new id that sorts after all that were made before it, to the millisecond. */
export function newOrderedId(ids: IdSource, nowMs: number): string {
  const order = Math.max(0, Math.floor(nowMs)).toString(36).padStart(ORDER_LENGTH, "0");
  return order + ids.newId().slice(order.length);
}
