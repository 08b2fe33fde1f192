import { assert } from "../../base/errors.ts";

export interface BucketOptions {
  /** Calls that may come at once. */
  readonly burst: number;
  /** Calls a second that may go on. */
  readonly perSecond: number;
}

interface Bucket {
  tokens: number;
  atMs: number;
}

const MS_PER_S = 1_000;

/**
 * Token buckets, one a key and one for all keys together. A call takes a token of both, or none.
 * Remembers at most `maxKeys` keys; a forgotten key starts full again, the global bucket still
 * holds then.
 */
export class RateLimiter {
  readonly #perKey: BucketOptions;
  readonly #global: BucketOptions;
  readonly #maxKeys: number;
  readonly #buckets = new Map<string, Bucket>();
  readonly #all: Bucket;

  constructor(options: {
    readonly perKey: BucketOptions;
    readonly global: BucketOptions;
    readonly maxKeys: number;
  }) {
    assert(options.maxKeys > 0, "a rate limiter needs room for a key");
    this.#perKey = options.perKey;
    this.#global = options.global;
    this.#maxKeys = options.maxKeys;
    this.#all = { tokens: options.global.burst, atMs: 0 };
  }

  /** Whether a call of `key` may go on at `nowMs` (monotonic). */
  take(key: string, nowMs: number): boolean {
    const bucket = this.#bucket(key, nowMs);
    refill(bucket, this.#perKey, nowMs);
    refill(this.#all, this.#global, nowMs);
    if (bucket.tokens < 1 || this.#all.tokens < 1) return false;
    bucket.tokens -= 1;
    this.#all.tokens -= 1;
    return true;
  }

  get size(): number {
    return this.#buckets.size;
  }

  /** The key's bucket, moved to the end of the map: the front is the longest unused. */
  #bucket(key: string, nowMs: number): Bucket {
    const known = this.#buckets.get(key);
    if (known !== undefined) this.#buckets.delete(key);
    else if (this.#buckets.size >= this.#maxKeys) {
      const oldest = this.#buckets.keys().next();
      if (!oldest.done) this.#buckets.delete(oldest.value);
    }
    const bucket = known ?? { tokens: this.#perKey.burst, atMs: nowMs };
    this.#buckets.set(key, bucket);
    return bucket;
  }
}

function refill(bucket: Bucket, options: BucketOptions, nowMs: number): void {
  const elapsedMs = Math.max(0, nowMs - bucket.atMs);
  bucket.tokens = Math.min(
    options.burst,
    bucket.tokens + (elapsedMs * options.perSecond) / MS_PER_S,
  );
  bucket.atMs = nowMs;
}
