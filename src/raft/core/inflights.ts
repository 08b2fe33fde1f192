import { assert } from "../../base/errors.ts";

interface Inflight {
  /** Index of the last entry in the message. */
  readonly index: number;
  readonly bytes: number;
}

/**
 * Sliding window of app messages sent to one follower and not acknowledged, bounded by count and
 * by bytes. The byte bound may be passed by one message, so that a large entry is not stuck.
 */
export class Inflights {
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #window: Inflight[] = [];
  #bytes = 0;

  constructor(options: { readonly maxMessages: number; readonly maxBytes: number }) {
    this.#maxMessages = options.maxMessages;
    this.#maxBytes = options.maxBytes;
  }

  get count(): number {
    return this.#window.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get full(): boolean {
    return this.#window.length >= this.#maxMessages || this.#bytes >= this.#maxBytes;
  }

  /** Indexes must be added in order. */
  add(index: number, bytes: number): void {
    assert(!this.full, "a message was sent past a full window");
    this.#window.push({ index, bytes });
    this.#bytes += bytes;
  }

  /** Forgets the messages whose last entry is at or below `index`. */
  freeUpTo(index: number): void {
    let freed = 0;
    for (const inflight of this.#window) {
      if (inflight.index > index) break;
      freed += 1;
      this.#bytes -= inflight.bytes;
    }
    if (freed > 0) this.#window = this.#window.slice(freed);
  }

  reset(): void {
    this.#window = [];
    this.#bytes = 0;
  }
}
