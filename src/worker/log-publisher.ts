import { newDeferred } from "../base/async.ts";
import { toSwarmError } from "../base/errors.ts";
import type { AgentPort, LogSubscription } from "../model/assignment.ts";
import type { DispatcherClient, LogChunk } from "../rpc/gen/swarmd/v1/dispatcher.ts";

const MAX_LOG_SUBSCRIPTIONS = 200;

/** Sends what the node's tasks wrote to whoever subscribed to it, over one session's client. */
export class LogPublisher {
  readonly #agent: Pick<AgentPort, "readLogs">;
  readonly #client: DispatcherClient;
  readonly #readers = new Map<string, AbortController>();

  constructor(deps: {
    readonly agent: Pick<AgentPort, "readLogs">;
    readonly client: DispatcherClient;
  }) {
    this.#agent = deps.agent;
    this.#client = deps.client;
  }

  stop(subscriptionId: string): void {
    this.#readers.get(subscriptionId)?.abort();
    // The reader may have ended before: one that follows is kept for tasks that come later.
    this.#readers.delete(subscriptionId);
  }

  close(): void {
    for (const reader of this.#readers.values()) reader.abort();
  }

  /** Of one that is known already the tasks that are new here are read besides. */
  start(subscription: LogSubscription): void {
    const known = this.#readers.get(subscription.id);
    if (known === undefined && this.#readers.size >= MAX_LOG_SUBSCRIPTIONS) {
      this.#refuse(subscription.id);
      return;
    }
    const controller = known ?? new AbortController();
    this.#readers.set(subscription.id, controller);
    void this.#publish(subscription, controller.signal);
  }

  /** Whoever waits for this node's part must hear that it does not come. */
  #refuse(subscriptionId: string): void {
    const upstream = this.#client.publishLogs(() => undefined);
    upstream.on("error", () => undefined);
    upstream.write(lastChunk(subscriptionId, "too many readers of logs on this node"));
    upstream.end();
  }

  async #publish(subscription: LogSubscription, signal: AbortSignal): Promise<void> {
    const ended = new AbortController();
    const upstream = this.#client.publishLogs(() => ended.abort());
    upstream.on("error", () => ended.abort());
    const both = AbortSignal.any([signal, ended.signal]);
    const send = async (chunk: LogChunk): Promise<void> => {
      if (upstream.write(chunk) || both.aborted) return;
      const drained = newDeferred<void>();
      upstream.once("drain", drained.resolve);
      both.addEventListener("abort", () => drained.resolve(), { once: true });
      await drained.promise;
    };
    let problem = "";
    try {
      for await (const line of this.#agent.readLogs(subscription, both)) {
        if (both.aborted) break;
        await send({
          subscriptionId: subscription.id,
          taskId: line.taskId,
          stderr: line.stream === "stderr",
          timestampNs: line.timestampNs,
          data: Buffer.from(line.data),
          attrs: { ...line.attrs },
          done: false,
          error: "",
        });
      }
    } catch (error) {
      problem = toSwarmError(error).message;
    }
    if (!both.aborted) await send(lastChunk(subscription.id, problem));
    upstream.end();
    if (signal.aborted || !subscription.options.follow) this.#readers.delete(subscription.id);
  }
}

function lastChunk(subscriptionId: string, error: string): LogChunk {
  return {
    subscriptionId,
    taskId: "",
    stderr: false,
    timestampNs: "0",
    data: Buffer.alloc(0),
    attrs: {},
    done: true,
    error,
  };
}
