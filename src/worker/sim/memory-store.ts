import type { NodeDescription } from "../../model/rows.ts";
import type { LocalStore, TaskRecord } from "../local-store.ts";

/** A LocalStore that lasts as long as the object: the disk of a simulated node. */
export class MemoryLocalStore implements LocalStore {
  readonly #records = new Map<string, TaskRecord>();
  #description: NodeDescription | null = null;

  async load(): Promise<readonly TaskRecord[]> {
    return [...this.#records.values()];
  }

  async save(records: readonly TaskRecord[], forget: readonly string[]): Promise<void> {
    for (const record of records) this.#records.set(record.assigned.task.id, record);
    for (const taskId of forget) this.#records.delete(taskId);
  }

  async loadDescription(): Promise<NodeDescription | null> {
    return this.#description;
  }

  async saveDescription(description: NodeDescription): Promise<void> {
    this.#description = description;
  }

  async clear(): Promise<void> {
    this.#records.clear();
    this.#description = null;
  }

  async close(): Promise<void> {
    return;
  }
}
