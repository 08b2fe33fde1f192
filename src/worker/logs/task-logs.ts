import { setMaxListeners } from "node:events";
import { type Clock, sleep } from "../../base/clock.ts";
import { isSwarmError, SwarmError } from "../../base/errors.ts";
import type { LogMessage, LogSubscription } from "../../model/assignment.ts";
import type { Executor } from "../executor.ts";
import { mergeArrivals, mergeSorted } from "./merge.ts";

/** How often a followed task is asked whether it has started by now. */
const CONTAINER_POLL_MS = 200;

export interface TaskLogDeps {
  readonly executor: Executor;
  readonly clock: Clock;
  readonly nodeId: string;
  /** The container; empty until it has started; null when there is and will be none. */
  readonly sourceOf: (taskId: string) => string | null;
}

/**
 * The logs of this node's tasks of a subscription: in order of time without follow, as they come
 * with it. A followed task that has not started yet is waited for. Ends quietly on abort.
 */
export async function* readTaskLogs(
  subscription: LogSubscription,
  signal: AbortSignal,
  deps: TaskLogDeps,
): AsyncGenerator<LogMessage, void> {
  const reading = new AbortController();
  setMaxListeners(0, reading.signal);
  const stop = (): void => reading.abort(new SwarmError("canceled", "the reader has gone"));
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const sources = subscription.taskIds
    .filter(taskId => deps.sourceOf(taskId) !== null)
    .map(taskId => taskLog(taskId, subscription, reading.signal, deps));
  try {
    if (subscription.options.follow) yield* mergeArrivals(sources, stop);
    else yield* mergeSorted(sources, isInOrder);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", stop);
    stop();
  }
}

function isInOrder(a: LogMessage, b: LogMessage): boolean {
  return BigInt(a.timestampNs) <= BigInt(b.timestampNs);
}

async function* taskLog(
  taskId: string,
  { options }: LogSubscription,
  signal: AbortSignal,
  deps: TaskLogDeps,
): AsyncGenerator<LogMessage, void> {
  let containerId = deps.sourceOf(taskId);
  while (containerId === "" && options.follow) {
    await sleep(deps.clock, CONTAINER_POLL_MS, signal);
    containerId = deps.sourceOf(taskId);
  }
  if (containerId === null || containerId === "") return;
  try {
    for await (const record of deps.executor.logs(containerId, options, signal)) {
      yield { ...record, taskId, nodeId: deps.nodeId };
    }
  } catch (error) {
    // Its container went between the question and the answer: no more to read.
    if (!isSwarmError(error, "not_found")) throw error;
  }
}
