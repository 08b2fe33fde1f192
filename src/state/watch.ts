import { BoundedQueue } from "../base/async.ts";
import type { Commit } from "../model/change.ts";
import type { Watch, WatchEvent } from "./ports.ts";

/**
 * One reader's stream of commits. The queue holds `maxCommits`; when it is full everything in it is
 * worthless to the reader (it would miss what follows), so it is replaced by one `resync`.
 */
class BoundedWatch implements Watch {
  readonly #maxCommits: number;
  readonly #onClose: (watch: BoundedWatch) => void;
  #queue: BoundedQueue<WatchEvent>;
  #next: BoundedQueue<WatchEvent> | null = null;

  constructor(maxCommits: number, onClose: (watch: BoundedWatch) => void) {
    this.#maxCommits = maxCommits;
    this.#onClose = onClose;
    this.#queue = this.#newQueue();
  }

  push(commit: Commit): void {
    const queue = this.#next ?? this.#queue;
    if (!queue.push({ kind: "commit", commit })) this.resync();
  }

  /** Everything queued is dropped; the reader sees `resync`, then the commits after it. */
  resync(): void {
    const fresh = this.#newQueue();
    fresh.push({ kind: "resync" });
    (this.#next ?? this.#queue).close();
    this.#next = fresh;
  }

  close(): void {
    this.#onClose(this);
    this.#queue.close();
    this.#next?.close();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<WatchEvent, void> {
    for (;;) {
      for await (const event of this.#queue) {
        if (this.#next !== null) break;
        yield event;
      }
      if (this.#next === null) return;
      this.#queue = this.#next;
      this.#next = null;
    }
  }

  #newQueue(): BoundedQueue<WatchEvent> {
    return new BoundedQueue<WatchEvent>({ maxItems: this.#maxCommits + 1 });
  }
}

/** The open watches of a store. */
export class Watches {
  readonly #open = new Set<BoundedWatch>();

  get size(): number {
    return this.#open.size;
  }

  open(maxCommits: number): Watch {
    const watch = new BoundedWatch(maxCommits, closed => this.#open.delete(closed));
    this.#open.add(watch);
    return watch;
  }

  push(commit: Commit): void {
    for (const watch of this.#open) watch.push(commit);
  }

  resync(): void {
    for (const watch of this.#open) watch.resync();
  }
}
