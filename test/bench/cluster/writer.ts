import { randomBytes } from "node:crypto";
import { call } from "./api.ts";

/** A write is sent this often, whatever becomes of those before it. */
const EVERY_MS = 25;
/** A client gives up on one after this. */
const GIVE_UP_MS = 500;

/** One write that was acknowledged; times in ms of `performance.now()`. */
export interface Acknowledged {
  readonly sentMs: number;
  readonly ackMs: number;
}

/**
 * A client that keeps writing, through the given managers in turn: each write is a small secret.
 * Its rate does not depend on the answers, so a stall shows at its full length.
 */
export class Writer {
  readonly acknowledged: Acknowledged[] = [];
  readonly #sockets: readonly string[];
  readonly #run = randomBytes(4).toString("hex");
  readonly #open = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | null = null;
  #sent = 0;

  constructor(sockets: readonly string[]) {
    this.#sockets = sockets;
  }

  start(): void {
    this.#send();
    this.#timer = setInterval(() => this.#send(), EVERY_MS);
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await Promise.all(this.#open);
  }

  #send(): void {
    const number = this.#sent++;
    const socket = this.#sockets[number % this.#sockets.length];
    if (socket === undefined) throw new Error("a writer needs a manager");
    const sentMs = performance.now();
    const body = { Name: `w-${this.#run}-${number}`, Data: "eA==" };
    const done = call(socket, "POST", "/secrets/create", body, GIVE_UP_MS).then(
      () => void this.acknowledged.push({ sentMs, ackMs: performance.now() }),
      () => undefined, // A client would try again, and so does this one, with the next write.
    );
    this.#open.add(done);
    void done.finally(() => this.#open.delete(done));
  }
}
