import type { Clock } from "../base/clock.ts";
import { errorMessage, SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { TaskStatusUpdate } from "../model/assignment.ts";
import type { Commit } from "../model/change.ts";
import type { NodeQuestion, TableSummary } from "../model/data-path.ts";
import type { Cluster, Node } from "../model/rows.ts";
import type { ManagerMessage, NodeMessage } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import type { StateStore } from "../state/ports.ts";
import { AssignmentFeed } from "./assignment-feed.ts";
import { BeatPace, heartbeatPeriodMs } from "./core/beat-pace.ts";
import { ChangeEncoder } from "./core/change-encoder.ts";
import { type NetworkNews, NetworkTables } from "./core/network-tables.ts";
import { Leases } from "./leases.ts";
import { LogBroker } from "./log-broker.ts";
import { decodeStatusUpdates } from "./messages.ts";
import { NodePresence } from "./node-presence.ts";
import { type NodeConnection, NodeSession } from "./node-session.ts";
import { Questions } from "./questions.ts";
import { mayEndRenewal, Renewals } from "./renewals.ts";
import { StatusBatcher } from "./status-batcher.ts";
import { TaskEnds } from "./task-ends.ts";

const NO_NEWS: NetworkNews = { hosts: [], changes: new Map(), mesh: false };

export interface DispatcherDeps {
  /** Whether the node is to have its certificate renewed; absent = none ever is. */
  readonly needsRenewal?: (node: Node, cluster: Cluster) => boolean;
  readonly store: StateStore;
  readonly clock: Clock;
  readonly ids: IdSource;
  readonly logger: Logger;
}

export interface DispatcherOptions {
  /** Node id of this manager, for the log. */
  readonly nodeId: string;
}

/**
 * The leader's end of all node sessions: assignments out, statuses and heartbeats in, silence
 * noticed. One object a term of leadership; `run` ends with it and closes every session, so that
 * the nodes turn to the next leader.
 */
export class Dispatcher {
  readonly #deps: DispatcherDeps;
  /** Those that were welcomed, by node. */
  readonly #sessions = new Map<string, NodeSession>();
  readonly #presence: NodePresence;
  readonly #tables = new NetworkTables();
  readonly #encoder = new ChangeEncoder();
  readonly #ends: TaskEnds;
  readonly #feed: AssignmentFeed;
  readonly #pace = new BeatPace();
  readonly #controller = new AbortController();
  readonly #batcher: StatusBatcher;
  readonly #renewals: Renewals;
  readonly logs: LogBroker;
  readonly leases: Leases;
  readonly #questions: Questions;

  constructor(_options: DispatcherOptions, deps: DispatcherDeps) {
    this.#deps = deps;
    const { store, clock, ids, logger } = deps;
    const { signal } = this.#controller;
    const sessions = this.#sessions;
    this.#presence = new NodePresence({
      ...{ store, clock, logger, signal },
      onSilent: nodeId => this.#endOf(nodeId),
    });
    this.#ends = new TaskEnds({
      ...{ clock, logger, sessions },
      release: (nodeId, taskIds) => {
        sessions.get(nodeId)?.sendIncremental(store.view, taskIds, NO_NEWS);
      },
    });
    const tables = this.#tables;
    const { view } = store;
    this.#feed = new AssignmentFeed({ view, clock, logger, sessions, tables, ends: this.#ends });
    this.#renewals = new Renewals({
      needsRenewal: deps.needsRenewal,
      sessions,
      ask: nodeId => sessions.get(nodeId)?.send(this.#managersFor(nodeId)),
    });
    this.#batcher = new StatusBatcher({ store, signal });
    this.leases = new Leases(deps);
    const session = (nodeId: string): NodeSession | undefined => sessions.get(nodeId);
    this.logs = new LogBroker({ store, ids, session });
    this.#questions = new Questions({ ids, clock, session });
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** The term has ended: nodes are to turn to the next leader. */
  get isOver(): boolean {
    return this.#controller.signal.aborted;
  }

  /** Serves until the signal aborts (leadership lost or shutdown). */
  async run(signal: AbortSignal): Promise<void> {
    const { store } = this.#deps;
    this.#tables.reset(store.view);
    this.#ends.start(store.view);
    const stopWatching = store.onCommit(commit => this.#onCommit(commit));
    this.#presence.start();
    await new Promise<void>(resolve => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    this.#presence.stop();
    this.#ends.stop();
    this.#feed.stop();
    stopWatching();
    this.#controller.abort(new SwarmError("not_leader", "this manager is no longer the leader"));
    for (const session of [...this.#sessions.values()]) this.#end(session);
    this.logs.close();
    this.#questions.close();
  }

  /** Opens the session of an authenticated node. A newer session of a node replaces the older. */
  open(connection: NodeConnection): {
    onMessage(message: NodeMessage): void;
    onClose(): void;
  } {
    const session = new NodeSession(this.#deps.ids.newId(), connection, {
      logger: this.#deps.logger,
      tables: this.#tables,
      draining: taskId => this.#ends.isKept(taskId),
      encoder: this.#encoder,
    });
    return {
      onMessage: message => this.#onMessage(session, message),
      onClose: () => this.#end(session),
    };
  }

  /** Idempotent. */
  #end(session: NodeSession, error?: unknown): void {
    const { id, nodeId } = session;
    session.close(error);
    this.#ends.sessionEnded(id);
    if (this.#sessions.get(nodeId) !== session) return;
    this.#sessions.delete(nodeId);
    this.#setPace();
    this.logs.onSessionEnd(nodeId);
    this.#questions.onSessionEnd(nodeId);
  }

  ask(
    nodeId: string,
    question: NodeQuestion,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<unknown> {
    return this.#questions.ask(nodeId, question, timeoutMs, signal);
  }

  /** How far the node's data path has followed; null without a session. */
  progress(nodeId: string): { readonly sent: number; readonly programmed: number } | null {
    const session = this.#sessions.get(nodeId);
    return session === undefined ? null : session;
  }

  /** What a node that has the network is to know of it; null when there is no such network. */
  expected(networkId: string): TableSummary | null {
    return this.#tables.summaryOf(networkId);
  }

  /** The managers' addresses changed or a role did: tell every node. */
  announceManagers(): void {
    for (const session of this.#sessions.values()) session.send(this.#managersFor(session.nodeId));
  }

  #onMessage(session: NodeSession, message: NodeMessage): void {
    const body = message.body;
    if (body === undefined || session.closed) return;
    const { nodeId } = session;
    if (!session.leaving) this.#presence.heard(nodeId);
    switch (body.$case) {
      case "hello":
        // The welcome follows a commit: until then the node is to know that it was heard.
        session.send({ body: { $case: "heartbeat", value: {} } });
        this.#guard(session, this.#welcome(session, body.value.descriptionJson, body.value.addr));
        return;
      case "heartbeat":
        session.send({ body: { $case: "heartbeat", value: {} } });
        if (session.leaving) return;
        this.#guard(session, this.#presence.revive(nodeId));
        return;
      case "description":
        this.#guard(session, this.#presence.describe(nodeId, body.value.descriptionJson));
        return;
      case "leaving":
        session.leaving = true;
        this.#guard(session, this.#presence.left(nodeId));
        return;
      case "programmed":
        session.programmed = body.value.sequence;
        this.#ends.programmed(session.id, body.value.sequence);
        return;
      case "answer":
        this.#questions.onAnswer(nodeId, body.value);
        return;
      case "statuses":
        this.#guard(
          session,
          this.#recordStatuses(session, body.value.sequence, body.value.updatesJson),
        );
        return;
    }
  }

  /** A session whose message could not be handled ends; the node comes again with everything. */
  #guard(session: NodeSession, work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (!this.#controller.signal.aborted) {
        this.#deps.logger.warn("node session ended by an error", {
          node: session.nodeId,
          error: errorMessage(error),
        });
      }
      this.#end(session, error);
    });
  }

  async #welcome(session: NodeSession, descriptionJson: string, addr: string): Promise<void> {
    const { view } = this.#deps.store;
    const { nodeId } = session;
    await this.#presence.arrived(nodeId, descriptionJson, addr);
    if (session.closed || this.#controller.signal.aborted) return;
    const older = this.#sessions.get(nodeId);
    if (older !== undefined) this.#end(older);
    this.#sessions.set(nodeId, session);
    this.#renewals.review(view);
    this.#setPace();
    session.send(this.#welcomeOf(session));
    session.send(this.#managersFor(nodeId));
    session.sendComplete(view);
    this.logs.onSession(nodeId);
  }

  /** Said again when the period changes. */
  #welcomeOf(session: NodeSession): ManagerMessage {
    const heartbeatMs = this.#pace.beatMs(heartbeatPeriodMs(this.#deps.store.view));
    const { spreadMs } = this.#pace;
    return { body: { $case: "welcome", value: { sessionId: session.id, heartbeatMs, spreadMs } } };
  }

  #setPace(): void {
    if (!this.isOver && this.#pace.changedBy(this.#sessions.size)) this.#tellPace();
  }

  #tellPace(): void {
    for (const session of this.#sessions.values()) session.send(this.#welcomeOf(session));
  }

  /** Only statuses of the node's own tasks are taken: the sender is who its certificate says. */
  async #recordStatuses(
    session: NodeSession,
    sequence: number,
    updatesJson: readonly string[],
  ): Promise<void> {
    const tasks = this.#deps.store.view.table("tasks");
    const own: TaskStatusUpdate[] = decodeStatusUpdates(updatesJson).filter(
      update => tasks.get(update.taskId)?.nodeId === session.nodeId,
    );
    await this.#batcher.submit(own);
    session.send({ body: { $case: "statusAck", value: { sequence } } });
  }

  #onCommit(commit: Commit): void {
    for (const event of commit.events) {
      if (event.table === "nodes") this.#onNode(event.id, event.before, event.after);
      // Nodes that go on beating by the longer period would be called down by the shorter one.
      else if (event.table === "cluster" && this.#presence.periodChanged()) this.#tellPace();
    }
    if (commit.events.some(mayEndRenewal)) this.#renewals.review(this.#deps.store.view);
    this.#feed.onCommit(commit);
    if (commit.events.some(({ table }) => table === "members")) this.announceManagers();
    this.logs.onCommit(commit);
  }

  #onNode(nodeId: string, before: Node | null, after: Node | null): void {
    if (after === null) {
      this.#presence.forget(nodeId);
      const why = "this node was removed from the cluster";
      this.#endOf(nodeId, new SwarmError("permission_denied", why));
      return;
    }
    if (before === null) this.#presence.expect(after);
    if (before !== null && before.spec.Role !== after.spec.Role) {
      this.#sessions.get(nodeId)?.send(this.#managersFor(nodeId));
    }
  }

  #endOf(nodeId: string, error?: unknown): void {
    const session = this.#sessions.get(nodeId);
    if (session !== undefined) this.#end(session, error);
  }

  #managersFor(nodeId: string): ManagerMessage {
    const view = this.#deps.store.view;
    const members = [...view.table("members").all()];
    // A demoted manager becomes a worker only when it is out of the Raft group.
    const isManager =
      view.table("nodes").get(nodeId)?.spec.Role === "manager" ||
      members.some(member => member.nodeId === nodeId);
    const addrs = members.map(member => member.addr);
    const role = isManager ? "manager" : "worker";
    return {
      body: { $case: "managers", value: { addrs, role, renew: this.#renewals.has(nodeId) } },
    };
  }
}
