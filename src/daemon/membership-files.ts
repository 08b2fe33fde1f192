import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { IdentityStore } from "../tls/identity-store.ts";
import { eraseLog, raftDirOf } from "./manager.ts";
import { eraseNewGroups } from "./new-group.ts";
import { type NodeState, NodeStateFile } from "./node-state.ts";
import { eraseWorker } from "./worker-side.ts";

/** What a membership is on disk: its certificate, `node.json`, the log and the worker's part. */
export class MembershipFiles {
  readonly stateFile: NodeStateFile;
  readonly #dataDir: string;
  readonly #identity: IdentityStore;
  readonly #logger: Logger;

  constructor(
    options: { readonly dataDir: string },
    deps: { readonly identity: IdentityStore; readonly logger: Logger },
  ) {
    this.#dataDir = options.dataDir;
    this.#identity = deps.identity;
    this.#logger = deps.logger;
    this.stateFile = new NodeStateFile(join(options.dataDir, "node.json"));
  }

  /** The membership that is there; null when there is none, and then nothing is left of one. */
  async load(): Promise<NodeState | null> {
    const state = await this.stateFile.load();
    if (state === null || state.leaving === true) {
      await this.#clearRemains(state);
      return null;
    }
    if (!this.#identity.locked && !this.#identity.present) {
      throw await halfMembership(this.#dataDir);
    }
    return state;
  }

  /** What may be left of a membership besides its certificate. */
  async eraseParts(): Promise<void> {
    await eraseLog(this.#dataDir);
    await eraseNewGroups(this.#dataDir);
    await eraseWorker(this.#dataDir);
  }

  /** Ends the membership `state`, if there was one. A crash in between is made good by `load`. */
  async forget(state: NodeState | null): Promise<void> {
    if (state !== null) await this.#markLeaving(state);
    await this.#erase();
  }

  /** A full disk must not keep a node in its cluster. */
  async #markLeaving(state: NodeState): Promise<void> {
    try {
      await this.stateFile.save({ ...state, leaving: true });
    } catch (error) {
      this.#logger.warn("could not note the leave", { error: errorMessage(error) });
    }
  }

  async #erase(): Promise<void> {
    await this.eraseParts();
    await this.#identity.clear();
    await this.stateFile.remove();
  }

  /** What an init, join or leave left that was cut short; anything else is damage. */
  async #clearRemains(state: NodeState | null): Promise<void> {
    if (state === null && !this.#identity.present) return;
    if (state === null && existsSync(raftDirOf(this.#dataDir)))
      throw await halfMembership(this.#dataDir);
    this.#logger.warn("removing what an interrupted change of membership has left");
    await this.#erase();
  }
}

/** A file of the membership is gone that no interrupted change takes away. */
async function halfMembership(dataDir: string): Promise<SwarmError> {
  const files = await readdir(dataDir);
  return new SwarmError(
    "data_loss",
    `${dataDir} holds half of a membership (${files.join(", ")}): restore it, or remove the ` +
      "directory and join the cluster again",
  );
}
