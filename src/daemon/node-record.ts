import type { NodeState, NodeStateFile } from "./node-state.ts";

/** What this node is to its cluster, in memory and on disk. */
export class NodeRecord {
  readonly #file: NodeStateFile;
  #state: NodeState;

  constructor(state: NodeState, file: NodeStateFile) {
    this.#state = state;
    this.#file = file;
  }

  get state(): NodeState {
    return this.#state;
  }

  /** Counts at once; resolves when it is on disk. Throws failed_precondition when it cannot be written. */
  async save(change: Partial<NodeState>): Promise<void> {
    this.#state = { ...this.#state, ...change };
    await this.#file.save(this.#state);
  }
}
