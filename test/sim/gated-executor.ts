import type { NodeDescription } from "../../src/model/rows.ts";
import type { ContainerView, FoundContainer } from "../../src/worker/core/container-view.ts";
import type { LogRecord } from "../../src/worker/core/log-frames.ts";
import type { TaskWork } from "../../src/worker/core/task-work.ts";
import type {
  ContainerRef,
  CreatedContainer,
  Executor,
  ExecutorEvent,
  LogReadOptions,
} from "../../src/worker/executor.ts";
import type { SimProcess } from "./process.ts";

/** An Engine as one process of swarmd sees it: answers reach it only while it lives. */
export class GatedExecutor implements Executor {
  readonly #engine: Executor;
  readonly #process: SimProcess;

  constructor(engine: Executor, process: SimProcess) {
    this.#engine = engine;
    this.#process = process;
  }

  describe(signal: AbortSignal): Promise<NodeDescription> {
    return this.#gate(this.#engine.describe(signal));
  }
  list(signal: AbortSignal): Promise<readonly FoundContainer[]> {
    return this.#gate(this.#engine.list(signal));
  }
  inspect(ref: ContainerRef, signal: AbortSignal): Promise<ContainerView> {
    return this.#gate(this.#engine.inspect(ref, signal));
  }
  pull(work: TaskWork, signal: AbortSignal): Promise<void> {
    return this.#gate(this.#engine.pull(work, signal));
  }
  create(work: TaskWork, signal: AbortSignal): Promise<CreatedContainer> {
    return this.#gate(this.#engine.create(work, signal));
  }
  start(containerId: string, work: TaskWork, signal: AbortSignal): Promise<void> {
    return this.#gate(this.#engine.start(containerId, work, signal));
  }
  stop(containerId: string, graceMs: number, signal: AbortSignal): Promise<void> {
    return this.#gate(this.#engine.stop(containerId, graceMs, signal));
  }
  kill(containerId: string, signal: AbortSignal): Promise<void> {
    return this.#gate(this.#engine.kill(containerId, signal));
  }
  remove(containerId: string, taskId: string, signal: AbortSignal): Promise<void> {
    return this.#gate(this.#engine.remove(containerId, taskId, signal));
  }
  watch(signal: AbortSignal): AsyncIterable<ExecutorEvent> {
    return this.#gateAll(this.#engine.watch(signal));
  }
  logs(
    containerId: string,
    options: LogReadOptions,
    signal: AbortSignal,
  ): AsyncIterable<LogRecord> {
    return this.#gateAll(this.#engine.logs(containerId, options, signal));
  }

  #gate<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      answer.then(
        value => this.#process.deliver(() => resolve(value)),
        (error: unknown) => this.#process.deliver(() => reject(error)),
      );
    });
  }

  async *#gateAll<T>(items: AsyncIterable<T>): AsyncGenerator<T, void> {
    const iterator = items[Symbol.asyncIterator]();
    try {
      for (;;) {
        const { done, value } = await this.#gate(iterator.next());
        if (done === true) return;
        yield value;
      }
    } finally {
      await iterator.return?.();
    }
  }
}
