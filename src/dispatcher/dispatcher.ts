import type { Clock, Timer } from "../base/clock.ts";
import { assert, errorMessage, SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { Logger } from "../base/logger.ts";
import type { TaskStatusUpdate } from "../model/assignment.ts";
import type { Change, Commit, RowEvent } from "../model/change.ts";
import type { NodeQuestion, TableSummary } from "../model/data-path.ts";
import { NS_PER_MS } from "../model/defaults.ts";
import type { Cluster, Node, NodeDescription, Task } from "../model/rows.ts";
import type { ManagerMessage, NodeMessage } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import { MAX_CHANGES_PER_TRANSACTION } from "../state/core/transaction-codec.ts";
import type { StateStore } from "../state/ports.ts";
import { concernsNodes } from "./core/assignments.ts";
import { BeatPace } from "./core/beat-pace.ts";
import { Drains, mustDrain } from "./core/drains.ts";
import { Liveness, type LivenessOptions } from "./core/liveness.ts";
import { type NetworkNews, NetworkTables } from "./core/network-tables.ts";
import { Leases } from "./leases.ts";
import { LogBroker } from "./log-broker.ts";
import { decodeDescription, decodeStatusUpdates } from "./messages.ts";
import { type NodeConnection, NodeSession } from "./node-session.ts";
import { Questions } from "./questions.ts";
import { StatusBatcher } from "./status-batcher.ts";

/** Grace in heartbeat periods: silence of this many makes a node DOWN. */
const GRACE_PERIODS = 2;
/** Periods outside of these are taken as the nearest one: a timer holds no more than 24.8 days. */
const MIN_PERIOD_MS = 1_000;
const MAX_PERIOD_MS = 24 * 3_600_000;
const LIVENESS_CHECK_MS = 250;
const MAX_CHECK_GAP_MS = 2_000;
/**
 * How long the end of a task waits for other nodes to send it no more connections. A node that is
 * silent for as long is down.
 */
export const DRAIN_TIMEOUT_MS = 10_000;
const NO_NEWS: NetworkNews = { hosts: [], changes: new Map(), mesh: false };
/** Stands for sessions of an earlier leader: only time ends the wait for them. */
const NEW_TERM = "new-term";
const NO_TASKS: ReadonlySet<string> = new Set();

/** Nodes that renew their certificates at once (SwarmKit ca/reconciler.go). */
const MAX_RENEWALS = 30;

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
  readonly #sessions = new Map<string, NodeSession>();
  readonly #liveness: Liveness;
  readonly #tables = new NetworkTables();
  readonly #drains = new Drains();
  readonly #pace = new BeatPace();
  #drainTimer: Timer | null = null;
  readonly #controller = new AbortController();
  readonly #batcher: StatusBatcher;
  /** Those that were asked to renew and have not yet. */
  #renewing: ReadonlySet<string> = new Set();
  readonly logs: LogBroker;
  readonly leases: Leases;
  readonly #questions: Questions;

  constructor(_options: DispatcherOptions, deps: DispatcherDeps) {
    this.#deps = deps;
    this.#liveness = new Liveness(this.#livenessOptions());
    this.#batcher = new StatusBatcher({ store: deps.store, signal: this.#controller.signal });
    this.leases = new Leases(deps);
    const session = (nodeId: string): NodeSession | undefined => this.#sessions.get(nodeId);
    this.logs = new LogBroker({ store: deps.store, ids: deps.ids, session });
    this.#questions = new Questions({ ids: deps.ids, clock: deps.clock, session });
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  /** Serves until the signal aborts (leadership lost or shutdown). */
  async run(signal: AbortSignal): Promise<void> {
    const { store, clock } = this.#deps;
    this.#startDrains();
    for (const node of store.view.table("nodes").all()) this.#expect(node);
    const stopWatching = store.onCommit(commit => this.#onCommit(commit));
    let timer: Timer | null = null;
    const check = (): void => {
      this.#checkLiveness();
      timer = clock.setTimer("dispatcher-liveness", LIVENESS_CHECK_MS, check);
    };
    check();
    await new Promise<void>(resolve => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    (timer as Timer | null)?.cancel();
    this.#drainTimer?.cancel();
    stopWatching();
    this.#controller.abort(new SwarmError("not_leader", "this manager is no longer the leader"));
    for (const session of this.#sessions.values()) session.close();
    this.#sessions.clear();
    this.logs.close();
    this.#questions.close();
  }

  /** Opens the session of an authenticated node. A newer session of a node replaces the older. */
  open(connection: NodeConnection): {
    onMessage(message: NodeMessage): void;
    onClose(): void;
  } {
    const nodeId = connection.nodeId;
    const session = new NodeSession(this.#deps.ids.newId(), connection, {
      logger: this.#deps.logger,
      tables: this.#tables,
      draining: taskId => this.#drains.has(taskId),
    });
    return {
      onMessage: message => this.#onMessage(session, message),
      onClose: () => {
        session.close();
        this.#drains.forgetSession(session.id);
        this.#finishDrains();
        if (this.#sessions.get(nodeId) !== session) return;
        this.#sessions.delete(nodeId);
        this.#setPace();
        this.logs.onSessionEnd(nodeId);
        this.#questions.onSessionEnd(nodeId);
      },
    };
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

  #livenessOptions(): LivenessOptions {
    const graceMs = this.#periodMs() * GRACE_PERIODS;
    return { graceMs, firstGraceMs: graceMs * 2, maxCheckGapMs: MAX_CHECK_GAP_MS };
  }

  #periodMs(): number {
    const [cluster] = this.#deps.store.view.table("cluster").all();
    assert(cluster !== undefined, "a leader has a cluster row");
    const askedMs = cluster.spec.Dispatcher.HeartbeatPeriod / NS_PER_MS;
    return Math.min(MAX_PERIOD_MS, Math.max(MIN_PERIOD_MS, askedMs));
  }

  #expect(node: Node): void {
    if (node.status.state !== "down") {
      this.#liveness.expect(node.id, this.#deps.clock.monoMs());
    }
  }

  #onMessage(session: NodeSession, message: NodeMessage): void {
    const body = message.body;
    if (body === undefined || session.closed) return;
    if (!session.leaving) this.#liveness.heard(session.nodeId, this.#deps.clock.monoMs());
    switch (body.$case) {
      case "hello":
        this.#guard(session, this.#welcome(session, body.value.descriptionJson, body.value.addr));
        return;
      case "heartbeat":
        session.send({ body: { $case: "heartbeat", value: {} } });
        if (session.leaving) return;
        this.#guard(session, this.#revive(session.nodeId));
        return;
      case "description":
        this.#guard(session, this.#describe(session.nodeId, body.value.descriptionJson));
        return;
      case "leaving":
        session.leaving = true;
        this.#liveness.forget(session.nodeId);
        this.#guard(session, this.#markDown(session.nodeId, "node left the swarm"));
        return;
      case "programmed":
        session.programmed = body.value.sequence;
        this.#drains.programmed(session.id, body.value.sequence);
        this.#finishDrains();
        return;
      case "answer":
        this.#questions.onAnswer(session.nodeId, body.value);
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
      session.close(error);
      if (this.#sessions.get(session.nodeId) === session) this.#sessions.delete(session.nodeId);
    });
  }

  async #welcome(session: NodeSession, descriptionJson: string, addr: string): Promise<void> {
    const { store } = this.#deps;
    const description = decodeDescription(descriptionJson);
    const node = store.view.table("nodes").get(session.nodeId);
    if (node === undefined) {
      throw new SwarmError("permission_denied", `node ${session.nodeId} is not of this cluster`);
    }
    await store.submit(
      [nodePatch(node.id, { description, status: { state: "ready", message: "", addr } })],
      this.#controller.signal,
    );
    if (session.closed || this.#controller.signal.aborted) return;
    const older = this.#sessions.get(session.nodeId);
    if (older !== undefined) {
      older.close();
      this.logs.onSessionEnd(session.nodeId);
      this.#questions.onSessionEnd(session.nodeId);
    }
    this.#sessions.set(session.nodeId, session);
    this.#askToRenew();
    this.#setPace();
    session.send(this.#welcomeOf(session));
    session.send(this.#managersFor(session.nodeId));
    session.sendComplete(store.view);
    this.logs.onSession(session.nodeId);
  }

  /** Said again when the period changes. */
  #welcomeOf(session: NodeSession): ManagerMessage {
    const heartbeatMs = this.#pace.beatMs(this.#periodMs());
    return { body: { $case: "welcome", value: { sessionId: session.id, heartbeatMs } } };
  }

  #setPace(): void {
    if (!this.#pace.changedBy(this.#sessions.size)) return;
    for (const session of this.#sessions.values()) session.send(this.#welcomeOf(session));
  }

  /** Nodes that go on beating by the longer period would be called down by the shorter one. */
  #onCluster(): void {
    const options = this.#livenessOptions();
    if (options.graceMs === this.#liveness.graceMs) return;
    this.#liveness.setOptions(options);
    for (const session of this.#sessions.values()) session.send(this.#welcomeOf(session));
  }

  /** A node that was called down and is heard again is ready again. */
  async #revive(nodeId: string): Promise<void> {
    const node = this.#deps.store.view.table("nodes").get(nodeId);
    if (node === undefined || node.status.state === "ready") return;
    await this.#deps.store.submit(
      [nodePatch(nodeId, { status: { ...node.status, state: "ready", message: "" } })],
      this.#controller.signal,
    );
  }

  async #describe(nodeId: string, descriptionJson: string): Promise<void> {
    const description = decodeDescription(descriptionJson);
    const node = this.#deps.store.view.table("nodes").get(nodeId);
    if (node === undefined) return;
    if (JSON.stringify(node.description) === JSON.stringify(description)) return;
    await this.#deps.store.submit([nodePatch(nodeId, { description })], this.#controller.signal);
  }

  async #markDown(nodeId: string, message: string): Promise<void> {
    const node = this.#deps.store.view.table("nodes").get(nodeId);
    if (node === undefined || node.status.state === "down") return;
    await this.#deps.store.submit(
      [nodePatch(nodeId, { status: { ...node.status, state: "down", message } })],
      this.#controller.signal,
    );
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
    const touched = new Map<string, Set<string>>();
    const draining: string[] = [];
    let membersChanged = false;
    for (const event of commit.events) {
      if (event.table === "tasks") {
        if (concernsNodes(event.before, event.after)) touch(touched, event);
        if (this.#observeDrain(event.before, event.after)) draining.push(event.id);
      } else if (event.table === "members") membersChanged = true;
      else if (event.table === "nodes") this.#onNode(event.id, event.before, event.after);
      else if (event.table === "cluster") this.#onCluster();
    }
    if (commit.events.some(mayEndRenewal)) this.#askToRenew();
    this.#tell(touched, this.#tables.observe(commit, this.#deps.store.view), draining);
    if (membersChanged) this.announceManagers();
    this.logs.onCommit(commit);
  }

  /** Sends each node what a commit changed for it. */
  #tell(
    touched: ReadonlyMap<string, ReadonlySet<string>>,
    news: NetworkNews,
    draining: readonly string[],
  ): void {
    const { view } = this.#deps.store;
    const shared = news.mesh || news.hosts.length > 0 || news.changes.size > 0;
    const nodeIds = shared ? this.#sessions.keys() : touched.keys();
    for (const nodeId of [...nodeIds]) {
      const session = this.#sessions.get(nodeId);
      if (session === undefined) continue;
      const sequence = session.sendIncremental(view, touched.get(nodeId) ?? NO_TASKS, news);
      if (sequence !== null) this.#drains.waitFor(draining, session.id, sequence);
    }
    if (draining.length > 0) this.#finishDrains();
  }

  /** True when the task has just begun to be taken out of the nodes' tables. */
  #observeDrain(before: Task | null, after: Task | null): boolean {
    if (after === null || !mustDrain(after)) {
      const id = after?.id ?? before?.id ?? "";
      this.#drains.forget(id);
      return false;
    }
    if (before === null || mustDrain(before)) return false;
    this.#drains.begin(after.id, after.nodeId, this.#deps.clock.monoMs() + DRAIN_TIMEOUT_MS);
    return true;
  }

  /** What is to end when a term begins may still be in the tables of nodes: nobody knows. */
  #startDrains(): void {
    const { store, clock } = this.#deps;
    this.#tables.reset(store.view);
    for (const task of store.view.table("tasks").all()) {
      if (!mustDrain(task)) continue;
      this.#drains.begin(task.id, task.nodeId, clock.monoMs() + DRAIN_TIMEOUT_MS);
      this.#drains.waitFor([task.id], NEW_TERM, Number.POSITIVE_INFINITY);
    }
    this.#finishDrains();
  }

  /** Lets the nodes hear of the end of tasks that no node sends connections to any more. */
  #finishDrains(): void {
    if (this.#drains.size === 0) return;
    const { byNode, late } = this.#drains.finished(this.#deps.clock.monoMs());
    if (late.size > 0) this.#warnOfLate(late);
    for (const [nodeId, taskIds] of byNode) {
      this.#sessions.get(nodeId)?.sendIncremental(this.#deps.store.view, taskIds, NO_NEWS);
    }
    const nextMs = this.#drains.nextDeadlineMs;
    this.#drainTimer?.cancel();
    this.#drainTimer = null;
    if (nextMs === null || this.#controller.signal.aborted) return;
    const delayMs = Math.max(0, nextMs - this.#deps.clock.monoMs());
    this.#drainTimer = this.#deps.clock.setTimer("drains", delayMs, () => this.#finishDrains());
  }

  #warnOfLate(late: ReadonlySet<string>): void {
    const nodes = [...this.#sessions.values()].filter(session => late.has(session.id));
    if (nodes.length === 0) return;
    this.#deps.logger.warn("nodes do not keep up with the data path: a task ends all the same", {
      nodes: nodes.map(session => session.nodeId),
      waitedMs: DRAIN_TIMEOUT_MS,
    });
  }

  #onNode(nodeId: string, before: Node | null, after: Node | null): void {
    if (after === null) {
      this.#liveness.forget(nodeId);
      const session = this.#sessions.get(nodeId);
      this.#sessions.delete(nodeId);
      session?.close(new SwarmError("permission_denied", "this node was removed from the cluster"));
      return;
    }
    if (before === null) this.#expect(after);
    if (before !== null && before.spec.Role !== after.spec.Role) {
      this.#sessions.get(nodeId)?.send(this.#managersFor(nodeId));
    }
  }

  /** A few at a time, in order of id; those that are done make room for others. */
  #askToRenew(): void {
    const { store, needsRenewal } = this.#deps;
    const [cluster] = store.view.table("cluster").all();
    if (needsRenewal === undefined || !cluster) return;
    if (!cluster.nextRoot && !cluster.renewBeforeMs) return;
    const due = [...this.#sessions.keys()].sort().filter(nodeId => {
      const node = store.view.table("nodes").get(nodeId);
      return node !== undefined && needsRenewal(node, cluster);
    });
    const before = this.#renewing;
    this.#renewing = new Set(due.slice(0, MAX_RENEWALS));
    for (const nodeId of this.#renewing) {
      if (!before.has(nodeId)) this.#sessions.get(nodeId)?.send(this.#managersFor(nodeId));
    }
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
      body: { $case: "managers", value: { addrs, role, renew: this.#renewing.has(nodeId) } },
    };
  }

  #checkLiveness(): void {
    const silent = this.#liveness.expired(this.#deps.clock.monoMs());
    const changes: Change[] = [];
    for (const nodeId of silent) {
      const node = this.#deps.store.view.table("nodes").get(nodeId);
      this.#sessions.get(nodeId)?.close();
      this.#sessions.delete(nodeId);
      if (node === undefined || node.status.state === "down") continue;
      this.#deps.logger.warn("node is down", {
        node: nodeId,
        hostname: node.description?.hostname,
      });
      const message = "heartbeat failure";
      changes.push(nodePatch(nodeId, { status: { ...node.status, state: "down", message } }));
    }
    for (let at = 0; at < changes.length; at += MAX_CHANGES_PER_TRANSACTION) {
      this.#recordSilent(changes.slice(at, at + MAX_CHANGES_PER_TRANSACTION), silent);
    }
  }

  /** What cannot be recorded now is found silent again. */
  #recordSilent(changes: readonly Change[], silent: readonly string[]): void {
    this.#deps.store.submit(changes, this.#controller.signal).catch((error: unknown) => {
      if (this.#controller.signal.aborted) return;
      this.#deps.logger.warn("could not record silent nodes", { error: errorMessage(error) });
      for (const nodeId of silent) this.#liveness.expect(nodeId, this.#deps.clock.monoMs());
    });
  }
}

/** Notes a task under the nodes it was and is on. */
function touch(touched: Map<string, Set<string>>, event: RowEvent): void {
  if (event.table !== "tasks") return;
  for (const row of [event.before, event.after]) {
    if (row === null || row.nodeId === "") continue;
    const ids = touched.get(row.nodeId) ?? new Set();
    touched.set(row.nodeId, ids.add(event.id));
  }
}

/** A certificate was recorded, or the roots changed. */
function mayEndRenewal(event: RowEvent): boolean {
  if (event.table === "cluster") return true;
  if (event.table !== "nodes") return false;
  return event.after?.certificatePem !== event.before?.certificatePem;
}

function nodePatch(
  id: string,
  fields: { readonly description?: NodeDescription; readonly status?: Node["status"] },
): Change {
  return { op: "patch", table: "nodes", id, fields };
}
