import type { Message } from "../core/types.ts";
import { messageBytes } from "./codec.ts";

/** Above what the core keeps unacknowledged to one follower, with room for the small kinds. */
const MAX_QUEUED_MESSAGES = 4096;
const MAX_QUEUED_BYTES = 64 << 20;
/** One batch: small enough that what is urgent need not wait long behind it. */
const MAX_BATCH_BYTES = 256 << 10;
const MAX_BATCH_MESSAGES = 256;

/**
 * Messages for one peer. `app` messages keep their order (an overtaken one looks like a gap to the
 * follower); heartbeats, votes and answers go before them.
 */
export class SendQueue {
  #urgent: Message[] = [];
  #appends: Message[] = [];
  #bytes = 0;

  get size(): number {
    return this.#urgent.length + this.#appends.length;
  }

  /** False, and nothing queued, when full. */
  push(message: Message): boolean {
    const bytes = messageBytes(message);
    if (this.size >= MAX_QUEUED_MESSAGES || this.#bytes + bytes > MAX_QUEUED_BYTES) return false;
    this.#bytes += bytes;
    if (message.kind === "app") this.#pushAppend(message);
    else this.#urgent.push(message);
    return true;
  }

  /** Nothing is queued but the news of a commit. */
  get canWait(): boolean {
    const [first, second] = this.#appends;
    const alone = this.#urgent.length === 0 && second === undefined;
    return alone && first !== undefined && isNewsOnly(first);
  }

  /** The news of a commit travels with the next append, which says the same and more. */
  #pushAppend(message: Message): void {
    const last = this.#appends.at(-1);
    if (last !== undefined && isNewsOnly(last) && tellsAsMuch(message, last)) {
      this.#bytes -= messageBytes(last);
      this.#appends.pop();
    }
    this.#appends.push(message);
  }

  /** The next batch; empty when there is nothing. */
  take(): readonly Message[] {
    const batch: Message[] = [];
    const left = this.#takeFrom(this.#urgent, batch, MAX_BATCH_BYTES);
    this.#takeFrom(this.#appends, batch, left);
    return batch;
  }

  clear(): number {
    const dropped = this.size;
    this.#urgent = [];
    this.#appends = [];
    this.#bytes = 0;
    return dropped;
  }

  /** Moves as many as fit, and one in any case if the batch has none. The bytes that are left. */
  #takeFrom(queue: Message[], batch: Message[], bytes: number): number {
    let left = bytes;
    let count = 0;
    for (const message of queue) {
      const size = messageBytes(message);
      if (batch.length >= MAX_BATCH_MESSAGES || (batch.length > 0 && size > left)) break;
      batch.push(message);
      left -= size;
      this.#bytes -= size;
      count += 1;
    }
    queue.splice(0, count);
    return left;
  }
}

function isNewsOnly(message: Message): boolean {
  return message.kind === "app" && message.entries.length === 0;
}

function tellsAsMuch(message: Message, earlier: Message): boolean {
  const { term, commit, index } = message;
  return term === earlier.term && commit >= earlier.commit && index >= earlier.index;
}
