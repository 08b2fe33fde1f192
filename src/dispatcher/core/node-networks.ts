import { MESH_ID, type OverlayChange } from "../../model/overlay.ts";
import type { StateView } from "../../model/view.ts";
import { liveNetworksOf, type NetworkNews, type NetworkTables } from "./network-tables.ts";

/** Which overlay networks one node has been told of, and what it must be told next. */
export class NodeNetworks {
  readonly #nodeId: string;
  #known = new Set<string>();
  /** The keys of the mesh as it was last told, as JSON; empty: it was told of none. */
  #mesh = "";

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
  }

  /** Everything the node must know, as if it knew nothing. */
  complete(view: StateView, tables: NetworkTables): OverlayChange[] {
    this.#known = this.#wanted(view, tables);
    this.#mesh = "";
    const mesh = this.#meshNews(view, tables);
    return [...tables.hosts(), ...mesh, ...[...this.#known].flatMap(id => tables.everythingOf(id))];
  }

  /**
   * What a commit changed for the node; `tasksTouched` when it touched tasks of this node. What a
   * task needs comes before the task, so this goes out ahead of the tasks' own changes.
   */
  incremental(
    view: StateView,
    tables: NetworkTables,
    news: NetworkNews,
    tasksTouched: boolean,
  ): OverlayChange[] {
    const before = this.#known;
    const networksChanged = [...news.changes.keys()].some(id => before.has(id) !== tables.has(id));
    if (tasksTouched || networksChanged || !this.#isSettled(tables)) {
      this.#known = this.#wanted(view, tables);
    }
    const changes = [...news.hosts, ...this.#meshNews(view, tables)];
    for (const id of before) {
      if (!this.#known.has(id)) changes.push({ action: "remove", kind: "network", id });
    }
    for (const id of this.#known) {
      if (!before.has(id)) changes.push(...tables.everythingOf(id));
      else changes.push(...(news.changes.get(id) ?? []));
    }
    return changes;
  }

  #meshNews(view: StateView, tables: NetworkTables): OverlayChange[] {
    const item = tables.meshFor(view, this.#known);
    const text = item === null ? "" : JSON.stringify(item);
    if (text === this.#mesh) return [];
    this.#mesh = text;
    if (item === null) return [{ action: "remove", kind: "mesh", id: MESH_ID }];
    return [{ action: "update", kind: "mesh", item }];
  }

  /** The networks known are there, the ingress network among them. */
  #isSettled(tables: NetworkTables): boolean {
    const { ingressId } = tables;
    if (ingressId !== "" && !this.#known.has(ingressId)) return false;
    return [...this.#known].every(id => tables.has(id));
  }

  #wanted(view: StateView, tables: NetworkTables): Set<string> {
    const wanted = new Set<string>();
    if (tables.ingressId !== "") wanted.add(tables.ingressId);
    for (const task of view.tasksOfNode(this.#nodeId)) {
      for (const id of liveNetworksOf(task)) if (tables.has(id)) wanted.add(id);
    }
    return wanted;
  }
}
