import type { RowEvent } from "../model/change.ts";
import type { Cluster, Node } from "../model/rows.ts";
import type { StateView } from "../model/view.ts";

/** Nodes that renew their certificates at once (SwarmKit ca/reconciler.go). */
const MAX_RENEWALS = 30;

export interface RenewalsDeps {
  /** Whether the node is to have its certificate renewed; absent = none ever is. */
  readonly needsRenewal: ((node: Node, cluster: Cluster) => boolean) | undefined;
  /** By node; only nodes with a session can be asked. */
  readonly sessions: ReadonlyMap<string, unknown>;
  /** The node is one of those that are to renew: tell it. */
  readonly ask: (nodeId: string) => void;
}

/**
 * Which nodes are asked to renew their certificates: a few at a time, in order of id; those that are
 * done make room for others.
 */
export class Renewals {
  readonly #deps: RenewalsDeps;
  /** Those that were asked and have not yet, with the certificate that each had then. */
  #asked: ReadonlyMap<string, string> = new Map();

  constructor(deps: RenewalsDeps) {
    this.#deps = deps;
  }

  has(nodeId: string): boolean {
    return this.#asked.has(nodeId);
  }

  review(view: StateView): void {
    const { sessions, needsRenewal, ask } = this.#deps;
    const [cluster] = view.table("cluster").all();
    if (needsRenewal === undefined || !cluster) return;
    if (!cluster.nextRoot && !cluster.rootGeneration) return;
    const nodes = view.table("nodes");
    const due = new Map<string, string>();
    for (const nodeId of [...sessions.keys()].sort()) {
      const node = nodes.get(nodeId);
      if (node === undefined || !needsRenewal(node, cluster)) continue;
      due.set(nodeId, node.certificatePem);
      if (due.size >= MAX_RENEWALS) break;
    }
    const before = this.#asked;
    this.#asked = due;
    // Who has renewed since and must again, as the roots changed meanwhile, has to be told so.
    for (const [nodeId, pem] of due) if (before.get(nodeId) !== pem) ask(nodeId);
  }
}

/** A certificate was recorded, or the roots changed: others may have their turn. */
export function mayEndRenewal(event: RowEvent): boolean {
  if (event.table === "cluster") return true;
  if (event.table !== "nodes") return false;
  return event.after?.certificatePem !== event.before?.certificatePem;
}
