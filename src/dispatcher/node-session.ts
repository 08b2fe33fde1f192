import type { Logger } from "../base/logger.ts";
import type { AssignmentChange } from "../model/assignment.ts";
import type { StateView } from "../model/view.ts";
import type { ManagerMessage } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import { chunkChanges, NodeAssignments } from "./core/assignments.ts";
import type { ChangeEncoder } from "./core/change-encoder.ts";
import type { NetworkNews, NetworkTables } from "./core/network-tables.ts";
import { NodeNetworks } from "./core/node-networks.ts";

/** Encoded changes in one message; well below the transport's message limit. */
const MAX_MESSAGE_BYTES = 1024 * 1024;
/** What may wait for a slow node before its session ends (it then comes again with COMPLETE). */
const MAX_BACKLOG_MESSAGES = 4_096;

/** The wire to one node, as the transport gives it. */
export interface NodeConnection {
  readonly nodeId: string;
  send(message: ManagerMessage): void;
  /** Messages accepted by `send` and not yet taken by the network. */
  readonly backlog: number;
  close(error?: unknown): void;
}

export interface NodeSessionDeps {
  readonly logger: Logger;
  readonly tables: NetworkTables;
  /** Whether the end of this task is still kept from its node. */
  readonly draining: (taskId: string) => boolean;
  /** Shared by all sessions. */
  readonly encoder: ChangeEncoder;
}

/** One node's session: numbers its assignment messages and knows what the node was told. */
export class NodeSession {
  readonly id: string;
  readonly nodeId: string;
  readonly #connection: NodeConnection;
  readonly #logger: Logger;
  readonly #assignments: NodeAssignments;
  readonly #networks: NodeNetworks;
  readonly #tables: NetworkTables;
  readonly #draining: (taskId: string) => boolean;
  readonly #encoder: ChangeEncoder;
  /** The node has said goodbye: its beats do not make it ready again. */
  leaving = false;
  /** The last assignments that its data path has followed. */
  programmed = 0;
  #sequence = 0;
  #networkSequence = 0;
  #completeSent = false;
  #closed = false;

  constructor(id: string, connection: NodeConnection, deps: NodeSessionDeps) {
    this.id = id;
    this.nodeId = connection.nodeId;
    this.#connection = connection;
    this.#logger = deps.logger;
    this.#tables = deps.tables;
    this.#draining = deps.draining;
    this.#encoder = deps.encoder;
    this.#networks = new NodeNetworks(connection.nodeId);
    this.#assignments = new NodeAssignments(connection.nodeId);
  }

  /** The last assignments it was sent that concern its data path. */
  get sent(): number {
    return this.#networkSequence;
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(message: ManagerMessage): void {
    if (this.#closed) return;
    if (this.#connection.backlog > MAX_BACKLOG_MESSAGES) {
      this.#logger.warn("node does not keep up with its assignments", { node: this.nodeId });
      this.close();
      return;
    }
    this.#connection.send(message);
  }

  sendComplete(view: StateView): void {
    const networks = this.#networks.complete(view, this.#tables);
    const changes = [...networks, ...this.#assignments.complete(view, this.#draining)];
    this.#completeSent = true;
    this.#sendAssignments(changes, true);
    this.#networkSequence = this.#sequence;
  }

  /** What a commit means for the node; the number of its last message, null when there is none. */
  sendIncremental(view: StateView, taskIds: ReadonlySet<string>, news: NetworkNews): number | null {
    if (!this.#completeSent) return null;
    const networks = this.#networks.incremental(view, this.#tables, news, taskIds.size > 0);
    const tasks = this.#assignments.incremental(view, taskIds, this.#draining);
    if (networks.length + tasks.length === 0) return null;
    this.#sendAssignments([...networks, ...tasks], false);
    if (networks.length === 0) return null;
    this.#networkSequence = this.#sequence;
    return this.#sequence;
  }

  #sendAssignments(changes: readonly AssignmentChange[], complete: boolean): void {
    const chunks = chunkChanges(
      changes.map(change => this.#encoder.encode(change)),
      MAX_MESSAGE_BYTES,
    );
    chunks.forEach((changesJson, i) => {
      const appliesTo = complete ? 0 : this.#sequence;
      this.#sequence += 1;
      const resultsIn = this.#sequence;
      const last = i === chunks.length - 1;
      this.send({
        body: {
          $case: "assignments",
          value: { complete, appliesTo, resultsIn, last, changesJson },
        },
      });
    });
  }

  /** Idempotent. */
  close(error?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection.close(error);
  }
}
