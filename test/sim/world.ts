/** Something that happens at a moment of virtual time. */
export interface SimEvent {
  readonly atMs: number;
  readonly seq: number;
  /** Null once it was canceled or has happened. */
  fn: (() => void) | null;
}

/** Now and then the real event loop gets a turn, so that a rejection nobody handles shows. */
const EVENTS_PER_TURN = 4096;
const MAX_AT_ONCE = 50_000;
const RESOLVED = Promise.resolve();

/**
 * Virtual time: a queue of events, run one after the other. Between two events all promises come to
 * rest, so an event and what follows from it are one atomic step, and one seed is one run.
 */
export class World {
  readonly #heap: SimEvent[] = [];
  #nowMs = 0;
  #seq = 0;
  /** Events since time last moved. */
  #atOnce = 0;
  events = 0;

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Somebody spins: events follow each other and time stands still. */
  get spins(): boolean {
    return this.#atOnce > MAX_AT_ONCE;
  }

  /** Runs `fn` in `delayMs`; events of one moment run in the order they were asked for. */
  after(delayMs: number, fn: () => void): SimEvent {
    const event = { atMs: this.#nowMs + Math.max(0, delayMs), seq: this.#seq, fn };
    this.#seq += 1;
    this.#push(event);
    return event;
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise(resolve => void this.after(delayMs, resolve));
  }

  /** Runs what is due by `untilMs`, one after the other, until then or until `done` holds. */
  run(untilMs: number, done: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (): void => {
        try {
          const fn = done() ? null : this.#next(untilMs);
          if (fn === null) {
            resolve();
            return;
          }
          fn();
        } catch (error) {
          reject(error);
          return;
        }
        if (this.events % EVENTS_PER_TURN === 0) setImmediate(inMicrotask);
        else process.nextTick(inMicrotask);
      };
      // Node runs `nextTick` callbacks only when no promise callback is left to run, and what one
      // of them sets off before the next: an event runs in a promise callback, the next one after.
      const inMicrotask = (): void => void RESOLVED.then(step);
      inMicrotask();
    });
  }

  /** The next event due by `untilMs`. Null when there is none; time is then that. */
  #next(untilMs: number): (() => void) | null {
    for (;;) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > untilMs) {
        this.#nowMs = Math.max(this.#nowMs, untilMs);
        return null;
      }
      this.#pop();
      const { fn } = next;
      if (fn === null) continue;
      next.fn = null;
      this.#atOnce = next.atMs > this.#nowMs ? 0 : this.#atOnce + 1;
      this.#nowMs = next.atMs;
      this.events += 1;
      return fn;
    }
  }

  #push(event: SimEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !isBefore(event, parent)) break;
      heap[at] = parent;
      at = above;
    }
    heap[at] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      let child = heap[below];
      if (child === undefined) break;
      const right = heap[below + 1];
      if (right !== undefined && isBefore(right, child)) {
        below += 1;
        child = right;
      }
      if (!isBefore(child, last)) break;
      heap[at] = child;
      at = below;
    }
    heap[at] = last;
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.seq < b.seq);
}

/** A turn of the real event loop: rejections that nobody handles end the process. */
export function nextTurn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve));
}
