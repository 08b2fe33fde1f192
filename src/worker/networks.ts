import { SwarmError } from "../base/errors.ts";
import type { AssignedTask } from "../model/assignment.ts";
import type { OverlayChange } from "../model/overlay.ts";
import type { OverlayCapability } from "../model/rows.ts";
import type { ContainerNetworks } from "./core/container-config.ts";

/** What a container of a task on overlay networks is made with. */
export type PreparedNetworks = ContainerNetworks;

/**
 * The node's data path, as the worker uses it. Errors are those of Executor: `unavailable` is
 * tried again, any other rejects the task.
 */
export interface TaskNetworks {
  /** What managers and other nodes must know; undefined: nothing is possible here. */
  capability(): Promise<OverlayCapability | undefined>;
  /** Takes note at once; the kernel follows. */
  apply(changes: readonly OverlayChange[], complete: boolean): void;
  /** Resolves when the kernel is as everything applied so far wants it. */
  programmed(): Promise<void>;
  /** Makes the networks of a task ready on this node, and known to its Engine. */
  prepare(assigned: AssignedTask, signal: AbortSignal): Promise<PreparedNetworks>;
  /** After the container of a task was started, and before the task counts as running. */
  started(assigned: AssignedTask): Promise<void>;
  /** Before the task is stopped: waits, for a while, until its connections have ended. */
  quiesce(assigned: AssignedTask, signal: AbortSignal): Promise<void>;
}

/** For nodes without a data path: a task that needs one is refused with the reason. */
export class NoNetworks implements TaskNetworks {
  readonly #why: string;

  constructor(why: string) {
    this.#why = why;
  }

  async capability(): Promise<undefined> {
    return undefined;
  }

  apply(): void {
    // There is nothing to program.
  }

  async programmed(): Promise<void> {
    // Nor to wait for.
  }

  async prepare(): Promise<PreparedNetworks> {
    const text = `overlay networks are not available on this node: ${this.#why}`;
    throw new SwarmError("failed_precondition", text);
  }

  async started(): Promise<void> {
    // Such a container is on no overlay network.
  }

  async quiesce(): Promise<void> {
    // No connection came through an overlay network.
  }
}
