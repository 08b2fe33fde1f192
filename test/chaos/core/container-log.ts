import type { ContainerRecord } from "./history.ts";

/** Folds what Engines say of containers into one record each. */

export const TASK_LABEL = "com.docker.swarm.task.id";
export const SERVICE_LABEL = "com.docker.swarm.service.name";
export const GENERATION_LABEL = "chaos.generation";

export type Labels = Readonly<Record<string, string>>;

/** An event of a container (Docker API `EventMessage`, container events). */
export interface EngineEvent {
  readonly action: string;
  readonly containerId: string;
  readonly attributes: Labels;
  readonly atMs: number;
}

/** A container as `inspect` shows it. */
export interface Inspected {
  readonly id: string;
  readonly name: string;
  readonly labels: Labels;
  readonly running: boolean;
  /** 0 = never. */
  readonly startedMs: number;
  readonly finishedMs: number;
  readonly exitCode: number;
}

export class ContainerLog {
  readonly #records = new Map<string, ContainerRecord>();
  /** Containers that the Engine was asked to signal. */
  readonly #asked = new Set<string>();

  get records(): readonly ContainerRecord[] {
    return [...this.#records.values()];
  }

  event(host: string, event: EngineEvent): void {
    const { action, containerId, attributes, atMs } = event;
    const key = `${host}/${containerId}`;
    if (action === "kill") this.#asked.add(key);
    else if (action === "start") {
      const name = attributes["name"] ?? "";
      this.#started(host, containerId, name, attributes, atMs);
    } else if (action === "die") {
      const exitCode = Number(attributes["exitCode"] ?? "0");
      this.#ended(key, { fromMs: atMs, toMs: atMs, exitCode });
    } else if (action === "destroy") this.#ended(key, { fromMs: atMs, toMs: atMs, exitCode: null });
  }

  /**
   * What a host has, listed between the two times; `heardMs` is when its events were last
   * complete.
   */
  snapshot(
    host: string,
    found: readonly Inspected[],
    times: { readonly heardMs: number; readonly fromMs: number; readonly toMs: number },
  ): void {
    const ids = new Set(found.map(one => one.id));
    for (const one of found) {
      if (one.startedMs > 0) this.#started(host, one.id, one.name, one.labels, one.startedMs);
      if (one.running || one.startedMs === 0) continue;
      const sane = one.finishedMs >= one.startedMs;
      const fromMs = sane ? one.finishedMs : Math.min(times.heardMs, times.toMs);
      const toMs = sane ? one.finishedMs : times.toMs;
      this.#ended(`${host}/${one.id}`, { fromMs, toMs, exitCode: one.exitCode });
    }
    for (const [key, record] of this.#records) {
      const gone = record.host === host && !ids.has(record.id) && record.startedMs < times.fromMs;
      if (gone) this.#ended(key, { fromMs: times.heardMs, toMs: times.toMs, exitCode: null });
    }
  }

  #started(host: string, id: string, name: string, labels: Labels, startedMs: number): void {
    const key = `${host}/${id}`;
    const taskId = labels[TASK_LABEL];
    if (taskId === undefined || this.#records.has(key)) return;
    this.#records.set(key, {
      host,
      id,
      name,
      taskId,
      service: labels[SERVICE_LABEL] ?? "",
      generation: Number(labels[GENERATION_LABEL] ?? "0"),
      startedMs,
      end: null,
    });
  }

  #ended(
    key: string,
    end: { readonly fromMs: number; readonly toMs: number; readonly exitCode: number | null },
  ): void {
    const record = this.#records.get(key);
    if (record === undefined || record.end !== null) return;
    this.#records.set(key, { ...record, end: { ...end, asked: this.#asked.has(key) } });
  }
}
