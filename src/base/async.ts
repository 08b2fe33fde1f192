import { assert, SwarmError } from "./errors.ts";

/** A promise with its ends outside. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export function newDeferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<T>((ok, fail) => {
    resolve = ok;
    reject = fail;
  });
  return { promise, resolve, reject };
}

/** Rejects with the signal's reason when it aborts, else settles as `promise`. */
export function withSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    const done = (): void => signal.removeEventListener("abort", onAbort);
    promise.then(
      value => {
        done();
        resolve(value);
      },
      (error: unknown) => {
        done();
        reject(error);
      },
    );
  });
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise(resolve => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/**
 * A bounded FIFO between one producer side and one consumer. `push` refuses when full: the caller
 * decides what a full queue means (drop, resync, end the stream). Closing ends the iteration after
 * the queued items.
 */
export class BoundedQueue<T> implements AsyncIterable<T> {
  readonly #items: T[] = [];
  readonly #maxItems: number;
  #waiter: Deferred<void> | null = null;
  #closed = false;
  #error: unknown = null;

  constructor(options: { readonly maxItems: number }) {
    assert(options.maxItems > 0, "a queue needs room");
    this.#maxItems = options.maxItems;
  }

  get size(): number {
    return this.#items.length;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** False, and nothing queued, when full or closed. */
  push(item: T): boolean {
    if (this.#closed || this.#items.length >= this.#maxItems) return false;
    this.#items.push(item);
    this.#wake();
    return true;
  }

  /** Idempotent. With an error, iteration throws it after the queued items. */
  close(error: unknown = null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.#wake();
  }

  #wake(): void {
    this.#waiter?.resolve();
    this.#waiter = null;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T, void> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) {
        yield item;
        continue;
      }
      if (this.#closed) {
        if (this.#error !== null) throw this.#error;
        return;
      }
      this.#waiter ??= newDeferred();
      await this.#waiter.promise;
    }
  }
}

/**
 * Structured concurrency: tasks started in a group are aborted together when one fails, and
 * `close` waits for all of them. A failure is kept and thrown by `close` and `done`.
 */
export class TaskGroup {
  readonly #controller = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #finished = newDeferred<void>();
  #failure: unknown = null;
  #failed = false;

  /** `parent`, when it aborts, aborts the group. */
  constructor(parent?: AbortSignal) {
    this.#finished.promise.catch(() => undefined);
    if (parent === undefined) return;
    if (parent.aborted) this.#controller.abort(parent.reason);
    else {
      const onAbort = (): void => this.#controller.abort(parent.reason);
      parent.addEventListener("abort", onAbort, { once: true });
      this.signal.addEventListener("abort", () => parent.removeEventListener("abort", onAbort), {
        once: true,
      });
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Rejects as soon as one task fails; never resolves before `close`. */
  get done(): Promise<void> {
    return this.#finished.promise;
  }

  /** Starts a task. Its failure (unless caused by the group's own abort) aborts the group. */
  start(name: string, run: (signal: AbortSignal) => Promise<void>): void {
    const task = run(this.signal).catch((error: unknown) => {
      if (this.signal.aborted) return;
      this.#failed = true;
      this.#failure = error;
      this.#finished.reject(error);
      this.#controller.abort(new SwarmError("canceled", `${name} failed`, {}, error));
    });
    this.#running.add(task);
    void task.finally(() => this.#running.delete(task));
  }

  /** Aborts what still runs and waits for it. Throws the first failure, if any. */
  async close(): Promise<void> {
    if (!this.signal.aborted) {
      this.#controller.abort(new SwarmError("canceled", "shutting down"));
    }
    while (this.#running.size > 0) await Promise.all([...this.#running]);
    if (this.#failed) throw this.#failure;
    this.#finished.resolve();
  }
}
