import type { OverlayChange } from "../../model/overlay.ts";
import type { NetworkNews } from "./network-tables.ts";

const NO_TASKS: ReadonlySet<string> = new Set();

/** What nodes are to be told together: what several commits changed, in one. */
export interface Round {
  /** Tasks that changed, by the node they are or were on. */
  readonly tasksOf: (nodeId: string) => ReadonlySet<string>;
  readonly network: NetworkNews;
  /** Who is to be told: the nodes of those tasks, or null for all. */
  readonly nodeIds: readonly string[] | null;
  /** Tasks whose end is kept from their nodes until all others have been told of it. */
  readonly ending: readonly string[];
}

/** Newest of each item, in the order of the last changes. */
class Items {
  readonly #items = new Map<string, OverlayChange>();

  add(change: OverlayChange): void {
    const key = `${change.kind}:${change.action === "update" ? change.item.id : change.id}`;
    this.#items.delete(key);
    this.#items.set(key, change);
  }

  get size(): number {
    return this.#items.size;
  }

  all(): readonly OverlayChange[] {
    return [...this.#items.values()];
  }
}

/**
 * Gathers what commits mean for nodes until it is told. An item that changed twice is told once, as
 * it is last, so that this grows with the state and not with the time that it waits.
 */
export class News {
  readonly #tasks = new Map<string, Set<string>>();
  readonly #hosts = new Items();
  readonly #networks = new Map<string, Items>();
  readonly #ending = new Set<string>();
  #mesh = false;

  get isEmpty(): boolean {
    return this.#tasks.size === 0 && !this.#isShared && this.#ending.size === 0;
  }

  /** Something that does not depend on a node's own tasks. */
  get #isShared(): boolean {
    return this.#mesh || this.#hosts.size > 0 || this.#networks.size > 0;
  }

  addTask(taskId: string, nodeId: string): void {
    const ids = this.#tasks.get(nodeId);
    if (ids === undefined) this.#tasks.set(nodeId, new Set([taskId]));
    else ids.add(taskId);
  }

  addEnding(taskId: string): void {
    this.#ending.add(taskId);
  }

  addNetwork({ hosts, changes, mesh }: NetworkNews): void {
    for (const change of hosts) this.#hosts.add(change);
    for (const [networkId, ofNetwork] of changes) {
      let items = this.#networks.get(networkId);
      if (items === undefined) {
        items = new Items();
        this.#networks.set(networkId, items);
      }
      for (const change of ofNetwork) items.add(change);
    }
    this.#mesh ||= mesh;
  }

  /** Everything gathered so far, as of now. */
  take(): Round {
    const tasks = new Map(this.#tasks);
    const changes = new Map<string, readonly OverlayChange[]>();
    for (const [networkId, items] of this.#networks) changes.set(networkId, items.all());
    const round: Round = {
      tasksOf: nodeId => tasks.get(nodeId) ?? NO_TASKS,
      network: { hosts: this.#hosts.all(), changes, mesh: this.#mesh },
      nodeIds: this.#isShared ? null : [...tasks.keys()],
      ending: [...this.#ending],
    };
    return round;
  }
}
