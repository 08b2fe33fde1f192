import { newDeferred, TaskGroup, withSignal } from "../base/async.ts";
import type { Clock } from "../base/clock.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import { Dispatcher } from "../dispatcher/dispatcher.ts";
import type { PlanNote, Planner } from "../model/planner.ts";
import type { Cluster, Node } from "../model/rows.ts";
import { PlannerLoop } from "../orchestrator/loop.ts";
import type { RaftNode } from "../raft/ports.ts";
import type { StateStore } from "../state/ports.ts";
import { newMeshKey } from "../tls/mesh-key.ts";
import { MeshRotation } from "./mesh-rotation.ts";
import { RoleManager } from "./role-manager.ts";
import { CertificateAudit, RootRotation } from "./root-rotation.ts";

export interface LeaderDeps {
  readonly store: StateStore;
  readonly raft: RaftNode;
  readonly planners: () => readonly Planner[];
  readonly clock: Clock;
  readonly ids: IdSource;
  readonly logger: Logger;
}

/** What only the leader does. One object a run, which takes everything along when it ends. */
export class LeaderDuties {
  readonly #deps: LeaderDeps;
  readonly #nodeId: string;
  #dispatcher: Dispatcher | null = null;

  constructor(options: { readonly nodeId: string }, deps: LeaderDeps) {
    this.#nodeId = options.nodeId;
    this.#deps = deps;
  }

  /** Null before the state of earlier terms is applied here, and after the term. */
  get dispatcher(): Dispatcher | null {
    return this.#dispatcher;
  }

  /** The state here holds all that earlier leaders have committed. */
  get ready(): boolean {
    return this.#dispatcher !== null;
  }

  /** Runs until the signal aborts. Rejects when a part fails while it still leads. */
  async run(signal: AbortSignal): Promise<void> {
    const { raft, store, planners, clock, ids, logger } = this.#deps;
    // Nothing is planned on a state that lacks what earlier leaders have committed.
    await raft.readBarrier(signal);
    await founded(store, signal);
    const group = new TaskGroup(signal);
    const audit = new CertificateAudit();
    const needsRenewal = (node: Node, cluster: Cluster): boolean =>
      audit.needsRenewal(node, cluster);
    const options = { nodeId: this.#nodeId };
    const dispatcher = new Dispatcher(options, { store, clock, ids, logger, needsRenewal });
    const rotation = new RootRotation({ store, clock, ids, logger }, audit);
    const mesh = new MeshRotation({ store, newKey: newMeshKey, clock, logger });
    const onNotes = (planner: string, notes: readonly PlanNote[]): void => {
      for (const { kind, id, text } of notes) logger.info(text, { planner, [kind]: id });
    };
    const loop = new PlannerLoop({}, { planners: planners(), store, clock, ids, logger, onNotes });
    const roles = new RoleManager({ store, raft, clock, logger });
    group.start("dispatcher", inner => dispatcher.run(inner));
    group.start("planners", inner => loop.run(inner));
    group.start("root rotation", inner => rotation.run(inner));
    group.start("mesh rotation", inner => mesh.run(inner));
    group.start("roles", inner => roles.run(inner));
    this.#dispatcher = dispatcher;
    try {
      await new Promise<void>((resolve, reject) => {
        signal.addEventListener("abort", () => resolve(), { once: true });
        group.done.catch(reject);
      });
    } finally {
      this.#dispatcher = null;
      await group.close();
    }
  }
}

/** Resolves when the cluster has its row: `init` writes it right after the first election. */
async function founded(store: StateStore, signal: AbortSignal): Promise<void> {
  const done = newDeferred<void>();
  const check = (): void => {
    if (store.view.table("cluster").size > 0) done.resolve();
  };
  const stop = store.onCommit(check);
  check();
  await withSignal(done.promise, signal).finally(stop);
}
