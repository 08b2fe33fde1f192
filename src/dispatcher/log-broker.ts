import { BoundedQueue, newDeferred } from "../base/async.ts";
import { SwarmError } from "../base/errors.ts";
import type { IdSource } from "../base/ids.ts";
import type { LogMessage, LogSubscription } from "../model/assignment.ts";
import type { Commit } from "../model/change.ts";
import type { Task } from "../model/rows.ts";
import { compareTaskStates } from "../model/task-state.ts";
import type { LogChunk } from "../rpc/gen/swarmd/v1/dispatcher.ts";
import type { StateStore } from "../state/ports.ts";
import type { NodeSession } from "./node-session.ts";

/** Lines between the nodes and one reader; a full queue holds the nodes back. */
const MAX_QUEUED_MESSAGES = 1_000;
const MAX_SUBSCRIPTIONS = 500;

export interface LogRequest {
  readonly serviceIds: readonly string[];
  readonly taskIds: readonly string[];
  readonly options: LogSubscription["options"];
}

/** A node's part of a subscription: the tasks asked of it and how it ended. */
interface NodePart {
  readonly taskIds: Set<string>;
  pending: number;
}

interface Subscription {
  readonly id: string;
  readonly request: LogRequest;
  readonly queue: BoundedQueue<LogMessage>;
  readonly parts: Map<string, NodePart>;
  readonly asked: Set<string>;
  readonly problems: string[];
  room: ReturnType<typeof newDeferred<void>> | null;
}

export interface LogBrokerDeps {
  readonly store: StateStore;
  readonly ids: IdSource;
  readonly session: (nodeId: string) => NodeSession | undefined;
}

/**
 * Brings the logs of tasks on any node to one reader: asks the nodes over their sessions, takes
 * what they publish, and with `follow` asks for tasks that appear later.
 */
export class LogBroker {
  readonly #deps: LogBrokerDeps;
  readonly #subscriptions = new Map<string, Subscription>();

  constructor(deps: LogBrokerDeps) {
    this.#deps = deps;
  }

  get size(): number {
    return this.#subscriptions.size;
  }

  /**
   * The lines of all tasks asked for, each task's in order. Ends when every node is done, never
   * with `follow`. Throws at the end when some logs could not be had, naming why.
   */
  async *subscribe(request: LogRequest, signal: AbortSignal): AsyncGenerator<LogMessage, void> {
    if (this.#subscriptions.size >= MAX_SUBSCRIPTIONS) {
      throw new SwarmError("resource_exhausted", "too many log readers; try again later");
    }
    const subscription: Subscription = {
      id: this.#deps.ids.newId(),
      request,
      queue: new BoundedQueue({ maxItems: MAX_QUEUED_MESSAGES }),
      parts: new Map(),
      asked: new Set(),
      problems: [],
      room: null,
    };
    this.#subscriptions.set(subscription.id, subscription);
    const onAbort = (): void => subscription.queue.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      this.#ask(subscription, this.#tasksOf(request));
      this.#finishIfDone(subscription);
      for await (const message of subscription.queue) {
        subscription.room?.resolve();
        subscription.room = null;
        yield message;
      }
      if (subscription.problems.length > 0 && !signal.aborted) {
        throw new SwarmError("unavailable", incompleteText(subscription.problems));
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      this.#drop(subscription);
    }
  }

  /** A node publishes one line. Waits while the reader is behind; false = stop publishing. */
  async publish(nodeId: string, chunk: LogChunk): Promise<boolean> {
    const subscription = this.#subscriptions.get(chunk.subscriptionId);
    const part = subscription?.parts.get(nodeId);
    if (subscription === undefined || part === undefined) return false;
    if (chunk.done) {
      if (chunk.error !== "") subscription.problems.push(`node ${nodeId}: ${chunk.error}`);
      part.pending -= 1;
      this.#finishIfDone(subscription);
      return true;
    }
    if (!part.taskIds.has(chunk.taskId)) return false;
    const message: LogMessage = {
      taskId: chunk.taskId,
      nodeId,
      stream: chunk.stderr ? "stderr" : "stdout",
      timestampNs: chunk.timestampNs,
      data: chunk.data,
      attrs: chunk.attrs,
    };
    while (!subscription.queue.push(message)) {
      if (subscription.queue.closed) return false;
      subscription.room ??= newDeferred();
      await subscription.room.promise;
    }
    return true;
  }

  /** A node came (again): what was asked of it before is asked anew by the readers that follow. */
  onSession(nodeId: string): void {
    for (const subscription of this.#subscriptions.values()) {
      if (!subscription.request.options.follow) continue;
      const mine = this.#tasksOf(subscription.request).filter(
        task => task.nodeId === nodeId && !subscription.asked.has(task.id),
      );
      this.#ask(subscription, mine);
    }
  }

  /** A node's session ended: what it had not finished sending will not come. */
  onSessionEnd(nodeId: string): void {
    for (const subscription of this.#subscriptions.values()) {
      const part = subscription.parts.get(nodeId);
      if (part === undefined || part.pending === 0) continue;
      part.pending = 0;
      for (const taskId of part.taskIds) subscription.asked.delete(taskId);
      subscription.problems.push(`node ${nodeId} disconnected`);
      this.#finishIfDone(subscription);
    }
  }

  onCommit(commit: Commit): void {
    if (this.#subscriptions.size === 0) return;
    for (const event of commit.events) {
      if (event.table !== "tasks" || event.after === null) continue;
      const task = event.after;
      for (const subscription of this.#subscriptions.values()) {
        const { request } = subscription;
        if (!request.options.follow || !request.serviceIds.includes(task.serviceId)) continue;
        if (!subscription.asked.has(task.id) && hasLogs(task)) this.#ask(subscription, [task]);
      }
    }
  }

  close(): void {
    const error = new SwarmError("unavailable", "the leader changed while logs were being read");
    for (const subscription of this.#subscriptions.values()) {
      subscription.queue.close(error);
      subscription.room?.resolve();
    }
    this.#subscriptions.clear();
  }

  #tasksOf(request: LogRequest): Task[] {
    const { view } = this.#deps.store;
    const tasks = request.serviceIds.flatMap(id => [...view.tasksOfService(id)]);
    for (const id of request.taskIds) {
      const task = view.table("tasks").get(id);
      if (task !== undefined) tasks.push(task);
    }
    return tasks.filter(hasLogs);
  }

  #ask(subscription: Subscription, tasks: readonly Task[]): void {
    const byNode = new Map<string, string[]>();
    for (const task of tasks) {
      const ids = byNode.get(task.nodeId) ?? [];
      ids.push(task.id);
      byNode.set(task.nodeId, ids);
    }
    for (const [nodeId, taskIds] of byNode) {
      const session = this.#deps.session(nodeId);
      if (session === undefined) {
        if (!subscription.request.options.follow) {
          subscription.problems.push(`node ${nodeId} is not available`);
        }
        continue;
      }
      const part = subscription.parts.get(nodeId) ?? { taskIds: new Set(), pending: 0 };
      subscription.parts.set(nodeId, part);
      part.pending += 1;
      for (const id of taskIds) {
        part.taskIds.add(id);
        subscription.asked.add(id);
      }
      const { options } = subscription.request;
      const asked: LogSubscription = { id: subscription.id, taskIds, options };
      session.send({
        body: { $case: "logSubscribe", value: { subscriptionJson: JSON.stringify(asked) } },
      });
    }
  }

  #finishIfDone(subscription: Subscription): void {
    if (subscription.request.options.follow) return;
    for (const part of subscription.parts.values()) if (part.pending > 0) return;
    subscription.queue.close();
  }

  #drop(subscription: Subscription): void {
    this.#subscriptions.delete(subscription.id);
    subscription.queue.close();
    subscription.room?.resolve();
    for (const nodeId of subscription.parts.keys()) {
      this.#deps
        .session(nodeId)
        ?.send({ body: { $case: "logUnsubscribe", value: { id: subscription.id } } });
    }
  }
}

/** A task whose node may have a container of it. */
function hasLogs(task: Task): boolean {
  return task.nodeId !== "" && compareTaskStates(task.status.state, "assigned") >= 0;
}

/** Docker's words for a partial answer (moby daemon/cluster/services.go). */
function incompleteText(problems: readonly string[]): string {
  return (
    "warning: incomplete log stream. some logs could not be retrieved for the following " +
    `reasons: ${problems.join(", ")}`
  );
}
