import { randomBytes } from "node:crypto";
import { request } from "../lab/http.ts";
import { eventually } from "./eventually.ts";

/** A client gives up on one write after this. */
const GIVE_UP_MS = 500;
const HTTP_OK_BELOW = 300;
const CLEAN_TIMEOUT_MS = 60_000;

export const SECRET_PREFIX = "steady-writer-";

/** One write that was acknowledged; times in ms of `performance.now()`. */
export interface Acknowledged {
  readonly sentMs: number;
  readonly ackMs: number;
}

export interface SteadyWriterOptions {
  /** Sockets of the managers it writes through, in turn. */
  readonly sockets: readonly string[];
  /** A write is sent this often, whatever becomes of those before it. */
  readonly everyMs: number;
}

/**
 * A client that keeps writing to a cluster: each write is a small secret. Its rate does not depend
 * on the answers, so an interruption shows at its full length.
 */
export class SteadyWriter {
  readonly acknowledged: Acknowledged[] = [];
  readonly #options: SteadyWriterOptions;
  readonly #run = randomBytes(4).toString("hex");
  readonly #open = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | null = null;
  #sent = 0;

  constructor(options: SteadyWriterOptions) {
    this.#options = options;
  }

  start(): void {
    this.#send();
    this.#timer = setInterval(() => this.#send(), this.#options.everyMs);
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await Promise.all(this.#open);
  }

  /** The first write sent after `sinceMs` that was acknowledged: how long after; null if none yet. */
  nextAfter(sinceMs: number): number | null {
    const later = this.acknowledged.filter(write => write.sentMs >= sinceMs);
    return later.length === 0 ? null : Math.min(...later.map(write => write.ackMs)) - sinceMs;
  }

  /** The longest time without an acknowledgement, from `sinceMs` on. */
  longestGapAfter(sinceMs: number): number {
    const acks = this.acknowledged.map(write => write.ackMs).filter(ackMs => ackMs >= sinceMs);
    const times = [sinceMs, ...acks.sort((a, b) => a - b)];
    return Math.max(...times.slice(1).map((at, i) => at - (times[i] ?? at)));
  }

  #send(): void {
    const { sockets } = this.#options;
    const number = this.#sent++;
    const socket = sockets[number % sockets.length];
    if (socket === undefined) throw new Error("a writer needs a manager");
    const sentMs = performance.now();
    const body = { Name: `${SECRET_PREFIX}${this.#run}-${number}`, Data: "eA==" };
    const options = { timeoutMs: GIVE_UP_MS };
    const done = request(socket, "POST", "/v1.41/secrets/create", body, options).then(
      ({ status }) => {
        if (status < HTTP_OK_BELOW) this.acknowledged.push({ sentMs, ackMs: performance.now() });
      },
      () => undefined, // A client would try again, and so does this one, with the next write.
    );
    this.#open.add(done);
    void done.finally(() => this.#open.delete(done));
  }
}

/** Removes what writers of this and earlier runs have written; a leader may change meanwhile. */
export async function removeWritten(socket: string): Promise<void> {
  const isDone = async (): Promise<boolean> => {
    const { body } = await request(socket, "GET", "/v1.41/secrets");
    const secrets = body as readonly { readonly ID: string; readonly Spec: { Name: string } }[];
    const written = secrets.filter(({ Spec }) => Spec.Name.startsWith(SECRET_PREFIX));
    for (const { ID } of written) await request(socket, "DELETE", `/v1.41/secrets/${ID}`);
    return written.length === 0;
  };
  await eventually(isDone, {
    what: "the writer's secrets are removed",
    timeoutMs: CLEAN_TIMEOUT_MS,
  });
}
