/**
 * Tells many waiters of one signal's abort through a single listener: Node walks the list of all
 * listeners for each that is added or taken away.
 */
export class AbortWatch {
  readonly #waiters = new WeakMap<AbortSignal, Set<() => void>>();

  /** `onAbort` must not be waiting for this signal already. */
  add(signal: AbortSignal, onAbort: () => void): void {
    const waiters = this.#waiters.get(signal) ?? this.#listen(signal);
    waiters.add(onAbort);
  }

  remove(signal: AbortSignal, onAbort: () => void): void {
    this.#waiters.get(signal)?.delete(onAbort);
  }

  /** Rejects with the signal's reason when it aborts, else settles as `promise`. */
  guard<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
    if (signal.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(signal.reason);
      this.add(signal, onAbort);
      promise.then(
        value => {
          this.remove(signal, onAbort);
          resolve(value);
        },
        (error: unknown) => {
          this.remove(signal, onAbort);
          reject(error);
        },
      );
    });
  }

  #listen(signal: AbortSignal): Set<() => void> {
    const waiters = new Set<() => void>();
    this.#waiters.set(signal, waiters);
    const tellAll = (): void => {
      this.#waiters.delete(signal);
      for (const tell of [...waiters]) tell();
    };
    signal.addEventListener("abort", tellAll, { once: true });
    return waiters;
  }
}
