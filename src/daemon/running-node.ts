import { newDeferred } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { StartMode } from "../raft/driver/options.ts";
import { ClusterNode, type ClusterNodeDeps, type ClusterNodeOptions } from "./cluster-node.ts";
import { timeoutSignal } from "./timeout-signal.ts";

/** A worker is there well before this, unless its Engine does not answer. */
const READY_WAIT_MS = 5_000;
const JOIN_WAIT_MS = 20_000;

/** A node of a cluster from its start to its end. */
export class RunningNode {
  readonly node: ClusterNode;
  /** Rejects when the node cannot go on. */
  readonly failed: Promise<never>;
  readonly #clock: Clock;
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;

  constructor(options: ClusterNodeOptions, mode: StartMode, deps: ClusterNodeDeps) {
    this.node = new ClusterNode(options, deps);
    this.#clock = deps.clock;
    const failure = newDeferred<never>();
    failure.promise.catch(() => undefined);
    this.failed = failure.promise;
    this.#ended = this.node.run(this.#stop.signal, mode).catch((error: unknown) => {
      deps.logger.error("the node cannot go on", { error: errorMessage(error) });
      failure.reject(error);
    });
  }

  /** Stops it and waits until it has ended; its containers run on. */
  async end(why: string): Promise<void> {
    this.#stop.abort(new SwarmError("canceled", why));
    await this.#ended;
  }

  /** False when it takes so long that it goes on in the background. */
  becameManager(signal: AbortSignal): Promise<boolean> {
    return this.#within(JOIN_WAIT_MS, signal, limit => this.node.whenManager(limit));
  }

  /**
   * So that a service made right after the join finds the node. False when it takes long: its
   * Engine may be down.
   */
  becameReady(signal: AbortSignal): Promise<boolean> {
    return this.#within(READY_WAIT_MS, signal, limit => this.node.whenServed(limit));
  }

  /** Rejects when the node fails meanwhile or the signal aborts. */
  async #within(
    waitMs: number,
    signal: AbortSignal,
    until: (limit: AbortSignal) => Promise<void>,
  ): Promise<boolean> {
    const timeout = timeoutSignal(this.#clock, waitMs);
    try {
      await Promise.race([until(AbortSignal.any([signal, timeout])), this.failed]);
      return true;
    } catch (error) {
      if (!timeout.aborted) throw error;
      return false;
    }
  }
}
