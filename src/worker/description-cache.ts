import type { Clock } from "../base/clock.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { NodeDescription } from "../model/rows.ts";
import type { Executor } from "./executor.ts";
import type { LocalStore } from "./local-store.ts";

/** How old a description of the node may be; sessions ask every 20 s. */
export const DESCRIPTION_MAX_AGE_MS = 15_000;

export interface DescriptionCacheDeps {
  readonly executor: Executor;
  readonly store: LocalStore;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The node's description: asked for now and then, remembered while the Engine is away. */
export class DescriptionCache {
  readonly #deps: DescriptionCacheDeps;
  #latest: NodeDescription | null = null;
  #takenAtMs = Number.NEGATIVE_INFINITY;
  #fetching: Promise<NodeDescription> | null = null;

  constructor(deps: DescriptionCacheDeps) {
    this.#deps = deps;
  }

  /** The last one, however old. */
  get latest(): NodeDescription | null {
    return this.#latest;
  }

  async load(): Promise<void> {
    this.#latest = await this.#deps.store.loadDescription();
  }

  /** The Engine may be another one now. */
  expire(): void {
    this.#takenAtMs = Number.NEGATIVE_INFINITY;
  }

  /** Throws `unavailable` when the Engine has never answered. */
  async get(signal: AbortSignal): Promise<NodeDescription> {
    const ageMs = this.#deps.clock.monoMs() - this.#takenAtMs;
    if (this.#latest !== null && ageMs < DESCRIPTION_MAX_AGE_MS) return this.#latest;
    this.#fetching ??= this.#fetch(signal).finally(() => {
      this.#fetching = null;
    });
    try {
      return await this.#fetching;
    } catch (error) {
      if (this.#latest === null) throw error;
      return this.#latest;
    }
  }

  async #fetch(signal: AbortSignal): Promise<NodeDescription> {
    const description = await this.#deps.executor.describe(signal);
    const isNew = JSON.stringify(description) !== JSON.stringify(this.#latest);
    this.#latest = description;
    this.#takenAtMs = this.#deps.clock.monoMs();
    if (isNew) await this.#save(description);
    return description;
  }

  async #save(description: NodeDescription): Promise<void> {
    try {
      await this.#deps.store.saveDescription(description);
    } catch (error) {
      this.#deps.logger.error("cannot save the node's description", {
        error: errorMessage(error),
      });
    }
  }
}
