import type { Clock, Timer } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Change } from "../model/change.ts";
import type { Node, NodeDescription } from "../model/rows.ts";
import type { StateStore } from "../state/ports.ts";
import { heartbeatPeriodMs } from "./core/beat-pace.ts";
import { Liveness, type LivenessOptions } from "./core/liveness.ts";
import { decodeDescription } from "./messages.ts";
import { NodeWrites } from "./node-writes.ts";

/** Grace in heartbeat periods: silence of this many makes a node DOWN. */
const GRACE_PERIODS = 2;
const LIVENESS_CHECK_MS = 250;
const MAX_CHECK_GAP_MS = 2_000;

export interface NodePresenceDeps {
  readonly store: StateStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts at the end of the term. */
  readonly signal: AbortSignal;
  /** The node has been silent for too long: its session is worth nothing. */
  readonly onSilent: (nodeId: string) => void;
}

/**
 * Which nodes are there, written into their rows: ready when they come or are heard again, down
 * when they leave or have been silent for two heartbeat periods, and what they say of themselves.
 */
export class NodePresence {
  readonly #deps: NodePresenceDeps;
  readonly #liveness: Liveness;
  readonly #writes: NodeWrites;
  #timer: Timer | null = null;

  constructor(deps: NodePresenceDeps) {
    this.#deps = deps;
    this.#liveness = new Liveness(livenessOptions(deps.store));
    this.#writes = new NodeWrites(deps);
  }

  /** From now on silence counts; the nodes there are have not had a chance to be heard yet. */
  start(): void {
    for (const node of this.#deps.store.view.table("nodes").all()) this.expect(node);
    const check = (): void => {
      this.#check();
      this.#timer = this.#deps.clock.setTimer("dispatcher-liveness", LIVENESS_CHECK_MS, check);
    };
    check();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  expect(node: Node): void {
    if (node.status.state === "down") return;
    this.#liveness.expect(node.id, this.#deps.clock.monoMs());
  }

  heard(nodeId: string): void {
    this.#liveness.heard(nodeId, this.#deps.clock.monoMs());
  }

  forget(nodeId: string): void {
    this.#liveness.forget(nodeId);
  }

  /** True when the cluster's heartbeat period is another one than it was. */
  periodChanged(): boolean {
    const options = livenessOptions(this.#deps.store);
    if (options.graceMs === this.#liveness.graceMs) return false;
    this.#liveness.setOptions(options);
    return true;
  }

  /**
   * The node has come, and says what it is. Where the state says the same already, as of most nodes
   * when they come to the next leader, nothing is written; but it resolves, as ever, only when a
   * quorum has shown that this manager still leads: another one could hand out an old state. Throws
   * permission_denied when the node is not of this cluster, invalid_argument when it says nothing
   * sensible.
   */
  async arrived(nodeId: string, descriptionJson: string, addr: string): Promise<void> {
    const description = decodeDescription(descriptionJson);
    const node = this.#memberNode(nodeId);
    const status = { state: "ready", message: "", addr } as const;
    const isKnown =
      !this.#writes.isPending(nodeId) &&
      isSameJson(node.description, description) &&
      isSameStatus(node.status, status);
    await this.#writes.submit(nodeId, isKnown ? null : nodePatch(nodeId, { description, status }));
    this.#memberNode(nodeId);
  }

  #memberNode(nodeId: string): Node {
    const node = this.#node(nodeId);
    if (node !== undefined) return node;
    throw new SwarmError("permission_denied", `node ${nodeId} is not of this cluster`);
  }

  /** A node that was called down and is heard again is ready again. */
  async revive(nodeId: string): Promise<void> {
    const node = this.#node(nodeId);
    if (node === undefined || node.status.state === "ready") return;
    await this.#patch(nodeId, { status: { ...node.status, state: "ready", message: "" } });
  }

  /** Throws invalid_argument when it says nothing sensible. */
  async describe(nodeId: string, descriptionJson: string): Promise<void> {
    const description = decodeDescription(descriptionJson);
    const node = this.#node(nodeId);
    if (node === undefined) return;
    if (!this.#writes.isPending(nodeId) && isSameJson(node.description, description)) return;
    await this.#patch(nodeId, { description });
  }

  /** The node has said goodbye. */
  async left(nodeId: string): Promise<void> {
    this.forget(nodeId);
    const node = this.#node(nodeId);
    if (node === undefined) return;
    // The state may be about to say that it has come.
    if (node.status.state === "down" && !this.#writes.isPending(nodeId)) return;
    const message = "node left the swarm";
    await this.#patch(nodeId, { status: { ...node.status, state: "down", message } });
  }

  #node(nodeId: string): Node | undefined {
    return this.#deps.store.view.table("nodes").get(nodeId);
  }

  async #patch(id: string, fields: NodeFields): Promise<void> {
    await this.#writes.submit(id, nodePatch(id, fields));
  }

  #check(): void {
    const silent = this.#liveness.expired(this.#deps.clock.monoMs());
    for (const nodeId of silent) {
      const node = this.#node(nodeId);
      this.#deps.onSilent(nodeId);
      if (node === undefined || node.status.state === "down") continue;
      this.#deps.logger.warn("node is down", {
        node: nodeId,
        hostname: node.description?.hostname,
      });
      this.#recordSilence(node);
    }
  }

  /** What cannot be recorded now is found silent again. */
  #recordSilence({ id, status }: Node): void {
    const { logger, clock, signal } = this.#deps;
    const message = "heartbeat failure";
    this.#patch(id, { status: { ...status, state: "down", message } }).catch((error: unknown) => {
      if (signal.aborted) return;
      logger.warn("could not record a silent node", { node: id, error: errorMessage(error) });
      this.#liveness.expect(id, clock.monoMs());
    });
  }
}

function livenessOptions(store: StateStore): LivenessOptions {
  const graceMs = heartbeatPeriodMs(store.view) * GRACE_PERIODS;
  return { graceMs, firstGraceMs: graceMs * 2, maxCheckGapMs: MAX_CHECK_GAP_MS };
}

interface NodeFields {
  readonly description?: NodeDescription;
  readonly status?: Node["status"];
}

function isSameJson(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function isSameStatus(a: Node["status"], b: Node["status"]): boolean {
  return a.state === b.state && a.message === b.message && a.addr === b.addr;
}

function nodePatch(id: string, fields: NodeFields): Change {
  return { op: "patch", table: "nodes", id, fields };
}
