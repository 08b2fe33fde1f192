import { newDeferred, withSignal } from "../base/async.ts";
import { type Clock, sleep } from "../base/clock.ts";
import { errorMessage, isSwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import {
  hasEncryptedNetwork,
  meshLaggards,
  nextMesh,
  nodesOfOneKey,
  untilRotation,
} from "../control/core/mesh-rotation.ts";
import { type MeshState, meshOf } from "../model/mesh.ts";
import type { Cluster } from "../model/rows.ts";
import type { StateStore } from "../state/ports.ts";

const RETRY_MS = 1_000;
const TABLES: ReadonlySet<string> = new Set(["nodes", "cluster", "networks"]);

export interface MeshRotationDeps {
  readonly store: StateStore;
  readonly newKey: () => string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * On the leader: begins a new generation of the encrypted mesh's keys when the present one is old,
 * and lets the older one go when every node has moved.
 */
export class MeshRotation {
  readonly #deps: MeshRotationDeps;

  constructor(deps: MeshRotationDeps) {
    this.#deps = deps;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { store, clock, logger } = this.#deps;
    let changed = newDeferred<void>();
    const stop = store.onCommit(commit => {
      if (commit.events.some(({ table }) => TABLES.has(table))) changed.resolve();
    });
    try {
      while (!signal.aborted) {
        changed = newDeferred();
        try {
          const dueMs = await this.#step(signal);
          const timer = dueMs === null ? null : clock.setTimer("mesh", dueMs, changed.resolve);
          await withSignal(changed.promise, signal).finally(() => timer?.cancel());
        } catch (error) {
          if (signal.aborted) return;
          if (!isSwarmError(error, "out_of_sequence")) {
            logger.warn("cannot change the keys of the mesh", { error: errorMessage(error) });
          }
          await sleep(clock, RETRY_MS, signal);
        }
      }
    } finally {
      stop();
    }
  }

  /** Milliseconds until there is something to do if nothing changes; null: only then. */
  async #step(signal: AbortSignal): Promise<number | null> {
    const { store, clock, newKey, logger } = this.#deps;
    const [cluster] = store.view.table("cluster").all();
    if (cluster === undefined || !hasEncryptedNetwork(store.view)) return null;
    const mesh = meshOf(cluster);
    const { generation } = mesh;
    if (!mesh.settled) {
      if (meshLaggards(store.view, mesh).length > 0) return null;
      await this.#write(cluster, { ...mesh, settled: true }, signal);
      logger.info("every host uses the new keys of the mesh", { generation });
      return 0;
    }
    const dueMs = untilRotation(mesh, clock.nowMs());
    if (dueMs > 0) return dueMs;
    const old = nodesOfOneKey(store.view);
    if (old.length > 0) {
      logger.info("the mesh keeps its keys until nodes of an older version are upgraded", { old });
      return null;
    }
    await this.#write(cluster, nextMesh(mesh, newKey(), clock.nowMs()), signal);
    logger.info("the mesh is to have new keys", { generation: generation + 1 });
    return 0;
  }

  async #write(cluster: Cluster, mesh: MeshState, signal: AbortSignal): Promise<void> {
    const { id, version: ifVersion } = cluster;
    const change = { op: "patch", table: "cluster", id, fields: { mesh }, ifVersion } as const;
    await this.#deps.store.submit([change], signal);
  }
}
