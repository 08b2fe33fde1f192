import { isSwarmError, SwarmError } from "../base/errors.ts";
import type { AssignmentChange } from "../model/assignment.ts";
import { isOverlayChange } from "../model/overlay.ts";
import type { Config, Secret } from "../model/rows.ts";
import type { TaskOnNode } from "./core/task-context.ts";
import { type TaskFile, taskFiles } from "./core/task-work.ts";

/**
 * The secrets and configs of this node's tasks. In memory only: they are never written to a disk,
 * and a restarted swarmd gets them again with its first assignments.
 */
export class DependencyStore {
  readonly #secrets = new Map<string, Secret>();
  readonly #configs = new Map<string, Config>();
  #complete = false;

  apply(changes: readonly AssignmentChange[], complete: boolean): void {
    if (complete) {
      this.#secrets.clear();
      this.#configs.clear();
      this.#complete = true;
    }
    for (const change of changes) {
      if (change.kind === "task" || isOverlayChange(change)) continue;
      if (change.action === "remove") {
        (change.kind === "secret" ? this.#secrets : this.#configs).delete(change.id);
      } else if (change.kind === "secret") this.#secrets.set(change.item.id, change.item);
      else this.#configs.set(change.item.id, change.item);
    }
  }

  /**
   * The files of a task. Throws `unavailable` for one that may still come (no manager has answered
   * since the start), `not_found` for one that will not, `invalid_argument` for a bad reference.
   */
  filesOf(work: TaskOnNode): readonly TaskFile[] {
    const dependencies = { secrets: this.#secrets, configs: this.#configs };
    try {
      return taskFiles(work, dependencies, base64 => Buffer.from(base64, "base64"));
    } catch (error) {
      if (this.#complete || !isSwarmError(error, "not_found")) throw error;
      throw new SwarmError("unavailable", `${error.message} (yet)`, {}, error);
    }
  }
}
