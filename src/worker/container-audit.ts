import type { TaskGroup } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { FoundContainer } from "./core/container-view.ts";
import { planOwnership } from "./core/reconcile.ts";
import type { Executor } from "./executor.ts";
import type { StepSlots } from "./step-slots.ts";
import { DEFAULT_STOP_GRACE_MS, type TaskRunner } from "./task-runner.ts";

/** How often what runs is compared with what should, in case an event was missed. */
const AUDIT_INTERVAL_MS = 60_000;
/** Orphans removed in one pass; the rest waits for the next. */
const ORPHANS_PER_PASS = 64;

export interface ContainerAuditDeps {
  readonly executor: Pick<Executor, "list" | "stop" | "remove">;
  readonly slots: StepSlots;
  /** By task. */
  readonly runners: ReadonlyMap<string, TaskRunner>;
  /** Where the removal of orphans runs; null before the agent does. */
  readonly group: () => TaskGroup | null;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Compares the containers there are with the tasks there should be, and removes what is nobody's. */
export class ContainerAudit {
  readonly #deps: ContainerAuditDeps;
  /** Managers have said what is this node's: whatever else carries its labels is an orphan. */
  #confirmed = false;

  constructor(deps: ContainerAuditDeps) {
    this.#deps = deps;
  }

  /** From now on what no task owns is nobody's. */
  confirm(): void {
    this.#confirmed = true;
  }

  /** Audits from time to time until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#deps.clock, AUDIT_INTERVAL_MS, signal);
      await this.tryOnce(signal);
    }
  }

  /** What cannot be compared now is compared the next time. */
  async tryOnce(signal: AbortSignal): Promise<void> {
    try {
      await this.once(signal);
    } catch (error) {
      this.#deps.logger.info("cannot compare containers", { error: errorMessage(error) });
    }
  }

  /** Throws what the Engine does. */
  async once(signal: AbortSignal): Promise<void> {
    const { executor, runners, group } = this.#deps;
    const found = await executor.list(signal);
    const { containers, orphans } = planOwnership(new Set(runners.keys()), found);
    for (const [taskId, runner] of runners) runner.observe(containers.get(taskId));
    if (!this.#confirmed) return;
    for (const orphan of orphans.slice(0, ORPHANS_PER_PASS)) {
      group()?.start(`orphan ${orphan.name}`, inner => this.#remove(orphan, inner));
    }
  }

  /** Removes every container of this node's, whoever owns it. */
  async removeAll(signal: AbortSignal): Promise<void> {
    const left = await this.#deps.executor.list(signal);
    await Promise.all(left.map(container => this.#remove(container, signal)));
  }

  async #remove(orphan: FoundContainer, signal: AbortSignal): Promise<void> {
    const { executor, slots, logger } = this.#deps;
    logger.info("removing a container that no task owns", { container: orphan.name });
    try {
      await slots.stop.use(signal, () => executor.stop(orphan.id, DEFAULT_STOP_GRACE_MS, signal));
      await slots.remove.use(signal, () => executor.remove(orphan.id, orphan.taskId, signal));
    } catch (error) {
      // The next audit finds it again.
      logger.warn("cannot remove a container", {
        container: orphan.name,
        error: errorMessage(error),
      });
    }
  }
}
